//! The same for the tests of a policy, and `docs/schema/policy-test.schema.json`.

use std::ffi::OsStr;
use std::path::Path;

use countersign_policy::files::{self, Kind};
use countersign_policy::schema::test_json_schema;
use countersign_policy::testing;

use super::*;

/// A document with every field that there is.
const FULL: &str = include_str!("../support/every_field.test.yaml");

fn validator() -> Validator {
    jsonschema::validator_for(&test_json_schema()).unwrap()
}

fn read(document: &Value) -> Result<(), String> {
    match testing::read([("d.test.yaml".to_owned(), document.to_string())]) {
        Ok(_) => Ok(()),
        Err(mistakes) => Err(mistakes.to_string()),
    }
}

/// The tests that are in a directory and below.
fn test_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap();
        if path.is_dir() {
            test_files(&path, found);
        } else if files::kind(name) == Some(Kind::Test) {
            found.push(path);
        }
    }
}

#[test]
fn the_committed_schema_of_tests_is_that_of_the_types() {
    assert!(
        committed("policy-test.schema.json") == test_json_schema(),
        "run `countersign policy schema --tests > docs/schema/policy-test.schema.json`"
    );
}

#[test]
fn the_schema_of_tests_is_itself_valid_and_every_field_is_explained() {
    let fields = explained_fields(&test_json_schema());
    assert!(fields > 40, "{fields}");
}

#[test]
fn the_tests_of_the_repository_are_valid() {
    let validator = validator();
    let mut examples = Vec::new();
    test_files(&repository().join("examples"), &mut examples);
    assert!(examples.len() > 2, "{examples:?}");
    let mut texts: Vec<String> = examples
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let reference = fs::read_to_string(repository().join("docs/policy-tools.md")).unwrap();
    let blocks = reference.split("```yaml\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    let of_reference: Vec<&str> = blocks
        .filter(|block| block.contains("kind: PolicyTest"))
        .collect();
    assert!(!of_reference.is_empty());
    texts.extend(of_reference.into_iter().map(str::to_owned));
    texts.push(FULL.to_owned());
    for document in texts.iter().flat_map(|text| documents(text)) {
        assert_eq!(read(&document), Ok(()), "{document:#}");
        if let Err(error) = validator.validate(&document) {
            panic!("{error} at {}\n{document:#}", error.instance_path());
        }
    }
}

#[test]
fn broken_tests_are_refused() {
    let validator = validator();
    let good = "{name: a, call: an order, expect: deny}";
    for wrong in [
        "{name: a, call: an order}",
        "{call: an order, expect: deny}",
        "{name: a, expect: deny}",
        "{name: a, call: an order, expect: maybe}",
        "{name: 5, call: an order, expect: deny}",
        "{name: a, call: an order, expect: deny, rul: b}",
        "{name: a, call: an order, expect: deny, policy: orders}",
        "{name: a, call: an order, expect: deny, reason: because}",
        "{name: a, call: an order, expect: deny, without: [destination]}",
        "{name: a, call: an order, expect: deny, without: []}",
        "{name: a, call: an order, expect: deny, with: {request: {pth: /a}}}",
        "{name: a, call: an order, expect: deny, with: {destination: {port: 80800}}}",
        "{name: a, call: an order, expect: deny, with: {subjects: [{claims: {}}]}}",
        "{name: a, call: an order, expect: deny, with: {time: now}}",
        "{name: a, call: an order, expect: deny, with: {source_ip: localhost}}",
        "{name: a, call: an order, expect: deny, with: {intent: {exp: -1}}}",
        "{name: a, call: {peer: shop/web}, expect: deny}",
        "{name: a, call: {destination: {namespace: shop, workload: orders}}, expect: deny}",
    ] {
        let document = |test: &str| {
            let head =
                "apiVersion: countersign.dev/v1\nkind: PolicyTest\nmetadata: {name: a}\nspec:\n";
            let calls = "  calls: {an order: {destination: {namespace: shop, workload: orders, port: 80}}}\n";
            from_yaml(&format!("{head}{calls}  tests: [{test}]\n"))
        };
        assert!(validator.is_valid(&document(good)) && read(&document(good)).is_ok());
        let document = document(wrong);
        assert!(!validator.is_valid(&document), "{wrong}");
        assert!(read(&document).is_err(), "{wrong}");
    }
    for wrong in [
        json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
        json!({"apiVersion": "countersign.dev/v1", "kind": "AccessPolicy"}),
        json!({"apiVersion": "countersign.dev/v1", "kind": "PolicyTest", "metadata": {"name": "a"}, "spec": {"tests": []}}),
    ] {
        assert!(!validator.is_valid(&wrong) && read(&wrong).is_err());
    }
}

#[test]
fn the_schema_of_tests_has_the_fields_of_the_reader_and_no_others() {
    let seen = compared_fields(&test_json_schema(), &documents(FULL), read);
    assert!(seen.len() > 20, "{seen:#?}");
}

#[test]
fn every_field_of_the_schema_of_tests_is_tried() {
    let untried = untried_fields(&test_json_schema(), &documents(FULL));
    assert!(untried.is_empty(), "{untried:?}");
}

/// What takes more than one place of a document, or more than a pattern, to see.
const BEYOND: [&str; 6] = [
    "there is no call",
    "has the name of the one on line",
    "this is no call: missing field",
    "expected an IP address",
    "expected a time",
    "something that JSON can express",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn schema_and_reader_of_tests_refuse_the_same(changes in any_changes()) {
        thread_local! {
            static VALIDATOR: Validator = validator();
            static DOCUMENTS: Vec<Value> = documents(FULL);
        }
        let document = DOCUMENTS.with(|all| all[0].clone());
        VALIDATOR.with(|validator| compare(&changed(document, changes), read, validator, &BEYOND))?;
    }
}
