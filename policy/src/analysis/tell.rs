//! Regions of calls in words.

use fixedbitset::FixedBitSet;
use serde::Serialize;

use super::diagram::{self, Variable};
use super::tokens;
use super::universe::{
    ADDRESS, Condition, FAILS, FALSE, FORWARDED_FOR, HOST, METHOD, PATH, PEER, PORT, SNI, TRUE,
    Universe,
};
use super::words::{Dimension, Phrase};

/// Calls, as alternatives of each dimension; all dimensions have to hold, and an empty one holds of every call.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Region {
    /// Who calls.
    pub from: Vec<Phrase>,
    /// Who is called.
    pub to: Vec<Phrase>,
    /// Called ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Phrase>,
    /// Methods, or no HTTP at all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Phrase>,
    /// Paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Phrase>,
    /// Hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Phrase>,
    /// Server names of connections that are not HTTP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<Phrase>,
    /// Where connections come from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Phrase>,
    /// Whom the peer forwards for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwarded_for: Vec<Phrase>,
    /// What else has to hold, all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Requirement>,
}

/// Something else that has to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Requirement {
    /// `header`, `subject`, `intent` or `when`. The last is a CEL condition, which is not looked into.
    pub kind: &'static str,
    /// For people.
    pub text: String,
}

impl Universe {
    /// A region in words; who is called is left open.
    pub(super) fn tell(&self, region: &diagram::Region) -> Region {
        let values = |variable: Variable| region.get(variable).and_then(Option::as_ref);
        let mut conditions = Vec::new();
        for header in &self.headers {
            conditions
                .extend(values(header.whole).map(|set| requirement("header", header.tell(set))));
            for (variable, value) in header.lines.iter().zip(&header.values) {
                conditions.extend(values(*variable).map(|set| {
                    let text = match set.contains(1) {
                        true => format!("a line of header {} is {value:?}", header.name),
                        false => format!("no line of header {} is {value:?}", header.name),
                    };
                    requirement("header", text)
                }));
            }
        }
        for wanted in &self.tokens.wanted {
            conditions.extend(values(wanted.variable).map(|set| {
                let token = tokens::tell(&wanted.rule);
                requirement("subject", with_or_without(set, &token))
            }));
        }
        if let Some(intents) = &self.intents {
            let requesters = values(intents.requester);
            conditions.extend(requesters.map(|set| {
                let phrases = intents.requesters.dimension.tell(set);
                requirement("intent", format!("intent requested by {}", told(&phrases)))
            }));
            for (scope, variable) in &intents.scopes {
                conditions.extend(values(*variable).map(|set| {
                    let text = with_or_without(set, &format!("intent scope {scope}"));
                    requirement("intent", text)
                }));
            }
            for (path, value, variable) in &intents.context {
                conditions.extend(values(*variable).map(|set| {
                    let text = with_or_without(set, &format!("intent context {path}: {value}"));
                    requirement("intent", text)
                }));
            }
        }
        for (condition, variable) in &self.conditions {
            conditions.extend(values(*variable).map(|set| tell_condition(condition, set)));
        }
        Region {
            from: phrases(&self.peers.dimension, values(PEER)),
            to: Vec::new(),
            ports: phrases(&self.ports.dimension, values(PORT)),
            methods: phrases(&self.methods.dimension, values(METHOD)),
            paths: phrases(&self.paths.dimension, values(PATH)),
            hosts: phrases(&self.hosts.dimension, values(HOST)),
            sni: phrases(&self.server_names.dimension, values(SNI)),
            addresses: phrases(&self.addresses.dimension, values(ADDRESS)),
            forwarded_for: phrases(&self.forwarded_for.dimension, values(FORWARDED_FOR)),
            conditions,
        }
    }
}

fn phrases<T>(dimension: &Dimension<T>, values: Option<&FixedBitSet>) -> Vec<Phrase> {
    values.map_or_else(Vec::new, |values| dimension.tell(values))
}

fn requirement(kind: &'static str, text: String) -> Requirement {
    Requirement { kind, text }
}

fn with_or_without(set: &FixedBitSet, what: &str) -> String {
    match set.contains(1) {
        true => format!("with {what}"),
        false => format!("without {what}"),
    }
}

/// Alternatives on one line: `a, b or c but d`.
#[must_use]
pub fn told(phrases: &[Phrase]) -> String {
    let phrase = |phrase: &Phrase| {
        let mut text = match phrase.is.is_empty() {
            true => "any".to_owned(),
            false => phrase.is.join(" and "),
        };
        if !phrase.except.is_empty() {
            text.push_str(" but ");
            text.push_str(&phrase.except.join(", "));
        }
        text
    };
    let phrases: Vec<String> = phrases.iter().map(phrase).collect();
    match phrases.split_last() {
        None => "any".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

fn tell_condition(condition: &Condition, set: &FixedBitSet) -> Requirement {
    let how = match (set.contains(FALSE), set.contains(TRUE), set.contains(FAILS)) {
        (false, true, false) => "is true",
        (true, false, false) => "is false",
        (true, false, true) => "is not true",
        (false, true, true) => "is not false",
        (false, false, true) => "cannot be evaluated",
        _ => "can be evaluated",
    };
    let expression = condition.expression.split_whitespace();
    let expression = expression.collect::<Vec<_>>().join(" ");
    requirement("when", format!("{expression} {how}"))
}
