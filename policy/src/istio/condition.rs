//! Reads the conditions of a rule, `when`.
//!
//! <https://istio.io/latest/docs/reference/config/security/conditions/>

use super::authorization_policy::{
    account, cidr, host, namespace_pattern, port, principal, service_accounts_are_few, text,
    trust_domain, values,
};
use super::term::Term;
use crate::pattern::{HeaderName, Name};
use crate::yaml::{Fields, Value, closest};

/// The attributes without a name in brackets.
const KEYS: [&str; 14] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
    // With a name.
    "request.headers",
    "request.auth.claims",
];
const VALUES: [&str; 2] = ["values", "notValues"];

pub(super) fn read(value: Value<'_>, namespace: Option<&Name>) -> Option<Term> {
    value.mapping(|fields| {
        let key = fields.required("key", Value::text);
        let Some(key) = key else {
            // Their form depends on the key.
            fields.ignored(&VALUES);
            return None;
        };
        let term = term(fields, key, namespace)?;
        if term.is_empty() {
            return value.mistake("expected `values` or `notValues` with at least one value");
        }
        Some(term)
    })
}

fn term(fields: &mut Fields<'_>, key: &str, namespace: Option<&Name>) -> Option<Term> {
    Some(match key {
        "source.ip" => Term::SourceIp(values(fields, VALUES, cidr)?),
        "remote.ip" => Term::RemoteIp(values(fields, VALUES, cidr)?),
        "source.namespace" => Term::Namespace(values(fields, VALUES, namespace_pattern)?),
        "source.serviceAccount" => {
            let accounts = values(fields, VALUES, |v| account(v, namespace))?;
            service_accounts_are_few(fields.value(), &accounts)?;
            Term::ServiceAccount(accounts)
        }
        "source.principal" => Term::Principal(values(fields, VALUES, principal)?),
        "source.trustDomain" => Term::TrustDomain(values(fields, VALUES, trust_domain)?),
        "request.auth.principal" => Term::RequestPrincipal(values(fields, VALUES, text)?),
        "request.auth.audiences" => claim(fields, &["aud"])?,
        "request.auth.presenter" => claim(fields, &["azp"])?,
        "destination.ip" => Term::DestinationIp(values(fields, VALUES, cidr)?),
        "destination.port" => Term::Port(values(fields, VALUES, port)?),
        "connection.sni" => Term::Sni(values(fields, VALUES, text)?),
        _ => match key.strip_prefix("request.auth.claims") {
            Some(names) => match claim_names(names) {
                Some(names) => Term::Claim(names, values(fields, VALUES, text)?),
                None => return bad_key(fields, "request.auth.claims[iss]"),
            },
            None => match key.strip_prefix("request.headers") {
                Some(name) => match in_brackets(name) {
                    Some(name) => header(fields, name)?,
                    None => return bad_key(fields, "request.headers[x-tenant]"),
                },
                None => return unknown(fields, key),
            },
        },
    })
}

fn claim(fields: &mut Fields<'_>, names: &[&str]) -> Option<Term> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Some(Term::Claim(names, values(fields, VALUES, text)?))
}

fn header(fields: &mut Fields<'_>, name: &str) -> Option<Term> {
    // Envoy keeps method, host and path among the headers, and HTTP/2 calls have no other `Host`.
    Some(match name.to_ascii_lowercase().as_str() {
        ":method" => Term::Method(values(fields, VALUES, text)?),
        ":authority" | "host" => Term::Host(values(fields, VALUES, host)?),
        _ => match name.parse::<HeaderName>() {
            Ok(name) => Term::Header(name, values(fields, VALUES, text)?),
            Err(error) => {
                fields.ignored(&VALUES);
                return fields
                    .value()
                    .mistake(format!("{name:?} is not the name of a header: {error}"));
            }
        },
    })
}

fn in_brackets(text: &str) -> Option<&str> {
    let name = text.strip_prefix('[')?.strip_suffix(']')?;
    (!name.is_empty()).then_some(name)
}

/// `[a][b]` is b in a. What cannot be read so is one name, which may have brackets in it.
fn claim_names(text: &str) -> Option<Vec<String>> {
    let whole = in_brackets(text)?;
    let names: Vec<&str> = whole.split("][").collect();
    let nested = names.iter().all(|name| !name.contains(['[', ']']));
    Some(match nested {
        true => names.into_iter().map(str::to_owned).collect(),
        false => vec![whole.to_owned()],
    })
}

fn bad_key(fields: &mut Fields<'_>, example: &str) -> Option<Term> {
    fields.ignored(&VALUES);
    fields.value().mistake(format!(
        "expected a key with a name in brackets, such as {example}"
    ))
}

fn unknown(fields: &mut Fields<'_>, key: &str) -> Option<Term> {
    fields.ignored(&VALUES);
    let name = key.split('[').next().unwrap_or_default();
    let help = match name {
        "destination.namespace" => "use `metadata.namespace`".to_owned(),
        "destination.labels" => "use `selector`".to_owned(),
        _ if name.starts_with("experimental.") || name.starts_with("request.experimental.") => {
            "it asks for the internals of Envoy, which this mesh does not have".to_owned()
        }
        _ => match closest(name, KEYS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("expected one of {}", KEYS.join(", ")),
        },
    };
    fields
        .value()
        .mistake(format!("unknown attribute {key:?}: {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_named_by_their_way() {
        let names = |text: &str| claim_names(text).map(|names| names.join(" / "));
        assert_eq!(names("[iss]").as_deref(), Some("iss"));
        assert_eq!(names("[a][b]").as_deref(), Some("a / b"));
        assert_eq!(
            names("[https://x.example/roles]").as_deref(),
            Some("https://x.example/roles")
        );
        assert_eq!(names("[a[b]]").as_deref(), Some("a[b]"));
        for wrong in ["", "iss", "[iss", "[]", "iss]"] {
            assert_eq!(names(wrong), None, "{wrong}");
        }
    }
}
