//! Why no rule allowed a call: the rule that came closest, and the first part of it that failed.

use std::fmt::Display;
use std::fmt::Write as _;

use crate::decision::NearMiss;
use crate::document::{IntentMatch, Operation, Source, SourceFields};
use crate::index::{Index, RuleNumber};
use crate::rule::{CompiledRule, Field, Judged, Match, operation_answers};

/// How many rules are compared. A denial must not cost what all rules cost.
pub(crate) const COMPARED_RULES: usize = 16;
/// How much of a path, a host or a list is told.
const TOLD_CHARACTERS: usize = 120;
const TOLD_ITEMS: usize = 3;

/// Compares the likeliest rules: those about the caller, then `first` ones.
pub(crate) fn near_miss<'r>(
    judged: &Judged<'_>,
    path: Option<&str>,
    allow: &Index,
    first: &[RuleNumber],
    rule: impl Fn(RuleNumber) -> Option<&'r CompiledRule>,
) -> NearMiss {
    let mut compared: Vec<RuleNumber> = Vec::with_capacity(COMPARED_RULES);
    let mut closest: Option<(usize, RuleNumber, &CompiledRule)> = None;
    let mut compare = |number: RuleNumber| {
        if let Some(rule) = rule(number)
            && !compared.contains(&number)
        {
            compared.push(number);
            let failed = failed_parts(rule, judged, path);
            if closest.is_none_or(|(least, first, _)| (failed, number) < (least, first)) {
                closest = Some((failed, number, rule));
            }
        }
        compared.len() < COMPARED_RULES
    };
    allow.about_caller(judged.call.peer, judged.call.port, &mut compare);
    let _ = first.iter().all(|number| compare(*number));
    NearMiss {
        call: describe(judged),
        closest: closest.map(|(_, _, rule)| {
            (
                std::sync::Arc::clone(&rule.origin),
                first_failure(rule, judged, path),
            )
        }),
    }
}

fn failed_parts(rule: &CompiledRule, judged: &Judged<'_>, path: Option<&str>) -> usize {
    let to = rule
        .rule
        .to
        .iter()
        .map(|to| failed_fields(to, judged, path))
        .min()
        .unwrap_or(0);
    to.saturating_add(usize::from(!rule.caller_matches(judged)))
        .saturating_add(usize::from(!rule.subject_matches(judged)))
        .saturating_add(usize::from(!rule.intent_matches(judged)))
}

fn failed_fields(to: &Operation, judged: &Judged<'_>, path: Option<&str>) -> usize {
    let is = operation_answers(&to.is, judged, path, false).filter(|(_, answer)| !answer);
    let not = operation_answers(&to.not, judged, path, true).filter(|(_, answer)| *answer);
    is.count().saturating_add(not.count())
}

fn first_failure(rule: &CompiledRule, judged: &Judged<'_>, path: Option<&str>) -> String {
    if !rule.caller_matches(judged) {
        let caller = match judged.call.peer {
            Some(peer) => format!("caller is {peer}"),
            None => return "the caller has proved no identity".to_owned(),
        };
        return match rule.rule.from.as_slice() {
            [] => format!("{caller}, rule is for {}", rule.local),
            from => format!(
                "{caller}, rule wants {}",
                alternatives(from.iter().map(source))
            ),
        };
    }
    let nearest = rule
        .rule
        .to
        .iter()
        .min_by_key(|to| failed_fields(to, judged, path));
    if let Some(failure) = nearest.and_then(|to| operation_failure(to, judged, path)) {
        return failure;
    }
    if !rule.subject_matches(judged) {
        return subject_failure(rule, judged);
    }
    if let Some(wanted) = &rule.rule.intent
        && !rule.intent_matches(judged)
    {
        return intent_failure(wanted, judged);
    }
    match rule.matches(judged, path) {
        Match::Failed(error) => format!("its condition could not be evaluated: {error}"),
        Match::No => "its condition is false".to_owned(),
        Match::Yes => "it does not match every way in which the path can be read".to_owned(),
    }
}

fn operation_failure(to: &Operation, judged: &Judged<'_>, path: Option<&str>) -> Option<String> {
    let failed = operation_answers(&to.is, judged, path, false).find(|(_, answer)| !answer);
    if let Some((field, _)) = failed {
        return Some(field_failure(field, to, judged, path));
    }
    let (field, _) = operation_answers(&to.not, judged, path, true).find(|(_, answer)| *answer)?;
    Some(format!(
        "its {} is excluded by the rule's `not`",
        field_name(field)
    ))
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

fn field_failure(field: Field, to: &Operation, judged: &Judged<'_>, path: Option<&str>) -> String {
    let name = field_name(field);
    let fields = &to.is;
    if field == Field::Port {
        let wanted = alternatives(fields.ports.iter());
        return format!("port is {}, rule wants {wanted}", judged.call.port);
    }
    if field == Field::Sni {
        let wanted = alternatives(fields.sni.iter());
        return match judged.call.sni {
            Some(given) => format!("server name is {}, rule wants {wanted}", told(given)),
            None => format!("it asks for no server name, rule wants {wanted}"),
        };
    }
    let Some(request) = judged.call.request else {
        return format!("it is no HTTP request, rule wants a {name}");
    };
    let wanted = match field {
        Field::Port | Field::Sni => String::new(),
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
    let given = match field {
        Field::Host => judged.host.map(told),
        Field::Path | Field::Grpc => path.map(told),
        _ => Some(told(request.method)),
    };
    match given {
        Some(given) => format!("{name} is {given}, rule wants {wanted}"),
        None => format!("its {name} cannot be read in one way, rule wants {wanted}"),
    }
}

fn subject_failure(rule: &CompiledRule, judged: &Judged<'_>) -> String {
    let Some(wanted) = &rule.rule.subject else {
        return "it has not the token that the rule wants".to_owned();
    };
    let of = match &rule.issuer {
        Some(issuer) => format!(" of {issuer}"),
        None => String::new(),
    };
    let is_wanted = |issuer: &str| rule.issuer.as_deref().is_none_or(|wanted| wanted == issuer);
    if !judged.subjects().any(|subject| is_wanted(&subject.issuer)) {
        return format!("it has no valid token, rule wants one{of}");
    }
    let mut wants = String::new();
    let mut separator = "";
    if let Some(audience) = &wanted.audience {
        let _ = write!(wants, "audience {audience}");
        separator = " and ";
    }
    for (claim, accepted) in &wanted.claims {
        let _ = write!(
            wants,
            "{separator}claim {claim} {}",
            alternatives(accepted.iter())
        );
        separator = " and ";
    }
    for (claim, excluded) in &wanted.not_claims {
        let _ = write!(
            wants,
            "{separator}claim {claim} not {}",
            alternatives(excluded.iter())
        );
        separator = " and ";
    }
    format!("its token{of} has not what the rule wants: {wants}")
}

fn intent_failure(wanted: &IntentMatch, judged: &Judged<'_>) -> String {
    let Some(intent) = judged.intent() else {
        return "it has no valid transaction token, rule wants one".to_owned();
    };
    let missing = wanted
        .scope
        .iter()
        .find(|scope| !intent.scope.contains(scope));
    if let Some(scope) = missing {
        return format!("its transaction token has not the scope {scope}");
    }
    "its transaction token has not the context or the requester that the rule wants".to_owned()
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

/// The call in a few words: no query, nothing of the headers.
fn describe(judged: &Judged<'_>) -> String {
    let caller = match judged.call.peer {
        Some(peer) => peer.to_string(),
        None => "a caller without an identity".to_owned(),
    };
    match &judged.call.request {
        Some(request) => {
            let path = request.path.split('?').next().unwrap_or_default();
            format!("{} {} for {caller}", told(request.method), told(path))
        }
        None => format!("a connection to port {} for {caller}", judged.call.port),
    }
}

/// A text that a caller chose: cut, and without control characters.
fn told(text: &str) -> String {
    let mut characters = text.chars();
    let mut told: String = characters
        .by_ref()
        .take(TOLD_CHARACTERS)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if characters.next().is_some() {
        told.push('…');
    }
    told
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
