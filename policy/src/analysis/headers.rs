//! A header of requests, as far as rules ask for it: what its lines are together, and which lines there are.

use std::collections::BTreeMap;

use fixedbitset::FixedBitSet;

use super::diagram::{Diagrams, Set, TooLarge, Value, Variable};
use super::dimensions::fresh;
use crate::call::Request;

/// A header that rules ask for.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) name: String,
    /// The accepted values, in their order.
    pub(super) values: Vec<String>,
    /// What its lines are together: another value, no line at all, or one of `values`.
    pub(super) whole: Variable,
    /// By value: whether a line has it. Only asked for where a rule would rather deny than be deceived.
    pub(super) lines: Vec<Variable>,
}

pub(super) const OTHER_VALUE: Value = 0;
pub(super) const ABSENT: Value = 1;
pub(super) const FIRST_VALUE: Value = 2;

/// What stands between lines that are one value (RFC 9110 §5.3).
const SEPARATOR: &str = ", ";
/// How many of the separators of one value may have been between lines.
const MOST_CUTS: usize = 6;

/// Whether a line can have the value: blanks around it are no part of it (RFC 9110 §5.5).
fn is_line(value: &str) -> bool {
    value.trim_ascii().len() == value.len()
}

impl Header {
    /// The points that no lines have.
    pub(super) fn impossible(&self, diagrams: &mut Diagrams) -> Result<Set, TooLarge> {
        let mut possible = vec![diagrams.value(self.whole, OTHER_VALUE)?];
        // Nobody looks at all the ways to cut a value of many parts into lines: any is taken to be possible.
        for (value, whole) in self.values.iter().zip(FIRST_VALUE..) {
            if value.matches(SEPARATOR).count() > MOST_CUTS {
                possible.push(diagrams.value(self.whole, whole)?);
            }
        }
        for (whole, lines) in self.combinations() {
            let mut set = diagrams.value(self.whole, whole)?;
            for (variable, value) in self.lines.iter().zip(&self.values) {
                let has = lines.iter().any(|line| line == value);
                let line = diagrams.value(*variable, usize::from(has))?;
                set = diagrams.and(set, line)?;
            }
            possible.push(set);
        }
        let mut possible = diagrams.any(possible)?;
        for (variable, value) in self.lines.iter().zip(&self.values) {
            if !is_line(value) {
                let without = diagrams.value(*variable, 0)?;
                possible = diagrams.and(possible, without)?;
            }
        }
        diagrams.not(possible)
    }

    /// All lines that give `whole` another value than [`OTHER_VALUE`]: none, one, or several that are joined to it (RFC 9110
    /// §5.3).
    pub(super) fn combinations(&self) -> Vec<(Value, Vec<String>)> {
        let mut combinations = vec![(ABSENT, Vec::new())];
        for (value, whole) in self.values.iter().zip(FIRST_VALUE..) {
            let commas: Vec<usize> = value.match_indices(SEPARATOR).map(|(at, _)| at).collect();
            let cut = commas.len().min(MOST_CUTS);
            for chosen in 0..1_usize << cut {
                let mut lines = Vec::new();
                let mut from = 0;
                for (number, comma) in commas.iter().take(cut).enumerate() {
                    if chosen >> number & 1 == 1 {
                        lines.push(value.get(from..*comma).unwrap_or_default().to_owned());
                        from = comma.saturating_add(SEPARATOR.len());
                    }
                }
                lines.push(value.get(from..).unwrap_or_default().to_owned());
                // Blanks around a value are no part of it (RFC 9110 §5.5).
                if lines
                    .iter()
                    .all(|line| line.trim_ascii().len() == line.len())
                {
                    combinations.push((whole, lines));
                }
            }
        }
        combinations
    }

    /// Adds the lines of a point.
    pub(super) fn add(&self, headers: &mut BTreeMap<String, String>, point: &[Value]) {
        let whole = point.get(self.whole).copied().unwrap_or(OTHER_VALUE);
        let is_line = |value: &String| {
            let number = self.values.iter().position(|known| known == value);
            number
                .and_then(|number| self.lines.get(number))
                .is_none_or(|variable| point.get(*variable) == Some(&1))
        };
        let lines = if whole == OTHER_VALUE {
            let values = self.values.iter().zip(&self.lines);
            let held = values.filter(|(_, variable)| point.get(**variable) == Some(&1));
            let mut lines: Vec<String> = held.map(|(value, _)| value.clone()).collect();
            let used = self.values.iter().map(String::as_str).collect();
            lines.push(fresh("other", &used));
            lines
        } else {
            let fitting = self.combinations().into_iter().find(|(value, lines)| {
                let all = self.values.iter().filter(|_| !self.lines.is_empty());
                *value == whole && all.clone().all(|v| lines.contains(v) == is_line(v))
            });
            fitting.map(|(_, lines)| lines).unwrap_or_default()
        };
        // A map has its names in order.
        let mut names: Vec<String> = spellings(&self.name).take(lines.len()).collect();
        names.sort_unstable();
        headers.extend(names.into_iter().zip(lines));
    }

    /// What all lines are together, and which lines there are.
    pub(super) fn place(&self, request: Option<&Request<'_>>) -> (Value, Vec<String>) {
        let mut lines: Vec<String> = Vec::new();
        if let Some(request) = request {
            request.headers.for_each(&mut |name, value| {
                if name.eq_ignore_ascii_case(&self.name) {
                    lines.push(String::from_utf8_lossy(value.trim_ascii()).into_owned());
                }
            });
        }
        if lines.is_empty() {
            return (ABSENT, lines);
        }
        let whole = lines.join(SEPARATOR);
        let number = self.values.iter().position(|value| *value == whole);
        let value = number.map_or(OTHER_VALUE, |number| number.saturating_add(FIRST_VALUE));
        (value, lines)
    }

    /// Which lines there are, for people.
    pub(super) fn tell(&self, set: &FixedBitSet) -> String {
        let name = |value: usize| match value {
            OTHER_VALUE => "another value".to_owned(),
            ABSENT => "absent".to_owned(),
            named => {
                let value = named
                    .checked_sub(FIRST_VALUE)
                    .and_then(|number| self.values.get(number));
                format!("{:?}", value.map_or("", String::as_str))
            }
        };
        let is: Vec<String> = set.ones().map(name).collect();
        let not: Vec<String> = set.zeroes().map(name).collect();
        match set.contains(OTHER_VALUE) {
            false => format!("header {} is {}", self.name, is.join(" or ")),
            true => format!("header {} is not {}", self.name, not.join(" or ")),
        }
    }
}

/// The name in lower case, and then with other letters in upper case each time: several lines of one field in a map.
fn spellings(name: &str) -> impl Iterator<Item = String> + '_ {
    (0_u64..).map(move |number| {
        let mut bit = 0_u32;
        let spell = |c: char| {
            if !c.is_ascii_alphabetic() {
                return c;
            }
            let upper = number.checked_shr(bit).unwrap_or(0) & 1 == 1;
            bit = bit.saturating_add(1);
            if upper { c.to_ascii_uppercase() } else { c }
        };
        name.chars().map(spell).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_header_has_its_own_spelling() {
        let four: Vec<String> = spellings("x-a").take(4).collect();
        assert_eq!(four, ["x-a", "X-a", "x-A", "X-A"]);
    }
}
