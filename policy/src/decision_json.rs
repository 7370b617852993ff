//! A decision as JSON: what `policy decide` writes, one line each.

use serde::Serialize;
use serde::ser::{SerializeMap as _, SerializeStruct as _, Serializer};

use crate::{Decision, Reason, RuleOrigin};

/// `{"decision":"allow","class":"allowed","policy":"shop/orders","rule":"…","reason":"…","file":"…","line":12,"observed":[]}`:
/// always these fields, `null` where there is nothing to say; if no rule allows the call, `closest`; and
/// `failed_conditions` where conditions of allow rules could not be evaluated.
impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let place = Place::of(self);
        let mut fields = to.serialize_struct("Decision", 10)?;
        fields.serialize_field("decision", self.verdict.as_str())?;
        fields.serialize_field("class", self.reason.class())?;
        fields.serialize_field("policy", &place.policy)?;
        fields.serialize_field("rule", &place.rule)?;
        fields.serialize_field("reason", &Text(&self.reason))?;
        fields.serialize_field("file", &place.file)?;
        fields.serialize_field("line", &place.line)?;
        fields.serialize_field("observed", &self.observed)?;
        if self.failed.is_empty() {
            fields.skip_field("failed_conditions")?;
        } else {
            fields.serialize_field("failed_conditions", &self.failed)?;
        }
        if let Reason::NoRuleMatched(miss) = &self.reason
            && let Some((rule, why)) = miss.closest().zip(miss.failure())
        {
            fields.serialize_field("closest", &Closest { rule, why: &why })?;
        } else {
            fields.skip_field("closest")?;
        }
        fields.end()
    }
}

/// Where what decided is written.
#[derive(Default)]
struct Place<'a> {
    policy: Option<&'a str>,
    rule: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<usize>,
}

impl<'a> Place<'a> {
    fn of(decision: &'a Decision) -> Self {
        if let Some(rule) = &decision.rule {
            return Self {
                policy: Some(&rule.policy),
                rule: Some(&rule.rule),
                file: Some(&rule.file),
                line: Some(rule.line),
            };
        }
        let (policy, document) = match &decision.reason {
            Reason::AllowedByDefault(document) => (Some(document.name.as_str()), document),
            Reason::NoIdentity {
                mode: Some(document),
                ..
            } => (None, document),
            _ => return Self::default(),
        };
        Self {
            policy,
            rule: None,
            file: Some(&document.file),
            line: Some(document.line),
        }
    }
}

/// A reason as its text, without one in between.
struct Text<'a>(&'a Reason);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self.0)
    }
}

/// The rule that came closest, and why it did not match.
struct Closest<'a> {
    rule: &'a RuleOrigin,
    why: &'a str,
}

impl Serialize for Closest<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut fields = to.serialize_map(Some(5))?;
        fields.serialize_entry("policy", &self.rule.policy)?;
        fields.serialize_entry("rule", &self.rule.rule)?;
        fields.serialize_entry("file", &self.rule.file)?;
        fields.serialize_entry("line", &self.rule.line)?;
        fields.serialize_entry("why", self.why)?;
        fields.end()
    }
}
