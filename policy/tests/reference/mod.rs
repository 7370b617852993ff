//! The documents, read slowly and plainly: no index, no sharing, three-valued logic spelled out.
//!
//! It judges calls whose path can be read in one way; it knows as much of paths, hosts and
//! conditions as the generated policies have.

use countersign_identity::SpiffeId;

use crate::support::{TestCall, TestRequest};

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) action: &'static str,
    pub(crate) observe: bool,
    /// Whether its document is in the root namespace.
    pub(crate) root: bool,
    pub(crate) from: Vec<Source>,
    /// Whether its document says `default: allow`.
    pub(crate) open: bool,
    /// `subject: {claims: {tenant: …}}`, and the issuer where it is to be seen.
    pub(crate) tenant: Option<&'static str>,
    /// `intent: {scope: [ … ]}`.
    pub(crate) scope: Option<&'static str>,
    pub(crate) to: Vec<Operation>,
    pub(crate) condition: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) is: SourceFields,
    pub(crate) not: Vec<SourceFields>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SourceFields {
    pub(crate) workload: Option<&'static str>,
    pub(crate) namespace: Option<&'static str>,
    pub(crate) spiffe: Option<&'static str>,
    pub(crate) trust_domain: Option<&'static str>,
    pub(crate) cidr: Option<&'static str>,
    pub(crate) forwarded_for: Option<&'static str>,
    pub(crate) anonymous: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) is: Fields,
    pub(crate) not: Fields,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields {
    pub(crate) ports: Vec<u16>,
    pub(crate) methods: Vec<&'static str>,
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) paths: Vec<&'static str>,
    /// `headers: {x-tenant: …}`.
    pub(crate) tenants: Vec<&'static str>,
    pub(crate) sni: Vec<&'static str>,
}

#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) allowed: bool,
    /// Names of the rules that may be named as deciding.
    pub(crate) deciding: Vec<String>,
    pub(crate) observed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    No,
    Unknown,
    Yes,
}

use Answer::{No, Unknown, Yes};

fn yes_if(yes: bool) -> Answer {
    if yes { Yes } else { No }
}

impl Answer {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (No, _) | (_, No) => No,
            (Unknown, _) | (_, Unknown) => Unknown,
            (Yes, Yes) => Yes,
        }
    }

    fn negated(self) -> Self {
        match self {
            No => Yes,
            Unknown => Unknown,
            Yes => No,
        }
    }

    fn or(self, other: Self) -> Self {
        self.negated().and(other.negated()).negated()
    }

    fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().fold(Yes, Self::and)
    }

    fn any(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().fold(No, Self::or)
    }
}

pub(crate) fn decide(rules: &[Rule], permissive: bool, call: &TestCall) -> Expected {
    if call.peer.is_none() && !permissive {
        return Expected {
            allowed: false,
            deciding: Vec::new(),
            observed: Vec::new(),
        };
    }
    let name = |at: usize| format!("rule {at}");
    let matching = |action: &str, observed: bool| -> Vec<String> {
        let rules = rules.iter().enumerate();
        rules
            .filter(|(_, rule)| {
                let decides = !rule.observe && rule.action != "audit";
                decides != observed && (action.is_empty() || rule.action == action)
            })
            .filter(|(_, rule)| {
                let answer = rule.answer(call);
                answer == Yes || answer == Unknown && rule.action != "allow"
            })
            .map(|(at, _)| name(at))
            .collect()
    };
    let (denying, allowing) = (matching("deny", false), matching("allow", false));
    let mut enforced = rules.iter().filter(|rule| !rule.observe).peekable();
    let open = enforced.peek().is_some() && enforced.all(|rule| rule.open);
    let allowed = denying.is_empty() && (open || !allowing.is_empty());
    let deciding = if denying.is_empty() {
        allowing
    } else {
        denying
    };
    Expected {
        allowed,
        deciding,
        observed: matching("", true),
    }
}

impl Rule {
    fn answer(&self, call: &TestCall) -> Answer {
        let from = Answer::any(self.from.iter().map(|source| source.answer(call)));
        let from = if self.from.is_empty() { Yes } else { from };
        let from = if self.action == "allow" {
            from.and(self.may_be_let_in(call))
        } else {
            from
        };
        let to = Answer::any(self.to.iter().map(|to| to.answer(call)));
        let to = if self.to.is_empty() { Yes } else { to };
        let has_scope = |wanted: &str| {
            let intent = call.intent.as_ref();
            intent.is_some_and(|intent| intent.scope.iter().any(|held| held == wanted))
        };
        let intent = self.scope.map_or(Yes, |wanted| yes_if(has_scope(wanted)));
        let structured = Answer::all([from, to, intent]);
        let tenants: Vec<Option<&str>> = call
            .subjects
            .iter()
            .map(|subject| {
                subject
                    .claims
                    .get("tenant")
                    .and_then(|tenant| tenant.as_str())
            })
            .filter(|tenant| self.tenant.is_none_or(|wanted| *tenant == Some(wanted)))
            .collect();
        if self.tenant.is_some() && tenants.is_empty() {
            return No;
        }
        let condition = match self.condition {
            None => Yes,
            Some("subject.claims.tenant == 'acme'") if tenants.is_empty() => Unknown,
            Some("subject.claims.tenant == 'acme'") => Answer::any(
                tenants
                    .iter()
                    .map(|tenant| tenant.map_or(Unknown, |t| yes_if(t == "acme"))),
            ),
            Some("request.method == 'GET'") => call
                .request
                .as_ref()
                .map_or(Unknown, |request| yes_if(request.method == "GET")),
            Some("destination.port > 8080") => yes_if(call.port > 8080),
            Some("peer.namespace == 'shop'") => match &call.peer {
                None => Unknown,
                Some(peer) => yes_if(peer.workload().is_some_and(|w| w.namespace == "shop")),
            },
            Some(other) => panic!("the reference does not know {other}"),
        };
        // The condition is asked only where a rule's own reading of the rest is yes.
        let rest = structured == Yes || structured == Unknown && self.action != "allow";
        if rest { condition } else { No }
    }

    /// Identities have to be proved, and those of other trust domains named.
    fn may_be_let_in(&self, call: &TestCall) -> Answer {
        let Some(peer) = &call.peer else {
            let stranger = |source: &Source| yes_if(source.is.anonymous).and(source.answer(call));
            return Answer::any(self.from.iter().map(stranger));
        };
        let local = peer.trust_domain().as_str() == "shop.example";
        let named = |source: &Source| {
            let named = source.is.spiffe.is_some() || source.is.trust_domain.is_some();
            yes_if(named).and(source.answer(call))
        };
        yes_if(local).or(Answer::any(self.from.iter().map(named)))
    }

    pub(crate) fn to_yaml(&self, at: usize) -> String {
        let namespace = if self.root {
            "countersign-system"
        } else {
            "shop"
        };
        let mode = if self.observe { "observe" } else { "enforce" };
        let default = if self.open { "allow" } else { "deny" };
        let mut yaml = format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p{at}, namespace: {namespace}}}\nspec:\n  mode: {mode}\n  default: {default}\n  rules:\n  - name: rule {at}\n    action: {}\n",
            self.action
        );
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        if !self.from.is_empty() {
            yaml += &format!(
                "    from: {}\n",
                list(self.from.iter().map(Source::to_yaml).collect())
            );
        }
        if let Some(tenant) = self.tenant {
            // The issuer corp is of the namespace shop: the root namespace does not see it.
            let issuer = if self.root { "" } else { "issuer: corp, " };
            yaml += &format!("    subject: {{{issuer}claims: {{tenant: {tenant}}}}}\n");
        }
        if let Some(scope) = self.scope {
            yaml += &format!("    intent: {{scope: [{scope}]}}\n");
        }
        if !self.to.is_empty() {
            yaml += &format!(
                "    to: {}\n",
                list(self.to.iter().map(Operation::to_yaml).collect())
            );
        }
        if let Some(condition) = self.condition {
            yaml += &format!("    when: \"{condition}\"\n");
        }
        yaml
    }
}

fn with_not(is: Vec<String>, not: Vec<String>) -> String {
    let mut fields = is;
    if !not.is_empty() {
        fields.push(format!("not: {{{}}}", not.join(", ")));
    }
    format!("{{{}}}", fields.join(", "))
}

impl Source {
    pub(crate) fn is_empty(&self) -> bool {
        self.is == SourceFields::default() && self.not.is_empty()
    }

    fn answer(&self, call: &TestCall) -> Answer {
        let domain = self.is.trust_domain.unwrap_or("shop.example");
        let is = Answer::all(self.is.answers(domain, call));
        let not = self.not.iter().flat_map(|not| not.answers(domain, call));
        is.and(Answer::any(not).negated())
    }

    fn to_yaml(&self) -> String {
        let mut fields = self.is.to_yaml();
        let not: Vec<String> = self
            .not
            .iter()
            .map(|not| format!("{{{}}}", not.to_yaml().join(", ")))
            .collect();
        match not.as_slice() {
            [] => {}
            [one] => fields.push(format!("not: {one}")),
            _ => fields.push(format!("not: [{}]", not.join(", "))),
        }
        format!("{{{}}}", fields.join(", "))
    }
}

impl SourceFields {
    fn answers(&self, domain: &str, call: &TestCall) -> Vec<Answer> {
        let peer = call.peer.as_ref().map_or("", SpiffeId::as_str);
        let domain = match domain {
            "*" => call
                .peer
                .as_ref()
                .map_or("", |peer| peer.trust_domain().as_str()),
            domain => domain,
        };
        let in_domain = peer
            .strip_prefix(&format!("spiffe://{domain}/ns/"))
            .unwrap_or("");
        let name = in_domain.split_once("/sa/").unwrap_or(("", ""));
        let mut answers = Vec::new();
        if let Some(workload) = self.workload {
            let (namespace, account) = workload.split_once('/').unwrap();
            let part =
                |wanted: &str, given: &str| !given.is_empty() && (wanted == "*" || wanted == given);
            answers.push(yes_if(part(namespace, name.0) && part(account, name.1)));
        }
        if let Some(namespace) = self.namespace {
            answers.push(yes_if(namespace == name.0));
        }
        if let Some(spiffe) = self.spiffe {
            answers.push(yes_if(match spiffe.strip_suffix("**") {
                Some(prefix) => peer.starts_with(prefix),
                None => peer == spiffe,
            }));
        }
        if self.anonymous {
            answers.push(yes_if(call.peer.is_none()));
        }
        if let Some(wanted) = self.trust_domain {
            answers.push(yes_if(
                wanted == "*" && call.peer.is_some()
                    || format!("{peer}/").starts_with(&format!("spiffe://{wanted}/")),
            ));
        }
        let in_range = |range: &str, address: Option<String>| {
            let first = if range.starts_with("10.") {
                "10."
            } else {
                "192."
            };
            address.map_or(Unknown, |address| yes_if(address.starts_with(first)))
        };
        let own = call.source_ip.map(|address| address.to_string());
        if let Some(range) = self.cidr {
            answers.push(in_range(range, own.clone()));
        }
        if let Some(range) = self.forwarded_for {
            let request = call.request.as_ref();
            let list = request.and_then(|request| request.headers.get("X-Forwarded-For"));
            answers.push(match list.map(String::as_str) {
                None => in_range(range, own),
                Some("nonsense") => Unknown,
                Some(list) => in_range(range, list.split(", ").last().map(str::to_owned)),
            });
        }
        answers
    }

    fn to_yaml(&self) -> Vec<String> {
        let fields = [
            ("workload", self.workload),
            ("namespace", self.namespace),
            ("spiffe", self.spiffe),
            ("trustDomain", self.trust_domain),
            ("cidr", self.cidr),
            ("forwardedFor", self.forwarded_for),
            ("anonymous", self.anonymous.then_some("true")),
        ];
        let given = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        given
            .map(|(name, value)| match value {
                "true" => format!("{name}: {value}"),
                value => format!("{name}: \"{value}\""),
            })
            .collect()
    }
}

impl Operation {
    pub(crate) fn is_empty(&self) -> bool {
        self.is == Fields::default() && self.not == Fields::default()
    }

    fn answer(&self, call: &TestCall) -> Answer {
        Answer::all(self.is.answers(call)).and(Answer::any(self.not.answers(call)).negated())
    }

    fn to_yaml(&self) -> String {
        with_not(self.is.to_yaml(), self.not.to_yaml())
    }
}

impl Fields {
    fn answers(&self, call: &TestCall) -> Vec<Answer> {
        let mut answers = Vec::new();
        if !self.ports.is_empty() {
            answers.push(yes_if(self.ports.contains(&call.port)));
        }
        let mut ask = |given: bool, answer: &dyn Fn(&TestRequest) -> Answer| {
            if given {
                answers.push(call.request.as_ref().map_or(Unknown, answer));
            }
        };
        ask(!self.methods.is_empty(), &|request| {
            yes_if(self.methods.contains(&request.method.as_str()))
        });
        ask(
            !self.hosts.is_empty(),
            &|request| match request.host.as_str() {
                "?" => Unknown,
                "orders.shop" => yes_if(self.hosts.contains(&"orders.shop")),
                "a.example.com:80" => yes_if(self.hosts.contains(&"*.example.com")),
                _ => No,
            },
        );
        ask(!self.paths.is_empty(), &|request| {
            let path = request.path.split('?').next().unwrap();
            Answer::any(
                self.paths
                    .iter()
                    .map(|pattern| yes_if(is_path(pattern, path))),
            )
        });
        ask(!self.tenants.is_empty(), &|request| {
            let tenant = request.headers.get("X-Tenant").map(String::as_str);
            yes_if(tenant.is_some_and(|tenant| self.tenants.contains(&tenant)))
        });
        if !self.sni.is_empty() {
            answers.push(match (&call.request, &call.sni) {
                (Some(_), _) => No,
                (None, None) => Unknown,
                (None, Some(name)) => yes_if(self.sni.contains(&name.as_str())),
            });
        }
        answers
    }

    fn to_yaml(&self) -> Vec<String> {
        let quoted = |items: &[&str]| {
            let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
            (!items.is_empty()).then(|| format!("[{}]", quoted.join(", ")))
        };
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        let fields = [
            (
                "ports",
                (!ports.is_empty()).then(|| format!("[{}]", ports.join(", "))),
            ),
            ("methods", quoted(&self.methods)),
            ("hosts", quoted(&self.hosts)),
            ("paths", quoted(&self.paths)),
            (
                "headers",
                quoted(&self.tenants).map(|tenants| format!("{{X-TENANT: {tenants}}}")),
            ),
            ("sni", quoted(&self.sni)),
        ];
        let given = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        given
            .map(|(name, value)| format!("{name}: {value}"))
            .collect()
    }
}

fn is_path(pattern: &str, path: &str) -> bool {
    fn all(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            (["**"], _) => true,
            ([], []) => true,
            ([wanted, pattern @ ..], [given, path @ ..]) => {
                let any = *wanted == "*" || wanted.starts_with('{');
                (wanted == given || any && !given.is_empty()) && all(pattern, path)
            }
            _ => false,
        }
    }
    let split = |text: &str| text[1..].split('/').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, path) = (split(pattern), split(path));
    let borrow = |all: &[String]| {
        all.iter()
            .map(|s| s.clone().leak() as &str)
            .collect::<Vec<_>>()
    };
    all(&borrow(&pattern), &borrow(&path))
}
