//! The JSON Schemas and the readers of documents are of one mind, and those in `docs/schema` are the schemas.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where it cannot go on"
)]

#[path = "schema/policy_test.rs"]
mod policy_test;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use countersign_policy::document::parse;
use countersign_policy::schema::json_schema;
use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A document of each kind, with every field that there is.
const FULL: &str = include_str!("support/every_field.yaml");

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn validator() -> Validator {
    jsonschema::validator_for(&json_schema()).unwrap()
}

/// What the reader says of a document: nothing, or its mistakes.
fn read(document: &Value) -> Result<(), String> {
    match parse([("d.yaml".to_owned(), document.to_string())]) {
        Ok(_) => Ok(()),
        Err(mistakes) => Err(mistakes.to_string()),
    }
}

/// The documents of a YAML text, as JSON.
fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(from_yaml).collect()
}

fn from_yaml(text: &str) -> Value {
    let mut value = Value::Null;
    let read = countersign_policy::yaml::read("d.yaml", text, |node| {
        value = node.json()?;
        Some(())
    });
    read.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    value
}

/// Every object and list in a value, by its path.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{at}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{at}/{index}"), all);
            }
        }
        _ => {}
    }
}

/// The schema of a part of a document, by following the pointer through `$ref`, `allOf` and the first of `anyOf` that fits.
fn schema_of<'s>(root: &'s Value, kind: &str, pointer: &str) -> Option<&'s Value> {
    let mut schema = &root["definitions"][kind];
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        schema = next(root, schema, &step)?;
    }
    Some(resolved(root, schema))
}

/// What a reference leads to.
fn unwrapped<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match (schema.get("$ref"), schema.get("allOf")) {
        (Some(Value::String(reference)), _) => {
            unwrapped(root, root.pointer(&reference[1..]).unwrap())
        }
        (_, Some(Value::Array(all))) => unwrapped(root, &all[0]),
        _ => schema,
    }
}

/// Of one or several: the one.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let schema = unwrapped(root, schema);
    match schema.get("anyOf") {
        Some(Value::Array(choices)) if schema.get("properties").is_none() => {
            let mut choices = choices.iter().map(|choice| unwrapped(root, choice));
            choices
                .find(|choice| choice.get("properties").is_some())
                .unwrap_or(schema)
        }
        _ => schema,
    }
}

fn next<'s>(root: &'s Value, schema: &'s Value, step: &str) -> Option<&'s Value> {
    let schema = unwrapped(root, schema);
    if let Some(properties) = schema.get("properties") {
        return properties.get(step);
    }
    if let Some(Value::Array(choices)) = schema.get("anyOf") {
        return choices.iter().find_map(|choice| next(root, choice, step));
    }
    let is_index = step.parse::<usize>().is_ok();
    schema.get("items").filter(|_| is_index).or_else(|| {
        schema
            .get("additionalProperties")
            .filter(|schema| schema.is_object())
    })
}

/// A schema as it was committed.
fn committed(name: &str) -> Value {
    let path = repository().join("docs/schema").join(name);
    fs::read_to_string(&path).map_or(Value::Null, |text| serde_json::from_str(&text).unwrap())
}

/// How many fields a schema has, all of which have to be explained.
fn explained_fields(schema: &Value) -> usize {
    if let Err(error) = jsonschema::meta::validate(schema) {
        panic!("{error} at {}", error.instance_path());
    }
    let mut all = Vec::new();
    pointers(schema, String::new(), &mut all);
    let mut fields = 0;
    for pointer in all {
        let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
        let is_field = parent.ends_with("/properties") && !parent.contains("/if/");
        if is_field && parent.starts_with("/definitions") {
            fields += 1;
            let schema = schema.pointer(&pointer).unwrap();
            let text = schema
                .get("description")
                .and_then(Value::as_str)
                .unwrap_or_default();
            assert!(text.len() > 5, "{name} at {pointer} is not explained");
        }
    }
    assert!(!schema.to_string().contains("null"), "nothing may be null");
    fields
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    assert!(
        committed("policy.schema.json") == json_schema(),
        "run `countersign policy schema > docs/schema/policy.schema.json`"
    );
}

#[test]
fn the_schema_is_itself_valid_and_every_field_is_explained() {
    let fields = explained_fields(&json_schema());
    assert!(fields > 80, "{fields}");
}

#[test]
fn what_the_repository_has_of_policy_is_valid() {
    let validator = validator();
    let reference = fs::read_to_string(repository().join("docs/policy.md")).unwrap();
    let mut texts: Vec<String> = reference
        .split("```yaml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .filter(|block| block.starts_with("apiVersion"))
        .map(str::to_owned)
        .collect();
    for entry in fs::read_dir(repository().join("examples/shop/policy")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".yaml") && !name.ends_with(".test.yaml") {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    texts.push(FULL.to_owned());
    let all: Vec<Value> = texts.iter().flat_map(|text| documents(text)).collect();
    assert!(all.len() > 10);
    for document in all {
        assert_eq!(read(&document), Ok(()), "{document:#}");
        if let Err(error) = validator.validate(&document) {
            panic!("{error} at {}\n{document:#}", error.instance_path());
        }
    }
    let other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": 1});
    assert!(validator.is_valid(&other));
    for wrong in [
        json!({"kind": "AccessPolicy"}),
        json!({"apiVersion": "countersign.dev/v2", "kind": "AccessPolicy"}),
    ] {
        assert!(
            !validator.is_valid(&wrong) && read(&wrong).is_err(),
            "{wrong}"
        );
    }
}

/// Reads a document, and tells its mistakes.
type Read = fn(&Value) -> Result<(), String>;

/// The mappings of some documents whose fields are the same in the schema and for the reader, who tells every field that
/// it knows when one is given that it does not.
fn compared_fields(schema: &Value, documents: &[Value], read: Read) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for document in documents {
        let kind = document["kind"].as_str().unwrap();
        let mut all = Vec::new();
        pointers(document, String::new(), &mut all);
        for pointer in all {
            let mut odd = document.clone();
            let Some(Value::Object(fields)) = odd.pointer_mut(&pointer) else {
                continue;
            };
            let given: BTreeSet<String> = fields.keys().cloned().collect();
            fields.insert("qqqqqqqqqqqq".to_owned(), json!("/a/b"));
            let Some(told) = read(&odd)
                .err()
                .filter(|told| told.contains("unknown field"))
            else {
                assert!(
                    schema_of(schema, kind, &pointer)
                        .is_none_or(|schema| schema.get("properties").is_none()
                            || pointer.ends_with("/jwks")),
                    "{kind}{pointer}: the reader knows no fields, the schema does"
                );
                continue;
            };
            let line = told
                .lines()
                .find(|line| line.contains("unknown field `qqqqqqqqqqqq`"))
                .unwrap();
            let listed = line.split('`').skip(3).step_by(2).map(str::to_owned);
            let known: BTreeSet<String> = listed.chain(given).collect();
            let of_schema = schema_of(schema, kind, &pointer)
                .and_then(|schema| schema.get("properties"))
                .and_then(Value::as_object)
                .unwrap_or_else(|| panic!("{kind}{pointer} is not in the schema"));
            let of_schema: BTreeSet<String> = of_schema.keys().cloned().collect();
            assert_eq!(of_schema, known, "{kind}{pointer}");
            seen.insert(format!("{kind}{pointer}"));
        }
    }
    seen
}

#[test]
fn the_schema_has_the_fields_of_the_reader_and_no_others() {
    let seen = compared_fields(&json_schema(), &documents(FULL), read);
    assert!(seen.len() > 40, "{seen:#?}");
}

/// The fields of a schema that none of the documents has.
fn untried_fields(schema: &Value, documents: &[Value]) -> BTreeSet<String> {
    let mut tried = BTreeSet::new();
    for document in documents {
        let kind = document["kind"].as_str().unwrap();
        let mut all = Vec::new();
        pointers(document, String::new(), &mut all);
        for pointer in all {
            if let Some(schema) = schema_of(schema, kind, &pointer)
                && let Some(Value::Object(properties)) = schema.get("properties")
                && let Some(Value::Object(fields)) = document.pointer(&pointer)
            {
                let place: *const Map<String, Value> = properties;
                tried.extend(fields.keys().map(|field| (place, field.clone())));
            }
        }
    }
    let mut untried = BTreeSet::new();
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        if let Some(Value::Object(properties)) = definition.get("properties") {
            let place: *const Map<String, Value> = properties;
            for field in properties.keys() {
                if !tried.contains(&(place, field.clone())) {
                    untried.insert(format!("{name}.{field}"));
                }
            }
        }
    }
    untried
}

/// Every field of the schema is in the documents that the tests change.
#[test]
fn every_field_of_the_schema_is_tried() {
    let untried = untried_fields(&json_schema(), &documents(FULL));
    assert!(untried.is_empty(), "{untried:?}");
}

/// Values of every type that a field could be given.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        (-5_i64..70_000).prop_map(|value| json!(value)),
        Just(json!(1.5)),
        "[a-zA-Z*/{}.:_ -]{0,8}".prop_map(|value| json!(value)),
        Just(json!("/a/{id}")),
        Just(json!([])),
        Just(json!({})),
        Just(json!(["a"])),
        Just(json!([1])),
        Just(json!([{}])),
        Just(json!({"a": "b"})),
        Just(json!({"claims": {"a": 1}})),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Remove,
    AddField,
    Put(Value),
}

fn any_changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Change)>> {
    let change = prop_oneof![
        Just(Change::Remove),
        Just(Change::AddField),
        any_value().prop_map(Change::Put),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), change), 1..3)
}

fn changed(mut document: Value, changes: Vec<(prop::sample::Index, Change)>) -> Value {
    for (at, change) in changes {
        let mut all = Vec::new();
        pointers(&document, String::new(), &mut all);
        // Not the document itself: what takes its place may be of another API group.
        let pointer = at.get(&all[1..]).clone();
        match change {
            Change::Put(value) => *document.pointer_mut(&pointer).unwrap() = value,
            Change::AddField => {
                if let Some(Value::Object(fields)) = document.pointer_mut(&pointer) {
                    fields.insert("surprise".to_owned(), json!("value"));
                }
            }
            Change::Remove => {
                let Some((parent, name)) = pointer.rsplit_once('/') else {
                    continue;
                };
                match document.pointer_mut(parent).unwrap() {
                    Value::Object(fields) => {
                        fields.remove(&name.replace("~1", "/").replace("~0", "~"));
                    }
                    Value::Array(items) => {
                        items.remove(name.parse().unwrap());
                    }
                    _ => {}
                }
            }
        }
    }
    document
}

/// The schema takes what the reader takes, and refuses what it refuses, but for what is `beyond` a schema.
fn compare(
    document: &Value,
    read: Read,
    validator: &Validator,
    beyond: &[&str],
) -> Result<(), TestCaseError> {
    let valid = validator.is_valid(document);
    match read(document) {
        Ok(()) => prop_assert!(
            valid,
            "the reader takes it, the schema does not: {document:#}"
        ),
        Err(told) => {
            let beyond = told
                .lines()
                .all(|line| beyond.iter().any(|word| line.contains(word)));
            prop_assert!(
                !valid || beyond,
                "the schema takes it, the reader does not: {told}\n{document:#}"
            );
        }
    }
    Ok(())
}

/// What the schema does not say: what takes more than one place of a document, or more than a pattern, to see.
const BEYOND: [&str; 12] = [
    "names are unique",
    "cannot stand beside",
    "Key Set",
    "expected the namespace",
    "is given twice",
    "\": ",
    "both fill",
    "carries the token",
    "whole seconds",
    "as key, got",
    "is not a header",
    "upper and lower case",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn schema_and_reader_refuse_the_same(which in any::<prop::sample::Index>(), changes in any_changes()) {
        thread_local! {
            static VALIDATOR: Validator = validator();
            static DOCUMENTS: Vec<Value> = documents(FULL);
        }
        let document = DOCUMENTS.with(|all| all[which.index(all.len())].clone());
        VALIDATOR.with(|validator| compare(&changed(document, changes), read, validator, &BEYOND))?;
    }
}
