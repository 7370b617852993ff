use super::*;
use proptest::prelude::*;

fn mistakes<T>(text: &str, build: impl FnOnce(Value<'_>) -> Option<T>) -> Vec<String> {
    let found = read("f", text, build)
        .err()
        .map(|all| all.into_iter().collect::<Vec<_>>());
    found
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn anything(value: Value<'_>) -> Option<serde_json::Value> {
    value.json()
}

#[test]
fn a_document_is_read_as_json() {
    let text = "a: [1, -2, 1.5, 'x', \"y\", z, true, '8080', 0x10, 1.2.3.4]\nb: {c: ~}\nd: |\n  two\n  lines\n";
    let json = read("f", text, anything).unwrap();
    let expected = serde_json::json!({
        "a": [1, -2, 1.5, "x", "y", "z", true, "8080", "0x10", "1.2.3.4"],
        "b": {"c": null}, "d": "two\nlines\n",
    });
    assert_eq!(json, expected);
}

#[test]
fn what_is_ambiguous_is_refused() {
    let cases = [
        ("", "f:1:1: the file is empty"),
        ("# only this\n", "f:1:1: the file is empty"),
        (
            "a: 1\n---\nb: 2\n",
            "f:3:1: expected one YAML document, but a second one starts here",
        ),
        (
            "a: 1\nb: 2\na: 3\n",
            "f:3:1: the key \"a\" is given twice, first on line 1",
        ),
        (
            "a: &x 1\n",
            "f:1:4: YAML anchors (`&name`) are not supported: write the value out",
        ),
        (
            "a: !!str 1\n",
            "f:1:10: YAML tags (`!name`) are not supported: put strings in quotes",
        ),
        (
            "true: x\n",
            "f:1:1: expected a string as key, got the boolean true",
        ),
        ("[a]: x\n", "f:1:1: expected a string as key, got a list"),
        ("a: 'x\n", "f:2:1: this is not YAML: "),
    ];
    for (text, expected) in cases {
        let found = mistakes(text, anything);
        assert!(
            found.first().is_some_and(|m| m.starts_with(expected)),
            "{text:?}: {found:?}"
        );
    }
    let found = mistakes("a: &x 1\nb: *x\n", anything);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn an_empty_document_at_the_end_is_none() {
    assert_eq!(
        read("f", "--- \na: 1\n---\n", anything).unwrap(),
        serde_json::json!({"a": 1})
    );
}

#[test]
fn a_field_without_a_value_is_a_mistake() {
    let found = mistakes("from:\n# - x\n", |value| {
        value.mapping(|fields| fields.optional("from", Value::strings))
    });
    assert_eq!(
        found,
        ["f:1:1: the field `from` has no value: give it one or leave it out"]
    );
}

#[test]
fn every_mistake_is_found_in_one_pass() {
    let text = "name: 12\nports: [80, 0, x]\nwho: yes\nmethods: POST\nwhen: 5\n";
    let found = mistakes(text, |value| {
        value.mapping(|fields| {
            let name = fields.required("name", Value::string);
            let ports = fields.required("ports", |v| v.non_empty_list("ports", Value::port));
            let who = fields.required("who", Value::bool);
            let methods = fields.required("methods", Value::strings);
            let needed = fields.required("needed", Value::string);
            Some((name?, ports?, who?, methods?, needed?))
        })
    });
    assert_eq!(
        found,
        [
            "f:1:1: missing field `needed`",
            "f:1:7: expected a string, got the number 12: put it in quotes",
            "f:2:13: expected a port from 1 to 65535, got the number 0",
            "f:2:16: expected a port from 1 to 65535, got \"x\"",
            "f:3:6: expected true or false, got \"yes\"",
            "f:4:10: expected a list of strings, got \"POST\"",
            "f:5:1: unknown field `when`, expected `needed`",
        ]
    );
}

#[test]
fn columns_count_characters_and_start_at_one() {
    let found = mistakes("größe: {ß: 1}\n", |value| {
        value.mapping(|fields| fields.required("größe", Value::string))
    });
    assert_eq!(found, ["f:1:8: expected a string, got a mapping"]);
}

#[test]
fn a_choice_suggests_the_nearest_word() {
    let choose = |value: Value<'_>| value.choice(&[("allow", 1), ("deny", 2)]);
    assert_eq!(read("f", "deny", choose).unwrap(), 2);
    assert_eq!(
        mistakes("alow", choose),
        ["f:1:1: unknown word \"alow\", did you mean `allow`?"]
    );
    assert_eq!(
        mistakes("permit", choose),
        ["f:1:1: unknown word \"permit\", expected `allow` or `deny`"]
    );
}

#[test]
fn depth_and_size_are_limited() {
    let deep = "- ".repeat(10_000);
    assert_eq!(
        mistakes(&deep, anything),
        ["f:1:129: lists and mappings are nested deeper than 64 levels"]
    );
    assert_eq!(mistakes(&"[".repeat(10_000), anything).len(), 1);
    let long = " ".repeat(MAX_TEXT_BYTES + 1);
    assert!(mistakes(&long, anything)[0].contains("more than"));
    let long_value = format!("[{}]", "x".repeat(1000));
    assert!(mistakes(&long_value, |v| v.list("flags", Value::bool))[0].len() < 200);
}

/// What is read of a text of several documents, as JSON, and what is wrong with it.
fn documents(text: &str) -> (Vec<serde_json::Value>, Vec<String>) {
    let report = Report::new("f");
    let documents = read_documents(text, &report)
        .filter_map(|node| report.value(&node).json())
        .collect();
    let found = report.into_diagnostics();
    (documents, found.iter().map(ToString::to_string).collect())
}

#[test]
fn a_document_that_is_no_yaml_does_not_hide_the_others() {
    let text = "a: 1\n---\nb: 'open\n---\nc: 3\n--- # four\nd: [\n---\n- e\n f: {\n---\n\"g\" x\n---\nh: &x 8\n---\n[]: i\n";
    let (read, found) = documents(text);
    assert_eq!(read.len(), 4, "{read:?}");
    assert_eq!(read[1], serde_json::json!({"c": 3}));
    let places: Vec<&str> = found
        .iter()
        .map(|m| m.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        ["f:4:1", "f:7:4", "f:10:3", "f:12:5", "f:14:4", "f:16:1"],
        "{found:?}"
    );
}

#[test]
fn reading_goes_on_only_where_a_document_starts() {
    for (text, expected) in [
        ("[\n--- \na: 1", 1),
        ("[\r---\ra: 1", 1),
        ("[\r\n---\r\na: 1\r\n", 1),
        ("[\n---\ta", 1),
        ("[\n--- a", 1),
        ("[\n ---\na: 1", 0),
        ("[\n----\na: 1", 0),
        ("[\n---a: 1", 0),
        ("[\n...\na: 1", 0),
        ("[\n---", 0),
        ("---\n---\n[\n---\na: 1\n---\n[\n---\n---\nb: 1\n", 2),
    ] {
        let (read, found) = documents(text);
        assert_eq!(read.len(), expected, "{text:?}: {read:?}");
        assert!(!found.is_empty(), "{text:?}");
    }
}

#[test]
fn depth_ends_a_document_and_not_the_file() {
    let (read, found) = documents(&format!("{}\n---\na: 1\n", "[".repeat(100)));
    assert_eq!(read, [serde_json::json!({"a": 1})]);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn after_ten_thousand_mistakes_reading_ends() {
    let (_, found) = documents(&"'\n---\n".repeat(20_000));
    assert_eq!(found.len(), 10_001);
    assert_eq!(
        found.last().map(String::as_str),
        Some("f:20001:1: the file has more than 10000 mistakes: the rest is not told")
    );
}

#[test]
fn a_file_of_mistakes_is_not_told_in_full() {
    let found = mistakes(&"a: b\n".repeat(10_000), anything);
    assert_eq!(found.len(), 501);
    assert_eq!(
        found.last().map(String::as_str),
        Some("f:501:1: and 9499 more")
    );
}

#[test]
fn a_file_that_is_missing_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing.yaml");
    let message = read_file(&path, anything).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("{}: cannot read the file: ", path.display())),
        "{message}"
    );
    std::fs::write(&path, "a: 1").unwrap();
    assert_eq!(
        read_file(&path, anything).unwrap(),
        serde_json::json!({"a": 1})
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        let _ = read("f", &text, anything);
    }

    #[test]
    fn any_yaml_like_text_is_read_or_refused(text in "[-\\[\\]{}:,&*!|>'\"%@`?#\n a1\t\r.]{0,120}") {
        let _ = read("f", &text, anything);
    }
}
