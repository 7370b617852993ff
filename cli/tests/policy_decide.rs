//! `countersign policy decide` as people and programs use it.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};
use support::{ORDER, ORDERS, Place, command};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_line_of_json_for_a_line_of_json_whatever_is_decided() {
    let place = Place::with(&[("p.yaml", ORDERS)]);
    let calls = [
        ORDER.to_owned(),
        ORDER.replace("POST", "DELETE"),
        ORDER.replace("shop/web", "shop/other"),
        ORDER.replace("/orders\"}", "/%2fa\"}"),
    ];
    let done = place.run_with(&["decide", "p.yaml", "--calls", "-"], &calls.join("\n"));
    let decisions = lines(done.with_status(0));
    assert_eq!(done.stderr, "");
    let [allowed, denied, default, ambiguous] = decisions.as_slice() else {
        panic!("{}", done.stdout)
    };
    assert_eq!(
        *allowed,
        json!({
            "decision": "allow", "class": "allowed", "policy": "shop/orders", "rule": "web takes orders",
            "reason": "allowed by \"web takes orders\" (shop/orders, p.yaml:6)", "file": "p.yaml", "line": 6, "observed": [],
        })
    );
    assert_eq!(
        (&denied["decision"], &denied["rule"], &denied["line"]),
        (&json!("deny"), &json!("nobody deletes"), &json!(10))
    );
    assert_eq!(default["class"], "no-rule-matched");
    assert_eq!(
        (&default["policy"], &default["rule"], &default["file"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!(default["closest"]["rule"], "web takes orders");
    assert_eq!(ambiguous["class"], "ambiguous-path");
}

#[test]
fn a_bad_line_is_told_in_its_place_and_at_the_end() {
    let place = Place::with(&[("p.yaml", ORDERS)]);
    let long = format!("{{\"peer\":\"{}\"}}", "x".repeat(2 << 20));
    let input = [
        ORDER,
        "{\"peer\":",
        "",
        &ORDER.replace("\"peer\":\"shop/web\"", "\"peer\":\"web\""),
        &long,
        ORDER,
    ]
    .join("\r\n");
    place.write("calls.jsonl", &input);
    let done = place.run(&["decide", "p.yaml", "--calls", "calls.jsonl"]);
    let answers = lines(done.with_status(2));
    assert_eq!(answers.len(), 5);
    assert_eq!(
        (&answers[0]["decision"], &answers[4]["decision"]),
        (&json!("allow"), &json!("allow"))
    );
    for (answer, line, error) in [
        (&answers[1], 2, "this is no call: EOF"),
        (&answers[2], 4, "peer: expected a SPIFFE ID"),
        (&answers[3], 5, "the line has more than 1048576 bytes"),
    ] {
        assert_eq!(answer["line"], line);
        assert!(
            answer["error"].as_str().unwrap().starts_with(error),
            "{answer}"
        );
        assert_eq!(answer.as_object().unwrap().len(), 2);
    }
    assert!(done.stderr.contains("3 of 5 lines"), "{}", done.stderr);
}

#[test]
fn a_call_is_answered_before_the_next_is_asked() {
    let place = Place::with(&[("p.yaml", ORDERS)]);
    let mut child = command(place.path())
        .args(["decide", "p.yaml", "--calls", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut calls = child.stdin.take().unwrap();
    let mut decisions = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        writeln!(calls, "{ORDER}").unwrap();
        let decision = decisions.next().unwrap().unwrap();
        assert!(decision.contains("\"allow\""), "{decision}");
    }
    drop(calls);
    assert!(decisions.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_trust_domain_is_the_options_or_the_environments_or_cluster_local() {
    let place = Place::with(&[("p.yaml", ORDERS)]);
    let call =
        |domain: &str| ORDER.replace("shop/web", &format!("spiffe://{domain}/ns/shop/sa/web"));
    let decided = |arguments: &[&str], environment: Option<&str>, domain: &str| {
        place.write("call", &call(domain));
        let mut command = command(place.path());
        command
            .args(["decide", "p.yaml", "--calls", "call"])
            .args(arguments);
        if let Some(environment) = environment {
            command.env("COUNTERSIGN_TRUST_DOMAIN", environment);
        }
        let output = command.output().unwrap();
        let decision: Value = serde_json::from_slice(&output.stdout).unwrap();
        decision["decision"].as_str().unwrap().to_owned()
    };
    assert_eq!(decided(&[], None, "cluster.local"), "allow");
    assert_eq!(decided(&[], None, "shop.example"), "deny");
    assert_eq!(decided(&[], Some("shop.example"), "shop.example"), "allow");
    let option = ["--trust-domain", "b.example"];
    assert_eq!(decided(&option, Some("shop.example"), "b.example"), "allow");
}

#[test]
fn without_good_policy_nothing_is_decided() {
    let place = Place::with(&[
        (
            "bad.yaml",
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\n",
        ),
        ("empty/README.md", ""),
        ("other/service.yaml", "apiVersion: v1\nkind: Service\n"),
        ("call", ORDER),
    ]);
    let bad = place.run_with(&["decide", "bad.yaml", "--calls", "-"], ORDER);
    assert_eq!(bad.with_status(2), "");
    assert!(
        bad.stderr.contains("bad.yaml:1:1: missing field"),
        "{}",
        bad.stderr
    );
    for directory in ["empty", "other"] {
        for arguments in [
            ["decide", directory, "--calls", "-"],
            ["explain", directory, "--call", "call"],
        ] {
            let none = place.run_with(&arguments, ORDER);
            assert_eq!(none.with_status(2), "");
            let expected =
                format!("no policy in {directory}: expected documents of countersign.dev/v1");
            assert!(none.stderr.contains(&expected), "{}", none.stderr);
        }
    }
    let absent = place.run_with(&["decide", "absent", "--calls", "-"], ORDER);
    assert_eq!(absent.with_status(2), "");
    let twice = place.run_with(&["decide", "-", "--calls", "-"], ORDER);
    assert!(twice.stderr.contains("cannot be both"), "{}", twice.stderr);
    assert_eq!(twice.status, 2);
}
