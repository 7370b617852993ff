//! `countersign policy diff` as a real process, with a real git repository.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A policy for shop/orders with these rules.
fn policy(rules: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {{name: orders, namespace: shop}}
spec:
  target: {{labels: {{app: orders}}}}
  rules:
{rules}"
    )
}

const READ: &str = "  - {name: reads, action: allow, from: [{namespace: shop}], to: [{ports: [8080], methods: [GET], paths: ['/orders/**']}]}\n";
const DELETE: &str = "  - {name: deletes, action: allow, from: [{workload: shop/web}], to: [{ports: [8080], methods: [DELETE], paths: ['/orders/**']}]}\n";

fn diff(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_countersign"))
        .current_dir(directory)
        .env_remove("COUNTERSIGN_TRUST_DOMAIN")
        .args(["policy", "diff", "--trust-domain", "shop.example"])
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn git(directory: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@shop.example",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
}

/// A repository: at `v1` shop reads, at main's tip shop/web deletes too, and another file has come.
fn repository() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let policies = root.path().join("policies");
    fs::create_dir(&policies).unwrap();
    git(root.path(), &["init", "-q", "-b", "main"]);
    fs::write(policies.join("orders.yaml"), policy(READ)).unwrap();
    git(root.path(), &["add", "."]);
    git(root.path(), &["commit", "-q", "-m", "shop reads"]);
    git(root.path(), &["tag", "v1"]);
    fs::write(
        policies.join("orders.yaml"),
        policy(&format!("{READ}{DELETE}")),
    )
    .unwrap();
    git(root.path(), &["add", "."]);
    git(root.path(), &["commit", "-q", "-m", "shop/web deletes"]);
    root
}

#[test]
fn what_a_commit_allows_is_told_with_the_rule_and_a_call() {
    let root = repository();
    let output = diff(root.path(), &["main~1", "main"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("becomes allowed"));
    assert_eq!(
        lines.next(),
        Some("  shop/web → shop/* {app: orders}:8080  DELETE  /orders/**")
    );
    assert_eq!(
        lines.next(),
        Some("      now:     allow, by \"deletes\" (shop/orders, main:policies/orders.yaml:8)")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("      before:  deny: no rule allows DELETE /orders ")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("      example: {\"peer\":\"spiffe://shop.example/ns/shop/sa/web\"")
    );
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("note: of a path that can be read in several ways")
    );
    assert_eq!(
        lines.next(),
        Some("1 region becomes allowed, nothing becomes denied")
    );
}

/// What `policy decide` says of every example.
fn decided(directory: &Path, policy: &str, changes: &[Value]) -> Vec<Value> {
    let calls: String = changes
        .iter()
        .map(|change| format!("{}\n", change["example"]["call"]))
        .collect();
    fs::write(directory.join("calls.jsonl"), calls).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .current_dir(directory)
        .args(["policy", "decide", policy, "--trust-domain", "shop.example"])
        .args(["--calls", "calls.jsonl"])
        .output()
        .unwrap();
    let decisions = stdout(&output);
    let decision = |line: &str| serde_json::from_str::<Value>(line).unwrap()["decision"].clone();
    decisions.lines().map(decision).collect()
}

#[test]
fn decide_confirms_the_examples() {
    let root = tempfile::tempdir().unwrap();
    let issuer = "---\napiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {name: corp, namespace: shop}\nspec: {issuer: https://login.example, audiences: [shop]}\n";
    let more = "  - {name: buyers, action: allow, subject: {issuer: corp, claims: {groups: [buyer], tenant: acme}}, to: [{methods: [POST], headers: {x-tenant: acme}}]}
  - {name: signed, action: allow, subject: {}, intent: {scope: [orders.read], context: {order: 7}, requester: shop/gateway}, to: [{hosts: [orders.shop]}]}
  - {name: doubtful, action: deny, to: [{headers: {x-debug: ['1']}}]}
  - {name: relayed, action: deny, from: [{forwardedFor: 192.0.2.0/24}]}
  - {name: tls, action: allow, to: [{ports: [8443], sni: ['*.shop']}]}\n";
    fs::write(root.path().join("old.yaml"), policy(READ) + issuer).unwrap();
    fs::write(
        root.path().join("new.yaml"),
        policy(&format!("{READ}{more}")) + issuer,
    )
    .unwrap();
    let json = json_of(&diff(root.path(), &["old.yaml", "new.yaml", "-o", "json"]));
    for (changes, before, after) in [("allowed", "deny", "allow"), ("denied", "allow", "deny")] {
        let changes = json[changes].as_array().unwrap();
        assert!(changes.len() > 1, "{json:#}");
        let decided = |policy: &str| decided(root.path(), policy, changes);
        assert_eq!(decided("old.yaml"), vec![json!(before); changes.len()]);
        assert_eq!(decided("new.yaml"), vec![json!(after); changes.len()]);
    }
}

#[test]
fn every_way_to_name_the_same_policies_gives_the_same_answer() {
    let root = repository();
    let inside = root.path().join("policies");
    let expected = json_of(&diff(root.path(), &["v1", "main", "-o", "json"]));
    assert_eq!(
        expected["allowed"][0]["methods"],
        json!([{"is": ["DELETE"]}])
    );
    for (directory, old, new) in [
        (root.path(), "v1:policies", "policies"),
        (root.path(), "v1:policies/", "main:policies/orders.yaml"),
        (root.path(), "HEAD~1", "policies/orders.yaml"),
        (inside.as_path(), "v1", "."),
        (inside.as_path(), "v1:./", "main:policies"),
    ] {
        let found = json_of(&diff(directory, &[old, new, "-o", "json"]));
        assert_eq!(
            found["allowed"][0]["from"], expected["allowed"][0]["from"],
            "{old} {new}"
        );
        assert_eq!(
            found["allowed"][0]["example"]["call"],
            expected["allowed"][0]["example"]["call"]
        );
    }
}

#[test]
fn widening_fails_where_it_is_to_and_narrowing_does_not() {
    let root = repository();
    let widened = diff(root.path(), &["v1", "main", "--fail-on-widening"]);
    assert_eq!(widened.status.code(), Some(1));
    let narrowed = diff(
        root.path(),
        &["main", "v1", "--fail-on-widening", "-o", "json"],
    );
    assert_eq!(narrowed.status.code(), Some(0));
    let json = json_of(&narrowed);
    assert_eq!(json["widens"], json!(false));
    assert_eq!(json["allowed"], json!([]));
    assert_eq!(json["denied"][0]["example"]["confirmed"], json!(true));
    assert_eq!(
        json["denied"][0]["example"]["after"]["decision"],
        json!("deny")
    );
    let same = diff(root.path(), &["main", "policies", "--fail-on-widening"]);
    assert_eq!(same.status.code(), Some(0));
    assert_eq!(stdout(&same), "no call is decided in another way\n");
}

#[test]
fn conditions_are_named_and_not_claimed_to_be_known() {
    let root = tempfile::tempdir().unwrap();
    let when = "  - {name: tenants, action: allow, to: [{ports: [8080]}], when: 'request.headers[\"x-tenant\"] == \"acme\"'}\n";
    fs::write(root.path().join("old.yaml"), policy(READ)).unwrap();
    fs::write(
        root.path().join("new.yaml"),
        policy(&format!("{READ}{when}")),
    )
    .unwrap();
    let output = diff(root.path(), &["old.yaml", "new.yaml"]);
    let text = stdout(&output);
    assert!(
        text.contains("when request.headers[\"x-tenant\"] == \"acme\" is true\n"),
        "{text}"
    );
    assert!(text.contains("the engine does not confirm it"), "{text}");
    assert!(
        text.contains("note: CEL conditions are not looked into"),
        "{text}"
    );
    let json = json_of(&diff(root.path(), &["old.yaml", "new.yaml", "-o", "json"]));
    for change in json["allowed"].as_array().unwrap() {
        assert_eq!(change["example"]["depends_on_conditions"], json!(true));
        assert_eq!(change["example"]["confirmed"], json!(false));
    }
}

#[test]
fn a_directory_file_says_which_workloads_count() {
    let root = repository();
    let file = root.path().join("directory.yaml");
    let workload = |account: &str, app: &str| {
        format!(
            "- {{name: {account}, namespace: shop, serviceAccount: {account}, labels: {{app: {app}}}, wireAddress: '127.0.0.1:1'}}\n"
        )
    };
    let file_name = file.to_str().unwrap();
    fs::write(
        &file,
        format!("workloads:\n{}", workload("orders-v2", "orders")),
    )
    .unwrap();
    let output = diff(root.path(), &["v1", "main", "--directory", file_name]);
    assert!(
        stdout(&output).contains("shop/web → any workload:8080  DELETE"),
        "{}",
        stdout(&output)
    );
    fs::write(&file, format!("workloads:\n{}", workload("web", "web"))).unwrap();
    let output = diff(root.path(), &["v1", "main", "--directory", file_name]);
    assert_eq!(stdout(&output), "no call is decided in another way\n");
    fs::write(&file, "workloads: [{namespace: shop}]\n").unwrap();
    let output = diff(root.path(), &["v1", "main", "--directory", file_name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("directory.yaml:1:13: missing field `serviceAccount`"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_cannot_be_compared_is_told_with_its_place() {
    let root = repository();
    let output = diff(root.path(), &["v1", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(
        told.contains("has no revision nowhere, and there is no path nowhere: expected a directory, a file, or a git revision such as main~1"),
        "{told}"
    );
    let output = diff(root.path(), &["--", "v1", "-x"]);
    assert_eq!(output.status.code(), Some(2));
    fs::write(
        root.path().join("policies/orders.yaml"),
        policy("  - {name: x, action: alow}\n"),
    )
    .unwrap();
    let output = diff(root.path(), &["v1", "policies"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("policies/orders.yaml:7:23: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_git_does_not_know_is_told_with_its_repository() {
    let root = repository();
    let place = root.path().canonicalize().unwrap();
    let told = |directory: &Path, old: &str| {
        let output = diff(directory, &[old, "policies"]);
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(stdout(&output), "");
        let told = stderr(&output);
        assert_eq!(told.trim_end().lines().count(), 1, "{told}");
        assert!(!told.contains("single revision"), "{told}");
        told
    };
    let is_told = |directory: &Path, old: &str, expected: &str| {
        let found = told(directory, old);
        assert!(found.contains(expected), "{found}");
        assert!(
            found.contains("expected a directory, a file, or a git revision such as main~1"),
            "{found}"
        );
    };
    let here = place.display();
    is_told(
        root.path(),
        "v2",
        &format!("the git repository {here} has no revision v2, and there is no path v2"),
    );
    is_told(
        root.path(),
        "v2:policies",
        &format!("the git repository {here} has no revision v2,"),
    );
    is_told(
        root.path(),
        "v1:polices",
        &format!("at the revision v1 of the git repository {here} there is no polices"),
    );
    let new = root.path().join("new");
    fs::create_dir_all(new.join("policies")).unwrap();
    fs::copy(
        root.path().join("policies/orders.yaml"),
        new.join("policies/orders.yaml"),
    )
    .unwrap();
    is_told(&new, "v1", "there is no directory like this one");
    // As a clone has it, in which nobody worked on the branch yet.
    git(
        root.path(),
        &["update-ref", "refs/remotes/origin/theirs", "v1"],
    );
    is_told(
        root.path(),
        "theirs",
        "has no revision theirs (did you mean origin/theirs?)",
    );
    let shallow = tempfile::tempdir().unwrap();
    let clone = shallow.path().join("clone");
    let from = format!("file://{here}");
    git(
        shallow.path(),
        &["clone", "-q", "--depth=1", &from, clone.to_str().unwrap()],
    );
    is_told(
        &clone,
        "HEAD~1",
        "has no revision HEAD~1 (it is a shallow clone: `git fetch --unshallow`",
    );
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(elsewhere.path().join("policies")).unwrap();
    is_told(
        elsewhere.path(),
        "v1",
        "there is no path v1, and no git repository here",
    );
}

#[test]
fn the_first_policy_is_compared_with_none_and_the_last_is_not_removed_by_mistake() {
    let root = tempfile::tempdir().unwrap();
    for name in ["none", "some"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    fs::write(
        root.path().join("none/service.yaml"),
        "apiVersion: v1\nkind: Service\n",
    )
    .unwrap();
    fs::write(root.path().join("some/orders.yaml"), policy(READ)).unwrap();
    let output = diff(root.path(), &["none", "some", "--fail-on-widening"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output)
            .contains("note: there is no policy in none: all that some allows becomes allowed\n"),
        "{}",
        stdout(&output)
    );
    let json = json_of(&diff(root.path(), &["none", "some", "-o", "json"]));
    assert!(
        json["notes"][0]
            .as_str()
            .unwrap()
            .starts_with("there is no policy in none")
    );
    let output = diff(root.path(), &["some", "none"]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(2), "")
    );
    assert!(
        stderr(&output).contains("there is no policy in none: expected documents of countersign.dev/v1 in files that end in .yaml or .yml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_changed_issuer_is_told_and_counts_as_widening() {
    let root = tempfile::tempdir().unwrap();
    let issuer = |audience: &str| {
        format!(
            "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {{name: corp, namespace: shop}}\nspec: {{issuer: https://login.example, audiences: [{audience}]}}\n"
        )
    };
    fs::write(root.path().join("old.yaml"), issuer("shop")).unwrap();
    fs::write(root.path().join("new.yaml"), issuer("shop, test")).unwrap();
    let output = diff(root.path(), &["old.yaml", "new.yaml", "--fail-on-widening"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output)
            .contains("TokenIssuer shop/corp changed (new.yaml:1), which may let in more"),
        "{}",
        stdout(&output)
    );
}
