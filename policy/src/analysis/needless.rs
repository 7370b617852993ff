//! Rules that do nothing: no call can match them, or others do the same already.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::destinations::destinations;
use super::diagram::{NONE, Set, TooLarge};
use super::universe::Universe;
use crate::call::Workload;
use crate::document::Action;
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

/// Finds the rules of a policy that do nothing, in the order in which they are written. Rules that only observe, and audit
/// rules, are left alone. Of rules that each do what the other does, the first is kept.
///
/// # Errors
/// The policy is too large.
pub fn needless(
    policy: &Policy,
    directory: Option<&[Workload]>,
) -> Result<Vec<Needless>, TooLarge> {
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
    let told = found.into_iter().filter_map(|(place, (why, by))| {
        let rule = rule_at(policy, place)?;
        Some(Needless {
            rule: RuleOrigin::clone(&rule.origin),
            column: rule.rule.origin.column,
            why,
            by: by
                .into_iter()
                .filter_map(|place| Some(RuleOrigin::clone(&rule_at(policy, place)?.origin)))
                .collect(),
        })
    });
    Ok(told.collect())
}

fn rule_at(policy: &Policy, (document, rule): Place) -> Option<&crate::rule::CompiledRule> {
    let document = policy.documents().get(document)?;
    document.rules.get(rule).map(|rule| &**rule)
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

#[cfg(test)]
mod tests {
    use countersign_identity::TrustDomain;

    use super::*;
    use crate::document;

    fn found(text: &str) -> Vec<String> {
        let documents = document::parse([("p.yaml".to_owned(), text.to_owned())]).unwrap();
        let domain = TrustDomain::parse("shop.example").unwrap();
        let policy = Policy::compile("r", &domain, documents).unwrap();
        let needless = needless(&policy, None).unwrap();
        needless.iter().map(ToString::to_string).collect()
    }

    fn policy(rules: &str) -> String {
        format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  rules:\n{rules}"
        )
    }

    #[test]
    fn rules_that_all_do_something_are_left_alone() {
        let rules =
            "  - {name: a, action: allow, from: [{workload: shop/web}], to: [{methods: [GET]}]}
  - {name: b, action: allow, from: [{namespace: shop}], to: [{paths: [/a]}]}
  - {name: c, action: deny, to: [{paths: [/a/b]}]}
  - {name: d, action: audit, to: [{paths: [/a]}]}
  - {name: e, action: audit, to: [{paths: [/a]}]}\n";
        assert_eq!(found(&policy(rules)), Vec::<String>::new());
    }

    #[test]
    fn a_rule_that_others_cover_together_is_told_with_them() {
        let rules = "  - {name: part, action: allow, from: [{workload: shop/web}], to: [{methods: [GET, POST], paths: ['/a/{id}']}]}
  - {name: gets, action: allow, from: [{namespace: shop}], to: [{methods: [GET], paths: ['/a/**']}]}
  - {name: posts, action: allow, from: [{workload: shop/web}], to: [{methods: [POST, PUT]}]}
  - {name: unrelated, action: allow, from: [{workload: shop/api}], to: [{ports: [1]}]}\n";
        assert_eq!(
            found(&policy(rules)),
            [
                "the rule \"part\" does nothing beside \"gets\" (shop/p, p.yaml:7) and \"posts\" (shop/p, p.yaml:8)"
            ]
        );
    }

    #[test]
    fn of_two_that_say_the_same_the_second_is_told() {
        let rules = "  - {name: one, action: deny, to: [{paths: ['/a/{id}']}]}
  - {name: two, action: deny, to: [{paths: ['/a/*']}]}\n";
        assert_eq!(
            found(&policy(rules)),
            ["the rule \"two\" does nothing beside \"one\" (shop/p, p.yaml:6)"]
        );
    }

    #[test]
    fn what_is_denied_altogether_is_told() {
        let rules = "  - {name: in vain, action: allow, to: [{methods: [DELETE], ports: [8080]}]}
  - {name: nobody deletes, action: deny, to: [{methods: [DELETE]}]}\n";
        assert_eq!(
            found(&policy(rules)),
            [
                "every call that the rule \"in vain\" allows is denied by \"nobody deletes\" (shop/p, p.yaml:7)"
            ]
        );
    }

    #[test]
    fn what_no_call_can_match_is_told() {
        let rules =
            "  - {name: both, action: allow, from: [{namespace: shop, not: {workload: 'shop/*'}}]}
  - {name: strangers, action: allow, from: [{anonymous: true}], to: [{ports: [8080]}]}
  - {name: named, action: allow, to: [{sni: [a.example], methods: [GET]}]}\n";
        assert_eq!(
            found(&policy(rules)),
            [
                "no call can match the rule \"both\"",
                "no call can match the rule \"strangers\": callers without an identity are refused where MeshMode is not permissive",
                "no call can match the rule \"named\"",
            ]
        );
        let permissive = "---\napiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {name: m, namespace: shop}\nspec: {ports: {'8080': permissive}}\n";
        assert_eq!(found(&(policy(rules) + permissive)).len(), 2);
    }

    #[test]
    fn a_rule_that_only_some_workloads_need_is_left_alone() {
        let text = policy("  - {name: gets, action: allow, to: [{methods: [GET]}]}\n")
            + "---\napiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {name: root, namespace: countersign-system}\nspec: {rules: [{name: health, action: allow, to: [{methods: [GET], paths: [/health]}]}]}\n";
        // In shop it does nothing, elsewhere it does.
        assert_eq!(found(&text), Vec::<String>::new());
    }

    #[test]
    fn conditions_are_the_same_only_if_they_are_equal() {
        let rules = "  - {name: one, action: allow, to: [{methods: [GET]}], when: 'request.host == \"a\"'}
  - {name: two, action: allow, to: [{methods: [GET], ports: [80]}], when: 'request.host == \"a\"'}
  - {name: three, action: allow, to: [{methods: [GET], ports: [80]}], when: 'request.host == \"b\"'}\n";
        assert_eq!(
            found(&policy(rules)),
            ["the rule \"two\" does nothing beside \"one\" (shop/p, p.yaml:6)"]
        );
    }
}
