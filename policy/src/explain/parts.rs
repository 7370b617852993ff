//! The parts of a rule, with the engine's answers.

use super::words::{NONE, all_of, any_of, claim, told};
use super::{Alternative, FieldAnswer, Part};
use crate::call::{Intent, Subject};
use crate::document::{
    IntentMatch, Operation, OperationFields, RequesterPattern, Source, SourceFields, SubjectMatch,
};
use crate::pattern::find_claim;
use crate::rule::{
    CompiledRule, Field, IntentField, Judged, SourceField, SubjectField, intent_answers,
    operation_answers, source_answers, subject_answers,
};

/// The parts that a rule has. `matches` and `error` are the whole rule's answer for this reading of the path.
pub(super) fn of(
    rule: &CompiledRule,
    judged: &Judged<'_>,
    path: Option<&str>,
    matches: bool,
    error: Option<&str>,
) -> Vec<Part> {
    let mut parts = Vec::new();
    parts.extend(from(rule, judged));
    parts.extend(subject(rule, judged));
    parts.extend(intent(rule, judged));
    parts.extend(to(rule, judged, path));
    let all_match = parts.iter().all(|part| part.matches == Some(true));
    parts.extend(when(rule, all_match.then_some(matches), error));
    parts
}

fn part(part: &'static str, matches: bool, alternatives: Vec<Alternative>) -> Part {
    Part {
        part,
        matches: Some(matches),
        alternatives,
    }
}

fn alternative(matches: bool, fields: Vec<FieldAnswer>) -> Alternative {
    Alternative { matches, fields }
}

fn answer(field: impl Into<String>, matches: bool, found: String, wanted: String) -> FieldAnswer {
    FieldAnswer {
        field: field.into(),
        matches,
        found,
        wanted,
    }
}

/// A field under `not`, from the answer to the question without it.
fn excluded(field: &str, answered: bool, found: String, wanted: &str) -> FieldAnswer {
    answer(
        format!("not.{field}"),
        !answered,
        found,
        format!("not {wanted}"),
    )
}

/// Left out, it is there all the same in an allow rule: who has proved no identity is not let in.
fn from(rule: &CompiledRule, judged: &Judged<'_>) -> Option<Part> {
    let matches = rule.caller_matches(judged);
    let sources = &rule.rule.from;
    if sources.is_empty() {
        if rule.unknown() {
            return None;
        }
        let wanted = format!("any workload of {}", rule.local);
        let identity = answer("identity", matches, peer(judged), wanted);
        return Some(part(
            "from",
            matches,
            vec![alternative(matches, vec![identity])],
        ));
    }
    let alternatives = sources.iter().map(|source| caller(rule, source, judged));
    Some(part("from", matches, alternatives.collect()))
}

fn caller(rule: &CompiledRule, source: &Source, judged: &Judged<'_>) -> Alternative {
    let matches = rule.admits(source, judged);
    let Source { is, not } = source;
    let named = rule.named(source, judged);
    let mut fields: Vec<_> = source_answers(is, named, judged, rule.unknown())
        .map(|(field, answered)| {
            let found = source_found(field, judged);
            answer(field.as_str(), answered, found, source_wanted(field, is))
        })
        .collect();
    for not in not {
        fields.extend(source_answers(not, named, judged, !rule.unknown()).map(
            |(field, answered)| {
                let found = source_found(field, judged);
                excluded(field.as_str(), answered, found, &source_wanted(field, not))
            },
        ));
    }
    // What an allow rule asks for without saying it.
    if !matches && fields.iter().all(|field| field.matches) {
        let wanted = format!("a workload of {}", rule.local);
        fields.push(answer("identity", false, peer(judged), wanted));
    }
    alternative(matches, fields)
}

fn peer(judged: &Judged<'_>) -> String {
    judged
        .call
        .peer
        .map_or_else(|| NONE.to_owned(), ToString::to_string)
}

fn source_found(field: SourceField, judged: &Judged<'_>) -> String {
    let call = judged.call;
    let address = |ip: Option<std::net::IpAddr>| ip.map(|ip| ip.to_string());
    let found = match field {
        SourceField::Anonymous => return call.peer.is_none().to_string(),
        SourceField::Workload | SourceField::Spiffe => return peer(judged),
        SourceField::Namespace => call
            .peer
            .and_then(|peer| Some(peer.workload()?.namespace.to_owned())),
        SourceField::TrustDomain => call.peer.map(|peer| peer.trust_domain().to_string()),
        SourceField::Cidr => address(call.source_ip),
        SourceField::ForwardedFor => address(judged.forwarded_for()),
    };
    found.unwrap_or_else(|| NONE.to_owned())
}

fn source_wanted(field: SourceField, fields: &SourceFields) -> String {
    let text = |value: Option<String>| value.unwrap_or_default();
    match field {
        SourceField::Anonymous => "true".to_owned(),
        SourceField::Workload => text(fields.workload.as_ref().map(ToString::to_string)),
        SourceField::Namespace => text(fields.namespace.as_ref().map(ToString::to_string)),
        SourceField::Spiffe => text(fields.spiffe.as_ref().map(ToString::to_string)),
        SourceField::TrustDomain => text(fields.trust_domain.as_ref().map(ToString::to_string)),
        SourceField::Cidr => text(fields.cidr.as_ref().map(ToString::to_string)),
        SourceField::ForwardedFor => text(fields.forwarded_for.as_ref().map(ToString::to_string)),
    }
}

/// One alternative for every token that the call has.
fn subject(rule: &CompiledRule, judged: &Judged<'_>) -> Option<Part> {
    let wanted = rule.rule.subject.as_ref()?;
    let matches = rule.subject_matches(judged);
    let mut alternatives: Vec<_> = judged
        .subjects()
        .map(|subject| token(rule, wanted, subject))
        .collect();
    if alternatives.is_empty() {
        let of = match &rule.issuer {
            Some(issuer) => format!("a verified token of {issuer}"),
            None => "a verified token".to_owned(),
        };
        let found = match judged.call.subjects {
            [] => NONE,
            _ => "expired",
        };
        let missing = answer("token", false, found.to_owned(), of);
        alternatives.push(alternative(false, vec![missing]));
    }
    Some(part("subject", matches, alternatives))
}

fn token(rule: &CompiledRule, wanted: &SubjectMatch, subject: &Subject) -> Alternative {
    let accepted = |claims: &crate::document::Claims, path: &str| {
        any_of(claims.get(path).into_iter().flatten())
    };
    let mut fields: Vec<_> = subject_answers(rule, wanted, subject)
        .map(|(field, answered)| match field {
            SubjectField::Issuer(issuer) => answer(
                "issuer",
                answered,
                subject.issuer.clone(),
                issuer.to_owned(),
            ),
            SubjectField::Audience(audience) => {
                let found = claim(subject.claims.get("aud"));
                answer("audience", answered, found, told(audience))
            }
            SubjectField::Claim(path) => {
                let found = claim(find_claim(&subject.claims, path));
                let wanted = accepted(&wanted.claims, path);
                answer(format!("claims.{path}"), answered, found, wanted)
            }
            SubjectField::NotClaim(path) => {
                let found = claim(find_claim(&subject.claims, path));
                let wanted = format!("not {}", accepted(&wanted.not_claims, path));
                answer(format!("not.claims.{path}"), answered, found, wanted)
            }
        })
        .collect();
    if fields.is_empty() {
        let found = format!("one of {}", subject.issuer);
        fields.push(answer("token", true, found, "a verified token".to_owned()));
    }
    alternative(rule.accepts(subject), fields)
}

fn intent(rule: &CompiledRule, judged: &Judged<'_>) -> Option<Part> {
    let wanted = rule.rule.intent.as_ref()?;
    let matches = rule.intent_matches(judged);
    let fields = match judged.intent() {
        Some(intent) => intent_answers(rule, wanted, intent)
            .map(|(field, answered)| intent_field(field, answered, wanted, intent))
            .collect(),
        None => {
            let found = match judged.call.intent {
                None => NONE,
                Some(_) => "expired",
            };
            let wanted = "a transaction token".to_owned();
            vec![answer("token", false, found.to_owned(), wanted)]
        }
    };
    Some(part("intent", matches, vec![alternative(matches, fields)]))
}

fn intent_field(
    field: IntentField<'_>,
    answered: bool,
    wanted: &IntentMatch,
    intent: &Intent,
) -> FieldAnswer {
    let held = || match intent.scope.as_slice() {
        [] => NONE.to_owned(),
        held => all_of(held.iter().map(|scope| told(scope))),
    };
    match field {
        IntentField::Scope(scope) => answer("scope", answered, held(), told(scope)),
        IntentField::Context(path) => {
            let found = claim(find_claim(&intent.tctx, path));
            let accepted = any_of(wanted.context.get(path).into_iter().flatten());
            answer(format!("context.{path}"), answered, found, accepted)
        }
        IntentField::Requester(pattern) => {
            let wanted = match pattern {
                RequesterPattern::Workload(pattern) => pattern.to_string(),
                RequesterPattern::Spiffe(pattern) => pattern.to_string(),
            };
            let found = match intent.req_wl.as_str() {
                "" => NONE.to_owned(),
                requester => told(requester),
            };
            answer("requester", answered, found, wanted)
        }
    }
}

fn to(rule: &CompiledRule, judged: &Judged<'_>, path: Option<&str>) -> Option<Part> {
    if rule.rule.to.is_empty() {
        return None;
    }
    let matches = rule.operations_match(judged, path);
    let operation = |to: &Operation| {
        let mut fields: Vec<_> = operation_answers(&to.is, judged, path, rule.unknown())
            .map(|(field, answered)| {
                let found = operation_found(field, &to.is, judged, path);
                answer(
                    field.as_str(),
                    answered,
                    found,
                    operation_wanted(field, &to.is),
                )
            })
            .collect();
        fields.extend(
            operation_answers(&to.not, judged, path, !rule.unknown()).map(|(field, answered)| {
                let found = operation_found(field, &to.not, judged, path);
                let wanted = operation_wanted(field, &to.not);
                excluded(field.as_str(), answered, found, &wanted)
            }),
        );
        alternative(fields.iter().all(|field| field.matches), fields)
    };
    let alternatives = rule.rule.to.iter().map(operation).collect();
    Some(part("to", matches, alternatives))
}

fn operation_found(
    field: Field,
    fields: &OperationFields,
    judged: &Judged<'_>,
    path: Option<&str>,
) -> String {
    let call = judged.call;
    let Some(request) = call.request else {
        return match field {
            Field::Port => call.port.to_string(),
            Field::Sni => call.sni.map_or_else(|| NONE.to_owned(), told),
            _ => "unknown: it is no HTTP request".to_owned(),
        };
    };
    match field {
        Field::Port => call.port.to_string(),
        Field::Sni => "none: it is an HTTP request".to_owned(),
        Field::Host => match judged.host {
            Some(host) => told(host),
            None => format!("unknown: {:?} is no host", told(request.host)),
        },
        Field::Path | Field::Grpc => path.map_or_else(
            || "unknown: the path cannot be read in one way".to_owned(),
            told,
        ),
        Field::Method => told(request.method),
        Field::Headers => all_of(fields.headers.keys().map(|name| {
            let mut lines = Vec::new();
            request.headers.for_each(&mut |given, value| {
                if given.eq_ignore_ascii_case(name.as_str()) {
                    lines.push(told(&String::from_utf8_lossy(value)));
                }
            });
            match lines.as_slice() {
                [] => format!("{name}: {NONE}"),
                lines => format!("{name}: {}", lines.join(", ")),
            }
        })),
    }
}

fn operation_wanted(field: Field, fields: &OperationFields) -> String {
    match field {
        Field::Port => any_of(&fields.ports),
        Field::Host => any_of(&fields.hosts),
        Field::Path => any_of(&fields.paths),
        Field::Method => any_of(&fields.methods),
        Field::Sni => any_of(&fields.sni),
        Field::Grpc => any_of(fields.grpc.iter().map(|method| {
            let name = method
                .method
                .as_ref()
                .map_or("*", crate::pattern::Name::as_str);
            format!("/{}/{name}", method.service)
        })),
        Field::Headers => all_of(fields.headers.iter().map(|(name, accepted)| {
            let accepted = accepted.iter().map(|value| told(value));
            format!("{name}: {}", any_of(accepted))
        })),
    }
}

/// `matches` is the whole rule's answer if everything else matches, `None` if the condition was not asked.
fn when(rule: &CompiledRule, matches: Option<bool>, error: Option<&str>) -> Option<Part> {
    let condition = rule.rule.when.as_ref()?;
    let found = match (matches, error) {
        (None, _) => "not evaluated: something else does not match".to_owned(),
        (Some(_), Some(error)) => format!("cannot be evaluated: {}", told(error)),
        (Some(matches), None) => matches.to_string(),
    };
    let field = answer(
        "when",
        matches == Some(true),
        found,
        told(&condition.expression),
    );
    Some(Part {
        part: "when",
        matches,
        alternatives: vec![alternative(matches == Some(true), vec![field])],
    })
}
