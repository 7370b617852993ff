use std::time::{Duration, UNIX_EPOCH};

use countersign_identity::TrustDomain;

use super::*;
use crate::call_json::CallJson;
use crate::{Policy, document};

const ISSUER: &str = "---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.example, audiences: [shop]}
";

fn explain(rules: &str, call: &str) -> Explanation {
    let text = format!(
        "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  rules:\n{rules}\n{ISSUER}"
    );
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let documents = document::parse([("p.yaml".to_owned(), text)]).unwrap();
    let policy = Policy::compile("", &trust_domain, documents).unwrap();
    let text = format!(
        r#"{{"destination":{{"namespace":"shop","workload":"orders","port":8080}},{call}}}"#
    );
    let call: CallJson<'_> = serde_json::from_str(&text).unwrap();
    let policy = policy.for_workload(&call.destination.to_workload());
    let now = UNIX_EPOCH + Duration::from_secs(1_795_428_000);
    let call = call
        .resolve(&trust_domain, policy.token_issuers(), now)
        .unwrap();
    policy.explain(&call.as_call())
}

/// `part: field=answer found|wanted; …` of each alternative.
fn told(rule: &RuleExplanation) -> Vec<String> {
    let mut lines = Vec::new();
    for part in &rule.parts {
        for alternative in &part.alternatives {
            let fields = alternative.fields.iter().map(|field| {
                let mark = if field.matches { '+' } else { '-' };
                format!("{mark}{}: {} | {}", field.field, field.found, field.wanted)
            });
            let fields: Vec<_> = fields.collect();
            lines.push(format!("{} {}", part.part, fields.join("; ")));
        }
    }
    lines
}

const GET: &str = r#""peer":"shop/web","request":{"method":"GET","host":"orders.shop:80","path":"/orders/7?x","headers":{"X-Tenant":"acme"}}"#;

#[test]
fn every_part_is_told_with_what_was_found_and_what_was_wanted() {
    let explained = explain(
        r#"
  - name: all
    action: allow
    from: [{workload: shop/api}, {namespace: shop, not: {workload: shop/web}}]
    subject: {issuer: corp, audience: shop, claims: {groups: [buyer, 7]}, not: {claims: {blocked: true}}}
    intent: {scope: [read], context: {tenant: acme}, requester: shop/web}
    to:
    - {ports: [8080, 9090], methods: [POST], hosts: [orders.shop], paths: ["/orders/{id}"], headers: {x-tenant: [emca, amce]}}
    - {grpc: [{service: shop.Orders}], not: {paths: ["/orders/**"]}}
    when: path.id == "7"
"#,
        &format!(
            r#"{GET},"subject":{{"issuer":"corp","claims":{{"aud":["shop"],"groups":["buyer"]}}}},"intent":{{"scope":["read","list"],"tctx":{{"tenant":"x"}},"requester":"shop/web"}}"#
        ),
    );
    let [rule] = explained.rules.as_slice() else {
        panic!("{:?}", explained.rules);
    };
    assert_eq!(
        told(rule),
        [
            "from -workload: spiffe://shop.example/ns/shop/sa/web | shop/api",
            "from +namespace: shop | shop; -not.workload: spiffe://shop.example/ns/shop/sa/web | not shop/web",
            "subject +issuer: shop/corp | shop/corp; +audience: [\"shop\"] | shop; +claims.groups: [\"buyer\"] | buyer or 7; \
             +not.claims.blocked: none | not true",
            "intent +scope: read and list | read; -context.tenant: \"x\" | acme; +requester: spiffe://shop.example/ns/shop/sa/web | shop/web",
            "to +ports: 8080 | 8080 or 9090; +hosts: orders.shop | orders.shop; +paths: /orders/7 | /orders/{id}; -methods: GET | POST; \
             -headers: x-tenant: acme | x-tenant: emca or amce",
            "to -grpc: /orders/7 | /shop.Orders/*; -not.paths: /orders/7 | not /orders/**",
            "when -when: not evaluated: something else does not match | path.id == \"7\"",
        ]
    );
    let matches: Vec<_> = rule.parts.iter().map(|part| part.matches).collect();
    assert_eq!(
        matches,
        [Some(false), Some(true), Some(false), Some(false), None]
    );
    assert!(!rule.matches && rule.decides);
    assert_eq!(explained.decision.verdict, Verdict::Deny);
}

#[test]
fn an_allow_rule_asks_for_an_identity_without_saying_so() {
    let rules = r#"
  - {name: anyone, action: allow}
  - {name: by address, action: allow, from: [{cidr: 10.0.0.0/8}]}
  - {name: nobody deletes, action: deny, to: [{methods: [DELETE]}]}
"#;
    let explained = explain(
        rules,
        r#""peer":"spiffe://other.example/ns/shop/sa/web","source_ip":"10.0.0.7""#,
    );
    let peer = "spiffe://other.example/ns/shop/sa/web";
    let told: Vec<_> = explained.rules.iter().map(told).collect();
    assert_eq!(
        told[0],
        [format!(
            "from -identity: {peer} | any workload of shop.example"
        )]
    );
    assert_eq!(
        told[1],
        [format!(
            "from +cidr: 10.0.0.7 | 10.0.0.0/8; -identity: {peer} | a workload of shop.example"
        )]
    );
    // What is unknown counts for a deny rule.
    assert_eq!(
        told[2],
        ["to +methods: unknown: it is no HTTP request | DELETE"]
    );
    assert!(explained.rules[2].matches);
}

#[test]
fn a_condition_is_told_with_its_result() {
    let rules = |when: &str| format!("  - {{name: r, action: allow, when: '{when}'}}\n");
    let explain_when = |when: &str| {
        let explained = explain(&rules(when), GET);
        let rule = explained.rules[0].clone();
        (told(&rule).pop().unwrap(), rule.matches, rule.error)
    };
    let (told, matches, error) = explain_when(r#"request.method == "GET""#);
    assert_eq!(told, "when +when: true | request.method == \"GET\"");
    assert!(matches && error.is_none());
    let (told, matches, _) = explain_when(r#"request.method == "PUT""#);
    assert_eq!(told, "when -when: false | request.method == \"PUT\"");
    assert!(!matches);
    let (told, matches, error) = explain_when(r#"request.headers["y"] == "1""#);
    assert!(
        told.starts_with("when -when: cannot be evaluated: "),
        "{told}"
    );
    assert!(!matches && error.is_some());
}

#[test]
fn a_missing_or_expired_token_is_told() {
    let rules = "  - {name: r, action: allow, subject: {issuer: corp}, intent: {scope: [read]}}\n";
    let without = explain(rules, GET);
    assert_eq!(
        told(&without.rules[0])[1..],
        [
            "subject -token: none | a verified token of shop/corp",
            "intent -token: none | a transaction token"
        ]
    );
    let expired = explain(
        rules,
        &format!(
            r#"{GET},"subject":{{"issuer":"corp","claims":{{"exp":1}}}},"intent":{{"scope":["read"],"exp":1}}"#
        ),
    );
    assert_eq!(
        told(&expired.rules[0])[1..],
        [
            "subject -token: expired | a verified token of shop/corp",
            "intent -token: expired | a transaction token"
        ]
    );
}

#[test]
fn the_reading_that_decides_is_the_one_that_is_told() {
    let rules = r#"
  - {name: admin, action: deny, to: [{paths: [/admin]}]}
  - {name: others, action: allow, to: [{not: {paths: [/admin]}}]}
"#;
    let request = r#""peer":"shop/web","request":{"method":"GET","path":"/admin;v=1"}"#;
    let explained = explain(rules, request);
    let (deny, allow) = (&explained.rules[0], &explained.rules[1]);
    assert!(deny.matches && !allow.matches);
    assert_eq!(deny.path.as_deref(), Some("/admin"));
    assert_eq!(allow.path.as_deref(), Some("/admin"));
}

#[test]
fn where_no_rule_is_asked_none_is_told() {
    let rules = "  - {name: r, action: allow}\n";
    let ambiguous = explain(
        rules,
        r#""peer":"shop/web","request":{"method":"GET","path":"/a%2fb"}"#,
    );
    assert_eq!(ambiguous.decision.reason.class(), "ambiguous-path");
    assert_eq!(ambiguous.rules, []);
    let anonymous = explain(rules, r#""request":{"method":"GET","path":"/"}"#);
    assert_eq!(anonymous.decision.reason.class(), "no-identity");
    assert_eq!(anonymous.rules, []);
}

#[test]
fn the_json_has_stable_names() {
    let explained = explain("  - {name: r, action: allow, to: [{ports: [1]}]}\n", GET);
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!(json["decision"]["decision"], "deny");
    assert_eq!(json["decision"]["closest"]["rule"], "r");
    assert_eq!(
        json["rules"],
        serde_json::json!([{
            "policy": "shop/orders", "rule": "r", "file": "p.yaml", "line": 6, "action": "allow", "decides": true,
            "matches": false, "error": null, "path": "/orders/7",
            "parts": [
                {"part": "from", "matches": true, "alternatives": [{"matches": true, "fields": [
                    {"field": "identity", "matches": true, "found": "spiffe://shop.example/ns/shop/sa/web",
                     "wanted": "any workload of shop.example"}]}]},
                {"part": "to", "matches": false, "alternatives": [{"matches": false, "fields": [
                    {"field": "ports", "matches": false, "found": "8080", "wanted": "1"}]}]},
            ],
        }])
    );
}
