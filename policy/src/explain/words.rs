//! What is found and what is wanted, in words for people.

use std::fmt::Display;

use serde_json::Value;

/// How much of one value is told.
const TOLD_CHARACTERS: usize = 200;
/// How many alternatives of one field are told.
const TOLD_ITEMS: usize = 20;

/// Said of what the call does not have.
pub(super) const NONE: &str = "none";

/// A text that a caller chose: cut, and without control characters.
pub(super) fn told(text: &str) -> String {
    let mut characters = text.chars();
    let mut told: String = characters
        .by_ref()
        .take(TOLD_CHARACTERS)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if characters.next().is_some() {
        told.push('…');
    }
    told
}

/// A claim; `None` if there is none.
pub(super) fn claim(value: Option<&Value>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| told(&value.to_string()))
}

/// `a or b or c`.
pub(super) fn any_of(items: impl IntoIterator<Item = impl Display>) -> String {
    joined(items, " or ")
}

/// `a and b and c`.
pub(super) fn all_of(items: impl IntoIterator<Item = impl Display>) -> String {
    joined(items, " and ")
}

fn joined(items: impl IntoIterator<Item = impl Display>, separator: &str) -> String {
    let mut items = items.into_iter();
    let mut told: Vec<String> = items
        .by_ref()
        .take(TOLD_ITEMS)
        .map(|item| item.to_string())
        .collect();
    let more = items.count();
    if more > 0 {
        told.push(format!("{more} more"));
    }
    told.join(separator)
}
