//! `countersign policy reach` as a real process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::Place;

/// A policy for calls to one service account of the namespace shop.
fn access(account: &str, rules: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {{name: {account}, namespace: shop}}
spec:
  target: {{workloads: [{account}]}}
  rules:
{rules}---
"
    )
}

/// web calls orders, orders calls payments, and whoever has a token calls the ledger.
fn shop() -> String {
    access(
        "orders",
        "  - {name: web, action: allow, from: [{workload: shop/web}], to: [{ports: [8080]}]}\n",
    ) + &access(
        "payments",
        "  - {name: orders, action: allow, from: [{workload: shop/orders}], to: [{ports: [9090]}]}\n",
    ) + &access(
        "ledger",
        "  - {name: signed, action: allow, from: [{workload: shop/payments}], subject: {issuer: corp}}\n",
    ) + "apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.example, audiences: [shop]}
"
}

struct Done {
    status: i32,
    stdout: String,
    stderr: String,
}

fn reach(place: &Place, arguments: &[&str]) -> Done {
    let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .current_dir(place.path())
        .args(["policy", "reach", "--trust-domain", "shop.example"])
        .args(arguments)
        .output()
        .unwrap();
    Done {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn json_of(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn the_graph_and_everybodys_radius_are_told() {
    let place = Place::with(&[("p.yaml", &shop())]);
    let done = reach(&place, &["p.yaml"]);
    assert_eq!(done.status, 0, "{}", done.stderr);
    let expected = "who may call whom
  shop/orders → shop/payments:9090  by \"orders\" (shop/payments, p.yaml:15)
  shop/payments → shop/ledger  by \"signed\" (shop/ledger, p.yaml:23)  needs a token
  shop/web → shop/orders:8080  by \"web\" (shop/orders, p.yaml:7)
how far somebody gets who has one of them
  shop/web        3 workloads, 1 directly, the others over up to 3 calls
  shop/orders     2 workloads, 1 directly, the others over up to 2 calls
  shop/payments   1 workload, directly
  others          0 workloads
  others of shop  0 workloads
  shop/ledger     0 workloads
";
    assert!(done.stdout.starts_with(expected), "{}", done.stdout);
    assert!(
        done.stdout.contains("note: without --directory"),
        "{}",
        done.stdout
    );
}

#[test]
fn the_blast_radius_of_one_workload_is_told_by_hops_and_rules() {
    let place = Place::with(&[("p.yaml", &shop())]);
    for id in ["shop/web", "spiffe://shop.example/ns/shop/sa/web"] {
        let done = reach(&place, &["p.yaml", "--from", id]);
        let expected = "shop/web gets to 3 workloads
  directly
    shop/web → shop/orders:8080  by \"web\" (shop/orders, p.yaml:7)
  over 2 calls
    shop/orders → shop/payments:9090  by \"orders\" (shop/payments, p.yaml:15)
  over 3 calls
    shop/payments → shop/ledger  by \"signed\" (shop/ledger, p.yaml:23)  needs a token
";
        assert!(done.stdout.starts_with(expected), "{}", done.stdout);
    }
    let json = json_of(&reach(
        &place,
        &["p.yaml", "--to", "shop/payments", "-o", "json"],
    ));
    let names: Vec<&Value> = json["to"]["reached"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reached| &reached["name"])
        .collect();
    assert_eq!(names, [&json!("shop/orders"), &json!("shop/web")]);
    assert_eq!(json["to"]["reached"][1]["hops"], json!(2));
}

#[test]
fn whether_one_gets_to_another_is_an_answer() {
    let place = Place::with(&[("p.yaml", &shop())]);
    let yes = reach(
        &place,
        &["p.yaml", "--from", "shop/web", "--to", "shop/payments"],
    );
    assert_eq!(yes.status, 0);
    assert!(
        yes.stdout
            .starts_with("shop/web gets to shop/payments over 2 calls\n")
    );
    let no = reach(
        &place,
        &["p.yaml", "--from", "shop/payments", "--to", "shop/web"],
    );
    assert_eq!(no.status, 1);
    assert!(
        no.stdout
            .starts_with("shop/payments does not get to shop/web\n")
    );
    let json = reach(
        &place,
        &[
            "p.yaml",
            "--from",
            "shop/payments",
            "--to",
            "shop/web",
            "-o",
            "json",
        ],
    );
    assert_eq!(json_of(&json)["way"], Value::Null);
    // Who is named by nobody is somebody all the same.
    let other = reach(
        &place,
        &["p.yaml", "--from", "test/runner", "--to", "shop/web"],
    );
    assert_eq!(other.status, 1);
    let wrong = reach(&place, &["p.yaml", "--from", "web"]);
    assert_eq!(wrong.status, 2);
    assert!(
        wrong
            .stderr
            .contains("there is no web in the graph: expected namespace/account"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn what_changed_since_an_older_policy_is_told() {
    let before = shop();
    let after = before.replace(
        "{workload: shop/orders}]",
        "{workload: shop/orders}, {workload: shop/web}]",
    );
    let place = Place::with(&[("old.yaml", &before), ("new.yaml", &after)]);
    let done = reach(&place, &["new.yaml", "--since", "old.yaml"]);
    assert!(
        done.stdout.contains(
            "who may call whom now, and could not before\n  shop/web → shop/payments:9090"
        ),
        "{}",
        done.stdout
    );
    let back = reach(
        &place,
        &["old.yaml", "--since", "new.yaml", "--from", "shop/web"],
    );
    assert!(
        back.stdout.contains("got to now and not before: none\n"),
        "{}",
        back.stdout
    );
    let denied = after.replace(
        "action: allow, from: [{workload: shop/payments}]",
        "action: deny, from: [{workload: shop/payments}]",
    );
    place.write("denied.yaml", &denied);
    let done = reach(
        &place,
        &[
            "denied.yaml",
            "--since",
            "old.yaml",
            "--from",
            "shop/web",
            "-o",
            "json",
        ],
    );
    let json = json_of(&done);
    assert_eq!(
        json["since"]["reach"],
        json!({"gained": [], "lost": ["shop/ledger"]})
    );
    assert_eq!(json["since"]["removed"][0]["to"], json!("shop/ledger"));
    let web = json["radius"]
        .as_array()
        .unwrap()
        .iter()
        .find(|radius| radius["name"] == "shop/web")
        .unwrap();
    assert_eq!((&web["reached"], &web["before"]), (&json!(2), &json!(3)));
}

#[test]
fn graphviz_and_svg_have_the_part_that_is_asked_for() {
    let place = Place::with(&[("p.yaml", &shop())]);
    let done = reach(
        &place,
        &[
            "p.yaml",
            "--dot",
            "--svg",
            "graph.svg",
            "--from",
            "shop/orders",
        ],
    );
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert!(
        done.stdout.starts_with("digraph reach {\n"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout.contains(
            "n1 -> n2 [label=\"9090\", tooltip=\"\\\"orders\\\" (shop/payments, p.yaml:15)\"];"
        ),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("shop/web"), "{}", done.stdout);
    let svg = std::fs::read_to_string(place.path().join("graph.svg")).unwrap();
    assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
    assert!(
        svg.contains(">shop/ledger</text>") && !svg.contains("shop/web"),
        "{svg}"
    );
}

#[test]
fn with_a_directory_the_graph_has_its_workloads() {
    let directory = "workloads:
- {name: web, namespace: shop, serviceAccount: web, wireAddress: '127.0.0.1:1'}
- {name: orders-1, namespace: shop, serviceAccount: orders, wireAddress: '127.0.0.1:2'}
- {name: batch, namespace: test, serviceAccount: batch, wireAddress: '127.0.0.1:3'}
";
    let place = Place::with(&[("p/p.yaml", &shop()), ("directory.yaml", directory)]);
    let done = reach(
        &place,
        &["p", "--directory", "directory.yaml", "-o", "json"],
    );
    assert_eq!(done.status, 0, "{}", done.stderr);
    let json = json_of(&done);
    let names: Vec<&Value> = json["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| &node["name"])
        .collect();
    assert_eq!(
        names,
        [
            &json!("shop/orders"),
            &json!("shop/web"),
            &json!("test/batch")
        ]
    );
    assert_eq!(json["edges"].as_array().unwrap().len(), 1);
    assert_eq!(json["notes"], json!([]));
}

#[test]
fn where_there_is_no_policy_there_is_no_graph() {
    let place = Place::with(&[
        ("none/README.md", ""),
        ("other/service.yaml", "apiVersion: v1\nkind: Service\n"),
        ("some/p.yaml", &shop()),
    ]);
    for directory in ["none", "other"] {
        let done = reach(&place, &[directory]);
        assert_eq!((done.status, done.stdout.as_str()), (2, ""));
        let expected = format!(
            "there is no policy in {directory}: expected documents of countersign.dev/v1 in files that end in .yaml or .yml"
        );
        assert!(done.stderr.contains(&expected), "{}", done.stderr);
        let done = reach(&place, &["some", "--since", directory]);
        assert_eq!(done.status, 0, "{}", done.stderr);
        let expected =
            format!("note: there was no policy in {directory}: nobody could call anybody\n");
        assert!(done.stdout.contains(&expected), "{}", done.stdout);
    }
}

#[test]
fn a_workload_that_no_policy_names_is_told_as_such() {
    let by_id = access(
        "byid",
        "  - {name: id, action: allow, from: [{spiffe: spiffe://shop.example/ns/shop/sa/named}]}\n",
    );
    let place = Place::with(&[("p.yaml", &(shop() + "---\n" + &by_id))]);
    let note = "note: no policy names shop/nobody: what is told holds for it if there is such a workload, which --directory would tell\n";
    for end in ["--from", "--to"] {
        let done = reach(&place, &["p.yaml", end, "shop/nobody"]);
        assert_eq!(done.status, 0, "{}", done.stderr);
        assert!(done.stdout.contains(note), "{}", done.stdout);
        let json = json_of(&reach(
            &place,
            &["p.yaml", end, "shop/nobody", "-o", "json"],
        ));
        let nodes = json["nodes"].as_array().unwrap();
        let unknown = nodes.iter().filter(|node| node["known"] == json!(false));
        assert_eq!(unknown.count(), 1);
    }
    for named in ["shop/web", "shop/named", "others of shop"] {
        let done = reach(&place, &["p.yaml", "--from", named]);
        assert_eq!(done.status, 0, "{}", done.stderr);
        assert!(!done.stdout.contains("no policy names"), "{}", done.stdout);
    }
    let directory = "workloads:\n- {namespace: shop, serviceAccount: web}\n";
    place.write("directory.yaml", directory);
    let done = reach(
        &place,
        &[
            "p.yaml",
            "--directory",
            "directory.yaml",
            "--from",
            "shop/nobody",
        ],
    );
    assert_eq!(done.status, 2);
    assert!(
        done.stderr.contains("there is no shop/nobody in the graph"),
        "{}",
        done.stderr
    );
}
