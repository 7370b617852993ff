//! `countersign policy explain` as people and programs use it.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use serde_json::json;
use support::{ORDER, ORDERS, Place};

#[test]
fn a_denied_call_is_explained_rule_by_rule() {
    let place = Place::with(&[
        ("policy/p.yaml", ORDERS),
        ("call.json", &ORDER.replace("POST", "PUT")),
    ]);
    let done = place.run(&["explain", "policy", "--call", "call.json"]);
    assert_eq!(
        done.with_status(1),
        "DENY  no rule allows PUT /orders for spiffe://cluster.local/ns/shop/sa/web; closest is \"web takes orders\" \
(shop/orders, policy/p.yaml:6): method is PUT, rule wants POST

policy shop/orders
✗ allow \"web takes orders\" (does not match)  policy/p.yaml:6
  ✓ from     ✓ workload: spiffe://cluster.local/ns/shop/sa/web, wanted shop/web
  ✗ to       ✓ ports: 8080, wanted 8080
             ✓ paths: /orders, wanted /orders
             ✗ methods: PUT, wanted POST
✗ deny \"nobody deletes\" (does not match)  policy/p.yaml:10
  ✗ to       ✗ methods: PUT, wanted DELETE
"
    );
}

#[test]
fn the_same_for_programs() {
    let place = Place::with(&[("p.yaml", ORDERS)]);
    let done = place.run_with(&["explain", "p.yaml", "--call", "-", "-o", "json"], ORDER);
    let json = done.json(0);
    assert_eq!(json["decision"]["decision"], "allow");
    assert_eq!(
        json["rules"][1]["parts"],
        json!([{"part": "to", "matches": false, "alternatives": [{"matches": false, "fields": [
            {"field": "methods", "matches": false, "found": "POST", "wanted": "DELETE"}]}]}])
    );
}

#[test]
fn a_rule_with_alternatives_shows_each() {
    let policy = ORDERS.replace(
        "from: [{workload: shop/web}]",
        "from: [{namespace: test}, {workload: shop/web}]",
    );
    let place = Place::with(&[("p.yaml", &policy), ("call", ORDER)]);
    let done = place.run(&["explain", "p.yaml", "--call", "call"]);
    let text = done.with_status(0);
    assert!(
        text.contains(
            "  ✓ from     one of 2:
    ✗ - ✗ namespace: shop, wanted test
    ✓ - ✓ workload: spiffe://cluster.local/ns/shop/sa/web, wanted shop/web
"
        ),
        "{text}"
    );
}

#[test]
fn what_is_no_call_is_told() {
    let place = Place::with(&[("p.yaml", ORDERS), ("call", "{\"peer\": 5}")]);
    let done = place.run(&["explain", "p.yaml", "--call", "call"]);
    assert_eq!(done.with_status(2), "");
    assert!(
        done.stderr
            .contains("call: this is no call: invalid type: integer `5`"),
        "{}",
        done.stderr
    );
    let unknown = ORDER.replace("}}", "},\"subject\":{\"issuer\":\"crop\"}}");
    let done = place.run_with(&["explain", "p.yaml", "--call", "-"], &unknown);
    assert!(
        done.stderr
            .contains("there is no TokenIssuer crop that shop/orders believes, only shop/corp"),
        "{}",
        done.stderr
    );
    assert_eq!(done.status, 2);
}
