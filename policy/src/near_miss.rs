//! Why no rule allowed a call: the rule that came closest, and the first part of it that failed.
//!
//! Most denials are counted and no more, so what a person would read is only put into words when it is shown: until
//! then it is the rule, which part of it failed, and the little of the call that the words need.

mod compare;
mod words;

use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use countersign_identity::SpiffeId;

pub(crate) use self::compare::{COMPARED_RULES, Candidates, near_miss};
use crate::decision::RuleOrigin;
use crate::rule::{CompiledRule, Field};

/// How much of a path, a host or a method is told.
const TOLD_CHARACTERS: usize = 120;

/// A call that no rule allows, and the rule that came closest to it. Displayed as the reason of the denial.
#[derive(Clone, Debug)]
pub struct NearMiss {
    peer: Option<SpiffeId>,
    called: Called,
    closest: Option<Closest>,
    texts: Texts,
}

/// The call in a few words: no query, nothing of the headers.
#[derive(Clone, Debug)]
enum Called {
    Request { method: Told, path: Told },
    Connection { port: u16 },
}

#[derive(Clone, Debug)]
struct Closest {
    rule: Arc<CompiledRule>,
    failure: Failure,
}

/// The first part of a rule that failed.
#[derive(Clone, Debug)]
enum Failure {
    Caller,
    Field {
        field: Field,
        /// Of which of the rule's operations, by its place.
        operation: usize,
        /// `None`: the call has no such fact, or none that can be read in one way.
        given: Option<Told>,
        port: u16,
        is_http: bool,
    },
    Excluded(Field),
    NoToken,
    Token,
    NoIntent,
    Scope(String),
    Intent,
    ConditionFailed(String),
    Condition,
    Readings,
}

/// Texts that a caller chose, cut to what is told of them, one after the other: so they are one allocation.
#[derive(Clone, Debug)]
struct Texts(String);

/// Where a text is in [`Texts`].
#[derive(Clone, Copy, Debug)]
struct Told {
    start: usize,
    end: usize,
}

impl Texts {
    fn add(&mut self, text: &str) -> Told {
        let start = self.0.len();
        self.0.push_str(cut(text));
        let end = self.0.len();
        Told { start, end }
    }

    fn get(&self, told: Told) -> &str {
        self.0.get(told.start..told.end).unwrap_or_default()
    }

    /// To be read by people: without control characters.
    fn display(&self, told: Told) -> impl Display {
        let text = self.get(told);
        fmt::from_fn(move |f| {
            let mut characters = text.chars();
            for character in characters.by_ref().take(TOLD_CHARACTERS) {
                f.write_char(match character.is_control() {
                    true => char::REPLACEMENT_CHARACTER,
                    false => character,
                })?;
            }
            match characters.next() {
                Some(_) => f.write_char('…'),
                None => Ok(()),
            }
        })
    }
}

/// One character more than is told of it: that tells that there was more.
fn cut(text: &str) -> &str {
    if text.len() <= TOLD_CHARACTERS {
        return text;
    }
    let end = text.char_indices().nth(TOLD_CHARACTERS.saturating_add(1));
    end.and_then(|(at, _)| text.get(..at)).unwrap_or(text)
}

/// Two are the same if they read the same.
impl PartialEq for NearMiss {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for NearMiss {}

impl NearMiss {
    /// The allow rule that failed on the fewest parts. Looked for among a bounded number of rules, the likeliest first.
    #[must_use]
    pub fn closest(&self) -> Option<&Arc<RuleOrigin>> {
        self.closest.as_ref().map(|closest| &closest.rule.origin)
    }

    /// The first part of the closest rule that failed.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let Closest { rule, failure } = self.closest.as_ref()?;
        Some(failure.describe(rule, self.peer.as_ref(), &self.texts))
    }
}

impl Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.called {
            Called::Request { method, path } => {
                let method = self.texts.display(*method);
                let path = self.texts.display(*path);
                write!(f, "no rule allows {method} {path} for ")?;
            }
            Called::Connection { port } => {
                write!(f, "no rule allows a connection to port {port} for ")?;
            }
        }
        match &self.peer {
            Some(peer) => peer.fmt(f)?,
            None => f.write_str("a caller without an identity")?,
        }
        match (self.closest(), self.failure()) {
            (Some(rule), Some(failure)) => write!(f, "; closest is {rule}: {failure}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
