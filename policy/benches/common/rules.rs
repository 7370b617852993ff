//! The rules of a large mesh, in force for one workload: of many callers, ports, hosts and paths, mostly allowing.
//!
//! They are data, so that each engine is given the same in its own language.

use std::fmt::Write as _;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Namespace and service account.
    Workload(String, String),
    /// Everyone of a namespace.
    Namespace(String),
    /// Everyone of a namespace but this account.
    NamespaceBut(String, String),
    /// Everyone below this SPIFFE ID.
    Below(String),
}

/// What the call's token has to have, by the issuer `shop/corp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Its claim `groups` has one of [`GROUPS`].
    Group,
    /// Its claim `tenant` is the third segment of the path: a condition, in CEL.
    Tenant,
}

/// The accepted groups.
pub(crate) const GROUPS: [&str; 2] = ["buyer", "seller"];

/// One rule; an empty list is a field that is left out.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) number: usize,
    pub(crate) denies: bool,
    pub(crate) caller: Caller,
    pub(crate) ports: &'static [u16],
    pub(crate) methods: &'static [&'static str],
    /// Exact, or `*.` and an end.
    pub(crate) hosts: &'static [&'static str],
    /// With `*` for one segment and a final `**` for any rest.
    pub(crate) path: Option<String>,
    /// A gRPC service: any one segment below it.
    pub(crate) grpc: Option<String>,
    pub(crate) token: Option<Token>,
}

/// Hosts of the rules with several.
pub(crate) const HOSTS: [&str; 3] = ["orders.shop", "orders.shop.svc", "*.orders.example"];

/// How many callers there are; the same come back with other paths.
const CALLERS: usize = 100;

/// The area of the paths that a rule is about, and its caller.
pub(crate) fn area_and_caller(number: usize) -> (usize, usize) {
    (number / 10, number / 10 % CALLERS)
}

/// Rule `number`: one of ten shapes, one in fifty denying.
pub(crate) fn rule(number: usize) -> Rule {
    let (area, caller) = area_and_caller(number);
    let namespace = || format!("ns{caller}");
    let workload = || Caller::Workload(namespace(), format!("sa{caller}"));
    let path = |rest: &str| Some(format!("/area{area}/{rest}"));
    let plain = Rule {
        number,
        denies: false,
        caller: Caller::Namespace(namespace()),
        ports: &[8080],
        methods: &[],
        hosts: &[],
        path: None,
        grpc: None,
        token: None,
    };
    match number % 10 {
        0 => Rule {
            caller: workload(),
            methods: &["POST"],
            path: path("orders"),
            ..plain
        },
        1 => Rule {
            caller: workload(),
            methods: &["GET", "HEAD"],
            path: path("orders/*/items/**"),
            ..plain
        },
        2 => Rule {
            caller: workload(),
            methods: &["PUT"],
            path: path("carts/*"),
            token: Some(Token::Group),
            ..plain
        },
        3 => Rule {
            ports: &[9090],
            grpc: Some(format!("shop.area{area}.Read")),
            ..plain
        },
        4 => Rule {
            caller: workload(),
            methods: &["PATCH"],
            path: path("tenants/*/**"),
            token: Some(Token::Tenant),
            ..plain
        },
        5 => Rule {
            caller: Caller::Workload(namespace(), format!("batch{area}")),
            ports: &[8080, 8081],
            ..plain
        },
        6 => Rule {
            caller: Caller::Below(format!("spiffe://other.example/area{area}")),
            ports: &[8443],
            methods: &["GET"],
            path: path("public/**"),
            ..plain
        },
        7 => Rule {
            caller: Caller::NamespaceBut(namespace(), "guest".to_owned()),
            methods: &["GET"],
            path: path("health"),
            ..plain
        },
        8 => Rule {
            caller: workload(),
            methods: &["GET", "HEAD", "OPTIONS"],
            hosts: &HOSTS,
            path: path("reports/*/pages/*"),
            ..plain
        },
        _ if number % 50 == 9 => Rule {
            denies: true,
            ports: &[],
            path: path("internal/**"),
            ..plain
        },
        _ => Rule {
            ports: &[8082],
            methods: &["GET"],
            ..plain
        },
    }
}

/// Rules in one document and file.
const RULES_PER_FILE: usize = 500;

/// The first rules as policy files, one at a time.
pub(crate) fn files(rules: usize) -> impl Iterator<Item = (String, String)> {
    let issuer = "apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.example, audiences: [shop]}
";
    let policies = (0..rules).step_by(RULES_PER_FILE).map(move |first| {
        let mut text = format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p{first}, namespace: shop}}\nspec:\n  rules:\n"
        );
        for number in first..rules.min(first + RULES_PER_FILE) {
            write_yaml(&mut text, &rule(number));
        }
        (format!("{first}.yaml"), text)
    });
    [("issuer.yaml".to_owned(), issuer.to_owned())]
        .into_iter()
        .chain(policies)
}

/// As people write it.
fn write_yaml(text: &mut String, rule: &Rule) {
    let action = if rule.denies { "deny" } else { "allow" };
    let from = match &rule.caller {
        Caller::Workload(namespace, account) => format!("workload: {namespace}/{account}"),
        Caller::Namespace(namespace) => format!("namespace: {namespace}"),
        Caller::NamespaceBut(namespace, account) => {
            format!("namespace: {namespace}, not: {{workload: {namespace}/{account}}}")
        }
        Caller::Below(id) => format!("spiffe: '{id}/**'"),
    };
    let mut to = Vec::new();
    if !rule.ports.is_empty() {
        to.push(format!("ports: {:?}", rule.ports));
    }
    if !rule.methods.is_empty() {
        to.push(format!("methods: [{}]", rule.methods.join(", ")));
    }
    if !rule.hosts.is_empty() {
        to.push(format!("hosts: {:?}", rule.hosts));
    }
    if let Some(path) = &rule.path {
        let path = match rule.token {
            Some(Token::Tenant) => path.replacen('*', "{tenant}", 1),
            _ => path.clone(),
        };
        to.push(format!("paths: ['{path}']"));
    }
    if let Some(service) = &rule.grpc {
        to.push(format!("grpc: [{{service: {service}}}]"));
    }
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "  - name: rule {}\n    action: {action}\n    from: [{{{from}}}]\n    to: [{{{}}}]\n",
        rule.number,
        to.join(", ")
    );
    let _ = match rule.token {
        None => Ok(()),
        Some(Token::Group) => writeln!(
            text,
            "    subject: {{issuer: corp, claims: {{groups: [{}]}}}}",
            GROUPS.join(", ")
        ),
        Some(Token::Tenant) => writeln!(
            text,
            "    subject: {{issuer: corp}}\n    when: path.tenant == subject.claims.tenant"
        ),
    };
}
