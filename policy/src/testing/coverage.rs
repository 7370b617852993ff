//! Which rules the tests of a policy have decided by.

use std::collections::HashMap;
use std::sync::Arc;

use crate::document::Action;
use crate::{Decision, Policy, RuleOrigin};

/// Every rule of a policy, and how many tests it decided.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// In the order of the documents.
    pub rules: Vec<RuleCoverage>,
    /// Policy and name of a rule → its place in `rules`.
    places: HashMap<(String, String), usize>,
}

/// How often one rule was tested.
#[derive(Clone, Debug)]
pub struct RuleCoverage {
    /// The rule.
    pub rule: Arc<RuleOrigin>,
    /// What it does.
    pub action: Action,
    /// How many tests it decided, or, if it decides nothing (audit, observe mode), matched.
    pub tests: usize,
}

impl Coverage {
    pub(super) fn of(policy: &Policy) -> Self {
        let rules: Vec<_> = policy
            .rules()
            .map(|rule| RuleCoverage {
                rule: Arc::clone(&rule.origin),
                action: rule.rule.action,
                tests: 0,
            })
            .collect();
        let places = rules
            .iter()
            .enumerate()
            .map(|(place, covered)| (key(&covered.rule), place))
            .collect();
        Self { rules, places }
    }

    pub(super) fn count(&mut self, decision: &Decision) {
        let observed = decision.observed.iter().map(|observed| &observed.rule);
        for rule in decision.rule.iter().chain(observed) {
            let place = self.places.get(&key(rule)).copied();
            if let Some(covered) = place.and_then(|place| self.rules.get_mut(place)) {
                covered.tests += 1;
            }
        }
    }

    /// The rules that no test has decided by.
    pub fn untested(&self) -> impl Iterator<Item = &RuleCoverage> {
        self.rules.iter().filter(|covered| covered.tests == 0)
    }
}

/// Names of policies are unique, as are those of rules in their policy.
fn key(rule: &RuleOrigin) -> (String, String) {
    (rule.policy.to_string(), rule.rule.to_string())
}
