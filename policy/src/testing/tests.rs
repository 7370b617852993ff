use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::document::parse;

const POLICY: &str = r#"apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - name: web takes orders
    action: allow
    from: [{workload: shop/web}]
    to: [{ports: [8080], methods: [POST], paths: [/orders]}]
  - name: buyers look at theirs
    action: allow
    from: [{workload: shop/web}]
    subject: {issuer: corp, claims: {groups: buyer}}
    to: [{methods: [GET]}]
  - name: nobody deletes
    action: deny
    to: [{methods: [DELETE]}]
  - name: what the intern does
    action: audit
    from: [{workload: shop/intern}]
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.example, audiences: [shop]}
"#;

const HEADER: &str =
    "apiVersion: countersign.dev/v1\nkind: PolicyTest\nmetadata: {name: orders}\nspec:\n";

const CALLS: &str = r#"  calls:
    order:
      peer: shop/web
      destination: {namespace: shop, workload: orders, port: 8080}
      request: {method: POST, path: /orders}
"#;

fn suites(text: &str) -> Result<Vec<TestSuite>, String> {
    read([("t.test.yaml".to_owned(), text.to_owned())]).map_err(|mistakes| mistakes.to_string())
}

fn outcome(tests: &str) -> Outcome {
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let documents = parse([("p.yaml".to_owned(), POLICY.to_owned())]).unwrap();
    let policy = Policy::compile("", &trust_domain, documents).unwrap();
    let suites = suites(&format!("{HEADER}{CALLS}  tests:\n{tests}")).unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(1_795_428_000);
    run(&policy, &trust_domain, suites, now)
}

fn failures(tests: &str) -> Vec<String> {
    outcome(tests)
        .failures()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn tests_pass_where_all_is_as_expected() {
    let tests = r#"
  - name: all that can be expected
    call: order
    expect: allow
    rule: web takes orders
    policy: shop/orders
    reason: allowed
  - name: nobody else
    call: order
    with: {peer: shop/other}
    expect: deny
    reason: no-rule-matched
  - name: a stranger
    call: order
    without: [peer]
    expect: deny
    reason: no-identity
  - name: an opaque connection
    call: order
    without: [request]
    expect: deny
    rule: nobody deletes
  - name: a buyer
    call: order
    with:
      request: {method: GET}
      subject: {issuer: corp, claims: {groups: [buyer]}}
    expect: allow
    rule: buyers look at theirs
  - name: the intern is watched
    call:
      peer: spiffe://shop.example/ns/shop/sa/intern
      destination: {namespace: shop, workload: orders, port: 8080}
      request: {method: GET, path: /, headers: {accept: [text/html, "*/*"]}}
      time: "2026-11-23T10:00:00Z"
    expect: deny
    observed: [what the intern does]
"#;
    assert_eq!(failures(tests), [""; 0]);
}

#[test]
fn a_failure_says_what_was_expected_what_came_and_why() {
    let tests = r#"
  - {name: a, call: order, expect: deny}
  - {name: b, call: order, expect: allow, rule: buyers look at theirs, policy: shop/other, observed: [x]}
  - name: c
    call: order
    with: {request: {method: PUT}}
    expect: allow
    reason: allowed
  - {name: d, call: order, with: {subject: {issuer: crop}}, expect: allow}
"#;
    assert_eq!(
        failures(tests),
        [
            "t.test.yaml:12:5: the test \"a\" failed: expected deny, got allow: allowed by \"web takes orders\" (shop/orders, p.yaml:6)",
            "t.test.yaml:13:5: the test \"b\" failed: expected the rule \"buyers look at theirs\", got \"web takes orders\"; \
             expected the policy \"shop/other\", got \"shop/orders\"; expected the rule \"x\" to be observed, it was not: \
             allowed by \"web takes orders\" (shop/orders, p.yaml:6)",
            "t.test.yaml:14:5: the test \"c\" failed: expected allow, got deny; expected the reason \"allowed\", got \"no-rule-matched\": \
             no rule allows PUT /orders for spiffe://shop.example/ns/shop/sa/web; closest is \"web takes orders\" (shop/orders, p.yaml:6): \
             method is PUT, rule wants POST",
            "t.test.yaml:19:5: the test \"d\" failed: the call cannot be judged: subject.issuer: there is no TokenIssuer crop that \
             shop/orders believes, only shop/corp",
        ]
    );
}

#[test]
fn coverage_counts_rules_that_decide_and_rules_that_only_observe() {
    let outcome = outcome(
        r#"
  - {name: a, call: order, expect: allow}
  - {name: b, call: order, with: {request: {method: DELETE}}, expect: deny}
  - {name: c, call: order, with: {request: {path: /other}}, expect: deny}
  - {name: d, call: order, with: {peer: shop/intern, request: {method: DELETE}}, expect: deny}
"#,
    );
    let counts: Vec<_> = outcome
        .coverage
        .rules
        .iter()
        .map(|covered| (covered.rule.rule.as_str(), covered.tests))
        .collect();
    assert_eq!(
        counts,
        [
            ("web takes orders", 1),
            ("buyers look at theirs", 0),
            ("nobody deletes", 2),
            ("what the intern does", 1)
        ]
    );
    let untested: Vec<_> = outcome.coverage.untested().collect();
    assert_eq!(untested.len(), 1);
}

#[test]
fn every_mistake_in_a_test_file_is_told_with_its_place() {
    let text = format!(
        "{HEADER}{}",
        r#"  calls:
    order:
      peer: shop/web
      destination: {namespace: shop, workload: orders, port: 80800}
      request: {method: POST, pth: /orders}
    other:
      destination: {namespace: shop, workload: orders, port: 8080}
      source_ip: 10.0.0
      time: now
  tests:
  - {name: a, call: odrer, expect: alow}
  - {name: b, call: other, expect: allow, reason: no-rule}
  - {name: c, expect: allow, policy: orders, without: [destination]}
  - {name: d, call: 5, with: {subject: {claims: [1]}}, expect: allow, rul: x}
"#
    );
    assert_eq!(
        suites(&text).unwrap_err(),
        "\
t.test.yaml:8:62: expected a port from 1 to 65535, got the number 80800
t.test.yaml:9:16: missing field `path`
t.test.yaml:9:31: unknown field `pth`, did you mean `path`?
t.test.yaml:12:18: expected an IP address such as 10.0.0.7, got \"10.0.0\": invalid IP address syntax
t.test.yaml:13:13: expected a time such as 2026-11-23T10:00:00Z, got \"now\": premature end of input
t.test.yaml:15:36: unknown word \"alow\", did you mean `allow`?
t.test.yaml:16:51: unknown word \"no-rule\", expected `allowed`, `allowed-by-default`, `denied-by-rule`, `condition-failed`, `no-rule-matched`, `ambiguous-path`, `no-identity` or `no-policy`
t.test.yaml:17:5: missing field `call`
t.test.yaml:17:38: expected a policy as namespace/name, got \"orders\"
t.test.yaml:17:56: unknown word \"destination\", expected `peer`, `source_ip`, `sni`, `request`, `subject`, `subjects`, `intent` or `time`
t.test.yaml:18:21: expected a string, got the number 5: put it in quotes
t.test.yaml:18:49: expected a mapping, got a list
t.test.yaml:18:71: unknown field `rul`, did you mean `rule`?"
    );
}

#[test]
fn names_of_calls_and_tests_are_checked() {
    let text = format!(
        "{HEADER}{CALLS}  tests:\n  - {{name: a, call: ordr, expect: allow}}\n  - {{name: b, call: order, expect: deny}}\n  - {{name: b, call: order, expect: deny}}\n"
    );
    assert_eq!(
        suites(&text).unwrap_err(),
        "\
t.test.yaml:11:21: there is no call \"ordr\", did you mean \"order\"?
t.test.yaml:13:5: the test \"b\" has the name of the one on line 12: names are unique in a document"
    );
}

#[test]
fn a_call_that_is_whole_only_together_is_told_where_it_is_not() {
    let text = format!(
        "{HEADER}{CALLS}  tests:\n  - {{name: a, call: order, without: [request], with: {{request: {{method: GET}}}}, expect: allow}}\n"
    );
    assert_eq!(
        suites(&text).unwrap_err(),
        "t.test.yaml:11:5: this is no call: missing field `path`"
    );
}

#[test]
fn other_documents_are_no_tests() {
    assert_eq!(
        suites(POLICY).unwrap_err().lines().next().unwrap(),
        "t.test.yaml:2:7: unknown word \"AccessPolicy\", expected `PolicyTest`"
    );
    assert_eq!(suites("").unwrap(), []);
}
