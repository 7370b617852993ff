//! Why no rule allowed a call: the rule that came closest, and the first part of it that failed.
//!
//! Most denials are counted and no more, so what a person would read is only put into words when it is shown: until
//! then it is the rule, which part of it failed, and the little of the call that the words need.

use std::fmt::{self, Display, Write as _};
use std::ops::ControlFlow;
use std::sync::Arc;

use countersign_identity::SpiffeId;
use smallvec::SmallVec;

use crate::decision::RuleOrigin;
use crate::document::{IntentMatch, Operation, OperationFields, Source, SourceFields};
use crate::index::{Index, RuleNumber, Sought, Use};
use crate::rule::{CompiledRule, Field, Judged, Match, operation_answers};

/// How many rules are compared. A denial must not cost what all rules cost.
pub(crate) const COMPARED_RULES: usize = 8;
/// How much of a path, a host or a list is told.
const TOLD_CHARACTERS: usize = 120;
const TOLD_ITEMS: usize = 3;

/// A call that no rule allows, and the rule that came closest to it. Displayed as the reason of the denial.
#[derive(Clone, Debug)]
pub struct NearMiss {
    peer: Option<SpiffeId>,
    called: Called,
    closest: Option<Closest>,
}

/// The call in a few words: no query, nothing of the headers.
#[derive(Clone, Debug)]
enum Called {
    Request { method: Told, path: Told },
    Connection { port: u16 },
}

#[derive(Clone, Debug)]
struct Closest {
    rule: Arc<CompiledRule>,
    failure: Failure,
}

/// The first part of a rule that failed.
#[derive(Clone, Debug)]
enum Failure {
    Caller,
    Field {
        field: Field,
        /// Of which of the rule's operations, by its place.
        operation: usize,
        /// `None`: the call has no such fact, or none that can be read in one way.
        given: Option<Told>,
        port: u16,
        is_http: bool,
    },
    Excluded(Field),
    NoToken,
    Token,
    NoIntent,
    Scope(String),
    Intent,
    ConditionFailed(String),
    Condition,
    Readings,
}

/// A text that a caller chose, cut to what is told of it.
#[derive(Clone, Debug)]
struct Told(Box<str>);

impl Told {
    fn new(text: &str) -> Self {
        // One more tells that there was more.
        let end = text.char_indices().nth(TOLD_CHARACTERS.saturating_add(1));
        let end = end.map_or(text.len(), |(at, _)| at);
        Self(text.get(..end).unwrap_or_default().into())
    }
}

/// Without control characters.
impl Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(TOLD_CHARACTERS) {
            f.write_char(match character.is_control() {
                true => char::REPLACEMENT_CHARACTER,
                false => character,
            })?;
        }
        match characters.next() {
            Some(_) => f.write_char('…'),
            None => Ok(()),
        }
    }
}

/// Two are the same if they read the same.
impl PartialEq for NearMiss {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for NearMiss {}

impl NearMiss {
    /// The allow rule that failed on the fewest parts. Looked for among a bounded number of rules, the likeliest first.
    #[must_use]
    pub fn closest(&self) -> Option<&Arc<RuleOrigin>> {
        self.closest.as_ref().map(|closest| &closest.rule.origin)
    }

    /// The first part of the closest rule that failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let Closest { rule, failure } = self.closest.as_ref()?;
        Some(failure.describe(rule, self.peer.as_ref()))
    }
}

impl Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.called {
            Called::Request { method, path } => write!(f, "no rule allows {method} {path} for ")?,
            Called::Connection { port } => {
                write!(f, "no rule allows a connection to port {port} for ")?;
            }
        }
        match &self.peer {
            Some(peer) => peer.fmt(f)?,
            None => f.write_str("a caller without an identity")?,
        }
        match (self.closest(), self.failure()) {
            (Some(rule), Some(failure)) => write!(f, "; closest is {rule}: {failure}"),
            _ => Ok(()),
        }
    }
}

/// Compares the likeliest rules: those that would match but for what is not looked for, then some for the same path, then
/// some about the caller, then `first` ones.
pub(crate) fn near_miss<'r>(
    judged: &Judged<'_>,
    path: Option<&str>,
    allow: &Index,
    sought: &Sought<'_>,
    first: &[RuleNumber],
    rule: impl Fn(RuleNumber) -> Option<&'r Arc<CompiledRule>>,
) -> NearMiss {
    let mut compared: SmallVec<[RuleNumber; COMPARED_RULES]> = SmallVec::new();
    let mut closest: Option<(usize, RuleNumber, &Arc<CompiledRule>)> = None;
    let mut compare = |number: RuleNumber| {
        if compared.len() >= COMPARED_RULES {
            return ControlFlow::Break(());
        }
        if compared.contains(&number) {
            return ControlFlow::Continue(());
        }
        let Some(rule) = rule(number) else {
            return ControlFlow::Continue(());
        };
        compared.push(number);
        let failed = failed_parts(rule, judged, path);
        if closest.is_none_or(|(least, first, _)| (failed, number) < (least, first)) {
            closest = Some((failed, number, rule));
        }
        ControlFlow::Continue(())
    };
    allow.candidates(sought, Use::Allow, &mut compare);
    if allow.near(sought, &mut compare).is_continue() {
        let _ = first.iter().try_for_each(|number| compare(*number));
    }
    NearMiss {
        peer: judged.call.peer.cloned(),
        called: called(judged),
        closest: closest.map(|(_, _, rule)| Closest {
            rule: Arc::clone(rule),
            failure: first_failure(rule, judged, path),
        }),
    }
}

fn called(judged: &Judged<'_>) -> Called {
    match &judged.call.request {
        Some(request) => Called::Request {
            method: Told::new(request.method),
            path: Told::new(request.path.split('?').next().unwrap_or_default()),
        },
        None => Called::Connection {
            port: judged.call.port,
        },
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

fn first_failure(rule: &CompiledRule, judged: &Judged<'_>, path: Option<&str>) -> Failure {
    if !rule.caller_matches(judged) {
        return Failure::Caller;
    }
    let nearest = rule
        .rule
        .to
        .iter()
        .enumerate()
        .min_by_key(|(_, to)| failed_fields(to, judged, path));
    if let Some(failure) =
        nearest.and_then(|(operation, to)| operation_failure(operation, to, judged, path))
    {
        return failure;
    }
    if !rule.subject_matches(judged) {
        let wanted = rule.issuer.as_deref();
        let has_token = judged
            .subjects()
            .any(|subject| wanted.is_none_or(|wanted| wanted == subject.issuer));
        return if has_token {
            Failure::Token
        } else {
            Failure::NoToken
        };
    }
    if let Some(wanted) = &rule.rule.intent
        && !rule.intent_matches(judged)
    {
        return intent_failure(wanted, judged);
    }
    match rule.matches(judged, path) {
        Match::Failed(error) => Failure::ConditionFailed(error),
        Match::No => Failure::Condition,
        Match::Yes => Failure::Readings,
    }
}

fn operation_failure(
    operation: usize,
    to: &Operation,
    judged: &Judged<'_>,
    path: Option<&str>,
) -> Option<Failure> {
    let failed = operation_answers(&to.is, judged, path, false).find(|(_, answer)| !answer);
    if let Some((field, _)) = failed {
        let given = match field {
            Field::Port | Field::Headers => None,
            Field::Sni => judged.call.sni,
            Field::Host => judged.host,
            Field::Path | Field::Grpc => path,
            Field::Method => judged.call.request.map(|request| request.method),
        };
        return Some(Failure::Field {
            field,
            operation,
            given: given.map(Told::new),
            port: judged.call.port,
            is_http: judged.call.request.is_some(),
        });
    }
    let (field, _) = operation_answers(&to.not, judged, path, true).find(|(_, answer)| *answer)?;
    Some(Failure::Excluded(field))
}

fn intent_failure(wanted: &IntentMatch, judged: &Judged<'_>) -> Failure {
    let Some(intent) = judged.intent() else {
        return Failure::NoIntent;
    };
    let is_missing = |scope: &&String| !intent.scope.contains(scope);
    let missing = wanted.scope.iter().find(is_missing);
    missing.map_or(Failure::Intent, |scope| Failure::Scope(scope.clone()))
}

impl Failure {
    fn describe(&self, rule: &CompiledRule, peer: Option<&SpiffeId>) -> String {
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
    given: Option<&Told>,
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
