//! The plain way to find rules that do nothing: the sets of all rules at once. It is what the quick way is compared to.

use std::collections::{BTreeMap, BTreeSet};

use super::{Place, Why};
use crate::Policy;
use crate::analysis::destinations::destinations;
use crate::analysis::diagram::{NONE, Set, TooLarge};
use crate::analysis::universe::Universe;
use crate::call::Workload;
use crate::document::Action;
use crate::policy::concerns;

/// The rules about workloads that the same documents are about.
struct Group {
    universe: Universe,
    /// In the order in which they are written.
    rules: Vec<Found>,
    /// What all deny rules match.
    denied: Set,
    /// What rules match that were looked at, which is done from the last to the first, and are not needless.
    allowed_after: Set,
    denied_after: Set,
}

/// What a rule matches.
#[derive(Clone, Copy, Debug)]
struct Found {
    place: Place,
    action: Action,
    /// All.
    matched: Set,
    /// Without the calls that are refused before rules are asked.
    asked: Set,
    /// What the rules of the same action before it match.
    before: Set,
}

/// What does nothing, and why.
pub(super) fn needless(
    policy: &Policy,
    directory: Option<&[Workload]>,
) -> Result<BTreeMap<Place, (Why, BTreeSet<Place>)>, TooLarge> {
    let mut groups = groups(policy, directory)?;
    let mut places: BTreeSet<Place> = BTreeSet::new();
    for group in &groups {
        places.extend(group.rules.iter().map(|rule| rule.place));
    }
    let mut dropped: BTreeSet<Place> = BTreeSet::new();
    let mut found: BTreeMap<Place, (Why, BTreeSet<Place>)> = BTreeMap::new();
    for place in places.iter().rev() {
        if let Some((why, by)) = why(&mut groups, *place, &dropped)? {
            dropped.insert(*place);
            found.insert(*place, (why, by));
        } else {
            for group in &mut groups {
                group.keep(*place)?;
            }
        }
    }
    Ok(found)
}

fn groups(policy: &Policy, directory: Option<&[Workload]>) -> Result<Vec<Group>, TooLarge> {
    let destinations = destinations(&[policy], directory)?;
    let mut workloads: BTreeMap<Vec<usize>, &Workload> = BTreeMap::new();
    for workload in &destinations.dimension.examples {
        let documents = policy.documents().iter().enumerate();
        let about = documents.filter(|(_, compiled)| concerns(&compiled.document, workload));
        let about: Vec<usize> = about.map(|(number, _)| number).collect();
        workloads.entry(about).or_insert(workload);
    }
    let mut groups = Vec::with_capacity(workloads.len());
    for (documents, workload) in workloads {
        let for_workload = policy.for_workload(workload);
        let mut universe = Universe::new(policy.trust_domain(), &[&for_workload])?;
        let impossible = universe.impossible()?;
        let refused = universe.refused(&for_workload)?;
        let mut group = Group {
            universe,
            rules: Vec::new(),
            denied: NONE,
            allowed_after: NONE,
            denied_after: NONE,
        };
        let mut allowed = NONE;
        for document in documents {
            let compiled = policy.documents().get(document);
            let compiled = compiled.into_iter().flat_map(|compiled| &compiled.rules);
            for (number, rule) in compiled.enumerate() {
                let before = match rule.rule.action {
                    Action::Allow => &mut allowed,
                    Action::Deny => &mut group.denied,
                    Action::Audit => continue,
                };
                if rule.observe {
                    continue;
                }
                let set = group.universe.rule(rule)?;
                let diagrams = &mut group.universe.diagrams;
                let matched = diagrams.minus(set, impossible)?;
                group.rules.push(Found {
                    place: (document, number),
                    action: rule.rule.action,
                    matched,
                    asked: diagrams.minus(matched, refused)?,
                    before: *before,
                });
                *before = diagrams.or(*before, matched)?;
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

/// Why a rule does nothing to any workload, if it is so; `dropped` rules do not count.
fn why(
    groups: &mut [Group],
    place: Place,
    dropped: &BTreeSet<Place>,
) -> Result<Option<(Why, BTreeSet<Place>)>, TooLarge> {
    let mut worst = Why::NeverMatches;
    let mut by = BTreeSet::new();
    for group in groups {
        let Some(found) = group.find(place) else {
            continue;
        };
        if found.matched == NONE {
            continue;
        }
        if found.asked == NONE {
            worst = worst.max(Why::NoIdentity);
            continue;
        }
        let (why, covering) = match group.covered(&found, dropped)? {
            Some(covered) => covered,
            None => return Ok(None),
        };
        worst = worst.max(why);
        by.extend(covering);
    }
    Ok(Some((worst, by)))
}

impl Group {
    fn find(&self, place: Place) -> Option<Found> {
        let at = self.rules.binary_search_by_key(&place, |rule| rule.place);
        self.rules.get(at.ok()?).copied()
    }

    /// Notes that a rule is needed.
    fn keep(&mut self, place: Place) -> Result<(), TooLarge> {
        if let Some(found) = self.find(place) {
            let after = match found.action {
                Action::Allow => &mut self.allowed_after,
                _ => &mut self.denied_after,
            };
            *after = self.universe.diagrams.or(*after, found.matched)?;
        }
        Ok(())
    }

    /// Which rules leave a rule nothing to do, and how; `None` if they leave it something.
    fn covered(
        &mut self,
        found: &Found,
        dropped: &BTreeSet<Place>,
    ) -> Result<Option<(Why, Vec<Place>)>, TooLarge> {
        let diagrams = &mut self.universe.diagrams;
        // What was dropped is matched by others: all rules match as much as those that were kept.
        if found.action == Action::Allow && diagrams.minus(found.asked, self.denied)? == NONE {
            let by = self.cover(found, Action::Deny, dropped)?;
            return Ok(Some((Why::Denied, by)));
        }
        let after = match found.action {
            Action::Allow => self.allowed_after,
            _ => self.denied_after,
        };
        let others = diagrams.or(found.before, after)?;
        if diagrams.minus(found.asked, others)? != NONE {
            return Ok(None);
        }
        let by = self.cover(found, found.action, dropped)?;
        Ok(Some((Why::Covered, by)))
    }

    /// Rules of an action that together match all that another is asked about, given that there are such.
    fn cover(
        &mut self,
        of: &Found,
        action: Action,
        dropped: &BTreeSet<Place>,
    ) -> Result<Vec<Place>, TooLarge> {
        let set = of.asked;
        let diagrams = &mut self.universe.diagrams;
        let others = self.rules.iter().filter(|other| {
            other.place != of.place && other.action == action && !dropped.contains(&other.place)
        });
        let mut left = set;
        let mut chosen: Vec<(Place, Set)> = Vec::new();
        for other in others {
            if diagrams.minus(set, other.matched)? == NONE {
                return Ok(vec![other.place]);
            }
            let less = diagrams.minus(left, other.matched)?;
            if less != left {
                chosen.push((other.place, other.matched));
                left = less;
            }
        }
        // What came later may have made an earlier one needless.
        let mut at = 0;
        while at < chosen.len() {
            let others = chosen
                .iter()
                .enumerate()
                .filter(|(number, _)| *number != at);
            let others = others.map(|(_, (_, set))| *set).collect();
            let together = diagrams.any(others)?;
            if diagrams.minus(set, together)? == NONE {
                chosen.remove(at);
            } else {
                at = at.saturating_add(1);
            }
        }
        Ok(chosen.into_iter().map(|(place, _)| place).collect())
    }
}
