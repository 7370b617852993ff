//! How a string is written: without quotes where no reader of YAML could take it for something else.

use super::tree::{Scalar, Style};

/// Where a scalar stands: inside of brackets, `,` and `]` end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Block,
    Flow,
}

/// Words that YAML 1.1 has for booleans and nothing; they are read by other programs, too.
const WORDS: [&str; 12] = [
    "true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", ".nan", ".inf",
];

/// The scalar on one line.
pub(super) fn inline(scalar: &Scalar, place: Place) -> String {
    match scalar.style {
        Style::Plain if !crate::yaml::is_string(&scalar.text) => number_or_word(&scalar.text),
        _ => string(&scalar.text, place),
    }
}

/// A string on one line.
pub(super) fn string(text: &str, place: Place) -> String {
    if is_plain(text, place) {
        return text.to_owned();
    }
    let doubled = escaped(text);
    let one_line = !text.chars().any(needs_escape);
    let single = format!("'{}'", text.replace('\'', "''"));
    if one_line && single.len() < doubled.len() {
        single
    } else {
        doubled
    }
}

/// `True` and `NULL` are the same as `true` and `null`; numbers stay as they are.
fn number_or_word(text: &str) -> String {
    match text {
        "" | "~" => "null".to_owned(),
        _ if text.starts_with(|c: char| c.is_ascii_alphabetic()) => text.to_ascii_lowercase(),
        _ => text.to_owned(),
    }
}

fn is_plain(text: &str, place: Place) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '('));
    let ends_well = !text.ends_with(|c: char| c == ':' || c.is_whitespace());
    // Not every reader has `[a -]`.
    let dash_ends = place == Place::Flow && text.ends_with(" -");
    let ends_flow = |c: char| place == Place::Flow && matches!(c, ',' | '[' | ']' | '{' | '}');
    starts_well
        && ends_well
        && !dash_ends
        // Plain, it would be read right; but `"` in the middle of a text is more easily overlooked than in quotes.
        && !text.contains('"')
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.chars().any(|c| ends_flow(c) || needs_escape(c))
        && crate::yaml::is_string(text)
        && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
        && !looks_like_a_number(text)
}

/// What some reader takes for a number or a time: hexadecimal, octal, with `_`, base 60, dates.
fn looks_like_a_number(text: &str) -> bool {
    let mut bytes = text.bytes();
    if !bytes.next().is_some_and(|first| first.is_ascii_digit()) {
        return false;
    }
    let radix = |prefix: &str| {
        text.strip_prefix(prefix)
            .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_'))
    };
    let all_of = |accepted: &[u8]| {
        bytes
            .clone()
            .all(|b| b.is_ascii_digit() || accepted.contains(&b))
    };
    let dots = text.matches('.').count();
    radix("0x")
        || radix("0o")
        || radix("0b")
        || all_of(b":")
        || (dots < 2 && all_of(b"_.eE+-"))
        || (text.get(4..5) == Some("-") && all_of(b"-:.TtZz +"))
}

fn needs_escape(c: char) -> bool {
    // Line breaks of YAML 1.1, and what a text should not hide (YAML 1.2 §5.1).
    c.is_control()
        || matches!(
            c,
            '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

/// In double quotes (YAML 1.2 §5.7).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The header and the lines of a scalar that is written as a block; `None` if it cannot be.
pub(super) fn block(scalar: &Scalar) -> Option<(String, Vec<String>)> {
    let (indicator, lines) = match &scalar.style {
        Style::Literal => (
            '|',
            scalar
                .text
                .strip_suffix('\n')
                .unwrap_or(&scalar.text)
                .split('\n')
                .map(str::to_owned)
                .collect(),
        ),
        Style::Folded(lines) => ('>', lines.clone()),
        Style::Plain | Style::Quoted => return None,
    };
    let lines: Vec<String> = lines;
    let bad_edge = |line: Option<&String>| {
        line.is_none_or(|line| line.is_empty() || line.starts_with([' ', '\t']))
    };
    let escapes = lines
        .iter()
        .any(|line| line.chars().any(|c| needs_escape(c) && c != '\t'));
    // Lines of white space alone at the edges, and deeper ones before others, would need an indentation indicator.
    if bad_edge(lines.first()) || lines.last().is_none_or(|line| line.trim().is_empty()) || escapes
    {
        return None;
    }
    let chomping = if scalar.text.ends_with('\n') { "" } else { "-" };
    Some((format!("{indicator}{chomping}"), lines))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::yaml::read;

    #[test]
    fn quotes_stand_only_where_they_are_needed() {
        for plain in [
            "orders",
            "shop/web",
            "orders.shop",
            "10.0.0.0/8",
            "10.0.0.7",
            "spiffe://a.example/ns/x/**",
            "GET",
            "the shop's own workloads, and more",
            "a b",
            "https://x.example/roles",
            "v1",
            "größe",
            "(a || b) && c",
        ] {
            assert_eq!(string(plain, Place::Block), plain);
        }
        for (text, block, flow) in [
            ("/orders", "\"/orders\"", "\"/orders\""),
            ("*.example.com", "\"*.example.com\"", "\"*.example.com\""),
            ("a, b", "a, b", "\"a, b\""),
            ("has [x]", "has [x]", "\"has [x]\""),
            ("", "\"\"", "\"\""),
            ("Bearer ", "\"Bearer \"", "\"Bearer \""),
            ("8080", "\"8080\"", "\"8080\""),
            ("yes", "\"yes\"", "\"yes\""),
            ("0x1F", "\"0x1F\"", "\"0x1F\""),
            ("2026-11-24", "\"2026-11-24\"", "\"2026-11-24\""),
            ("12:30", "\"12:30\"", "\"12:30\""),
            ("1_000", "\"1_000\"", "\"1_000\""),
            ("a: b", "\"a: b\"", "\"a: b\""),
            ("10 -", "10 -", "\"10 -\""),
            ("a #b", "\"a #b\"", "\"a #b\""),
            ("x[\"a\"]", "'x[\"a\"]'", "'x[\"a\"]'"),
            ("\"it's\"", "'\"it''s\"'", "'\"it''s\"'"),
            ("a\nb", "\"a\\nb\"", "\"a\\nb\""),
            ("\u{7f}\u{2028}", "\"\\u007F\\u2028\"", "\"\\u007F\\u2028\""),
        ] {
            assert_eq!(string(text, Place::Block), block);
            assert_eq!(string(text, Place::Flow), flow);
        }
    }

    proptest! {
        #[test]
        fn any_string_is_read_back(text in prop_oneof![any::<String>(), "[-a-z0-9:#,{}\\[\\]'\"/*&!|> \n.~]{0,12}", "[a0] ?[-?:&*!|>%@`~.]{1,3}"]) {
            let block = format!("k: {}\n", string(&text, Place::Block));
            let flow = format!("{{k: [{}]}}\n", string(&text, Place::Flow));
            let key = format!("{{k: {{{}: v}}}}\n", string(&text, Place::Flow));
            let in_block = read("b", &block, |v| v.mapping(|f| f.required("k", |v| v.string_or_empty())));
            prop_assert_eq!(in_block.as_ref(), Ok(&text), "{}", block);
            let in_flow = read("f", &flow, |v| v.mapping(|f| f.required("k", |v| v.list("x", |v| v.string_or_empty()))));
            prop_assert_eq!(in_flow.as_ref(), Ok(&vec![text.clone()]), "{}", flow);
            let as_key = read("k", &key, |v| v.mapping(|f| f.required("k", |v| v.entries("x", |_, v| v.string()))));
            prop_assert_eq!(as_key.as_ref(), Ok(&vec![(text, "v".to_owned())]), "{}", key);
        }
    }
}
