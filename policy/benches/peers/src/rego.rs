//! The rules as data of a Rego policy, kept by caller, so that only those of the caller are gone through: what the
//! documentation of Open Policy Agent recommends for large policies.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;

use regorus::{CompiledPolicy, Engine, Value};
use serde_json::{Map, json};

use crate::Peer;
use crate::common::calls::Call;
use crate::common::measure::median_cost;
use crate::common::rules::{Caller, GROUPS, Rule, Token, rule};

const POLICY: &str = r#"
package mesh

default allow := false

allow if {
    not denied
    some caller in input.callers
    some rule in data.allow[caller]
    matches(rule)
}

denied if {
    some caller in input.callers
    some rule in data.deny[caller]
    matches(rule)
}

matches(rule) if {
    port(rule)
    method(rule)
    path(rule)
    host(rule)
    excluded(rule)
    token(rule)
}

port(rule) if not rule.ports
port(rule) if input.port in rule.ports

method(rule) if not rule.methods
method(rule) if input.method in rule.methods

path(rule) if not rule.path
path(rule) if rule.path.exact == input.path
path(rule) if glob.match(rule.path.glob, ["/"], input.path)

host(rule) if not rule.hosts
host(rule) if {
    some wanted in rule.hosts
    glob.match(wanted, [], input.host)
}

excluded(rule) if not rule.but
excluded(rule) if rule.but != input.peer

token(rule) if not rule.token
token(rule) if {
    rule.token == "group"
    input.token.issuer == "shop/corp"
    some group in input.token.groups
    group in data.groups
}
token(rule) if {
    rule.token == "tenant"
    input.token.issuer == "shop/corp"
    input.token.tenant == input.segments[2]
}
"#;

pub(crate) struct Rego {
    /// Both ways to ask it; the quicker counts.
    policy: CompiledPolicy,
    engine: RefCell<Engine>,
}

impl Rego {
    pub(crate) fn new(rules: usize) -> Self {
        let mut by_effect: BTreeMap<&str, BTreeMap<String, Vec<serde_json::Value>>> =
            [("allow", BTreeMap::new()), ("deny", BTreeMap::new())].into();
        for rule in (0..rules).map(rule) {
            let effect = if rule.denies { "deny" } else { "allow" };
            let callers = by_effect.entry(effect).or_default();
            callers.entry(caller(&rule)).or_default().push(data(&rule));
        }
        let mut engine = Engine::new();
        engine
            .add_policy("mesh.rego".to_owned(), POLICY.to_owned())
            .expect("the policy is Rego");
        let data =
            json!({"allow": by_effect["allow"], "deny": by_effect["deny"], "groups": GROUPS});
        engine
            .add_data_json(&data.to_string())
            .expect("the data is JSON");
        let policy = engine
            .compile_with_entrypoint(&"data.mesh.allow".into())
            .expect("there is such a rule");
        Self {
            policy,
            engine: RefCell::new(engine),
        }
    }
}

/// Under which of a call's callers a rule stands.
fn caller(rule: &Rule) -> String {
    match &rule.caller {
        Caller::Workload(namespace, account) => {
            format!("spiffe://shop.example/ns/{namespace}/sa/{account}")
        }
        Caller::Namespace(namespace) | Caller::NamespaceBut(namespace, _) => {
            format!("spiffe://shop.example/ns/{namespace}")
        }
        Caller::Below(id) => id.clone(),
    }
}

fn data(rule: &Rule) -> serde_json::Value {
    let mut fields = Map::new();
    if !rule.ports.is_empty() {
        fields.insert("ports".to_owned(), json!(rule.ports));
    }
    if !rule.methods.is_empty() {
        fields.insert("methods".to_owned(), json!(rule.methods));
    }
    if !rule.hosts.is_empty() {
        fields.insert("hosts".to_owned(), json!(rule.hosts));
    }
    let path = match (&rule.path, &rule.grpc) {
        (Some(path), _) => Some(path.clone()),
        (None, service) => service.as_ref().map(|service| format!("/{service}/*")),
    };
    if let Some(path) = path {
        let kind = if path.contains('*') { "glob" } else { "exact" };
        fields.insert("path".to_owned(), json!({kind: path}));
    }
    if let Caller::NamespaceBut(namespace, account) = &rule.caller {
        let but = format!("spiffe://shop.example/ns/{namespace}/sa/{account}");
        fields.insert("but".to_owned(), but.into());
    }
    match rule.token {
        None => None,
        Some(Token::Group) => fields.insert("token".to_owned(), "group".into()),
        Some(Token::Tenant) => fields.insert("token".to_owned(), "tenant".into()),
    };
    fields.into()
}

impl Peer for Rego {
    fn cost(&self, call: &Call) -> f64 {
        let mut input = json!({
            "peer": call.peer(),
            "callers": [call.peer(), format!("spiffe://shop.example/ns/{}", call.namespace)],
            "port": call.port,
            "method": call.method,
            "host": call.plain_host(),
            "path": call.plain_path(),
            "segments": call.plain_path().trim_start_matches('/').split('/').collect::<Vec<_>>(),
        });
        if call.token {
            input["token"] =
                json!({"issuer": "shop/corp", "groups": ["staff", "buyer"], "tenant": "acme"});
        }
        let input = Value::from_json_str(&input.to_string()).expect("the input is JSON");
        let decide = || {
            self.policy
                .eval_with_input(input.clone())
                .expect("the policy can be evaluated")
        };
        assert_eq!(decide(), Value::from(call.allowed), "Rego: {call:?}");
        let ask_engine = || {
            let mut engine = self.engine.borrow_mut();
            engine.set_input(input.clone());
            engine
                .eval_rule("data.mesh.allow".to_owned())
                .expect("the policy can be evaluated")
        };
        assert_eq!(ask_engine(), Value::from(call.allowed), "Rego: {call:?}");
        let compiled = median_cost(|| {
            black_box(decide());
        });
        let engine = median_cost(|| {
            black_box(ask_engine());
        });
        compiled.min(engine)
    }
}
