//! Why a call is decided as it is: every rule about the called workload, part by part.
//!
//! The answers are those of the engine itself ([`rule`](crate::rule)); what is added here is only what was found and
//! what was wanted, in words.

mod parts;
mod words;

use serde::Serialize;

use crate::call::Call;
use crate::decision::{Decision, Reason, RuleOrigin, Verdict};
use crate::document::Action;
use crate::rule::{CompiledRule, Judged, Match};
use crate::workload_policy::WorkloadPolicy;

/// A decision, and how every rule about the called workload answers.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What is decided, and by what.
    pub decision: Decision,
    /// In the order of the documents. Empty if no rule is asked: the path is ambiguous, or an identity is missing.
    pub rules: Vec<RuleExplanation>,
}

/// How one rule answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleExplanation {
    /// Which rule.
    #[serde(flatten)]
    pub origin: RuleOrigin,
    /// What it does if it matches.
    pub action: Action,
    /// Whether it decides; a rule of a policy in observe mode does not, nor does an audit rule.
    pub decides: bool,
    /// Whether it matches. A deny or audit rule does, too, if its condition cannot be evaluated.
    pub matches: bool,
    /// Why its condition could not be evaluated.
    pub error: Option<String>,
    /// The path as it was read; one that shows why, if there are several ways.
    pub path: Option<String>,
    /// The parts that it has. It matches if all do.
    pub parts: Vec<Part>,
}

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// `from`, `subject`, `intent`, `to` or `when`.
    pub part: &'static str,
    /// Whether it matches; `None` if it was not asked: a condition is evaluated only where all else matches.
    pub matches: Option<bool>,
    /// Its entries, one of which has to match.
    pub alternatives: Vec<Alternative>,
}

/// An entry of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// Whether it matches.
    pub matches: bool,
    /// The fields that it has, all of which have to match.
    pub fields: Vec<FieldAnswer>,
}

/// A field of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldAnswer {
    /// Its name; under `not`, `not.…`.
    pub field: String,
    /// Whether it matches.
    pub matches: bool,
    /// What the call has.
    pub found: String,
    /// What the rule wants.
    pub wanted: String,
}

impl WorkloadPolicy {
    /// Judges a call as [`decide`](Self::decide) does, and tells how every rule answers.
    #[must_use]
    pub fn explain(&self, call: &Call<'_>) -> Explanation {
        self.aliases()
            .with_local_peer(call, |call| self.explain_local(call))
    }

    fn explain_local(&self, call: &Call<'_>) -> Explanation {
        let decision = self.decide(call);
        let asked = !matches!(
            decision.reason,
            Reason::AmbiguousPath(_) | Reason::NoIdentity { .. }
        );
        let readings = self.readings(call).ok().filter(|_| asked);
        let Some(readings) = readings else {
            return Explanation {
                decision,
                rules: Vec::new(),
            };
        };
        let judged = Judged::new(call, self.workload());
        let readings: Vec<Option<&str>> = readings.iter().collect();
        let rules = self
            .rules()
            .iter()
            .map(|rule| explain_rule(rule, &judged, &readings))
            .collect();
        Explanation { decision, rules }
    }
}

impl Explanation {
    /// What follows from the rules as they are told, if something does; for comparison with the decision.
    #[must_use]
    pub fn verdict_of_rules(&self) -> Option<Verdict> {
        let deciding = |action| {
            move |rule: &&RuleExplanation| rule.decides && rule.matches && rule.action == action
        };
        if self.rules.iter().any(|rule| deciding(Action::Deny)(&rule)) {
            Some(Verdict::Deny)
        } else if self.rules.iter().any(|rule| deciding(Action::Allow)(&rule)) {
            Some(Verdict::Allow)
        } else {
            None
        }
    }
}

fn explain_rule(
    rule: &CompiledRule,
    judged: &Judged<'_>,
    readings: &[Option<&str>],
) -> RuleExplanation {
    let (path, answer) = telling_reading(rule, judged, readings);
    let (matches, error) = match answer {
        Match::Yes => (true, None),
        Match::No => (false, None),
        Match::Failed(error) => (rule.unknown(), Some(error)),
    };
    RuleExplanation {
        parts: parts::of(rule, judged, path, matches, error.as_deref()),
        origin: (*rule.origin).clone(),
        action: rule.rule.action,
        decides: !rule.observe && rule.rule.action != Action::Audit,
        matches,
        error,
        path: path.map(words::told),
    }
}

/// The reading that shows why a rule matches or not: an allow rule has to match all of them, any other one of them.
fn telling_reading<'r>(
    rule: &CompiledRule,
    judged: &Judged<'_>,
    readings: &[Option<&'r str>],
) -> (Option<&'r str>, Match) {
    let is_telling = |answer: &Match| match answer {
        Match::Yes => rule.unknown(),
        Match::Failed(_) => true,
        Match::No => !rule.unknown(),
    };
    let mut first = None;
    for path in readings {
        let answer = rule.matches(judged, *path);
        if is_telling(&answer) {
            return (*path, answer);
        }
        first.get_or_insert((*path, answer));
    }
    first.unwrap_or((None, Match::No))
}

#[cfg(test)]
mod tests;
