//! What a rule asks of a token: as fields of `subject` where they say the same, else as conditions.

use super::cel;
use crate::document::{Action, Claims};
use crate::pattern::{ClaimValue, TextPattern};

/// Claims that are lists of words in one string (RFC 8693 §4.2).
const WORDS: [&str; 2] = ["scope", "permission"];

/// A part of the token, as a condition sees it.
pub(super) fn claim(names: &[String]) -> String {
    let way: Vec<String> = std::iter::once("claims".to_owned())
        .chain(names.iter().cloned())
        .collect();
    let claim = cel::lookup("subject", &way);
    match names {
        [name] if WORDS.contains(&name.as_str()) => format!("words({claim})"),
        _ => claim,
    }
}

/// A token's principal is `issuer/subject`.
pub(super) fn principal() -> String {
    let parts = ["iss", "sub"].map(|name| claim(&[name.to_owned()]));
    format!("join([{}], \"/\")", parts.join(", "))
}

/// The values of a claim as a field of `subject`. That never matches an opaque connection, as only an ALLOW rule wants
/// it. A name with a dot would be a way there.
pub(super) fn claim_field(
    names: &[String],
    values: &[TextPattern],
    action: Action,
) -> Option<Claims> {
    let plain = names
        .iter()
        .all(|name| !name.is_empty() && !name.contains('.'));
    let words = matches!(names, [name] if WORDS.contains(&name.as_str()));
    if action != Action::Allow || !plain || words {
        return None;
    }
    let values: Option<Vec<ClaimValue>> = values
        .iter()
        .map(|value| {
            value
                .exact()
                .map(|text| ClaimValue::String(text.to_owned()))
        })
        .collect();
    Some(Claims::from([(names.join("."), values?)]))
}

/// Several subjects of one issuer, as fields of `subject`. An issuer may have slashes: the last one is before the
/// subject.
pub(super) fn principal_field(values: &[TextPattern], action: Action) -> Option<Claims> {
    let parts: Option<Vec<(&str, &str)>> = values
        .iter()
        .map(|value| value.exact()?.rsplit_once('/'))
        .collect();
    let parts = parts?;
    let (issuer, _) = *parts.first()?;
    let is_one = parts
        .iter()
        .all(|(other, subject)| *other == issuer && !subject.is_empty());
    if action != Action::Allow || !is_one || issuer.is_empty() {
        return None;
    }
    let subjects = parts
        .iter()
        .map(|(_, subject)| ClaimValue::String((*subject).to_owned()));
    Some(Claims::from([
        (
            "iss".to_owned(),
            vec![ClaimValue::String(issuer.to_owned())],
        ),
        ("sub".to_owned(), subjects.collect()),
    ]))
}
