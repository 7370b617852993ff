//! Which rule came closest: that failed on the fewest parts. Of rules that fail on as many, the one that the index has
//! nearest to the call.
//!
//! This is done for every denial, whether anyone reads it or not, so a rule is asked no more than what can still make it the
//! closest, and none once nothing can be closer.

use std::ops::ControlFlow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Called, Closest, Failure, NearMiss, Texts, cut};
use crate::document::{IntentMatch, Operation};
use crate::index::{Index, RuleNumber, Sought, Way};
use crate::rule::{CompiledRule, Field, Judged, Match, operation_answers};

/// How many rules are compared. A denial must not cost what all rules cost.
pub(crate) const COMPARED_RULES: usize = 8;

/// What the search for a rule that allows has left.
#[derive(Default)]
pub(crate) struct Candidates {
    /// The first rules that were looked at in vain: they would match but for what the index does not know.
    pub(crate) seen: SmallVec<[RuleNumber; COMPARED_RULES]>,
    /// How they were found.
    pub(crate) way: Way,
}

/// The part of a rule that failed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Caller,
    /// A field of the operation at this place.
    Field(usize, Field),
    /// A field under `not`.
    Excluded(Field),
    Subject,
    Intent,
    /// All that can be told without asking the condition match.
    Condition,
}

/// The closest rule so far.
struct Best<'r> {
    failed: usize,
    part: Part,
    rule: &'r Arc<CompiledRule>,
}

/// Compares the likeliest rules: the candidates, then some for the same path, then some about the caller, then `first`
/// ones.
pub(crate) fn near_miss<'r>(
    judged: &Judged<'_>,
    path: Option<&str>,
    allow: &Index,
    sought: &Sought<'_>,
    candidates: Candidates,
    first: &[RuleNumber],
    rule: impl Fn(RuleNumber) -> Option<&'r Arc<CompiledRule>>,
) -> NearMiss {
    let Candidates { seen, way } = candidates;
    let mut best: Option<Best<'r>> = None;
    // Whether something can be closer still, if what follows fails on so many parts at least.
    let mut compare = |number: RuleNumber, least: usize| {
        let most = match &best {
            None => usize::MAX,
            Some(best) if best.failed <= least => return ControlFlow::Break(()),
            Some(best) => best.failed.saturating_sub(1),
        };
        if let Some(rule) = rule(number)
            && let Some((failed, part)) = failed_parts(rule, judged, path, most)
        {
            best = Some(Best { failed, part, rule });
        }
        ControlFlow::Continue(())
    };
    let _ = seen.iter().try_for_each(|number| compare(*number, 0));
    let mut compared = seen;
    let mut visit = |number: RuleNumber| {
        if compared.len() >= COMPARED_RULES {
            return ControlFlow::Break(());
        }
        if !compared.contains(&number) {
            compared.push(number);
            // What is no candidate fails on a part at least.
            compare(number, 1)?;
        }
        ControlFlow::Continue(())
    };
    if allow.near(sought, &way, &mut visit).is_continue() {
        let _ = first.iter().try_for_each(|number| visit(*number));
    }
    told(judged, path, best)
}

/// What is kept of the call and the rule.
fn told(judged: &Judged<'_>, path: Option<&str>, best: Option<Best<'_>>) -> NearMiss {
    let request = judged.call.request;
    let method = request.map_or("", |request| request.method);
    let plain = request.and_then(|request| request.path.split('?').next());
    let plain = plain.unwrap_or_default();
    let given = match best.as_ref().map(|best| best.part) {
        Some(Part::Field(_, Field::Sni)) => judged.call.sni,
        Some(Part::Field(_, Field::Host)) => judged.host,
        Some(Part::Field(_, Field::Path | Field::Grpc)) => path,
        _ => None,
    };
    let length = |text: &str| cut(text).len();
    let lengths = [method, plain, given.unwrap_or_default()].map(length);
    let mut texts = Texts(String::with_capacity(lengths.iter().sum()));
    let (method, plain) = (texts.add(method), texts.add(plain));
    let called = match request {
        Some(_) => Called::Request {
            method,
            path: plain,
        },
        None => Called::Connection {
            port: judged.call.port,
        },
    };
    let closest = best.map(|best| Closest {
        failure: match best.part {
            Part::Field(operation, field) => Failure::Field {
                field,
                operation,
                given: match field {
                    Field::Method => request.map(|_| method),
                    _ => given.map(|given| texts.add(given)),
                },
                port: judged.call.port,
                is_http: request.is_some(),
            },
            part => failure(part, best.rule, judged, path),
        },
        rule: Arc::clone(best.rule),
    });
    NearMiss {
        peer: judged.call.peer.cloned(),
        called,
        closest,
        texts,
    }
}

/// How many parts fail, and the first of them; `None` if more than `most` do.
pub(super) fn failed_parts(
    rule: &CompiledRule,
    judged: &Judged<'_>,
    path: Option<&str>,
    most: usize,
) -> Option<(usize, Part)> {
    let mut failed = 0_usize;
    let mut first = None;
    let mut fails = |count: usize, part: Part| {
        failed = failed.saturating_add(count);
        if count > 0 {
            first = first.or(Some(part));
        }
        most.checked_sub(failed)
    };
    let left = fails(usize::from(!rule.caller_matches(judged)), Part::Caller)?;
    if !rule.rule.to.is_empty() {
        let (count, part) = nearest_operation(&rule.rule.to, judged, path, left)?;
        fails(count, part)?;
    }
    fails(usize::from(!rule.subject_matches(judged)), Part::Subject)?;
    fails(usize::from(!rule.intent_matches(judged)), Part::Intent)?;
    Some((failed, first.unwrap_or(Part::Condition)))
}

/// Of the operation on the fewest of whose fields the call fails, how many these are, and the first.
fn nearest_operation(
    operations: &[Operation],
    judged: &Judged<'_>,
    path: Option<&str>,
    most: usize,
) -> Option<(usize, Part)> {
    let mut nearest: Option<(usize, Part)> = None;
    for (place, operation) in operations.iter().enumerate() {
        let most = match nearest {
            None => most,
            Some((0, _)) => break,
            Some((fewest, _)) => fewest.saturating_sub(1),
        };
        nearest = failed_fields(place, operation, judged, path, most).or(nearest);
    }
    nearest
}

fn failed_fields(
    place: usize,
    to: &Operation,
    judged: &Judged<'_>,
    path: Option<&str>,
    most: usize,
) -> Option<(usize, Part)> {
    let is = operation_answers(&to.is, judged, path, false)
        .filter(|(_, answer)| !answer)
        .map(|(field, _)| Part::Field(place, field));
    let not = operation_answers(&to.not, judged, path, true)
        .filter(|(_, answer)| *answer)
        .map(|(field, _)| Part::Excluded(field));
    let mut failed = 0_usize;
    let mut first = None;
    for part in is.chain(not) {
        failed = failed.saturating_add(1);
        if failed > most {
            return None;
        }
        first = first.or(Some(part));
    }
    Some((failed, first.unwrap_or(Part::Condition)))
}

fn failure(part: Part, rule: &CompiledRule, judged: &Judged<'_>, path: Option<&str>) -> Failure {
    match part {
        Part::Caller | Part::Field(..) => Failure::Caller,
        Part::Excluded(field) => Failure::Excluded(field),
        Part::Subject => {
            let wanted = rule.issuer.as_deref();
            let has_token = judged
                .subjects()
                .any(|subject| wanted.is_none_or(|wanted| wanted == subject.issuer));
            match has_token {
                true => Failure::Token,
                false => Failure::NoToken,
            }
        }
        Part::Intent => intent_failure(rule.rule.intent.as_deref(), judged),
        Part::Condition => match rule.matches(judged, path) {
            Match::Failed(error) => Failure::ConditionFailed(error),
            Match::No => Failure::Condition,
            Match::Yes => Failure::Readings,
        },
    }
}

fn intent_failure(wanted: Option<&IntentMatch>, judged: &Judged<'_>) -> Failure {
    let Some(intent) = judged.intent() else {
        return Failure::NoIntent;
    };
    let is_missing = |scope: &&String| !intent.scope.contains(scope);
    let missing = wanted.and_then(|wanted| wanted.scope.iter().find(is_missing));
    missing.map_or(Failure::Intent, |scope| Failure::Scope(scope.clone()))
}
