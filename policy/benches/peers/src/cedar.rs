//! The rules as Cedar policies: a policy for each, the caller and the method in its scope, the rest in its condition.

use std::hint::black_box;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression,
};

use crate::Peer;
use crate::common::calls::Call;
use crate::common::measure::median_cost;
use crate::common::rules::{Caller, GROUPS, Rule, Token, rule};

pub(crate) struct Cedar {
    policies: PolicySet,
}

impl Cedar {
    pub(crate) fn new(rules: usize) -> Self {
        let text: String = (0..rules).map(|number| policy(&rule(number))).collect();
        Self {
            policies: text.parse().expect("the policies are Cedar"),
        }
    }
}

fn policy(rule: &Rule) -> String {
    let effect = if rule.denies { "forbid" } else { "permit" };
    let mut conditions = Vec::new();
    let principal = match &rule.caller {
        Caller::Workload(namespace, account) => {
            format!("principal == Peer::\"spiffe://shop.example/ns/{namespace}/sa/{account}\"")
        }
        Caller::Namespace(namespace) => format!("principal in Namespace::\"{namespace}\""),
        Caller::NamespaceBut(namespace, account) => {
            conditions.push(format!(
                "principal != Peer::\"spiffe://shop.example/ns/{namespace}/sa/{account}\""
            ));
            format!("principal in Namespace::\"{namespace}\"")
        }
        Caller::Below(id) => {
            conditions.push(format!("context.peer like \"{id}/*\""));
            "principal".to_owned()
        }
    };
    let methods: Vec<String> = rule
        .methods
        .iter()
        .map(|method| format!("Action::\"{method}\""))
        .collect();
    let action = match methods.as_slice() {
        [] => "action".to_owned(),
        [one] => format!("action == {one}"),
        several => format!("action in [{}]", several.join(", ")),
    };
    if !rule.ports.is_empty() {
        conditions.push(any_of(rule.ports, |port| format!("context.port == {port}")));
    }
    if !rule.hosts.is_empty() {
        conditions.push(any_of(rule.hosts, |host| match host.contains('*') {
            true => format!("context.host like \"{host}\""),
            false => format!("context.host == \"{host}\""),
        }));
    }
    if let Some(path) = &rule.path {
        let like = path.replace("/**", "/*");
        conditions.push(match like.contains('*') {
            true => format!("context.path like \"{like}\""),
            false => format!("context.path == \"{like}\""),
        });
    }
    if let Some(service) = &rule.grpc {
        conditions.push(format!("context.path like \"/{service}/*\""));
    }
    let token = "context has token && context.token.issuer == \"shop/corp\"";
    match rule.token {
        None => {}
        Some(Token::Group) => conditions.push(format!(
            "{token} && context.token.groups.containsAny({GROUPS:?})"
        )),
        // A pattern captures nothing here: the caller has to take the path apart.
        Some(Token::Tenant) => conditions.push(format!(
            "{token} && context has third && context.third == context.token.tenant"
        )),
    }
    let when = match conditions.is_empty() {
        true => String::new(),
        false => format!(" when {{ {} }}", conditions.join(" && ")),
    };
    format!("{effect}({principal}, {action}, resource){when};\n")
}

fn any_of<T: Copy>(items: &[T], write: impl Fn(T) -> String) -> String {
    let written: Vec<String> = items.iter().map(|item| write(*item)).collect();
    format!("({})", written.join(" || "))
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("{kind}::\"{id}\"")
        .parse()
        .expect("it is an entity")
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn context(call: &Call) -> Context {
    let mut pairs = vec![
        ("peer".to_owned(), string(&call.peer())),
        (
            "port".to_owned(),
            RestrictedExpression::new_long(call.port.into()),
        ),
        ("host".to_owned(), string(call.plain_host())),
        ("path".to_owned(), string(call.plain_path())),
    ];
    if let Some(third) = call.plain_path().split('/').nth(3) {
        pairs.push(("third".to_owned(), string(third)));
    }
    if call.token {
        let groups = ["staff", "buyer"].map(string);
        let token = RestrictedExpression::new_record([
            ("issuer".to_owned(), string("shop/corp")),
            ("groups".to_owned(), RestrictedExpression::new_set(groups)),
            ("tenant".to_owned(), string("acme")),
        ]);
        pairs.push(("token".to_owned(), token.expect("the names are unique")));
    }
    Context::from_pairs(pairs).expect("the names are unique")
}

impl Peer for Cedar {
    fn cost(&self, call: &Call) -> f64 {
        let peer = uid("Peer", &call.peer());
        let namespace = uid("Namespace", &call.namespace);
        let entities = Entities::from_entities(
            [
                Entity::new_no_attrs(peer.clone(), [namespace.clone()].into()),
                Entity::new_no_attrs(namespace, [].into()),
            ],
            None,
        )
        .expect("the entities are consistent");
        let request = Request::new(
            peer,
            uid("Action", call.method),
            uid("Workload", "shop/orders"),
            context(call),
            None,
        )
        .expect("there is no schema to break");
        let authorizer = Authorizer::new();
        let decide = || authorizer.is_authorized(&request, &self.policies, &entities);
        let allowed = decide().decision() == Decision::Allow;
        assert_eq!(allowed, call.allowed, "Cedar: {call:?}");
        median_cost(|| {
            black_box(decide());
        })
    }
}
