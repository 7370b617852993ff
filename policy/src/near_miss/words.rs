//! Why a rule failed, in words.

use std::fmt::Display;

use countersign_identity::SpiffeId;

use super::{Failure, Texts};
use crate::document::{OperationFields, Source, SourceFields};
use crate::rule::{CompiledRule, Field};

/// How much of a list is told.
const TOLD_ITEMS: usize = 3;

impl Failure {
    pub(super) fn describe(
        &self,
        rule: &CompiledRule,
        peer: Option<&SpiffeId>,
        texts: &Texts,
    ) -> String {
        match self {
            Self::Caller => caller_failure(rule, peer),
            Self::Field {
                field,
                operation,
                given,
                port,
                is_http,
            } => {
                let nothing = OperationFields::default();
                let fields = rule.rule.to.get(*operation).map_or(&nothing, |to| &to.is);
                let given = given.map(|given| texts.display(given));
                field_failure(*field, fields, given.as_ref(), *port, *is_http)
            }
            Self::Excluded(field) => {
                format!("its {} is excluded by the rule's `not`", field_name(*field))
            }
            Self::NoToken => format!("it has no valid token, rule wants one{}", of_issuer(rule)),
            Self::Token => token_failure(rule),
            Self::NoIntent => "it has no valid transaction token, rule wants one".to_owned(),
            Self::Scope(scope) => format!("its transaction token has not the scope {scope}"),
            Self::Intent => {
                "its transaction token has not the context or the requester that the rule wants"
                    .to_owned()
            }
            Self::ConditionFailed(error) => {
                format!("its condition could not be evaluated: {error}")
            }
            Self::Condition => "its condition is false".to_owned(),
            Self::Readings => {
                "it does not match every way in which the path can be read".to_owned()
            }
        }
    }
}

fn caller_failure(rule: &CompiledRule, peer: Option<&SpiffeId>) -> String {
    let caller = match peer {
        Some(peer) => format!("caller is {peer}"),
        None => return "the caller has proved no identity".to_owned(),
    };
    match &*rule.rule.from {
        [] => format!("{caller}, rule is for {}", rule.local),
        from => format!(
            "{caller}, rule wants {}",
            alternatives(from.iter().map(source))
        ),
    }
}

fn field_name(field: Field) -> &'static str {
    match field {
        Field::Port => "port",
        Field::Host => "host",
        Field::Path => "path",
        Field::Grpc => "gRPC method",
        Field::Method => "method",
        Field::Headers => "header",
        Field::Sni => "server name",
    }
}

fn field_failure(
    field: Field,
    fields: &OperationFields,
    given: Option<&impl Display>,
    port: u16,
    is_http: bool,
) -> String {
    let name = field_name(field);
    let wanted = match field {
        Field::Port => {
            let wanted = alternatives(fields.ports.iter());
            return format!("port is {port}, rule wants {wanted}");
        }
        Field::Sni => {
            let wanted = alternatives(fields.sni.iter());
            return match given {
                Some(given) => format!("server name is {given}, rule wants {wanted}"),
                None => format!("it asks for no server name, rule wants {wanted}"),
            };
        }
        _ if !is_http => return format!("it is no HTTP request, rule wants a {name}"),
        Field::Host => alternatives(fields.hosts.iter()),
        Field::Path => alternatives(fields.paths.iter()),
        Field::Method => alternatives(fields.methods.iter()),
        Field::Grpc => alternatives(fields.grpc.iter().map(|method| {
            let name = method
                .method
                .as_ref()
                .map_or("*", crate::pattern::Name::as_str);
            format!("/{}/{name}", method.service)
        })),
        // The values may be secret.
        Field::Headers => {
            let names = fields.headers.keys();
            return format!("it has not the value that the rule wants of {}", all(names));
        }
    };
    match given {
        Some(given) => format!("{name} is {given}, rule wants {wanted}"),
        None => format!("its {name} cannot be read in one way, rule wants {wanted}"),
    }
}

fn of_issuer(rule: &CompiledRule) -> String {
    match &rule.issuer {
        Some(issuer) => format!(" of {issuer}"),
        None => String::new(),
    }
}

fn token_failure(rule: &CompiledRule) -> String {
    let Some(wanted) = &rule.rule.subject else {
        return "it has not the token that the rule wants".to_owned();
    };
    let mut wants = Vec::new();
    if let Some(audience) = &wanted.audience {
        wants.push(format!("audience {audience}"));
    }
    for (claim, accepted) in &wanted.claims {
        wants.push(format!("claim {claim} {}", alternatives(accepted.iter())));
    }
    for (claim, excluded) in &wanted.not_claims {
        wants.push(format!(
            "claim {claim} not {}",
            alternatives(excluded.iter())
        ));
    }
    format!(
        "its token{} has not what the rule wants: {}",
        of_issuer(rule),
        wants.join(" and ")
    )
}

fn source(source: &Source) -> String {
    let mut text = source_fields(&source.is);
    if !source.not.is_empty() {
        let before = if text.is_empty() { "anyone" } else { &text };
        let not: Vec<String> = source.not.iter().map(source_fields).collect();
        text = format!("{before} but {}", not.join(", "));
    }
    text
}

fn source_fields(fields: &SourceFields) -> String {
    let SourceFields {
        anonymous,
        workload,
        namespace,
        spiffe,
        trust_domain,
        cidr,
        forwarded_for,
    } = fields;
    let parts: [Option<String>; 7] = [
        anonymous.then(|| "a caller without an identity".to_owned()),
        workload.as_ref().map(ToString::to_string),
        namespace
            .as_ref()
            .map(|namespace| format!("namespace {namespace}")),
        spiffe.as_ref().map(ToString::to_string),
        trust_domain
            .as_ref()
            .map(|domain| format!("trust domain {domain}")),
        cidr.as_ref().map(|cidr| format!("address {cidr}")),
        forwarded_for
            .as_ref()
            .map(|range| format!("forwarded for {range}")),
    ];
    parts
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" and ")
}

fn alternatives(items: impl ExactSizeIterator<Item = impl Display>) -> String {
    joined(items, " or ")
}

fn all(items: impl ExactSizeIterator<Item = impl Display>) -> String {
    joined(items, " and ")
}

fn joined(items: impl ExactSizeIterator<Item = impl Display>, separator: &str) -> String {
    let more = items.len().saturating_sub(TOLD_ITEMS);
    let mut told: Vec<String> = items
        .take(TOLD_ITEMS)
        .map(|item| item.to_string())
        .collect();
    if more > 0 {
        told.push(format!("{more} more"));
    }
    told.join(separator)
}
