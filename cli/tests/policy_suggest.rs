//! `countersign policy suggest`, from a log to policy that the other commands take.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Lines as sidecars write them.
const LOG: &str = r#"{"time":"2026-11-23T10:00:00.012345Z","decision_id":"4f2a","trace_id":"a1","decision":"allow","reason":"allowed by a rule","reason_class":"allowed","policy":"shop/all","rule":"everyone","file":"all.yaml","line":12,"revision":"4f2a","peer":"spiffe://shop.example/ns/shop/sa/web","subject":{"issuer":"shop/corp","sub":"alice"},"source":"127.1.2.10:40000","destination":"shop/orders","port":8080,"protocol":"http/1.1","method":"POST","host":"orders.shop","path":"/orders"}
{"time":"2026-11-23T10:00:01.012345Z","decision_id":"4f2b","decision":"allow","reason":"r","reason_class":"allowed","peer":"spiffe://shop.example/ns/shop/sa/web","source":"127.1.2.10:40000","destination":"shop/orders","port":8080,"protocol":"http/2","method":"GET","host":"orders.shop","path":"/orders/17"}
{"time":"2026-11-23T10:00:02.012345Z","decision_id":"4f2c","decision":"allow","reason":"r","reason_class":"allowed","peer":"spiffe://shop.example/ns/shop/sa/web","source":"127.1.2.10:40000","destination":"shop/orders","port":8080,"protocol":"http/2","method":"GET","host":"orders.shop","path":"/orders/18"}
{"time":"2026-11-23T10:00:03.012345Z","decision_id":"4f2d","decision":"allow","reason":"r","reason_class":"allowed","peer":"spiffe://shop.example/ns/shop/sa/web","source":"127.1.2.10:40000","destination":"shop/orders","port":8080,"protocol":"http/2","method":"GET","host":"orders.shop","path":"/orders/19"}
{"time":"2026-11-23T10:00:04.012345Z","decision_id":"4f2e","decision":"deny","reason":"r","reason_class":"no-rule-matched","peer":"spiffe://shop.example/ns/guest/sa/intruder","source":"127.1.2.11:40000","destination":"shop/store","port":7070,"protocol":"tcp"}
"#;

const ISSUER: &str = "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {name: corp, namespace: shop}\nspec:\n  issuer: https://login.shop.example\n  audiences: [shop]\n";

fn policy(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .arg("policy")
        .args(arguments)
        .env("COUNTERSIGN_TRUST_DOMAIN", "shop.example")
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not read its input may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn what_is_suggested_passes_check_and_decides_as_the_log_did() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("sidecar.log"), LOG).unwrap();
    fs::create_dir(root.join("policy")).unwrap();
    fs::write(root.join("policy/corp.yaml"), ISSUER).unwrap();

    let (code, out, err) = told(&policy(
        root,
        &["suggest", "sidecar.log", "--policy", "policy"],
        "",
    ));
    assert_eq!(
        (code, err.as_str()),
        (0, "denied and left out: 1 (--include-denied allows them)\n")
    );
    assert!(out.contains("subject: {issuer: corp}"), "{out}");
    assert!(
        out.contains("{ports: [8080], methods: [GET], paths: [\"/orders/{id}\"]}"),
        "{out}"
    );
    assert!(!out.contains("intruder") && !out.contains("alice"), "{out}");
    fs::write(root.join("policy/suggested.yaml"), &out).unwrap();

    for arguments in [
        ["check", "policy"].as_slice(),
        &["format", "--check", "policy"],
    ] {
        let (code, out, err) = told(&policy(root, arguments, ""));
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    }
    let call = |path: &str| {
        format!(
            "{{\"peer\":\"spiffe://shop.example/ns/shop/sa/web\",\"destination\":{{\"namespace\":\"shop\",\"workload\":\"orders\",\"port\":8080}},\"request\":{{\"method\":\"GET\",\"host\":\"orders.shop\",\"path\":\"{path}\"}}}}\n"
        )
    };
    let calls = call("/orders/4711") + &call("/admin");
    let (_, out, err) = told(&policy(root, &["decide", "policy", "--calls", "-"], &calls));
    let decisions: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let words: Vec<_> = decisions
        .iter()
        .map(|decision| decision["decision"].as_str().unwrap())
        .collect();
    assert_eq!(words, ["allow", "deny"], "{out}{err}");
}

#[test]
fn files_are_written_where_there_are_none() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let arguments = ["suggest", "-", "--include-denied", "--output-dir", "out"];
    let (code, out, err) = told(&policy(root, &arguments, LOG));
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "out/shop/orders.yaml\nout/shop/store.yaml\n", "")
    );
    let store = fs::read_to_string(root.join("out/shop/store.yaml")).unwrap();
    assert!(
        store.contains("from: [{workload: guest/intruder}]")
            && store.contains("# 1 of them were denied"),
        "{store}"
    );

    fs::remove_file(root.join("out/shop/orders.yaml")).unwrap();
    let (code, _, err) = told(&policy(root, &arguments, LOG));
    assert!(
        code == 2 && err.contains("out/shop/store.yaml is there already"),
        "{err}"
    );
    assert!(
        !root.join("out/shop/orders.yaml").exists(),
        "all or nothing"
    );
}

#[test]
fn bad_lines_are_told_and_fail_but_do_not_stop() {
    let directory = tempfile::tempdir().unwrap();
    let log = format!("{LOG}2026-11-23 INFO up\n{{\"decision\":\"al\n");
    let (code, out, err) = told(&policy(directory.path(), &["suggest", "-"], &log));
    assert_eq!(code, 1);
    assert!(out.contains("kind: AccessPolicy"), "{out}");
    assert!(
        err.starts_with("stdin:7:1: expected a decision as one JSON object: "),
        "{err}"
    );

    let (code, out, _) = told(&policy(
        directory.path(),
        &["suggest", "-", "-o", "json"],
        &log,
    ));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &json["badLines"], &json["deniedLeftOut"]),
        (1, &1.into(), &1.into())
    );
    assert_eq!(json["policies"][0]["name"], "orders");

    let (code, out, err) = told(&policy(directory.path(), &["suggest", "-"], ""));
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            1,
            "",
            "there is no call to make a rule of, in 0 lines that are no decisions\n"
        )
    );
}
