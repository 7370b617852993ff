//! JSON values as YAML: the same shape, in blocks.

use std::fmt::Write as _;

use serde_json::Value;

/// A value as a YAML document. Strings that YAML could take for something else are quoted as in JSON,
/// which YAML reads the same.
pub(super) fn document(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0);
    text
}

fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (name, value)) in fields.iter().enumerate() {
                if index > 0 {
                    indent(text, depth);
                }
                text.push_str(&scalar_text(name));
                text.push(':');
                nested(text, value, depth + 1, true);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    indent(text, depth);
                }
                text.push('-');
                nested(text, item, depth + 1, false);
            }
        }
        scalar => {
            text.push_str(&scalar_of(scalar));
            text.push('\n');
        }
    }
}

/// What follows `name:` or `-`.
fn nested(text: &mut String, value: &Value, depth: usize, in_mapping: bool) {
    match value {
        Value::Object(fields) if !fields.is_empty() && in_mapping => {
            text.push('\n');
            indent(text, depth);
            block(text, value, depth);
        }
        Value::Array(items) if !items.is_empty() && in_mapping => {
            // A list may stand as deep as its name.
            text.push('\n');
            indent(text, depth - 1);
            block(text, value, depth - 1);
        }
        _ => {
            text.push(' ');
            block(text, value, depth);
        }
    }
}

fn indent(text: &mut String, depth: usize) {
    for _ in 0..depth {
        text.push_str("  ");
    }
}

fn scalar_of(value: &Value) -> String {
    match value {
        Value::String(string) => scalar_text(string),
        other => other.to_string(),
    }
}

fn scalar_text(string: &str) -> String {
    // What no resolver of YAML 1.1 or 1.2 takes for a number, a date, a boolean or null.
    let word = string.starts_with(|c: char| c.is_ascii_alphabetic())
        && string
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ' | '/' | '.'))
        && !string.ends_with(' ');
    let special = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|special| string.eq_ignore_ascii_case(special));
    if word && !special {
        return string.to_owned();
    }
    let mut quoted = String::new();
    // Writing to a String cannot fail.
    let _ = write!(quoted, "{}", Value::String(string.to_owned()));
    quoted
}

#[cfg(test)]
mod tests {
    use countersign_policy::yaml::{Report, read_documents};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_laid_out_in_blocks() {
        let value = json!({"a": [{"b": 1, "c": []}, {"b": "x: y", "d": {"e": null}}], "f": "no"});
        assert_eq!(
            document(&value),
            "a:\n- b: 1\n  c: []\n- b: \"x: y\"\n  d:\n    e: null\nf: \"no\"\n"
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z0-9:# .-]{0,8}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z][a-z0-9]{0,3}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_the_same(value in value()) {
            let text = document(&json!({ "value": value }));
            let report = Report::new("");
            let read: Vec<_> = read_documents(&text, &report)
                .filter_map(|node| report.value(&node).json())
                .collect();
            prop_assert_eq!(&read, &vec![json!({ "value": value })], "{}", text);
        }
    }
}
