//! Reads an `AccessPolicy` from YAML.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::access_policy::{AccessPolicy, Action, Condition, Mode, Rule, Target};
use super::parse::{header, origin};
use super::{read_match, read_match::LATER};
use crate::yaml::Value;

/// Kubernetes names that long are nobody's; messages and logs repeat them.
const MAX_RULE_NAME: usize = 200;

pub(super) fn read(value: Value<'_>) -> Option<AccessPolicy> {
    let place = origin(value);
    value.mapping(|fields| {
        let metadata = header(fields);
        let spec = fields.required("spec", |value| {
            value.mapping(|fields| {
                let target = fields.default("target", Target::default(), target);
                let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe)];
                let mode = fields.default("mode", Mode::Enforce, |v| v.choice(&modes));
                let rules = fields.required("rules", rules);
                Some((target?, mode?, rules?))
            })
        });
        let (metadata, (target, mode, rules)) = (metadata?, spec?);
        Some(AccessPolicy {
            metadata,
            origin: place,
            target,
            mode,
            rules,
        })
    })
}

fn target(value: Value<'_>) -> Option<Target> {
    value.mapping(|fields| {
        let labels = fields.optional("labels", |v| v.entries("strings", |_, v| v.string_or_empty()));
        let workloads = fields.default("workloads", Vec::new(), |value| {
            value.non_empty_list("service accounts", |v| v.parsed("a service account such as orders"))
        });
        let (labels, workloads) = (labels?, workloads?);
        if labels.is_none() && workloads.is_empty() {
            return value.mistake(
                "expected `labels` or `workloads`: leave `target` out to mean every workload of the namespace",
            );
        }
        let labels: BTreeMap<_, _> = labels.unwrap_or_default().into_iter().collect();
        Some(Target { labels, workloads })
    })
}

fn rules(value: Value<'_>) -> Option<Vec<Arc<Rule>>> {
    let mut lines = HashMap::new();
    value.non_empty_list("rules", |value| {
        let rule = rule(value)?;
        match lines.insert(rule.name.clone(), rule.origin.line) {
            None => Some(Arc::new(rule)),
            Some(line) => value.mistake(format!(
                "the rule {:?} has the name of the one on line {line}: names are unique in a policy",
                rule.name
            )),
        }
    })
}

fn rule(value: Value<'_>) -> Option<Rule> {
    value.mapping(|fields| {
        let name = fields.required("name", rule_name);
        let actions = [Action::Allow, Action::Deny, Action::Audit].map(|a| (a.as_str(), a));
        let action = fields.required("action", |v| v.choice(&actions));
        let from = fields.default("from", Vec::new(), |value| {
            value.non_empty_list("callers", read_match::source)
        });
        let subject = fields.optional("subject", read_match::subject);
        let intent = fields.refused("intent", LATER);
        let to = fields.default("to", Vec::new(), |value| {
            value.non_empty_list("operations", read_match::operation)
        });
        let when = fields.optional("when", |value| {
            Some(Condition {
                expression: value.string()?,
                origin: origin(value),
            })
        });
        intent?;
        Some(Rule {
            name: name?,
            origin: origin(value),
            action: action?,
            from: from?,
            subject: subject?,
            to: to?,
            when: when?,
        })
    })
}

fn rule_name(value: Value<'_>) -> Option<String> {
    let name = value.string()?;
    if name.chars().count() > MAX_RULE_NAME {
        return value.mistake(format!("the name has more than {MAX_RULE_NAME} characters"));
    }
    if name.chars().any(char::is_control) {
        return value.mistake("the name is one line, without control characters");
    }
    Some(name)
}
