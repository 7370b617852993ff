//! Reads an `AuthorizationPolicy`.
//!
//! <https://istio.io/latest/docs/reference/config/security/authorization-policy/>

use super::metadata::{self, Header};
use super::path::PathTest;
use super::term::{self, Account, Term, Values};
use super::{Options, condition, selector};
use crate::document::{Action, Origin, Target, origin};
use crate::pattern::{Cidr, Name, TextPattern};
use crate::yaml::{Fields, Value};

/// An `AuthorizationPolicy` as Istio has it.
pub(super) struct AuthorizationPolicy<'a> {
    pub(super) header: Header,
    pub(super) origin: Origin,
    pub(super) target: Target,
    pub(super) action: Action,
    /// None: no call ever matches.
    pub(super) rules: Vec<Rule<'a>>,
}

/// A rule matches if one of `from`, one of `to` and all of `when` hold; an empty list always does.
pub(super) struct Rule<'a> {
    /// Where it is.
    pub(super) value: Value<'a>,
    /// The terms of each source.
    pub(super) from: Vec<Vec<Term>>,
    /// The terms of each operation.
    pub(super) to: Vec<Vec<Term>>,
    pub(super) when: Vec<Term>,
}

/// Why `action: CUSTOM` is refused.
const CUSTOM: &str = "the action CUSTOM is not supported: it asks an external service at every call, and decisions \
                      here are made by the sidecar alone; write what the service decides by as ALLOW or DENY rules";

/// At most as many service accounts as Istio allows in one list.
const MAX_SERVICE_ACCOUNTS: usize = 16;

pub(super) fn read<'a>(value: Value<'a>, options: &Options) -> Option<AuthorizationPolicy<'a>> {
    let place = origin(value);
    value.mapping(|fields| {
        let header = metadata::read(fields, options);
        let namespace = header.as_ref().map(|header| header.namespace.clone());
        let spec = fields.nullable("spec", |value| {
            value.mapping(|fields| spec(fields, namespace.as_ref()))
        });
        let (header, spec) = (header?, spec?);
        // No spec is an empty one, which allows nothing.
        let (target, action, rules) =
            spec.unwrap_or_else(|| (Target::default(), Action::Allow, Vec::new()));
        Some(AuthorizationPolicy {
            header,
            origin: place,
            target,
            action,
            rules,
        })
    })
}

fn spec<'a>(
    fields: &mut Fields<'a>,
    namespace: Option<&Name>,
) -> Option<(Target, Action, Vec<Rule<'a>>)> {
    let target = selector::read(fields);
    let action = fields.default("action", Action::Allow, action);
    let custom = fields.refused(
        "provider",
        "belongs to the action CUSTOM, which is not supported",
    );
    let rules = fields.nullable("rules", |value| {
        value.list("rules", |value| rule(value, namespace))
    });
    custom?;
    Some((target?, action?, rules?.unwrap_or_default()))
}

fn action(value: Value<'_>) -> Option<Action> {
    let actions = [
        ("ALLOW", Some(Action::Allow)),
        ("DENY", Some(Action::Deny)),
        ("AUDIT", Some(Action::Audit)),
        ("CUSTOM", None),
    ];
    match value.choice(&actions)? {
        Some(action) => Some(action),
        None => value.mistake(CUSTOM),
    }
}

fn rule<'a>(value: Value<'a>, namespace: Option<&Name>) -> Option<Rule<'a>> {
    value.mapping(|fields| {
        let from = fields.default("from", Vec::new(), |value| {
            value.non_empty_list("sources", |value| {
                value.mapping(|fields| fields.required("source", |v| source(v, namespace)))
            })
        });
        let to = fields.default("to", Vec::new(), |value| {
            value.non_empty_list("operations", |value| {
                value.mapping(|fields| fields.required("operation", operation))
            })
        });
        let when = fields.default("when", Vec::new(), |value| {
            value.list("conditions", |value| condition::read(value, namespace))
        });
        Some(Rule {
            value,
            from: from?,
            to: to?,
            when: when?,
        })
    })
}

fn source(value: Value<'_>, namespace: Option<&Name>) -> Option<Vec<Term>> {
    value.mapping(|fields| {
        let principals = values(fields, ["principals", "notPrincipals"], principal);
        let request_principals =
            values(fields, ["requestPrincipals", "notRequestPrincipals"], text);
        let namespaces = values(fields, ["namespaces", "notNamespaces"], namespace_pattern);
        let accounts = values(fields, ["serviceAccounts", "notServiceAccounts"], |value| {
            account(value, namespace)
        });
        let domains = values(fields, ["trustDomains", "notTrustDomains"], trust_domain);
        let addresses = values(fields, ["ipBlocks", "notIpBlocks"], cidr);
        let remote = values(fields, ["remoteIpBlocks", "notRemoteIpBlocks"], cidr);
        let (principals, namespaces, accounts) = (principals?, namespaces?, accounts?);
        service_accounts_are_few(value, &accounts)?;
        let other_names = !(principals.is_empty() && namespaces.is_empty());
        if other_names && !accounts.is_empty() {
            return value.mistake("`serviceAccounts` stand without `principals` and `namespaces`");
        }
        terms(
            value,
            [
                Term::Principal(principals),
                Term::ServiceAccount(accounts),
                Term::Namespace(namespaces),
                Term::TrustDomain(domains?),
                Term::RequestPrincipal(request_principals?),
                Term::SourceIp(addresses?),
                Term::RemoteIp(remote?),
            ],
        )
    })
}

pub(super) fn service_accounts_are_few(value: Value<'_>, accounts: &Values<Account>) -> Option<()> {
    if accounts.any_of.len().max(accounts.none_of.len()) > MAX_SERVICE_ACCOUNTS {
        return value.mistake(format!(
            "a list has at most {MAX_SERVICE_ACCOUNTS} service accounts"
        ));
    }
    Some(())
}

fn operation(value: Value<'_>) -> Option<Vec<Term>> {
    value.mapping(|fields| {
        let hosts = values(fields, ["hosts", "notHosts"], host);
        let ports = values(fields, ["ports", "notPorts"], port);
        let methods = values(fields, ["methods", "notMethods"], text);
        let paths = values(fields, ["paths", "notPaths"], path);
        terms(
            value,
            [
                Term::Port(ports?),
                Term::Host(hosts?),
                Term::Method(methods?),
                Term::Path(paths?),
            ],
        )
    })
}

/// Those that ask for something. Istio refuses an entry without any.
fn terms<const N: usize>(value: Value<'_>, terms: [Term; N]) -> Option<Vec<Term>> {
    let given: Vec<Term> = terms.into_iter().filter(|term| !term.is_empty()).collect();
    if given.is_empty() {
        return value
            .mistake("expected at least one field with a value: leave the entry out to mean any");
    }
    Some(given)
}

/// An attribute's two lists. An empty list is one that was left out.
pub(super) fn values<'a, T>(
    fields: &mut Fields<'a>,
    [any_of, none_of]: [&'static str; 2],
    mut read: impl FnMut(Value<'a>) -> Option<T>,
) -> Option<Values<T>> {
    let any_of = fields.default(any_of, Vec::new(), |value| value.list("strings", &mut read));
    let none_of = fields.default(none_of, Vec::new(), |value| {
        value.list("strings", &mut read)
    });
    Some(Values {
        any_of: any_of?,
        none_of: none_of?,
    })
}

pub(super) fn text(value: Value<'_>) -> Option<TextPattern> {
    value.text().map(TextPattern::new)
}

pub(super) fn host(value: Value<'_>) -> Option<TextPattern> {
    value
        .text()
        .map(|text| TextPattern::new(&text.to_ascii_lowercase()))
}

pub(super) fn path(value: Value<'_>) -> Option<PathTest> {
    let text = value.text()?;
    match PathTest::new(text) {
        Ok(test) => Some(test),
        Err(error) => value.mistake(format!("{text:?} cannot be matched: {error}")),
    }
}

pub(super) fn port(value: Value<'_>) -> Option<u16> {
    if value.is_string() {
        let text = value.text()?;
        return term::port(text).or_else(|| value.expected("a port from 1 to 65535"));
    }
    value.port()
}

pub(super) fn cidr(value: Value<'_>) -> Option<Cidr> {
    match term::cidr(value.text()?) {
        Ok(range) => Some(range),
        Err(error) => value.mistake(format!(
            "expected an IP address or range such as 10.0.0.0/8: {error}"
        )),
    }
}

/// A SPIFFE ID without its scheme, or a pattern of one.
pub(super) fn principal(value: Value<'_>) -> Option<TextPattern> {
    let pattern = text(value)?;
    let (TextPattern::Exact(text) | TextPattern::Prefix(text) | TextPattern::Suffix(text)) =
        &pattern
    else {
        return Some(pattern);
    };
    if text.contains("spiffe:") {
        return value.mistake("a principal is written without `spiffe://`: this can match no call");
    }
    if let TextPattern::Exact(text) = &pattern
        && let Err(error) = format!("spiffe://{text}").parse::<countersign_identity::SpiffeId>()
    {
        return value.mistake(format!(
            "expected a principal such as cluster.local/ns/shop/sa/web, got {text:?}: {error}"
        ));
    }
    Some(pattern)
}

/// Istio makes a regular expression of a namespace, in which every star is any text; its reference knows stars at the
/// ends only.
pub(super) fn namespace_pattern(value: Value<'_>) -> Option<TextPattern> {
    part_of_an_id(value, "a namespace such as shop, shop-* or *-test")
}

pub(super) fn trust_domain(value: Value<'_>) -> Option<TextPattern> {
    part_of_an_id(value, "a trust domain such as shop.example")
}

fn part_of_an_id(value: Value<'_>, what: &str) -> Option<TextPattern> {
    let pattern = text(value)?;
    let (TextPattern::Exact(text) | TextPattern::Prefix(text) | TextPattern::Suffix(text)) =
        &pattern
    else {
        return Some(pattern);
    };
    match text.parse::<Name>() {
        Ok(_) => Some(pattern),
        Err(error) => value.mistake(format!("expected {what}, got {text:?}: {error}")),
    }
}

/// `service-account`, in the policy's own namespace, or `namespace/service-account`.
pub(super) fn account(value: Value<'_>, namespace: Option<&Name>) -> Option<Account> {
    let what = "a service account such as web or shop/web";
    let text = value.text()?;
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (namespace.parse(), name),
        // Without a namespace, the document is wrong already.
        None => (Ok(namespace?.clone()), text),
    };
    match (namespace, name.parse()) {
        (Ok(namespace), Ok(service_account)) => Some(Account {
            namespace,
            service_account,
        }),
        (Err(error), _) | (_, Err(error)) => {
            value.mistake(format!("expected {what}, got {text:?}: {error}"))
        }
    }
}
