//! From what Istio says to what this language says.
//!
//! A rule of Istio holds if one of its sources, one of its operations and all of its conditions do. Each source and
//! each operation becomes one or several *ways* to hold, made of structured fields, which are quick and can be
//! analysed, and of parts of a CEL condition for what no field says: prefixes and suffixes, hosts with their ports,
//! nested conditions on one attribute. Ways without a condition share one rule; others get rules of their own.

mod callers;
mod calls;
mod cel;
mod identity;
mod token;

use std::sync::Arc;

use self::callers::Callers;
use self::calls::Calls;
use super::authorization_policy::{AuthorizationPolicy, Rule};
use super::budget::{Budget, TooMany, Weigh};
use super::term::Term;
use crate::condition::MAX_EXPRESSION_BYTES;
use crate::document::{
    self, AccessPolicy, Action, Condition, DefaultAction, Mode, Operation, Source, SubjectMatch,
    origin,
};
use crate::yaml::Value;

/// What the terms of a rule are read for.
struct Context<'a> {
    action: Action,
    budget: &'a Budget,
}

/// Converts a policy. `None` after a mistake was noted.
pub(super) fn policy(policy: AuthorizationPolicy<'_>, budget: &Budget) -> Option<AccessPolicy> {
    let context = Context {
        action: policy.action,
        budget,
    };
    let mut rules = Vec::new();
    let mut mistaken = false;
    for (rule, number) in policy.rules.iter().zip(1_usize..) {
        match convert(rule, number, &context) {
            Some(converted) => rules.extend(converted.into_iter().map(Arc::new)),
            None => mistaken = true,
        }
    }
    if mistaken {
        return None;
    }
    let (mode, default) = match (policy.header.dry_run, policy.action) {
        (true, _) => (Mode::Observe, DefaultAction::Allow),
        // A workload with an ALLOW policy is called by nobody whom none of them allows.
        (false, Action::Allow) => (Mode::Enforce, DefaultAction::Deny),
        (false, Action::Deny | Action::Audit) => (Mode::Enforce, DefaultAction::Allow),
    };
    Some(AccessPolicy {
        metadata: policy.header.metadata,
        origin: policy.origin,
        target: policy.target,
        mode,
        default,
        rules,
    })
}

/// The rules of this language that are one of Istio's. None, if it can never match.
fn convert(rule: &Rule<'_>, number: usize, context: &Context<'_>) -> Option<Vec<document::Rule>> {
    let Ok((callers, calls)) = ways(rule, context) else {
        return too_many(rule.value);
    };
    let asks_for_http = rule
        .from
        .iter()
        .chain(&rule.to)
        .flatten()
        .chain(&rule.when)
        .any(Term::is_http);
    let mut rules = Vec::new();
    for caller in &callers {
        for call in &calls {
            let weight = caller.weight().saturating_add(call.weight());
            if context.budget.take(weight).is_err() {
                return too_many(rule.value);
            }
            let name = match callers.len() == 1 && calls.len() == 1 {
                true => format!("rule {number}"),
                false => format!("rule {number}, part {}", rules.len().saturating_add(1)),
            };
            let made = Made {
                caller,
                call,
                asks_for_http,
            };
            rules.push(made.rule(name, rule.value, context.action)?);
        }
    }
    Some(rules)
}

fn too_many<T>(at: Value<'_>) -> Option<T> {
    at.mistake(
        "the combinations of the rule's lists are too many: make several rules or policies of it, each with shorter lists",
    )
}

/// How the sources of a rule can hold, and how its operations can.
fn ways(
    rule: &Rule<'_>,
    context: &Context<'_>,
) -> Result<(Vec<Callers>, Vec<MergedCalls>), TooMany> {
    let (about_caller, about_call): (Vec<&Term>, Vec<&Term>) = rule
        .when
        .iter()
        .partition(|term| term.is_about_the_caller());
    let mut callers = Vec::new();
    for source in or_one_empty(&rule.from) {
        let terms: Vec<&Term> = source.iter().chain(about_caller.iter().copied()).collect();
        callers.extend(callers::callers(&terms, context)?);
    }
    let mut calls = Vec::new();
    for operation in or_one_empty(&rule.to) {
        let terms: Vec<&Term> = operation.iter().chain(about_call.iter().copied()).collect();
        calls.extend(calls::calls(&terms, context)?);
    }
    Ok((merge_callers(callers), merge_calls(calls)))
}

fn or_one_empty(entries: &[Vec<Term>]) -> Vec<&[Term]> {
    match entries {
        [] => vec![&[]],
        _ => entries.iter().map(Vec::as_slice).collect(),
    }
}

/// Every way with every alternative; what cannot be together is left out.
fn product<T: Clone + Weigh, A: Weigh>(
    budget: &Budget,
    ways: Vec<T>,
    alternatives: &[A],
    apply: impl Fn(T, &A) -> Option<T>,
) -> Result<Vec<T>, TooMany> {
    let of_ways = ways.weight().saturating_mul(alternatives.len());
    let of_alternatives = alternatives.weight().saturating_mul(ways.len());
    budget.take(of_ways.saturating_add(of_alternatives))?;
    Ok(ways
        .iter()
        .flat_map(|way| {
            alternatives
                .iter()
                .filter_map(|add| apply(way.clone(), add))
        })
        .collect())
}

/// Callers without conditions are alternatives of one list.
fn merge_callers(ways: Vec<Callers>) -> Vec<Callers> {
    let mut plain: Option<Callers> = None;
    let mut merged = Vec::new();
    for way in ways {
        match &mut plain {
            _ if !way.conditions.is_empty() || !way.claims.is_empty() => merged.push(way),
            Some(plain) => plain.from.extend(way.from),
            None => plain = Some(way),
        }
    }
    plain.into_iter().chain(merged).collect()
}

/// A rule's operations, with what has to hold besides.
struct MergedCalls {
    /// None is any call.
    to: Vec<Operation>,
    conditions: Vec<cel::Part>,
}

impl Weigh for MergedCalls {
    fn weight(&self) -> usize {
        self.to
            .iter()
            .map(calls::weight)
            .fold(self.conditions.len(), usize::saturating_add)
    }
}

/// Calls without conditions are alternatives of one list.
fn merge_calls(ways: Vec<Calls>) -> Vec<MergedCalls> {
    let mut plain: Option<MergedCalls> = None;
    let mut merged = Vec::new();
    for way in ways {
        let Calls { to, conditions } = way;
        match &mut plain {
            Some(plain) if conditions.is_empty() => plain.to.push(to),
            None if conditions.is_empty() => {
                plain = Some(MergedCalls {
                    to: vec![to],
                    conditions,
                });
            }
            _ => merged.push(MergedCalls {
                to: vec![to],
                conditions,
            }),
        }
    }
    let mut all: Vec<MergedCalls> = plain.into_iter().chain(merged).collect();
    for calls in &mut all {
        if calls.to.iter().any(calls::is_any) {
            calls.to.clear();
        }
    }
    all
}

/// A caller and a call that are a rule together.
struct Made<'a> {
    caller: &'a Callers,
    call: &'a MergedCalls,
    /// Whether the rule of Istio asks for a fact of HTTP anywhere: as an ALLOW rule, it matches no opaque connection.
    asks_for_http: bool,
}

impl Made<'_> {
    fn rule(&self, name: String, at: Value<'_>, action: Action) -> Option<document::Rule> {
        let Self { caller, call, .. } = self;
        let parts = [caller.conditions.as_slice(), &call.conditions].concat();
        let only_http = action == Action::Allow && self.asks_for_http && !self.is_of_http();
        let when = match cel::all(&parts, action, only_http) {
            None => None,
            Some(expression) => Some(condition(expression, at)?),
        };
        let from = match caller.from.iter().any(is_anybody) {
            true => Vec::new(),
            false => caller.from.clone(),
        };
        let subject = (!caller.claims.is_empty()).then(|| SubjectMatch {
            origin: origin(at),
            issuer: None,
            audience: None,
            claims: caller.claims.clone(),
            not_claims: document::Claims::new(),
        });
        Some(document::Rule {
            name: name.into(),
            origin: origin(at),
            action,
            from: from.into(),
            subject: subject.map(Box::new),
            intent: None,
            to: call.to.clone(),
            when: when.map(Box::new),
        })
    }

    /// Whether an allow rule of these parts matches no opaque connection as it is.
    fn is_of_http(&self) -> bool {
        let conditions = self.caller.conditions.iter().chain(&self.call.conditions);
        !self.caller.claims.is_empty()
            || conditions.into_iter().any(|part| part.is_http)
            || (!self.call.to.is_empty() && self.call.to.iter().all(calls::is_http))
    }
}

fn is_anybody(source: &Source) -> bool {
    let nothing = document::SourceFields::default();
    source.is == nothing && source.not.is_empty()
}

fn condition(expression: String, at: Value<'_>) -> Option<Condition> {
    if expression.len() > MAX_EXPRESSION_BYTES {
        return at.mistake(format!(
            "the rule needs a condition of {} bytes, at most {MAX_EXPRESSION_BYTES} are allowed: shorten its lists of \
             prefixes, suffixes and exceptions",
            expression.len()
        ));
    }
    Some(Condition {
        origin: origin(at),
        expression,
    })
}
