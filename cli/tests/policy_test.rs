//! `countersign policy test` as people and programs use it.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use support::{ORDERS, Place};

const GOOD: &str = "apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: {name: orders}
spec:
  calls:
    order:
      peer: shop/web
      destination: {namespace: shop, workload: orders, port: 8080}
      request: {method: POST, path: /orders}
  tests:
  - {name: web takes an order, call: order, expect: allow, rule: web takes orders}
  - {name: others do not, call: order, with: {peer: shop/other}, expect: deny}
";

#[test]
fn results_are_told_test_by_test() {
    let place = Place::with(&[("p/orders.yaml", ORDERS), ("p/orders.test.yaml", GOOD)]);
    let done = place.run(&["test", "p"]);
    assert_eq!(
        done.with_status(0),
        "orders (p/orders.test.yaml)
  ✓ web takes an order  allow  \"web takes orders\" (shop/orders)
  ✓ others do not       deny   no-rule-matched

2 of 2 tests passed; 1 of 2 rules tested
"
    );
    assert_eq!(done.stderr, "");
}

#[test]
fn a_failed_test_says_what_was_expected_and_what_came_and_why() {
    let place = Place::with(&[
        ("orders.yaml", &ORDERS.replace("[POST]", "[PUT]")),
        ("orders.test.yaml", GOOD),
    ]);
    let done = place.run(&["test", "."]);
    let text = done.with_status(1);
    assert!(
        text.contains(
            "  ✗ web takes an order  deny  no-rule-matched
      orders.test.yaml:11: expected allow, got deny; expected the rule \"web takes orders\", got none: no rule allows POST /orders \
for spiffe://cluster.local/ns/shop/sa/web; closest is \"web takes orders\" (shop/orders, orders.yaml:6): method is POST, rule wants PUT
"
        ),
        "{text}"
    );
    assert!(
        text.ends_with("1 of 2 tests passed; 0 of 2 rules tested\n"),
        "{text}"
    );
}

#[test]
fn coverage_is_told_and_can_be_required() {
    let place = Place::with(&[("orders.yaml", ORDERS), ("orders.test.yaml", GOOD)]);
    let told = place.run(&["test", ".", "--coverage"]);
    assert!(
        told.with_status(0).contains(
            "  ✓ \"web takes orders\"  shop/orders  allow  1  orders.yaml:6
  ✗ \"nobody deletes\"    shop/orders  deny   0  orders.yaml:10
"
        ),
        "{}",
        told.stdout
    );
    let required = place.run(&["test", ".", "--require-coverage"]);
    let text = required.with_status(1);
    assert!(
        text.contains("rules that no test decided\n  ✗ \"nobody deletes\"  shop/orders  deny  0  orders.yaml:10\n"),
        "{text}"
    );
    let more = format!(
        "{GOOD}  - {{name: nobody deletes, call: order, with: {{request: {{method: DELETE}}}}, expect: deny}}\n"
    );
    place.write("orders.test.yaml", &more);
    place
        .run(&["test", ".", "--require-coverage"])
        .with_status(0);
}

#[test]
fn the_same_for_programs_and_as_junit() {
    let place = Place::with(&[
        ("orders.yaml", &ORDERS.replace("[POST]", "[PUT]")),
        ("orders.test.yaml", GOOD),
    ]);
    let done = place.run(&["test", ".", "--junit", "out.xml", "-o", "json"]);
    let json = done.json(1);
    assert_eq!(
        (json["tests"].as_u64(), json["failed"].as_u64()),
        (Some(2), Some(1))
    );
    let failed = &json["results"][0];
    assert_eq!(failed["passed"], false);
    assert_eq!(failed["expected"]["rule"], "web takes orders");
    assert_eq!(failed["got"]["class"], "no-rule-matched");
    assert_eq!(json["results"][1]["failure"], serde_json::Value::Null);
    assert_eq!(json["coverage"]["by_rule"][1]["rule"], "nobody deletes");
    let xml = place.read("out.xml");
    assert!(
        xml.contains(r#"tests="2" skipped="0" failures="1""#),
        "{xml}"
    );
}

#[test]
fn mistakes_of_policy_and_tests_are_told_together() {
    let place = Place::with(&[
        (
            "a.yaml",
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: 5\n",
        ),
        ("a.test.yaml", &GOOD.replace("expect: deny", "expect: no")),
    ]);
    let done = place.run(&["test", "."]);
    let text = done.with_status(1);
    assert!(
        text.contains("a.test.yaml:12:74: unknown word \"no\""),
        "{text}"
    );
    assert!(text.contains("a.yaml:3:11: expected a mapping"), "{text}");
    let json = place.run(&["test", ".", "-o", "json"]).json(1);
    assert_eq!(json["mistakes"][0]["file"], "a.test.yaml");
}

#[test]
fn where_there_is_no_test_nothing_passes() {
    let place = Place::with(&[("orders.yaml", ORDERS)]);
    let done = place.run(&["test", "."]);
    assert_eq!(done.with_status(2), "");
    assert!(
        done.stderr.contains("there are no tests in ."),
        "{}",
        done.stderr
    );
}
