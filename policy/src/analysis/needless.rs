//! Rules that do nothing: no call can match them, or others do the same already.
//!
//! Rule by rule, from the last to the first, a call is looked for that proves the rule to be needed ([`group`]).

mod group;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::group::{Budget, Finding, Group};
use super::destinations::destinations;
use super::diagram::TooLarge;
use crate::call::Workload;
use crate::policy::concerns;
use crate::{Policy, RuleOrigin};

/// A rule that does nothing, whatever is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needless {
    /// The rule.
    pub rule: RuleOrigin,
    /// The 1-based column at which it starts.
    pub column: usize,
    /// Why it does nothing.
    pub why: Why,
    /// The rules that leave it nothing to do; of those that would do each, as few as are needed.
    pub by: Vec<RuleOrigin>,
}

/// Why a rule does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its parts exclude each other.
    NeverMatches,
    /// It is about callers without an identity, and those are refused before rules are asked.
    NoIdentity,
    /// Every call that it allows is denied by other rules.
    Denied,
    /// Every call that it matches is matched by other rules of the same action.
    Covered,
}

impl fmt::Display for Needless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.rule.rule;
        match self.why {
            Why::NeverMatches => write!(f, "no call can match the rule {name:?}"),
            Why::NoIdentity => write!(
                f,
                "no call can match the rule {name:?}: callers without an identity are refused where MeshMode is not permissive"
            ),
            Why::Denied => write!(f, "every call that the rule {name:?} allows is denied by ")
                .and_then(|()| self.others(f)),
            Why::Covered => {
                write!(f, "the rule {name:?} does nothing beside ").and_then(|()| self.others(f))
            }
        }
    }
}

impl Needless {
    fn others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, rule) in self.by.iter().enumerate() {
            let before = match number {
                0 => "",
                _ if number.saturating_add(1) == self.by.len() => " and ",
                _ => ", ",
            };
            write!(f, "{before}{rule}")?;
        }
        Ok(())
    }
}

/// The place of a rule: of its document, and in it.
type Place = (usize, usize);

/// What was found about the rules of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needlessness {
    /// The rules that do nothing, in the order in which they are written.
    pub needless: Vec<Needless>,
    /// Rules of which it would have taken too long to find out: their calls are those of very many others.
    pub undecided: Vec<RuleOrigin>,
}

/// Finds the rules of a policy that do nothing. Rules that only observe, and audit rules, are left alone. Of rules that each
/// do what the other does, the first is kept.
///
/// # Errors
/// The policy has too many kinds of workloads.
pub fn needless(policy: &Policy, directory: Option<&[Workload]>) -> Result<Needlessness, TooLarge> {
    needless_within(policy, directory, Budget::default())
}

fn needless_within(
    policy: &Policy,
    directory: Option<&[Workload]>,
    mut budget: Budget,
) -> Result<Needlessness, TooLarge> {
    let groups = groups(policy, directory)?;
    let places: BTreeSet<Place> = groups.iter().flat_map(Group::places).collect();
    let mut dropped: BTreeSet<Place> = BTreeSet::new();
    let mut found = Needlessness::default();
    for place in places.into_iter().rev() {
        let Some(rule) = rule_at(policy, place) else {
            continue;
        };
        match why(&groups, place, &dropped, &mut budget) {
            Finding::Needed => {}
            Finding::Undecided => found.undecided.push(RuleOrigin::clone(&rule.origin)),
            Finding::Needless(why, by) => {
                dropped.insert(place);
                let by = by.into_iter().filter_map(|place| rule_at(policy, place));
                found.needless.push(Needless {
                    rule: RuleOrigin::clone(&rule.origin),
                    column: rule.rule.origin.column,
                    why,
                    by: by.map(|rule| RuleOrigin::clone(&rule.origin)).collect(),
                });
            }
        }
    }
    found.needless.reverse();
    found.undecided.reverse();
    Ok(found)
}

fn rule_at(policy: &Policy, (document, rule): Place) -> Option<&crate::rule::CompiledRule> {
    let document = policy.documents().get(document)?;
    document.rules.get(rule).map(|rule| &**rule)
}

/// The workloads, those together that the same documents are about.
fn groups(policy: &Policy, directory: Option<&[Workload]>) -> Result<Vec<Group>, TooLarge> {
    let destinations = destinations(&[policy], directory)?;
    let mut workloads: BTreeMap<Vec<usize>, &Workload> = BTreeMap::new();
    for workload in &destinations.dimension.examples {
        let documents = policy.documents().iter().enumerate();
        let about = documents.filter(|(_, compiled)| concerns(&compiled.document, workload));
        let about: Vec<usize> = about.map(|(number, _)| number).collect();
        workloads.entry(about).or_insert(workload);
    }
    let group = |(documents, workload): (Vec<usize>, &Workload)| {
        let rules = |document: usize| policy.documents().get(document).map(|of| of.rules.len());
        let places = documents.into_iter().flat_map(|document| {
            (0..rules(document).unwrap_or(0)).map(move |number| (document, number))
        });
        Group::new(policy, workload, places.collect())
    };
    Ok(workloads.into_iter().map(group).collect())
}

/// Why a rule does nothing to any workload, if it is so; `dropped` rules do not count.
fn why(groups: &[Group], place: Place, dropped: &BTreeSet<Place>, budget: &mut Budget) -> Finding {
    let mut worst = Why::NeverMatches;
    let mut by = BTreeSet::new();
    let mut undecided = false;
    for group in groups {
        match group.why(place, dropped, budget) {
            None => {}
            Some(Finding::Needed) => return Finding::Needed,
            Some(Finding::Undecided) => undecided = true,
            Some(Finding::Needless(why, others)) => {
                worst = worst.max(why);
                by.extend(others);
            }
        }
    }
    match undecided {
        true => Finding::Undecided,
        false => Finding::Needless(worst, by),
    }
}
