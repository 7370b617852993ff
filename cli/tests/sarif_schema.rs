//! What `policy check` writes as SARIF is valid by the JSON Schema that OASIS publishes for SARIF 2.1.0.
//!
//! The schema comes from a crate that has a copy of it, which cargo fetches once; nothing of it is built. Where that is not
//! possible the test is skipped and says so; in CI it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{ORDERS, Place};

const CRATE: &str = "serde-sarif";
const VERSION: &str = "0.8.0";

/// What the schema has as the pattern of a language is no regular expression of ECMA 262: a bracket is closed twice.
const NO_PATTERN: &str = "^[a-zA-Z]{2}|^[a-zA-Z]{2}-[a-zA-Z]{2}]?$";

fn without_bad_pattern(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "pattern" || value != NO_PATTERN);
            fields.values_mut().for_each(without_bad_pattern);
        }
        Value::Array(items) => items.iter_mut().for_each(without_bad_pattern),
        _ => {}
    }
}

/// The schema; why it cannot be had.
fn schema() -> Result<Value, String> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(CRATE);
    let manifest = cache.join("Cargo.toml");
    let failed = |error: std::io::Error| error.to_string();
    fs::create_dir_all(cache.join("src")).map_err(failed)?;
    fs::write(cache.join("src/lib.rs"), "").map_err(failed)?;
    let text = format!(
        "[package]\nname = \"fetch\"\nedition = \"2024\"\n[dependencies]\n{CRATE} = \"={VERSION}\"\n[workspace]\n"
    );
    fs::write(&manifest, text).map_err(failed)?;
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--manifest-path"])
        .arg(&manifest)
        .output()
        .map_err(failed)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata.get("packages").and_then(Value::as_array).unwrap();
    let package = packages
        .iter()
        .find(|package| package.get("name").is_some_and(|name| name == CRATE));
    let manifest = Path::new(
        package
            .and_then(|package| package.get("manifest_path")?.as_str())
            .unwrap(),
    );
    let text = fs::read_to_string(manifest.with_file_name("src/schema.json")).unwrap();
    Ok(serde_json::from_str(&text).unwrap())
}

#[test]
fn findings_are_valid_sarif() {
    let mut schema = match schema() {
        Ok(schema) => schema,
        Err(reason) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{reason}");
            println!("skipped: {CRATE} {VERSION} cannot be fetched: {reason}");
            return;
        }
    };
    assert!(
        schema["title"]
            .as_str()
            .unwrap()
            .contains("(SARIF) Version 2.1.0"),
        "{}",
        schema["title"]
    );
    without_bad_pattern(&mut schema);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wide = ORDERS
        .replace("name: orders", "name: wide")
        .replace("name: corp", "name: other")
        .replace("    from: [{workload: shop/web}]\n    to: [{ports: [8080], methods: [POST], paths: [/orders]}]\n", "");
    let files: [(&str, &str); 4] = [
        ("policy/orders.yaml", ORDERS),
        ("policy/wide.yaml", &wide),
        (
            "policy/a ü#%/bad.yaml",
            "apiVersion: countersign.dev/v1\nkind: AccesPolicy\n",
        ),
        ("policy/kustomization.yaml", "resources: []\n"),
    ];
    let place = Place::with(&files);
    // A finding about the whole file has no region.
    fs::write(
        place.path().join("policy/huge.yaml"),
        vec![b'#'; (1 << 20) + 1],
    )
    .unwrap();
    for (paths, status, least) in [
        (&["policy"][..], 1, 3),
        (&["policy/orders.yaml"], 0, 0),
        (&["policy/orders.yaml", "policy/wide.yaml"], 0, 1),
    ] {
        let arguments = [&["check", "-o", "sarif"], paths].concat();
        let mut sarif = place.run(&arguments).json(status);
        if let Err(error) = validator.validate(&sarif) {
            panic!("{error} at {}\n{sarif:#}", error.instance_path());
        }
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        assert!(results.len() >= least, "{results:#?}");
        sarif["runs"][0]["results"] = json!([{"ruleId": "a"}]);
        assert!(!validator.is_valid(&sarif), "a result has a message");
    }
}
