//! From paths to patterns: what varies and looks like a value becomes a parameter, if it varies enough.

use std::collections::{BTreeMap, BTreeSet};

use crate::pattern::PathPattern;

/// A pattern, and the paths that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As rules have it.
    pub(super) text: String,
    /// What its parameters rest on: their form, and how many different values were seen.
    pub(super) parameters: Vec<(Form, usize)>,
}

/// What a segment that is no word looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Number,
    Uuid,
    Ulid,
    Hex,
    Date,
    Token,
}

impl Form {
    /// The name of several.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Number => "numbers",
            Self::Uuid => "UUIDs",
            Self::Ulid => "ULIDs",
            Self::Hex => "hexadecimal numbers",
            Self::Date => "dates",
            Self::Token => "random texts",
        }
    }

    /// Of a segment; a word has none.
    fn of(segment: &str) -> Option<Self> {
        let bytes = segment.as_bytes();
        let all = |accepted: fn(&u8) -> bool| bytes.iter().all(accepted);
        let any = |wanted: fn(&u8) -> bool| bytes.iter().any(wanted);
        let digits = any(u8::is_ascii_digit);
        let dashes = |places: &[usize], others: fn(&u8) -> bool| {
            bytes.iter().enumerate().all(|(at, byte)| {
                if places.contains(&at) {
                    *byte == b'-'
                } else {
                    others(byte)
                }
            })
        };
        match bytes.len() {
            0 => None,
            _ if all(u8::is_ascii_digit) => Some(Self::Number),
            36 if dashes(&[8, 13, 18, 23], u8::is_ascii_hexdigit) => Some(Self::Uuid),
            10 if dashes(&[4, 7], u8::is_ascii_digit) => Some(Self::Date),
            8.. if digits && all(u8::is_ascii_hexdigit) => Some(Self::Hex),
            26 if digits && all(|b| b.is_ascii_alphanumeric() && !b"ILOUilou".contains(b)) => {
                Some(Self::Ulid)
            }
            20.. if digits
                && any(u8::is_ascii_uppercase)
                && any(u8::is_ascii_lowercase)
                && all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) =>
            {
                Some(Self::Token)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment<'p> {
    Literal(&'p str),
    Value(Form),
}

/// The patterns that accept all of these paths, and as little more as `distinct_values` values in a place make likely.
/// Paths that do not start with `/` have none.
pub(super) fn patterns<'p>(
    paths: impl IntoIterator<Item = &'p str>,
    distinct_values: usize,
) -> Vec<Pattern> {
    let mut by_shape: BTreeMap<Vec<Segment<'p>>, Vec<Vec<&'p str>>> = BTreeMap::new();
    for path in paths {
        let Some(rest) = path.strip_prefix('/') else {
            continue;
        };
        let segments: Vec<&str> = rest.split('/').collect();
        let shape = segments.iter().map(|segment| match Form::of(segment) {
            Some(form) => Segment::Value(form),
            None => Segment::Literal(segment),
        });
        by_shape.entry(shape.collect()).or_default().push(segments);
    }
    let mut found = Vec::new();
    for (shape, members) in by_shape {
        split(shape, members, distinct_values.max(2), &mut found);
    }
    found.sort_by(|a, b| a.text.cmp(&b.text));
    found
}

/// Where a place has too few values to be a parameter, each is a pattern of its own; and in each of those, the other
/// places have to show anew that they vary.
fn split<'p>(
    shape: Vec<Segment<'p>>,
    members: Vec<Vec<&'p str>>,
    distinct_values: usize,
    found: &mut Vec<Pattern>,
) {
    let values = |place: usize| -> BTreeSet<&'p str> {
        members
            .iter()
            .filter_map(|segments| segments.get(place).copied())
            .collect()
    };
    let counted: Vec<(usize, Form, usize)> = shape
        .iter()
        .enumerate()
        .filter_map(|(place, segment)| match segment {
            Segment::Value(form) => Some((place, *form, values(place).len())),
            Segment::Literal(_) => None,
        })
        .collect();
    let poorest = counted.iter().min_by_key(|(_, _, count)| *count);
    let Some(&(place, ..)) = poorest.filter(|(_, _, count)| *count < distinct_values) else {
        let parameters = counted
            .into_iter()
            .map(|(_, form, count)| (form, count))
            .collect();
        found.push(Pattern {
            text: text(&shape),
            parameters,
        });
        return;
    };
    let mut by_value: BTreeMap<&'p str, Vec<Vec<&'p str>>> = BTreeMap::new();
    for segments in members {
        if let Some(&value) = segments.get(place) {
            by_value.entry(value).or_default().push(segments);
        }
    }
    for (value, members) in by_value {
        let mut shape = shape.clone();
        if let Some(segment) = shape.get_mut(place) {
            *segment = Segment::Literal(value);
        }
        split(shape, members, distinct_values, found);
    }
}

fn text(shape: &[Segment<'_>]) -> String {
    let mut text = String::new();
    let mut number = 0_usize;
    for segment in shape {
        text.push('/');
        match segment {
            Segment::Literal(literal) if is_sayable(literal) => text.push_str(literal),
            // What has no literal form (`;`, an escaped `%`): one segment, whichever.
            Segment::Literal(_) => text.push('*'),
            Segment::Value(_) => {
                number = number.saturating_add(1);
                let suffix = if number == 1 {
                    String::new()
                } else {
                    number.to_string()
                };
                text.push_str(&format!("{{id{suffix}}}"));
            }
        }
    }
    text
}

fn is_sayable(literal: &str) -> bool {
    !literal.contains(['*', '{', '}']) && format!("/{literal}").parse::<PathPattern>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn become_patterns(paths: &[&str], expected: &[&str]) {
        let found: Vec<String> = patterns(paths.iter().copied(), 3)
            .into_iter()
            .map(|pattern| pattern.text)
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_varies_and_is_no_word_is_a_parameter() {
        become_patterns(&["/orders/1", "/orders/2", "/orders/33"], &["/orders/{id}"]);
        become_patterns(
            &[
                "/o/6f1c2b7e-8f0a-4a52-9f1e-0123456789ab/items/7",
                "/o/6f1c2b7e-8f0a-4a52-9f1e-0123456789ac/items/8",
                "/o/6f1c2b7e-8f0a-4a52-9f1e-0123456789ad/items/9",
            ],
            &["/o/{id}/items/{id2}"],
        );
        let found = patterns(["/a/1", "/a/2", "/a/3", "/a/4"], 3);
        assert_eq!(found.first().unwrap().parameters, [(Form::Number, 4)]);
    }

    #[test]
    fn words_are_never_merged() {
        let words = [
            "/a/list",
            "/a/new",
            "/a/admin",
            "/a/v1",
            "/a/v2",
            "/a/v3",
            "/a/v4",
            "/a/facade",
            "/a/",
        ];
        let mut sorted = words;
        sorted.sort_unstable();
        become_patterns(&words, &sorted);
    }

    #[test]
    fn too_few_values_and_other_surroundings_are_no_evidence() {
        become_patterns(&["/a/1", "/a/2"], &["/a/1", "/a/2"]);
        become_patterns(&["/a/1", "/b/2", "/c/3"], &["/a/1", "/b/2", "/c/3"]);
        // One thing of each order was seen: that says nothing of other orders' first item, or of seven's.
        become_patterns(
            &["/o/1/items/7", "/o/2/items/7", "/o/3/items/8"],
            &["/o/1/items/7", "/o/2/items/7", "/o/3/items/8"],
        );
        become_patterns(
            &["/u/1/o/1", "/u/1/o/2", "/u/1/o/3", "/u/2/o/1"],
            &["/u/1/o/{id}", "/u/2/o/1"],
        );
        become_patterns(&["/a/1/x", "/a/2/x", "/a/3"], &["/a/1/x", "/a/2/x", "/a/3"]);
    }

    #[test]
    fn what_has_no_literal_form_is_one_segment() {
        become_patterns(&["/a;v=1/b", "/"], &["/", "/*/b"]);
        become_patterns(&["x", "*"], &[]);
    }

    #[test]
    fn forms_are_told_from_words() {
        for (text, form) in [
            ("12", Some(Form::Number)),
            ("2026-11-24", Some(Form::Date)),
            ("9f86d081884c7d65", Some(Form::Hex)),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", Some(Form::Ulid)),
            ("dQw4w9WgXcQ-dQw4w9WgXcQ", Some(Form::Token)),
            ("deadbeef", None),
            ("orders", None),
            ("v2", None),
            ("internationalisation-2", None),
            ("", None),
        ] {
            assert_eq!(Form::of(text), form, "{text}");
        }
    }
}
