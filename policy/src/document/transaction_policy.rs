//! `TransactionPolicy`: which workload may start which intent.
//!
//! It is about transaction tokens (draft-ietf-oauth-transaction-tokens): who may ask for one, with which scope, on whose
//! behalf, and what of the request goes into it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access_policy::{Condition, Operation, SubjectMatch};
use super::parse::{Whole, origin, whole};
use super::read_access_policy::{condition, rule_name, target_and_rules};
use super::{Metadata, Origin, Target, read_match, seconds};
use crate::yaml::Value;

const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// Long enough for one call chain.
const LIFETIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(15)..=Duration::from_secs(300);

/// Which transaction tokens workloads of a namespace may ask for. Nothing is allowed that no rule allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransactionPolicy {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where the document starts.
    pub origin: Origin,
    /// Who asks.
    pub target: Target,
    /// At least one.
    pub rules: Vec<TransactionRule>,
}

/// One rule of a [`TransactionPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransactionRule {
    /// What people call it; unique in its policy.
    pub name: String,
    /// Where it starts.
    pub origin: Origin,
    /// What the token may be for; at least one.
    pub scope: Vec<String>,
    /// On whose behalf.
    pub subject: Option<SubjectMatch>,
    /// Which requests, at the edge of a call chain, start it.
    pub to: Vec<Operation>,
    /// Name in `tctx` → the CEL expression that gives its value.
    pub context: BTreeMap<String, Condition>,
    /// How long the token lives.
    #[serde(rename = "lifetimeSeconds", with = "seconds")]
    pub lifetime: Duration,
}

pub(super) fn read(value: Value<'_>) -> Option<TransactionPolicy> {
    let Whole {
        metadata,
        origin,
        spec: (target, rules),
    } = whole(value, |fields| {
        target_and_rules(fields, rule, |rule| (&rule.name, &rule.origin))
    })?;
    Some(TransactionPolicy {
        metadata,
        origin,
        target,
        rules,
    })
}

fn rule(value: Value<'_>) -> Option<TransactionRule> {
    value.mapping(|fields| {
        let name = fields.required("name", rule_name);
        let scope = fields.required("scope", |value| {
            value.non_empty_list("scopes", read_match::scope)
        });
        let subject = fields.optional("subject", read_match::subject);
        let to = fields.default("to", Vec::new(), |value| {
            value.non_empty_list("operations", read_match::operation)
        });
        let context = fields.default("context", Vec::new(), |value| {
            value.entries("CEL expressions", |_, v| condition(v))
        });
        let lifetime = fields.default("lifetime", DEFAULT_LIFETIME, lifetime);
        Some(TransactionRule {
            name: name?,
            origin: origin(value),
            scope: scope?,
            subject: subject?,
            to: to?,
            context: context?.into_iter().collect(),
            lifetime: lifetime?,
        })
    })
}

fn lifetime(value: Value<'_>) -> Option<Duration> {
    let lifetime = value.duration()?;
    if LIFETIMES.contains(&lifetime) && lifetime.subsec_nanos() == 0 {
        return Some(lifetime);
    }
    value.expected("whole seconds, from 15s to 5m")
}
