//! The comparison against a look at every part of every rule.

use proptest::prelude::*;

use super::compare::{COMPARED_RULES, Part, failed_parts};
use super::{Failure, Texts, cut};
use crate::Reason;
use crate::document::{Action, Operation};
use crate::index::tests::{called, compile, rule, workload};
use crate::rule::{CompiledRule, Judged, operation_answers};

/// How many parts fail, and the first of them, all of them looked at.
fn plainly(rule: &CompiledRule, judged: &Judged<'_>, path: Option<&str>) -> (usize, Part) {
    let fields = |(place, to): (usize, &Operation)| -> Vec<Part> {
        let is = operation_answers(&to.is, judged, path, false).filter(|(_, answer)| !answer);
        let not = operation_answers(&to.not, judged, path, true).filter(|(_, answer)| *answer);
        is.map(|(field, _)| Part::Field(place, field))
            .chain(not.map(|(field, _)| Part::Excluded(field)))
            .collect()
    };
    let mut parts = Vec::new();
    if !rule.caller_matches(judged) {
        parts.push(Part::Caller);
    }
    let nearest = rule.rule.to.iter().enumerate().map(fields);
    parts.extend(nearest.min_by_key(Vec::len).unwrap_or_default());
    if !rule.subject_matches(judged) {
        parts.push(Part::Subject);
    }
    if !rule.intent_matches(judged) {
        parts.push(Part::Intent);
    }
    let first = parts.first().copied();
    (parts.len(), first.unwrap_or(Part::Condition))
}

proptest! {
    #[test]
    fn the_closest_rule_is_that_which_a_look_at_every_part_finds(
        rules in prop::collection::vec(rule(), 1..COMPARED_RULES),
        calls in prop::collection::vec(called(), 10),
    ) {
        let policy = compile(&rules);
        let destination = workload();
        for called in calls {
            let call = called.as_call();
            let judged = Judged::new(&call, &destination);
            let Ok(readings) = policy.readings(&call) else {
                continue;
            };
            let path = readings.iter().next().flatten();
            let parts = policy
                .rules()
                .iter()
                .filter(|rule| !rule.observe && rule.rule.action == Action::Allow)
                .map(|rule| (plainly(rule, &judged, path), rule));
            let fewest = parts.clone().map(|((failed, _), _)| failed).min();
            for ((failed, first), rule) in parts.clone() {
                prop_assert_eq!(failed_parts(rule, &judged, path, failed), Some((failed, first)));
                let fewer = failed.checked_sub(1).and_then(|most| failed_parts(rule, &judged, path, most));
                prop_assert_eq!(fewer, None);
            }
            let Reason::NoRuleMatched(miss) = policy.decide(&call).reason else {
                continue;
            };
            let is_closest = |rule: &CompiledRule| miss.closest() == Some(&rule.origin);
            let closest = parts.clone().find(|(_, rule)| is_closest(rule));
            prop_assert_eq!(closest.map(|((failed, _), _)| failed), fewest);
            let Some(((_, part), _)) = closest else {
                continue;
            };
            let told = miss.closest.as_ref().map(|closest| &closest.failure);
            let is_told = match (part, told) {
                (Part::Caller, Some(Failure::Caller))
                | (Part::Condition, Some(Failure::Readings)) => true,
                (Part::Field(place, wanted), Some(Failure::Field { operation, field, .. })) => {
                    (place, wanted) == (*operation, *field)
                }
                (Part::Excluded(wanted), Some(Failure::Excluded(field))) => wanted == *field,
                _ => false,
            };
            prop_assert!(is_told, "{part:?}, {told:?}");
        }
    }

    #[test]
    fn texts_are_told_up_to_a_length(text in any::<String>(), more in "é{0,300}") {
        let text = format!("{text}{more}");
        let mut texts = Texts(String::new());
        texts.add("before");
        let told = texts.add(&text);
        texts.add("after");
        prop_assert!(text.starts_with(texts.get(told)));
        let shown = texts.display(told).to_string();
        let characters = text.chars().count();
        prop_assert_eq!(shown.chars().count(), characters.min(121));
        prop_assert_eq!(shown.ends_with('…') && !text.ends_with('…'), characters > 120 && !text.ends_with('…'));
        prop_assert!(!shown.contains(char::is_control));
        prop_assert_eq!(cut(&text) == text, characters <= 121);
    }
}
