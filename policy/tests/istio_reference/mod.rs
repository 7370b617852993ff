//! Istio's authorization policies, read slowly and plainly, as Istio's reference says.
//!
//! It knows nothing of this project's own documents: a policy is what is written in its YAML, and is asked whether
//! it matches a call. The sections named are those of <https://istio.io/latest/docs/reference/config/security/>.

use countersign_identity::SpiffeId;
use serde_json::Value;

use crate::support::{TestCall, TestRequest};

/// The trust domain of the mesh, for which policies may say `cluster.local`.
const OWN_TRUST_DOMAIN: &str = "shop.example";
/// Istio's root namespace.
const ROOT: &str = "istio-system";

/// A name of a field and its values, or a key and `values` or `notValues`.
pub(crate) type Field = (&'static str, Vec<&'static str>);

#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) namespace: &'static str,
    /// A value of the label `app`.
    pub(crate) selector: Option<&'static str>,
    pub(crate) action: &'static str,
    pub(crate) dry_run: bool,
    pub(crate) rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rule {
    pub(crate) from: Vec<Vec<Field>>,
    pub(crate) to: Vec<Vec<Field>>,
    pub(crate) when: Vec<When>,
}

#[derive(Clone, Debug)]
pub(crate) struct When {
    pub(crate) key: &'static str,
    pub(crate) values: Vec<&'static str>,
    pub(crate) not_values: Vec<&'static str>,
}

/// What Istio does with a call to a workload of the namespace shop with the label `app: orders`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allowed,
    Denied,
    /// No policy is about the workload: Istio allows the call.
    NoPolicy,
}

/// "Authorization Policy": deny policies first, then allow policies, and what no allow policy is about is allowed.
pub(crate) fn decide(policies: &[Policy], call: &TestCall) -> Decision {
    let about: Vec<&Policy> = policies
        .iter()
        .filter(|policy| policy.is_about_orders())
        .collect();
    let enforced = |action: &str| -> Vec<&Policy> {
        let chosen = about
            .iter()
            .filter(|policy| policy.action == action && !policy.dry_run);
        chosen.copied().collect()
    };
    if about.iter().all(|policy| policy.dry_run) {
        return Decision::NoPolicy;
    }
    if enforced("DENY").iter().any(|policy| policy.matches(call)) {
        return Decision::Denied;
    }
    let allow = enforced("ALLOW");
    if allow.is_empty() || allow.iter().any(|policy| policy.matches(call)) {
        return Decision::Allowed;
    }
    Decision::Denied
}

impl Policy {
    fn is_about_orders(&self) -> bool {
        (self.namespace == "shop" || self.namespace == ROOT)
            && self.selector.is_none_or(|app| app == "orders")
    }

    /// "Rule": one of them has to match, and no rules never do.
    pub(crate) fn matches(&self, call: &TestCall) -> bool {
        self.rules.iter().any(|rule| rule.matches(self, call))
    }

    pub(crate) fn to_yaml(&self, name: &str) -> String {
        let mut yaml = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\n  namespace: {}\n",
            self.namespace
        );
        if self.dry_run {
            yaml += "  annotations:\n    istio.io/dry-run: \"true\"\n";
        }
        yaml += &format!("spec:\n  action: {}\n", self.action);
        if let Some(app) = self.selector {
            yaml += &format!("  selector:\n    matchLabels:\n      app: {app}\n");
        }
        if !self.rules.is_empty() {
            yaml += "  rules:\n";
        }
        for rule in &self.rules {
            yaml += &rule.to_yaml();
        }
        yaml
    }
}

impl Rule {
    /// "Rule": one source, one operation and all conditions. On a connection that is not HTTP, an ALLOW rule with a
    /// field of HTTP is none, and other rules are without these fields ("Authorization Policy for TCP").
    fn matches(&self, policy: &Policy, call: &TestCall) -> bool {
        let fields = self
            .from
            .iter()
            .chain(&self.to)
            .flatten()
            .map(|(name, _)| *name);
        let keys = self.when.iter().map(|when| when.key);
        let asks_for_http = fields.chain(keys).any(is_http);
        if call.request.is_none() && asks_for_http && policy.action == "ALLOW" {
            return false;
        }
        let holds = |entry: &Vec<Field>| {
            entry
                .iter()
                .all(|(name, values)| field(name, values, policy, call))
        };
        let when = |when: &When| {
            let of = |values: &[&str]| {
                values
                    .iter()
                    .any(|value| one(when.key, value, policy, call))
            };
            (is_http(when.key) && call.request.is_none())
                || ((when.values.is_empty() || of(&when.values))
                    && (when.not_values.is_empty() || !of(&when.not_values)))
        };
        (self.from.is_empty() || self.from.iter().any(holds))
            && (self.to.is_empty() || self.to.iter().any(holds))
            && self.when.iter().all(when)
    }

    fn to_yaml(&self) -> String {
        let list = |values: &[&str]| {
            let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
            format!("[{}]", quoted.join(", "))
        };
        let entries = |name: &str, inner: &str, entries: &[Vec<Field>]| {
            let mut yaml = String::new();
            if !entries.is_empty() {
                yaml += &format!("    {name}:\n");
            }
            for entry in entries {
                yaml += &format!("    - {inner}:\n");
                for (field, values) in entry {
                    yaml += &format!("        {field}: {}\n", list(values));
                }
            }
            yaml
        };
        let mut body =
            entries("from", "source", &self.from) + &entries("to", "operation", &self.to);
        if !self.when.is_empty() {
            body += "    when:\n";
        }
        for when in &self.when {
            body += &format!("    - key: {}\n", when.key);
            for (name, values) in [("values", &when.values), ("notValues", &when.not_values)] {
                if !values.is_empty() {
                    body += &format!("      {name}: {}\n", list(values));
                }
            }
        }
        match body.strip_prefix("    ") {
            Some(body) => format!("  - {body}"),
            None => "  - {}\n".to_owned(),
        }
    }
}

/// "Source" and "Operation": a field with its values; `notX` is the contrary of x.
fn field(name: &str, values: &[&str], policy: &Policy, call: &TestCall) -> bool {
    if is_http(name) && call.request.is_none() {
        return true;
    }
    match name.strip_prefix("not") {
        None => values.iter().any(|value| one(name, value, policy, call)),
        Some(name) => {
            let name = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
            !values.iter().any(|value| one(&name, value, policy, call))
        }
    }
}

fn is_http(name: &str) -> bool {
    let name = name.trim_start_matches("not").to_lowercase();
    name.starts_with("request") || ["hosts", "methods", "paths"].contains(&name.as_str())
}

/// Whether a field or attribute has a value. What is not there has none.
fn one(name: &str, value: &str, policy: &Policy, call: &TestCall) -> bool {
    let peer = call.peer.as_ref();
    let request = call.request.as_ref();
    match name {
        "principals" | "source.principal" => peer.is_some_and(|peer| is_principal(peer, value)),
        "namespaces" | "source.namespace" => {
            peer.is_some_and(|peer| text(value, names(peer).map_or("", |names| names.0)))
        }
        "serviceAccounts" | "source.serviceAccount" => {
            let (namespace, account) = value.split_once('/').unwrap_or((policy.namespace, value));
            peer.is_some_and(|peer| names(peer) == Some((namespace, account)))
        }
        "trustDomains" => peer.is_some_and(|peer| text(value, peer.trust_domain().as_str())),
        "ipBlocks" | "source.ip" => is_within(call.source_ip.unwrap(), value),
        "remoteIpBlocks" | "remote.ip" => {
            let forwarded = request.and_then(|request| header(request, "x-forwarded-for"));
            let last = forwarded.and_then(|list| list.rsplit(',').next());
            let address = last.map_or(call.source_ip.unwrap(), |last| last.trim().parse().unwrap());
            is_within(address, value)
        }
        "requestPrincipals" | "request.auth.principal" => is_request_principal(call, value),
        "request.auth.audiences" => is_claim(call, &["aud"], value),
        "request.auth.presenter" => is_claim(call, &["azp"], value),
        "hosts" => {
            let host = request.unwrap().host.to_lowercase();
            text(&value.to_lowercase(), &host)
        }
        "methods" => text(value, &request.unwrap().method),
        "paths" => is_path(value, request.unwrap().path.split('?').next().unwrap()),
        "ports" | "destination.port" => value == call.port.to_string(),
        "destination.ip" => is_within(call.destination_ip.unwrap(), value),
        "connection.sni" => text(value, call.sni.as_deref().unwrap_or("")),
        _ => match name.strip_prefix("request.headers[") {
            Some(name) => {
                let name = name.strip_suffix(']').unwrap();
                header(request.unwrap(), name).is_some_and(|found| text(value, found))
            }
            None => {
                let names = name.strip_prefix("request.auth.claims[").unwrap();
                let names: Vec<&str> = names.strip_suffix(']').unwrap().split("][").collect();
                is_claim(call, &names, value)
            }
        },
    }
}

/// "Rule": exact, prefix, suffix and presence match.
fn text(pattern: &str, given: &str) -> bool {
    let length = pattern.len();
    match pattern {
        "*" => !given.is_empty(),
        _ if pattern.starts_with('*') => given.ends_with(&pattern[1..]),
        _ if pattern.ends_with('*') => given.starts_with(&pattern[..length - 1]),
        _ => pattern == given,
    }
}

/// "Source", `principals`: the trust domain `cluster.local` is the mesh's own.
fn is_principal(peer: &SpiffeId, value: &str) -> bool {
    let given = peer.as_str().strip_prefix("spiffe://").unwrap();
    match value.strip_prefix("cluster.local/") {
        Some(rest) if rest.split('/').count() == 4 => {
            text(&format!("{OWN_TRUST_DOMAIN}/{rest}"), given)
        }
        _ => text(value, given),
    }
}

fn names(peer: &SpiffeId) -> Option<(&str, &str)> {
    let path = peer.as_str().splitn(4, '/').nth(3)?;
    path.strip_prefix("ns/")?.split_once("/sa/")
}

fn header<'a>(request: &'a TestRequest, name: &str) -> Option<&'a str> {
    let found = request
        .headers
        .iter()
        .find(|(given, _)| given.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

fn is_within(address: std::net::IpAddr, block: &str) -> bool {
    let (network, length) = block.split_once('/').unwrap_or((block, "32"));
    let bits = |address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(address) => u64::from(address.to_bits()),
        std::net::IpAddr::V6(_) => panic!("the reference knows IPv4 alone"),
    };
    let free = 32 - length.parse::<u32>().unwrap();
    bits(address) >> free == bits(network.parse().unwrap()) >> free
}

/// The token's claims; there is one token at most.
fn claims(call: &TestCall) -> Option<&serde_json::Map<String, Value>> {
    call.subjects.first().map(|subject| &subject.claims)
}

/// "Source", `requestPrincipals`: `<issuer>/<subject>`.
fn is_request_principal(call: &TestCall, value: &str) -> bool {
    let of = |name: &str| claims(call)?.get(name)?.as_str();
    let (Some(issuer), Some(subject)) = (of("iss"), of("sub")) else {
        return false;
    };
    if issuer.is_empty() || subject.is_empty() {
        return false;
    }
    text(value, &format!("{issuer}/{subject}"))
}

/// "Authorization Policy Conditions", `request.auth.claims`: a text, or one of a list of texts. `scope` and
/// `permission` are lists of words.
fn is_claim(call: &TestCall, names: &[&str], value: &str) -> bool {
    let Some((first, rest)) = names.split_first() else {
        return false;
    };
    let Some(mut claim) = claims(call).and_then(|claims| claims.get(*first)) else {
        return false;
    };
    for name in rest {
        let Some(inner) = claim.get(name) else {
            return false;
        };
        claim = inner;
    }
    let is_words = rest.is_empty() && ["scope", "permission"].contains(first);
    match claim {
        Value::String(words) if is_words => words.split(' ').any(|word| text(value, word)),
        Value::String(given) => text(value, given),
        Value::Array(items) => items
            .iter()
            .any(|item| item.as_str().is_some_and(|given| text(value, given))),
        _ => false,
    }
}

/// "Operation", `paths`: a text, or a template with `{*}` and `{**}`.
fn is_path(value: &str, path: &str) -> bool {
    if !value.contains('{') {
        return text(value, path);
    }
    template(value, path)
}

fn template(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("{**}") {
        return (0..=path.len()).any(|end| template(rest, &path[end..]));
    }
    if let Some(rest) = pattern.strip_prefix("{*}") {
        let segment = path.find('/').unwrap_or(path.len());
        return segment > 0 && template(rest, &path[segment..]);
    }
    match (pattern.chars().next(), path.chars().next()) {
        (None, None) => true,
        (Some(wanted), Some(given)) => wanted == given && template(&pattern[1..], &path[1..]),
        _ => false,
    }
}
