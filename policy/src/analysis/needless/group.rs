//! Whether one rule does anything to the workloads that the same documents are about.
//!
//! A rule is needed if there is a call that it decides and no other rule of its action matches. So such a call is looked for: one
//! of those that the rule and a few others tell apart; the engine's own index says which further rules match it. If none does,
//! the call is the proof. If some do, they are taken into account, and the next call is one that they do not match either. When
//! no call is left, the rules that were taken into account leave the rule nothing to do. Either answer is exact, and costs
//! what the few rules cost that have calls in common with the one that is asked about.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_identity::TrustDomain;

use super::{Place, Why};
use crate::Policy;
use crate::analysis::diagram::{NONE, Set, TooLarge, Variable};
use crate::analysis::example::ExampleCall;
use crate::analysis::universe::{ADDRESS, HOST, METHOD, PATH, PEER, PORT, Universe};
use crate::call::Workload;
use crate::document::Action;
use crate::index::RuleNumber;
use crate::rule::CompiledRule;
use crate::workload_policy::WorkloadPolicy;

/// How many rules are taken into account for one at most.
const MOST_RULES: usize = 500;
/// How many rules of one action a call adds, and with how many calls at a time.
const ADDED_RULES: usize = 8;
const ADDED_CALLS: usize = 16;
/// How often a call is looked for that turns out to be none, for there are no such tokens.
const MOST_ATTEMPTS: usize = 100;

/// What may be spent on a policy: about as many times 0.1 µs.
const BUDGET: usize = 200_000_000;
/// What it costs to look at a rule of the index, and to take one into account.
const LOOK: usize = 1;
const ACCOUNT: usize = 100;

/// What may still be spent.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Default for Budget {
    fn default() -> Self {
        Self(BUDGET)
    }
}

impl Budget {
    fn spend(&mut self, times: usize, cost: usize) -> Result<(), TooLarge> {
        let left = self.0.checked_sub(times.saturating_mul(cost));
        self.0 = left.unwrap_or(0);
        left.map(|_| ()).ok_or(TooLarge)
    }
}

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It does something.
    Needed,
    /// It does nothing, because of these.
    Needless(Why, BTreeSet<Place>),
    /// It would take too long to find out.
    Undecided,
}

/// Workloads that the same documents are about.
pub(super) struct Group {
    local: TrustDomain,
    policy: WorkloadPolicy,
    /// By number of the rule; ascending.
    places: Vec<Place>,
}

impl Group {
    /// One of the workloads stands for all; `places` are those of its rules, in their order.
    pub(super) fn new(policy: &Policy, workload: &Workload, places: Vec<Place>) -> Self {
        Self {
            local: policy.trust_domain().clone(),
            policy: policy.for_workload(workload),
            places,
        }
    }

    /// The rules that allow or deny.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        let rules = self.places.iter().zip(self.policy.rules());
        let decides = |rule: &CompiledRule| !rule.observe && rule.rule.action != Action::Audit;
        rules
            .filter(move |(_, rule)| decides(rule))
            .map(|(place, _)| *place)
    }

    /// What a rule does to these workloads; `None` if it is not about them. `dropped` rules do not count.
    pub(super) fn why(
        &self,
        place: Place,
        dropped: &BTreeSet<Place>,
        budget: &mut Budget,
    ) -> Option<Finding> {
        let at = self.places.binary_search(&place).ok()?;
        let rule = self.policy.rules().get(at)?;
        let number = RuleNumber::try_from(at).ok()?;
        let mut search = Search {
            group: self,
            rule,
            number,
            dropped,
            known: BTreeSet::new(),
            // A rule that denies is not kept from it.
            is_undenied: rule.rule.action != Action::Allow,
        };
        Some(search.run(budget).unwrap_or(Finding::Undecided))
    }

    fn place(&self, number: RuleNumber) -> Option<Place> {
        self.places.get(usize::try_from(number).ok()?).copied()
    }

    fn rule(&self, number: RuleNumber) -> Option<&Arc<CompiledRule>> {
        self.policy.rules().get(usize::try_from(number).ok()?)
    }
}

/// The search for a call that proves a rule to be needed.
struct Search<'a> {
    group: &'a Group,
    rule: &'a Arc<CompiledRule>,
    number: RuleNumber,
    dropped: &'a BTreeSet<Place>,
    /// The other rules that are taken into account.
    known: BTreeSet<RuleNumber>,
    /// Whether a call is known that no rule denies.
    is_undenied: bool,
}

/// The rule and the known ones as sets.
struct Sets {
    universe: Universe,
    own: Set,
    refused: Set,
    /// Those of the same action, and those that deny a rule that allows: each, and all together.
    same: Vec<(RuleNumber, Set)>,
    denying: Vec<(RuleNumber, Set)>,
    all_same: Set,
    all_denying: Set,
}

impl Search<'_> {
    fn run(&mut self, budget: &mut Budget) -> Result<Finding, TooLarge> {
        while self.known.len() < MOST_RULES {
            budget.spend(self.known.len().saturating_add(1), ACCOUNT)?;
            if let Some(finding) = self.round(budget)? {
                return Ok(finding);
            }
        }
        Ok(Finding::Undecided)
    }

    /// Finds out, or makes more rules known.
    fn round(&mut self, budget: &mut Budget) -> Result<Option<Finding>, TooLarge> {
        let mut sets = self.sets()?;
        for _ in 0..MOST_ATTEMPTS {
            let impossible = sets.universe.impossible()?;
            let diagrams = &mut sets.universe.diagrams;
            let matched = diagrams.minus(sets.own, impossible)?;
            if matched == NONE {
                return Ok(Some(Finding::Needless(Why::NeverMatches, BTreeSet::new())));
            }
            let asked = diagrams.minus(matched, sets.refused)?;
            if asked == NONE {
                return Ok(Some(Finding::Needless(Why::NoIdentity, BTreeSet::new())));
            }
            let undenied = match self.is_undenied {
                true => asked,
                false => diagrams.minus(asked, sets.all_denying)?,
            };
            if undenied == NONE {
                let by = self.enough(&mut sets.universe, asked, &sets.denying)?;
                return Ok(Some(Finding::Needless(Why::Denied, by)));
            }
            let uncovered = diagrams.minus(asked, sets.all_same)?;
            if self.is_undenied && uncovered == NONE {
                let by = self.enough(&mut sets.universe, asked, &sets.same)?;
                return Ok(Some(Finding::Needless(Why::Covered, by)));
            }
            // Rather a call that answers both questions.
            let both = diagrams.and(undenied, uncovered)?;
            let (wanted, answers_both) = match both {
                NONE => (undenied, false),
                both => (both, true),
            };
            match self.ask(&mut sets.universe, wanted, answers_both, budget)? {
                Asked::Needed => return Ok(Some(Finding::Needed)),
                Asked::MoreRules => return Ok(None),
                Asked::Again => {}
            }
        }
        Ok(Some(Finding::Undecided))
    }

    fn sets(&self) -> Result<Sets, TooLarge> {
        let others = || {
            let numbered = self.known.iter().copied();
            numbered.filter_map(|number| Some((number, self.group.rule(number)?)))
        };
        let rules: Vec<&Arc<CompiledRule>> = std::iter::once(self.rule)
            .chain(others().map(|(_, rule)| rule))
            .collect();
        let policy = &self.group.policy;
        let mut universe = Universe::of_rules(&self.group.local, &[policy], &rules)?;
        let own = universe.rule(self.rule)?;
        let refused = universe.refused(policy)?;
        let (mut same, mut denying) = (Vec::new(), Vec::new());
        for (number, rule) in others() {
            let set = universe.rule(rule)?;
            match rule.rule.action == self.rule.rule.action {
                true => same.push((number, set)),
                false => denying.push((number, set)),
            }
        }
        let sets_of = |rules: &[(RuleNumber, Set)]| rules.iter().map(|(_, set)| *set).collect();
        Ok(Sets {
            own,
            refused,
            all_same: universe.diagrams.any(sets_of(&same))?,
            all_denying: universe.diagrams.any(sets_of(&denying))?,
            same,
            denying,
            universe,
        })
    }

    /// Looks for calls of a set that no further rule matches.
    fn ask(
        &mut self,
        universe: &mut Universe,
        mut wanted: Set,
        answers_both: bool,
        budget: &mut Budget,
    ) -> Result<Asked, TooLarge> {
        let variable = most_told_apart(universe);
        // Only these are in the sets.
        let known = self.known.clone();
        for _ in 0..ADDED_CALLS {
            let rank = |variable, value| universe.rank(variable, value);
            let Some(point) = universe.diagrams.pick(wanted, rank) else {
                break;
            };
            let Some(call) = universe.realize(&point, self.group.policy.workload())? else {
                // That is known from now on.
                return Ok(self.asked(&known));
            };
            let (denying, same) = self.further(&call, &known, budget)?;
            if !self.is_undenied && denying.is_empty() {
                self.is_undenied = true;
                if !answers_both {
                    return Ok(self.asked(&known));
                }
            }
            if self.is_undenied && answers_both && same.is_empty() {
                return Ok(Asked::Needed);
            }
            if !self.is_undenied {
                self.known.extend(denying.into_iter().take(ADDED_RULES));
            }
            if answers_both {
                self.known.extend(same.into_iter().take(ADDED_RULES));
            }
            let value = point.get(variable).copied().unwrap_or(0);
            let asked = universe.diagrams.value(variable, value)?;
            wanted = universe.diagrams.minus(wanted, asked)?;
        }
        Ok(self.asked(&known))
    }

    fn asked(&self, known: &BTreeSet<RuleNumber>) -> Asked {
        match self.known.len() > known.len() {
            true => Asked::MoreRules,
            false => Asked::Again,
        }
    }

    /// The rules that match a call and are not in the sets: those that deny a rule that allows, and those of the same action.
    fn further(
        &self,
        call: &ExampleCall,
        known: &BTreeSet<RuleNumber>,
        budget: &mut Budget,
    ) -> Result<(BTreeSet<RuleNumber>, BTreeSet<RuleNumber>), TooLarge> {
        let (mut denying, mut same) = (BTreeSet::new(), BTreeSet::new());
        let looked_at = call.with_call(|call| {
            self.group
                .policy
                .matching_but_for_conditions(call, &mut |number, rule| {
                    let counts = || {
                        let place = self.group.place(number);
                        place.is_some_and(|place| !self.dropped.contains(&place))
                    };
                    if number == self.number || known.contains(&number) || !counts() {
                        return;
                    }
                    if rule.rule.action == self.rule.rule.action {
                        same.insert(number);
                    } else if rule.rule.action == Action::Deny {
                        denying.insert(number);
                    }
                })
        });
        // A call that no rule is asked about proves nothing.
        budget.spend(looked_at.map_err(|_| TooLarge)?, LOOK)?;
        Ok((denying, same))
    }

    /// Of rules that together match all of a set, as few as it takes; rather one than several.
    fn enough(
        &self,
        universe: &mut Universe,
        set: Set,
        rules: &[(RuleNumber, Set)],
    ) -> Result<BTreeSet<Place>, TooLarge> {
        let diagrams = &mut universe.diagrams;
        let places = |chosen: &[(RuleNumber, Set)]| {
            let places = chosen.iter();
            places
                .filter_map(|(number, _)| self.group.place(*number))
                .collect()
        };
        let mut left = set;
        let mut chosen: Vec<(RuleNumber, Set)> = Vec::new();
        for (number, matched) in rules {
            if diagrams.minus(set, *matched)? == NONE {
                return Ok(places(&[(*number, *matched)]));
            }
            let less = diagrams.minus(left, *matched)?;
            if less != left {
                chosen.push((*number, *matched));
                left = less;
            }
        }
        // What came later may have made an earlier one needless.
        let mut at = 0;
        while at < chosen.len() {
            let mut others = chosen.clone();
            others.remove(at);
            let together = others.iter().map(|(_, set)| *set).collect();
            let together = diagrams.any(together)?;
            if diagrams.minus(set, together)? == NONE {
                chosen = others;
            } else {
                at = at.saturating_add(1);
            }
        }
        Ok(places(&chosen))
    }
}

/// What came of looking for a call.
enum Asked {
    /// There is one that proves the rule to be needed.
    Needed,
    /// All that were found are matched by rules that were not known.
    MoreRules,
    /// Something else became known.
    Again,
}

/// The variable of which most values are told apart.
fn most_told_apart(universe: &Universe) -> Variable {
    let variables = [PEER, PORT, METHOD, PATH, HOST, ADDRESS];
    let most = variables
        .into_iter()
        .max_by_key(|variable| universe.diagrams.size(*variable));
    most.unwrap_or(PATH)
}
