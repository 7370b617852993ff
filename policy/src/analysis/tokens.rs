//! What rules ask of the subject: that one of the call's tokens is as they want it.
//!
//! A call may have several tokens, so that what two rules want is met by one token or by two. What is wanted is a
//! variable per rule; which of them can be met at once, and others not, is known by asking for a token that meets the one and
//! none of the others. Tokens that no `TokenIssuer` of the workload believes are none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::claims::claims;
use super::diagram::{ALL, Diagrams, NONE, Set, TooLarge, Value, Variable};
use super::encode::{joined, text_of};
use crate::document::Claims;
use crate::pattern::ClaimValue;
use crate::rule::CompiledRule;

/// Up to how many are compared each with each.
const COMPARED: usize = 200;

/// The claim that has the audiences (RFC 7519 §4.1.3).
const AUDIENCE: &str = "aud";

/// All that a rule wants of a token; empty if it wants none.
pub(super) fn meaning(rule: &CompiledRule) -> String {
    rule.rule
        .subject
        .as_ref()
        .map_or_else(String::new, |wanted| {
            text_of(&(
                &rule.issuer,
                &wanted.audience,
                &wanted.claims,
                &wanted.not_claims,
            ))
        })
}

/// What some rules want of a token.
#[derive(Debug)]
pub(super) struct WantedToken {
    /// A rule that wants it.
    pub(super) rule: Arc<CompiledRule>,
    pub(super) variable: Variable,
    /// The tokens that are so.
    tokens: Set,
}

/// A token, for an example.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) issuer: String,
    pub(super) claims: serde_json::Map<String, serde_json::Value>,
}

/// All tokens, as far as rules tell them apart.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) wanted: Vec<WantedToken>,
    by_meaning: BTreeMap<String, usize>,
    space: Diagrams,
    issuers: Vec<String>,
    claims: Vec<(String, ClaimValue)>,
    /// Who has what the first wants has what one of the others wants.
    implied: Vec<(usize, Vec<usize>)>,
}

impl Tokens {
    pub(super) fn new(
        rules: &[&Arc<CompiledRule>],
        issuers: &BTreeSet<String>,
        add_variable: &mut impl FnMut(usize) -> Variable,
    ) -> Result<Self, TooLarge> {
        let mut claims: Vec<(String, ClaimValue)> = Vec::new();
        let mut by_meaning = BTreeMap::new();
        let mut wanting: Vec<&Arc<CompiledRule>> = Vec::new();
        for rule in rules {
            let Some(subject) = &rule.rule.subject else {
                continue;
            };
            let number = wanting.len();
            let known = *by_meaning.entry(meaning(rule)).or_insert(number);
            if known != number {
                continue;
            }
            wanting.push(rule);
            let audience = subject.audience.iter();
            claims.extend(audience.map(|audience| (AUDIENCE.to_owned(), audience_value(audience))));
            for (path, values) in subject.claims.iter().chain(&subject.not_claims) {
                claims.extend(values.iter().map(|value| (path.clone(), value.clone())));
            }
        }
        claims.sort_unstable();
        claims.dedup();
        let mut sizes = vec![issuers.len()];
        sizes.extend(claims.iter().map(|_| 2));
        let mut tokens = Self {
            wanted: Vec::new(),
            by_meaning,
            space: Diagrams::new(sizes),
            issuers: issuers.iter().cloned().collect(),
            claims,
            implied: Vec::new(),
        };
        for rule in wanting {
            let set = tokens.tokens_of(rule)?;
            tokens.wanted.push(WantedToken {
                rule: Arc::clone(rule),
                variable: add_variable(2),
                tokens: set,
            });
        }
        tokens.compare()?;
        Ok(tokens)
    }

    fn tokens_of(&mut self, rule: &CompiledRule) -> Result<Set, TooLarge> {
        let Some(wanted) = &rule.rule.subject else {
            return Ok(ALL);
        };
        if self.issuers.is_empty() {
            return Ok(NONE);
        }
        let mut all = Vec::new();
        if let Some(issuer) = &rule.issuer {
            let Some(number) = self.issuers.iter().position(|known| **known == **issuer) else {
                return Ok(NONE);
            };
            all.push(self.space.value(0, number)?);
        }
        if let Some(audience) = &wanted.audience {
            all.push(self.claim(AUDIENCE, &[audience_value(audience)])?);
        }
        for (path, values) in &wanted.claims {
            all.push(self.claim(path, values)?);
        }
        let mut none = Vec::new();
        for (path, values) in &wanted.not_claims {
            none.push(self.claim(path, values)?);
        }
        let all = self.space.all(all)?;
        let none = self.space.any(none)?;
        self.space.minus(all, none)
    }

    /// The tokens whose claim has one of these values. As a claim may be a list, one value says nothing of the others.
    fn claim(&mut self, path: &str, values: &[ClaimValue]) -> Result<Set, TooLarge> {
        let mut any = Vec::new();
        for (number, (known, value)) in self.claims.iter().enumerate() {
            if known == path && values.contains(value) {
                any.push(self.space.value(number.saturating_add(1), 1)?);
            }
        }
        self.space.any(any)
    }

    fn compare(&mut self) -> Result<(), TooLarge> {
        let sets: Vec<Set> = self.wanted.iter().map(|wanted| wanted.tokens).collect();
        for (number, set) in sets.iter().enumerate() {
            if *set == NONE {
                self.implied.push((number, Vec::new()));
            }
        }
        if sets.len() > COMPARED {
            return Ok(());
        }
        for (first, of_first) in sets.iter().enumerate() {
            for (second, of_second) in sets.iter().enumerate() {
                if first != second && self.space.minus(*of_first, *of_second)? == NONE {
                    self.implied.push((first, vec![second]));
                }
            }
        }
        Ok(())
    }

    /// The calls that have such a token as a rule wants.
    pub(super) fn rule(
        &self,
        rule: &CompiledRule,
        diagrams: &mut Diagrams,
    ) -> Result<Set, TooLarge> {
        if rule.rule.subject.is_none() {
            return Ok(ALL);
        }
        let wanted = self
            .by_meaning
            .get(&meaning(rule))
            .and_then(|number| self.wanted.get(*number));
        wanted.map_or(Ok(NONE), |wanted| diagrams.value(wanted.variable, 1))
    }

    /// What no call's tokens can be.
    pub(super) fn impossible(&self, diagrams: &mut Diagrams) -> Result<Set, TooLarge> {
        let mut impossible = Vec::with_capacity(self.implied.len());
        for (first, others) in &self.implied {
            let mut set = self.has(diagrams, *first)?;
            for other in others {
                let has = self.has(diagrams, *other)?;
                set = diagrams.minus(set, has)?;
            }
            impossible.push(set);
        }
        diagrams.any(impossible)
    }

    fn has(&self, diagrams: &mut Diagrams, number: usize) -> Result<Set, TooLarge> {
        self.wanted
            .get(number)
            .map_or(Ok(NONE), |wanted| diagrams.value(wanted.variable, 1))
    }

    /// Tokens that are what is wanted at a point and nothing else that is wanted. `None` if there are no such: then
    /// that is known from now on, and [`impossible`](Self::impossible) has changed.
    pub(super) fn realize(&mut self, point: &[Value]) -> Result<Option<Vec<Token>>, TooLarge> {
        let is_met = |wanted: &WantedToken| point.get(wanted.variable) == Some(&1);
        let numbered = self.wanted.iter().enumerate();
        let (met, unmet): (Vec<_>, Vec<_>) = numbered
            .map(|(number, wanted)| (number, wanted.tokens, is_met(wanted)))
            .partition(|(.., met)| *met);
        let mut tokens: Vec<Token> = Vec::new();
        for (number, set, _) in met {
            let others = self
                .space
                .any(unmet.iter().map(|(_, set, _)| *set).collect())?;
            let left = self.space.minus(set, others)?;
            let Some(token) = self.space.pick(left, |_, value| value) else {
                let others: Vec<(usize, Set)> = unmet
                    .iter()
                    .map(|(number, set, _)| (*number, *set))
                    .collect();
                let needed = self.needed(set, others)?;
                self.implied.push((number, needed));
                return Ok(None);
            };
            let token = self.token(&token);
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        Ok(Some(tokens))
    }

    /// Of sets that have all of another, as many as it takes.
    fn needed(&mut self, set: Set, mut others: Vec<(usize, Set)>) -> Result<Vec<usize>, TooLarge> {
        let mut at = 0;
        while at < others.len() {
            let mut fewer = others.clone();
            fewer.remove(at);
            let together = self
                .space
                .any(fewer.iter().map(|(_, set)| *set).collect())?;
            if self.space.minus(set, together)? == NONE {
                others = fewer;
            } else {
                at = at.saturating_add(1);
            }
        }
        Ok(others.into_iter().map(|(number, _)| number).collect())
    }

    fn token(&self, point: &[Value]) -> Token {
        let issuer = point.first().and_then(|value| self.issuers.get(*value));
        let held = self.claims.iter().zip(point.iter().skip(1));
        let held = held.filter(|(_, value)| **value == 1);
        Token {
            issuer: issuer.cloned().unwrap_or_default(),
            claims: claims(held.map(|((path, value), _)| (path.as_str(), value))),
        }
    }
}

fn audience_value(audience: &str) -> ClaimValue {
    ClaimValue::String(audience.to_owned())
}

/// What a rule wants of a token, for people.
pub(super) fn tell(rule: &CompiledRule) -> String {
    let mut text = match &rule.issuer {
        Some(issuer) => format!("a token of {issuer}"),
        None => "a token".to_owned(),
    };
    let Some(wanted) = &rule.rule.subject else {
        return text;
    };
    let mut parts = Vec::new();
    parts.extend(
        wanted
            .audience
            .iter()
            .map(|audience| format!("for {audience}")),
    );
    if !wanted.claims.is_empty() {
        parts.push(format!("with {}", tell_claims(&wanted.claims)));
    }
    if !wanted.not_claims.is_empty() {
        parts.push(format!("not with {}", tell_claims(&wanted.not_claims)));
    }
    for part in parts {
        // Writing to a String cannot fail.
        let _ = write!(text, " {part}");
    }
    text
}

pub(super) fn tell_claims(claims: &Claims) -> String {
    let claim =
        |(path, values): (&String, &Vec<ClaimValue>)| format!("{path}: {}", joined(values, " or "));
    joined(claims.iter().map(claim), ", ")
}
