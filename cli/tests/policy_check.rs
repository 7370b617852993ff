//! `countersign policy check` as people and programs use it.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use serde_json::json;
use support::{ORDERS, Place};

const WIDE: &str = "apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: wide, namespace: shop}
spec: {rules: [{name: all, action: allow}]}
";

const DIRECTORY: &str = "workloads:
- {name: web, namespace: shop, serviceAccount: web, wireAddress: \"127.0.0.1:1\"}
- {name: orders, namespace: shop, serviceAccount: orders, wireAddress: \"127.0.0.1:2\"}
";

#[test]
fn good_policy_is_fine_and_what_was_skipped_is_told() {
    let place = Place::with(&[
        ("policy/orders.yaml", ORDERS),
        ("policy/kustomization.yaml", "resources: [orders.yaml]\n"),
        (
            "policy/deploy/service.yaml",
            "apiVersion: v1\nkind: Service\n",
        ),
        ("policy/.github/ci.yaml", "on: push\n"),
        ("policy/orders.test.yaml", "not looked at"),
    ]);
    let done = place.run(&["check", "policy", "--strict"]);
    assert_eq!(
        done.with_status(0),
        "policy/deploy/service.yaml:1:1: skipped: a document of the API \"v1\" is not of this language
policy/kustomization.yaml: skipped: a kustomization is no policy
2 files, 0 errors, 0 warnings
"
    );
    let json = place.run(&["check", "policy", "-o", "json"]).json(0);
    assert_eq!(json["notes"].as_array().unwrap().len(), 2);
    assert_eq!(json["findings"], json!([]));
}

#[test]
fn mistakes_are_told_all_at_once_with_their_places() {
    let place = Place::with(&[
        (
            "a.yaml",
            "apiVersion: countersign.dev/v1\nkind: AccesPolicy\n",
        ),
        ("b.yaml", &ORDERS.replace("action: deny", "action: dney")),
        (
            "c.yaml",
            &WIDE.replace("allow}", "allow, when: 'peer.nam == 1'}"),
        ),
    ]);
    let done = place.run(&["check", "a.yaml", "b.yaml", "c.yaml"]);
    assert_eq!(
        done.with_status(1),
        "a.yaml:1:1: error: unknown kind \"AccesPolicy\", did you mean `AccessPolicy`? [invalid-document]
b.yaml:11:13: error: unknown word \"dney\", did you mean `deny`? [invalid-document]
c.yaml:4:49: error: in the expression, at 1:5: unknown field of `peer`: `nam`, expected one of id, trustDomain, namespace, workload, address [invalid-policy]
3 files, 3 errors, 0 warnings
"
    );
}

#[test]
fn warnings_fail_only_if_asked_to() {
    let place = Place::with(&[("wide.yaml", WIDE)]);
    let done = place.run(&["check", "."]);
    assert_eq!(
        done.with_status(0),
        "wide.yaml:4:16: warning: the rule \"all\" lets every workload do everything: say who calls (`from`) or what is called \
(`to`) [allow-everything]
1 file, 0 errors, 1 warning
"
    );
    place.run(&["check", ".", "--strict"]).with_status(1);
}

#[test]
fn policy_is_compared_with_a_directory() {
    let place = Place::with(&[
        (
            "policy/orders.yaml",
            &ORDERS.replace("shop/web", "shop/wbe"),
        ),
        ("directory.yaml", DIRECTORY),
    ]);
    place.run(&["check", "policy", "--strict"]).with_status(0);
    let done = place.run(&[
        "check",
        "policy",
        "--directory",
        "directory.yaml",
        "-o",
        "json",
    ]);
    assert_eq!(
        done.json(0)["findings"],
        json!([{
            "level": "warning", "id": "unknown-workload", "file": "policy/orders.yaml", "line": 6, "column": 5,
            "message": "the rule \"web takes orders\" names the workload shop/wbe, which is not in the directory, did you mean shop/web?",
        }])
    );
    place.write("directory.yaml", "workloads: 5\n");
    let done = place.run(&["check", "policy", "--directory", "directory.yaml"]);
    assert_eq!(done.with_status(2), "");
    assert!(
        done.stderr.contains("directory.yaml:1:12: expected a list"),
        "{}",
        done.stderr
    );
}

#[test]
fn findings_are_written_as_sarif() {
    let place = Place::with(&[("policy/wide.yaml", WIDE)]);
    place
        .run(&["check", "policy", "--sarif", "out.sarif"])
        .with_status(0);
    let sarif: serde_json::Value = serde_json::from_str(&place.read("out.sarif")).unwrap();
    let printed = place.run(&["check", "policy", "-o", "sarif"]);
    assert_eq!(printed.json(0), sarif);
    // No other command has it.
    let refused = place.run(&["reach", "policy", "-o", "sarif"]);
    refused.with_status(2);
    assert!(
        refused.stderr.contains("-o sarif for `policy check`"),
        "{}",
        refused.stderr
    );
    // What SARIF 2.1.0 requires (§3.13.2, §3.14.6, §3.18.7, §3.19.2, §3.27.11).
    assert!(sarif["$schema"].is_string());
    let run = &sarif["runs"][0];
    assert!(run["tool"]["driver"]["name"].is_string());
    for result in run["results"].as_array().unwrap() {
        assert!(result["message"]["text"].is_string(), "{result}");
    }
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(
        sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"],
        json!({"artifactLocation": {"uri": "policy/wide.yaml"}, "region": {"startLine": 4, "startColumn": 16}})
    );
}

#[test]
fn policy_is_read_from_standard_input() {
    let place = Place::with(&[]);
    let done = place.run_with(&["check", "-"], &WIDE.replace("spec", "spce"));
    assert!(
        done.with_status(1)
            .starts_with("stdin:1:1: error: missing field `spec`"),
        "{}",
        done.stdout
    );
}

#[test]
fn where_there_is_no_policy_nothing_is_fine() {
    let place = Place::with(&[("policy/README.md", "")]);
    for path in ["policy", "absent"] {
        let done = place.run(&["check", path]);
        assert_eq!(done.with_status(2), "");
        assert!(done.stderr.starts_with("countersign: "), "{}", done.stderr);
    }
}
