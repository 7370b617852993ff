//! Reads an `AccessPolicy` from YAML.

use std::collections::HashMap;
use std::sync::Arc;

use super::access_policy::{AccessPolicy, Action, Condition, DefaultAction, Mode, Rule};
use super::parse::{Whole, origin, whole};
use super::{Origin, Target, read_match, target};
use crate::yaml::{Fields, Value};

/// Kubernetes names that long are nobody's; messages and logs repeat them.
const MAX_RULE_NAME: usize = 200;

pub(super) fn read(value: Value<'_>) -> Option<AccessPolicy> {
    let Whole {
        metadata,
        origin,
        spec: (target, mode, default, rules),
    } = whole(value, |fields| {
        let target = fields.default("target", Target::default(), target::read);
        let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
        let mode = fields.default("mode", Mode::Enforce, |v| v.choice(&modes));
        let defaults = [
            ("deny", DefaultAction::Deny),
            ("allow", DefaultAction::Allow),
        ];
        let default = fields.optional("default", |v| v.choice(&defaults));
        // A policy that says what follows without a rule needs none.
        let rules = if fields.has("default") {
            fields.default("rules", Vec::new(), rules)
        } else {
            fields.required("rules", rules)
        };
        let default = default?.unwrap_or(DefaultAction::Deny);
        Some((target?, mode?, default, rules?))
    })?;
    Some(AccessPolicy {
        metadata,
        origin,
        target,
        mode,
        default,
        rules,
    })
}

fn rules(value: Value<'_>) -> Option<Vec<Arc<Rule>>> {
    let rules = named_list(value, rule, |rule| (&rule.name, &rule.origin))?;
    // Collecting would keep the space that the rules themselves took.
    let mut shared = Vec::with_capacity(rules.len());
    shared.extend(rules.into_iter().map(Arc::new));
    Some(shared)
}

/// The fields of a policy of another kind that has rules.
pub(super) fn target_and_rules<'a, T>(
    fields: &mut Fields<'a>,
    read: impl FnMut(Value<'a>) -> Option<T>,
    named: impl Fn(&T) -> (&str, &Origin),
) -> Option<(Target, Vec<T>)> {
    let target = fields.default("target", Target::default(), target::read);
    let rules = fields.required("rules", |value| named_list(value, read, named));
    Some((target?, rules?))
}

/// The rules of a policy, whose names are unique in it.
fn named_list<'a, T>(
    value: Value<'a>,
    mut read: impl FnMut(Value<'a>) -> Option<T>,
    named: impl Fn(&T) -> (&str, &Origin),
) -> Option<Vec<T>> {
    let mut lines = HashMap::new();
    value.non_empty_list("rules", |value| {
        let rule = read(value)?;
        let (name, origin) = named(&rule);
        match lines.insert(name.to_owned(), origin.line) {
            None => Some(rule),
            Some(line) => value.mistake(format!(
                "the rule {name:?} has the name of the one on line {line}: names are unique in a policy",
            )),
        }
    })
}

fn rule(value: Value<'_>) -> Option<Rule> {
    value.mapping(|fields| {
        let name = fields.required("name", rule_name);
        let action = fields.required("action", action);
        let from = fields.default("from", Vec::new(), |value| {
            value.non_empty_list("callers", read_match::source)
        });
        let subject = fields.optional("subject", read_match::subject);
        let intent = fields.optional("intent", read_match::intent);
        let to = fields.default("to", Vec::new(), |value| {
            value.non_empty_list("operations", read_match::operation)
        });
        let when = fields.optional("when", condition);
        Some(Rule {
            name: name?.into(),
            origin: origin(value),
            action: action?,
            from: from?.into(),
            subject: subject?.map(Box::new),
            intent: intent?.map(Box::new),
            to: to?,
            when: when?.map(Box::new),
        })
    })
}

pub(super) fn action(value: Value<'_>) -> Option<Action> {
    value.choice(&[Action::Allow, Action::Deny, Action::Audit].map(|a| (a.as_str(), a)))
}

pub(super) fn condition(value: Value<'_>) -> Option<Condition> {
    Some(Condition {
        expression: value.string()?,
        origin: origin(value),
    })
}

pub(super) fn rule_name(value: Value<'_>) -> Option<String> {
    let name = value.string()?;
    if name.chars().count() > MAX_RULE_NAME {
        return value.mistake(format!("the name has more than {MAX_RULE_NAME} characters"));
    }
    if name.chars().any(char::is_control) {
        return value.mistake("the name is one line, without control characters");
    }
    Some(name)
}
