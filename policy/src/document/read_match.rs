//! Reads what the rules of an `AccessPolicy` match: `from`, `subject`, `to`.

use std::collections::BTreeMap;

use super::Claims;
use super::access_policy::{
    GrpcMethod, IntentMatch, Operation, OperationFields, RequesterPattern, Source, SourceFields,
    SubjectMatch,
};
use super::parse::origin;
use crate::pattern::{ClaimValue, HeaderName};
use crate::yaml::{Fields, Value};

pub(super) fn source(value: Value<'_>) -> Option<Source> {
    value.mapping(|fields| {
        let is = source_fields(fields);
        let not = fields.default("not", Vec::new(), |value| {
            one_or_more(value, "callers", |value| {
                value.mapping(|fields| {
                    let not = source_fields(fields)?;
                    something(value, not != SourceFields::default())?;
                    Some(not)
                })
            })
        });
        let source = Source { is: is?, not: not? };
        refuse_named_strangers(value, &source.is);
        something(
            value,
            source.is != SourceFields::default() || !source.not.is_empty(),
        )?;
        Some(source)
    })
}

fn source_fields(fields: &mut Fields<'_>) -> Option<SourceFields> {
    let anonymous = fields.default("anonymous", false, |value| {
        // `false` could be read as "anybody" or as "anybody but": `not: {anonymous: true}` says the second.
        match value.bool()? {
            true => Some(true),
            false => value.mistake("expected `true`: leave the field out, or put it under `not`"),
        }
    });
    let workload = fields.optional("workload", |v| {
        v.parsed("a workload as namespace/service-account, such as shop/web")
    });
    let namespace = fields.optional("namespace", |v| v.parsed("a namespace such as shop"));
    let spiffe = fields.optional("spiffe", |v| {
        v.parsed("a SPIFFE ID, exact or ending in /**, such as spiffe://shop.example/ns/shop/**")
    });
    let trust_domain = fields.optional("trustDomain", |v| {
        v.parsed("a trust domain such as shop.example, or \"*\" for any")
    });
    let range = |v: Value<'_>| v.parsed("an IP address or range such as 10.0.0.0/8");
    let cidr = fields.optional("cidr", range);
    let forwarded_for = fields.optional("forwardedFor", range);
    let fields = SourceFields {
        anonymous: anonymous?,
        workload: workload?,
        namespace: namespace?,
        spiffe: spiffe?,
        trust_domain: trust_domain?,
        cidr: cidr?,
        forwarded_for: forwarded_for?,
    };
    Some(fields)
}

/// Nobody has proved no identity and is named by it.
fn refuse_named_strangers(value: Value<'_>, fields: &SourceFields) {
    let SourceFields {
        anonymous,
        workload,
        namespace,
        spiffe,
        trust_domain,
        cidr: _,
        forwarded_for: _,
    } = fields;
    let named =
        workload.is_some() || namespace.is_some() || spiffe.is_some() || trust_domain.is_some();
    if *anonymous && named {
        value.note("`anonymous` is a caller without an identity: it cannot stand beside `workload`, `namespace`, `spiffe` or `trustDomain`; write two entries");
    }
}

/// An entry that demands nothing would match everything, which nobody means by it.
fn something(value: Value<'_>, given: bool) -> Option<()> {
    if given {
        Some(())
    } else {
        value.mistake("expected at least one field, got an empty mapping")
    }
}

pub(super) fn subject(value: Value<'_>) -> Option<SubjectMatch> {
    value.mapping(|fields| {
        let issuer = fields.optional("issuer", |v| {
            v.parsed("the name of a TokenIssuer, such as corp")
        });
        let audience = fields.optional("audience", Value::string);
        let accepted = fields.default("claims", Claims::new(), claims);
        let not_claims = fields.default("not", Claims::new(), |value| {
            value.mapping(|fields| fields.required("claims", claims))
        });
        Some(SubjectMatch {
            origin: origin(value),
            issuer: issuer?,
            audience: audience?,
            claims: accepted?,
            not_claims: not_claims?,
        })
    })
}

pub(super) fn intent(value: Value<'_>) -> Option<IntentMatch> {
    value.mapping(|fields| {
        let scope = fields.default("scope", Vec::new(), |value| {
            value.non_empty_list("scopes", scope)
        });
        let context = fields.default("context", Claims::new(), claims);
        let requester = fields.optional("requester", requester);
        Some(IntentMatch {
            scope: scope?,
            context: context?,
            requester: requester?,
        })
    })
}

/// RFC 6749 §3.3.
pub(super) fn scope(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    let allowed = |c: char| matches!(c, '!' | '#'..='[' | ']'..='~');
    match text.chars().find(|&c| !allowed(c)) {
        None => Some(text.to_owned()),
        Some(c) => value.mistake(format!(
            "expected a scope such as orders.create, got {text:?}: {c:?} is not allowed in one"
        )),
    }
}

fn requester(value: Value<'_>) -> Option<RequesterPattern> {
    if value.text()?.starts_with("spiffe:") {
        return value
            .parsed("a SPIFFE ID, exact or ending in /**")
            .map(RequesterPattern::Spiffe);
    }
    value
        .parsed("a workload as namespace/service-account, such as shop/gateway, or a SPIFFE ID")
        .map(RequesterPattern::Workload)
}

fn claims(value: Value<'_>) -> Option<Claims> {
    let claims = value.entries("claim values", |path, value| {
        if path.is_empty() {
            return value.mistake("expected the name of a claim, got an empty one");
        }
        one_or_more(value, ACCEPTED, claim_value)
    })?;
    something(value, !claims.is_empty())?;
    Some(claims.into_iter().collect())
}

fn claim_value(value: Value<'_>) -> Option<ClaimValue> {
    match serde_json::from_value(value.json()?) {
        Ok(claim) => Some(claim),
        Err(_) => value.expected("a string, a whole number or a boolean"),
    }
}

const ACCEPTED: &str = "accepted values";

fn one_or_more<'a, T>(
    value: Value<'a>,
    of: &str,
    mut read: impl FnMut(Value<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    if value.is_list() {
        value.non_empty_list(of, read)
    } else {
        read(value).map(|one| vec![one])
    }
}

pub(super) fn operation(value: Value<'_>) -> Option<Operation> {
    value.mapping(|fields| {
        let is = operation_fields(fields);
        let not = fields.default("not", OperationFields::default(), |value| {
            value.mapping(|fields| {
                let not = operation_fields(fields)?;
                something(value, not != OperationFields::default())?;
                Some(not)
            })
        });
        let operation = Operation {
            is: is?,
            not: not?.into(),
        };
        let empty = OperationFields::default();
        something(value, operation.is != empty || operation.not != empty)?;
        Some(operation)
    })
}

fn operation_fields(fields: &mut Fields<'_>) -> Option<OperationFields> {
    let ports = fields.default("ports", Vec::new(), |value| {
        value.non_empty_list("ports", Value::port)
    });
    let methods = fields.default("methods", Vec::new(), |value| {
        value.non_empty_list("strings", |v| v.parsed("a method such as GET"))
    });
    let hosts = fields.default("hosts", Vec::new(), |value| {
        value.non_empty_list("strings", |v| {
            v.parsed("a host such as orders.shop or *.example.com")
        })
    });
    let paths = fields.default("paths", Vec::new(), |value| {
        value.non_empty_list("strings", |v| {
            v.parsed("a path such as /orders/{id}/items/**")
        })
    });
    let grpc = fields.default("grpc", Vec::new(), |value| {
        value.non_empty_list("gRPC methods", grpc_method)
    });
    let headers = fields.default("headers", BTreeMap::new(), headers);
    let sni = fields.default("sni", Vec::new(), |value| {
        value.non_empty_list("server names", |v| {
            v.parsed("a server name such as orders.shop or *.example.com")
        })
    });
    Some(OperationFields {
        ports: ports?.into(),
        methods: methods?.into(),
        hosts: hosts?.into(),
        paths: paths?.into(),
        grpc: grpc?.into(),
        headers: headers?,
        sni: sni?.into(),
    })
}

fn grpc_method(value: Value<'_>) -> Option<GrpcMethod> {
    value.mapping(|fields| {
        let service = fields.required("service", |v| {
            v.parsed("a gRPC service such as shop.v1.Payments")
        });
        let method = fields.optional("method", |v| v.parsed("a gRPC method such as Charge"));
        Some(GrpcMethod {
            service: service?,
            method: method?,
        })
    })
}

fn headers(value: Value<'_>) -> Option<BTreeMap<HeaderName, Vec<String>>> {
    let mut headers = BTreeMap::new();
    value.entries("header values", |name, value| {
        let accepted = one_or_more(value, ACCEPTED, Value::string_or_empty);
        let name = match name.parse::<HeaderName>() {
            Ok(name) => name,
            Err(error) => return value.mistake(format!("{name:?} is not a header: {error}")),
        };
        if headers.insert(name, accepted?).is_some() {
            return value.mistake("this header is given twice: upper and lower case are the same");
        }
        Some(())
    })?;
    something(value, !headers.is_empty())?;
    Some(headers)
}
