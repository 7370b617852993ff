//! What a rule says of calls: every field, alone and together.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use countersign_policy::Verdict;
use serde_json::json;
use support::{call, compile, intent, mesh_mode, orders, policy, policy_text, token};

const WEB: &str = "spiffe://shop.example/ns/shop/sa/web";
const GUEST: &str = "spiffe://shop.example/ns/guest/sa/web";
const FOREIGN: &str = "spiffe://other.example/ns/shop/sa/web";

#[test]
fn nothing_is_allowed_that_no_rule_allows() {
    let nothing = compile("").for_workload(&orders());
    let decision = call().judged_by(&nothing);
    assert_eq!(decision.verdict, Verdict::Deny);
    assert_eq!(decision.reason.class(), "no-policy");
    assert_eq!(
        decision.reason.to_string(),
        "no policy is about shop/orders, and what no rule allows is denied"
    );
    let other = policy("  - {name: a, action: allow, from: [{workload: shop/other}]}");
    assert_eq!(call().judged_by(&other).reason.class(), "no-rule-matched");
}

#[test]
fn deny_wins_whatever_the_order() {
    let rules = [
        "  - {name: a, action: allow}",
        "  - {name: d, action: deny, to: [{methods: [DELETE]}]}",
    ];
    for rules in [rules.join("\n"), format!("{}\n{}", rules[1], rules[0])] {
        let policy = policy(&rules);
        let allowed = call().judged_by(&policy);
        assert!(allowed.is_allowed());
        assert_eq!(allowed.reason.class(), "allowed");
        assert_eq!(allowed.rule.unwrap().rule, "a");
        let denied = call().request("DELETE", "/orders").judged_by(&policy);
        assert!(!denied.is_allowed());
        assert_eq!(denied.reason.class(), "denied-by-rule");
        let rule = denied.rule.unwrap();
        assert_eq!(
            (rule.policy.as_str(), rule.file.as_str()),
            ("shop/orders", "p.yaml")
        );
        assert_eq!(
            denied.reason.to_string(),
            format!("denied by \"d\" (shop/orders, p.yaml:{})", rule.line)
        );
    }
}

#[test]
fn who_calls_is_matched_by_every_field() {
    for (from, allowed, denied) in [
        (
            "{workload: shop/web}",
            vec![WEB],
            vec![
                GUEST,
                FOREIGN,
                "spiffe://shop.example/ns/shop/sa/web2",
                "spiffe://shop.example/web",
            ],
        ),
        (
            "{workload: '*/web'}",
            vec![WEB, GUEST],
            vec![FOREIGN, "spiffe://shop.example/ns/shop/sa/x"],
        ),
        ("{workload: 'shop/*'}", vec![WEB], vec![GUEST, FOREIGN]),
        (
            "{namespace: shop}",
            vec![WEB, "spiffe://shop.example/ns/shop/sa/x"],
            vec![GUEST, FOREIGN, "spiffe://shop.example/ns/shop"],
        ),
        (
            "{namespace: shop, trustDomain: other.example}",
            vec![FOREIGN],
            vec![WEB, GUEST],
        ),
        (
            "{trustDomain: other.example}",
            vec![FOREIGN, "spiffe://other.example/any"],
            vec![WEB],
        ),
        (
            "{spiffe: 'spiffe://other.example/ns/**'}",
            vec![FOREIGN],
            vec![WEB, "spiffe://other.example/x"],
        ),
        (
            "{spiffe: spiffe://shop.example/ns/shop/sa/web}",
            vec![WEB],
            vec![GUEST],
        ),
        ("{cidr: 10.0.0.0/8}", vec![WEB, GUEST], vec![FOREIGN]),
        ("{cidr: 192.0.2.1}", vec![], vec![WEB, GUEST]),
        (
            "{namespace: shop, not: {workload: shop/web}}",
            vec!["spiffe://shop.example/ns/shop/sa/x"],
            vec![WEB, GUEST],
        ),
        ("{not: {namespace: guest}}", vec![WEB], vec![GUEST, FOREIGN]),
        (
            "{trustDomain: other.example, not: {workload: shop/web}}",
            vec!["spiffe://other.example/ns/a/sa/b"],
            vec![FOREIGN],
        ),
        ("{not: {cidr: 10.0.0.0/24}}", vec![], vec![WEB]),
        (
            "{not: {namespace: x, workload: guest/web}}",
            vec![WEB],
            vec![GUEST],
        ),
    ] {
        let policy = policy(&format!("  - {{name: a, action: allow, from: [{from}]}}"));
        for peer in allowed {
            assert!(call().by(peer).is_allowed_by(&policy), "{from} {peer}");
        }
        for peer in denied {
            assert!(!call().by(peer).is_allowed_by(&policy), "{from} {peer}");
        }
        assert!(!call().anonymous().is_allowed_by(&policy), "{from}");
    }
}

#[test]
fn only_who_has_proved_an_identity_of_this_trust_domain_is_allowed_unnamed() {
    let everyone = policy("  - {name: a, action: allow}");
    assert!(call().is_allowed_by(&everyone));
    assert!(!call().by(FOREIGN).is_allowed_by(&everyone));
    assert!(!call().anonymous().is_allowed_by(&everyone));
}

#[test]
fn a_deny_rule_reaches_strangers_too() {
    let allow = "  - {name: a, action: allow, from: [{trustDomain: other.example}, {trustDomain: shop.example}]}\n";
    for (from, denied, free) in [
        (
            "{not: {workload: shop/web}}",
            vec![GUEST, FOREIGN],
            vec![WEB],
        ),
        ("{namespace: shop}", vec![WEB], vec![GUEST, FOREIGN]),
        ("{cidr: 10.0.0.0/8}", vec![WEB, FOREIGN], vec![]),
    ] {
        let policy = policy(&format!(
            "{allow}  - {{name: d, action: deny, from: [{from}]}}"
        ));
        for peer in denied {
            let decision = call().by(peer).judged_by(&policy);
            assert_eq!(decision.reason.class(), "denied-by-rule", "{from} {peer}");
        }
        for peer in free {
            assert!(call().by(peer).is_allowed_by(&policy), "{from} {peer}");
        }
    }
    let rules = "  - {name: d, action: deny, from: [{not: {workload: shop/web}}]}";
    let policy = compile(&(policy_text(rules) + &mesh_mode("mode: permissive")));
    let policy = policy.for_workload(&orders());
    assert_eq!(
        call().anonymous().judged_by(&policy).reason.class(),
        "denied-by-rule"
    );
    let mut unknown_address = call();
    unknown_address.source_ip = None;
    let policy = support::policy("  - {name: d, action: deny, from: [{cidr: 192.0.2.1}]}");
    assert_eq!(
        unknown_address.judged_by(&policy).reason.class(),
        "denied-by-rule"
    );
}

#[test]
fn what_is_called_is_matched_by_every_field() {
    let get = |path: &str| call().request("GET", path);
    let cases = [
        (
            "{ports: [8080, 9090]}",
            vec![call(), call().on_port(9090), call().opaque()],
            vec![call().on_port(80)],
        ),
        (
            "{methods: [POST]}",
            vec![call()],
            vec![
                get("/orders"),
                call().request("post", "/orders"),
                call().opaque(),
            ],
        ),
        (
            "{hosts: [orders.shop, '*.example.com']}",
            vec![
                call(),
                call().host("ORDERS.shop."),
                call().host("a.example.com"),
            ],
            vec![
                call().host("example.com"),
                call().host(""),
                call().host("a@orders.shop"),
                call().opaque(),
            ],
        ),
        (
            "{paths: [/orders, '/orders/{id}']}",
            vec![
                get("/orders?x=1"),
                get("/orders/7"),
                get("/%6frders"),
                get("/orders/a%20b"),
                get("/orders/../orders"),
                get("/orders//7"),
            ],
            vec![
                get("/orders/7/8"),
                get("/Orders"),
                get("/orders/7%2f8"),
                get("/orders/;x"),
                get("*"),
                get("/orders/%00"),
            ],
        ),
        (
            "{paths: ['/orders/**']}",
            vec![get("/orders/a/./b"), get("/orders/a;v=1"), get("/orders")],
            vec![
                get("/orders/a%2fb"),
                get("/orders/..;/x"),
                get("/orders/../x"),
                get("/orders/%2e%2e/x"),
                get("/orders/..%5cx"),
                get("/ordersx"),
            ],
        ),
        (
            "{grpc: [{service: shop.v1.Pay, method: Charge}, {service: shop.v1.Read}]}",
            vec![get("/shop.v1.Pay/Charge"), get("/shop.v1.Read/Any")],
            vec![
                get("/shop.v1.Pay/Refund"),
                get("/shop.v1.Read/"),
                get("/shop.v1.Read/a/b"),
                get("/shop.v1.Readx/a"),
            ],
        ),
        (
            "{headers: {X-Tenant: [acme, emca], x-env: prod}}",
            vec![call().header("x-tenant", "acme").header("X-ENV", "prod")],
            vec![
                call(),
                call().header("x-tenant", "acme"),
                call()
                    .header("x-tenant", "acme, emca")
                    .header("x-env", "prod"),
            ],
        ),
        (
            "{methods: [GET], not: {paths: ['/admin/**']}}",
            vec![get("/a")],
            vec![
                get("/admin"),
                get("/admin/x"),
                get("/a/../admin"),
                call(),
                get("/%zz"),
            ],
        ),
        (
            "{not: {ports: [9090], methods: [DELETE]}}",
            vec![call()],
            vec![
                call().on_port(9090),
                call().request("DELETE", "/"),
                call().opaque(),
            ],
        ),
        (
            "{ports: [8080], methods: [GET]}, {ports: [9090], methods: [POST]}",
            vec![get("/"), call().on_port(9090)],
            vec![call(), get("/").on_port(9090)],
        ),
    ];
    for (to, allowed, denied) in cases {
        let policy = policy(&format!("  - {{name: a, action: allow, to: [{to}]}}"));
        for call in allowed {
            assert!(
                call.is_allowed_by(&policy),
                "{to} {call:?} {}",
                call.judged_by(&policy).reason
            );
        }
        for call in denied {
            assert!(!call.is_allowed_by(&policy), "{to} {call:?}");
        }
    }
}

#[test]
fn a_deny_rule_reads_an_opaque_or_unreadable_call_cautiously() {
    let allow = "  - {name: a, action: allow}\n";
    for (to, denied, free) in [
        (
            "{methods: [DELETE]}",
            vec![call().opaque(), call().request("DELETE", "/")],
            vec![call()],
        ),
        (
            "{ports: [9090], methods: [DELETE]}",
            vec![call().opaque().on_port(9090)],
            vec![call().opaque()],
        ),
        (
            "{paths: ['/admin/**']}",
            vec![
                call().opaque(),
                call().request("OPTIONS", "*"),
                call().request("GET", "//admin/x"),
                call().request("GET", "/a/..;/admin"),
            ],
            vec![call()],
        ),
        (
            "{not: {methods: [POST]}}",
            vec![call().opaque(), call().request("GET", "/")],
            vec![call()],
        ),
        (
            "{hosts: [evil.shop]}",
            vec![call().host("a b"), call().host("EVIL.shop:80")],
            vec![call()],
        ),
        (
            "{headers: {x-evil: '1'}}",
            vec![call().opaque(), call().header("X-Evil", "1")],
            vec![call(), call().header("x-evil", "2")],
        ),
    ] {
        let policy = policy(&format!("{allow}  - {{name: d, action: deny, to: [{to}]}}"));
        for call in denied {
            assert_eq!(
                call.judged_by(&policy).reason.class(),
                "denied-by-rule",
                "{to} {call:?}"
            );
        }
        for call in free {
            assert!(call.is_allowed_by(&policy), "{to} {call:?}");
        }
    }
}

#[test]
fn a_condition_of_an_allow_rule_that_fails_is_told_whatever_else_decides() {
    let policy = policy(
        "  - {name: own, action: allow, subject: {issuer: corp}, when: 'subject.claims.tenant == \"acme\"'}\n  - {name: web, action: allow, to: [{methods: [POST]}]}",
    );
    let call = call().with(token(json!({"sub": "alice"})));
    for (call, allowed) in [
        (call.clone(), true),
        (call.request("GET", "/orders"), false),
    ] {
        let decision = call.judged_by(&policy);
        assert_eq!(decision.is_allowed(), allowed);
        assert_eq!(&*decision.revision, "r1");
        let failed: Vec<_> = decision
            .failed
            .iter()
            .map(|failed| (failed.rule.to_string(), failed.error.as_str()))
            .collect();
        assert_eq!(
            failed,
            [(
                "\"own\" (shop/orders, p.yaml:6)".to_owned(),
                "there is no tenant, in \"subject.claims.tenant == \\\"acme\\\"\""
            )]
        );
        let json = serde_json::to_value(&decision).unwrap();
        assert_eq!(json["failed_conditions"][0]["rule"], "own");
    }
}

#[test]
fn whom_a_peer_forwards_for_is_the_last_address_that_it_added() {
    let policy = policy(
        "  - {name: a, action: allow, from: [{forwardedFor: 192.0.2.0/24}]}\n  - {name: d, action: deny, to: [{ports: [9090]}], from: [{forwardedFor: 192.0.2.1}]}",
    );
    let forwarded = |list: &str| call().header("X-Forwarded-For", list);
    for (list, allowed) in [
        ("192.0.2.7", true),
        ("10.0.0.1, 192.0.2.7", true),
        ("10.0.0.1,192.0.2.7:4711", true),
        ("192.0.2.7, 10.0.0.1", false),
        ("192.0.2.7, unknown", false),
        ("", false),
    ] {
        assert_eq!(forwarded(list).is_allowed_by(&policy), allowed, "{list:?}");
    }
    // Without the header it is the peer's own address, 10.0.0.7.
    assert!(!call().is_allowed_by(&policy));
    // What cannot be read may be what the deny rule is about.
    for (list, class) in [
        ("192.0.2.7", "allowed"),
        ("192.0.2.1", "denied-by-rule"),
        ("x", "denied-by-rule"),
    ] {
        assert_eq!(
            forwarded(list)
                .on_port(9090)
                .judged_by(&policy)
                .reason
                .class(),
            class,
            "{list}"
        );
    }
}

#[test]
fn what_a_call_is_for_is_matched_by_its_transaction_token() {
    let with = |scope: &[&str], tctx| call().meant_for(intent(scope, tctx));
    let tenant = || json!({"order": {"tenant": "acme", "items": ["a", "b"]}});
    for (wanted, allowed, denied) in [
        (
            "{scope: [orders.create]}",
            vec![with(&["orders.create", "x"], json!({}))],
            vec![call(), with(&["orders.read"], json!({}))],
        ),
        (
            "{scope: [orders.create, x]}",
            vec![with(&["x", "orders.create"], json!({}))],
            vec![with(&["orders.create"], json!({}))],
        ),
        (
            "{context: {order.tenant: [emca, acme], order.items: b}}",
            vec![with(&[], tenant())],
            vec![
                with(&[], json!({})),
                with(&[], json!({"order": {"tenant": "acme"}})),
            ],
        ),
        (
            "{requester: shop/web}",
            vec![with(&[], json!({}))],
            vec![call()],
        ),
        ("{requester: 'shop/*'}", vec![with(&[], json!({}))], vec![]),
        (
            "{requester: shop/other}",
            vec![],
            vec![with(&[], json!({}))],
        ),
        (
            "{requester: spiffe://shop.example/ns/shop/**}",
            vec![with(&[], json!({}))],
            vec![call()],
        ),
        ("{}", vec![with(&[], json!({}))], vec![call()]),
    ] {
        let policy = policy(&format!("  - {{name: a, action: allow, intent: {wanted}}}"));
        for call in allowed {
            assert!(call.is_allowed_by(&policy), "{wanted} {call:?}");
        }
        for call in denied {
            assert!(!call.is_allowed_by(&policy), "{wanted} {call:?}");
        }
    }
    let expired = {
        let mut intent = intent(&["a"], json!({}));
        intent.expires_at = support::now();
        call().meant_for(intent)
    };
    let policy = policy("  - {name: a, action: allow, intent: {scope: [a]}}");
    let reason = expired.judged_by(&policy).reason.to_string();
    assert!(
        reason.ends_with("it has no valid transaction token, rule wants one"),
        "{reason}"
    );
    let reason = with(&["b"], json!({}))
        .judged_by(&policy)
        .reason
        .to_string();
    assert!(
        reason.ends_with("its transaction token has not the scope a"),
        "{reason}"
    );
}

#[test]
fn a_server_name_is_asked_for_by_opaque_calls_only() {
    let allow = policy("  - {name: a, action: allow, to: [{sni: ['*.orders.shop', orders.shop]}]}");
    assert!(call().asking_for("eu.orders.shop").is_allowed_by(&allow));
    assert!(call().asking_for("ORDERS.shop").is_allowed_by(&allow));
    for other in [call(), call().opaque(), call().asking_for("shop")] {
        assert!(!other.is_allowed_by(&allow), "{other:?}");
    }
    let deny =
        policy("  - {name: a, action: allow}\n  - {name: d, action: deny, to: [{sni: [x.shop]}]}");
    for (call, class) in [
        (call(), "allowed"),
        (call().asking_for("y.shop"), "allowed"),
        (call().asking_for("x.shop"), "denied-by-rule"),
        (call().opaque(), "denied-by-rule"),
    ] {
        assert_eq!(call.judged_by(&deny).reason.class(), class, "{call:?}");
    }
}

#[test]
fn any_trust_domain_is_any_that_is_proved() {
    let policy =
        policy("  - {name: a, action: allow, from: [{trustDomain: '*', namespace: shop}]}");
    assert!(call().is_allowed_by(&policy) && call().by(FOREIGN).is_allowed_by(&policy));
    assert!(!call().by(GUEST).is_allowed_by(&policy));
    let text = policy_text(
        "  - {name: a, action: allow, from: [{anonymous: true}, {trustDomain: '*'}]}\n  - {name: d, action: deny, from: [{not: {trustDomain: '*'}}]}",
    );
    let policy = compile(&(text + &mesh_mode("mode: permissive"))).for_workload(&orders());
    assert!(call().is_allowed_by(&policy) && call().by(FOREIGN).is_allowed_by(&policy));
    assert_eq!(
        call().anonymous().judged_by(&policy).reason.class(),
        "denied-by-rule"
    );
}

#[test]
fn header_lines_of_one_name_are_one_value() {
    let allow = policy("  - {name: a, action: allow, to: [{headers: {x: 'a, b'}}]}");
    let deny = policy(
        "  - {name: a, action: allow}\n  - {name: d, action: deny, to: [{headers: {x: a}}]}",
    );
    let mut headers = http::HeaderMap::new();
    headers.append("x", "a".parse().unwrap());
    headers.append("x", "b".parse().unwrap());
    let call = call();
    let mut borrowed = call.as_call();
    if let Some(request) = &mut borrowed.request {
        request.headers = &headers;
    }
    assert!(allow.decide(&borrowed).is_allowed());
    assert_eq!(deny.decide(&borrowed).reason.class(), "denied-by-rule");
}

#[test]
fn on_whose_behalf_is_matched_by_one_verified_token() {
    let buyer = || {
        call().with(token(
            json!({"sub": "alice", "groups": ["buyer"], "tenant": "acme", "level": 2}),
        ))
    };
    let of = |issuer: &str| {
        let mut subject = (*token(json!({"groups": ["buyer"]}))).clone();
        subject.issuer = issuer.to_owned();
        call().with(subject.into())
    };
    let expired = {
        let mut subject = (*token(json!({"groups": ["buyer"]}))).clone();
        subject.expires_at = support::now();
        call().with(subject.into())
    };
    let split = || {
        call()
            .with(token(json!({"groups": ["buyer"]})))
            .with(token(json!({"tenant": "acme"})))
    };
    for (subject, allowed, denied) in [
        (
            "{issuer: corp}",
            vec![buyer()],
            vec![
                call(),
                of("shop/other"),
                of("countersign-system/corp"),
                expired,
            ],
        ),
        (
            "{claims: {groups: buyer}}",
            vec![buyer(), of("shop/other")],
            vec![call(), call().with(token(json!({"groups": ["x"]})))],
        ),
        (
            "{claims: {groups: [seller, buyer], level: [1, 2]}}",
            vec![buyer()],
            vec![call().with(token(json!({"groups": ["seller"], "level": "2"})))],
        ),
        (
            "{claims: {groups: buyer, tenant: acme}}",
            vec![buyer()],
            vec![split()],
        ),
        (
            "{audience: shop}",
            vec![buyer(), call().with(token(json!({"aud": ["x", "shop"]})))],
            vec![call().with(token(json!({"aud": "x"})))],
        ),
        (
            "{claims: {groups: buyer}, not: {claims: {tenant: acme}}}",
            vec![of("shop/corp"), split()],
            vec![buyer(), call()],
        ),
        (
            "{not: {claims: {tenant: acme}}}",
            vec![of("shop/corp")],
            vec![buyer(), call()],
        ),
        ("{}", vec![buyer()], vec![call()]),
    ] {
        let policy = policy(&format!(
            "  - {{name: a, action: allow, subject: {subject}}}"
        ));
        for call in allowed {
            assert!(call.is_allowed_by(&policy), "{subject} {call:?}");
        }
        for call in denied {
            assert!(!call.is_allowed_by(&policy), "{subject} {call:?}");
        }
    }
}

#[test]
fn a_condition_decides_only_what_the_rest_of_the_rule_matches() {
    let policy = policy(
        r#"  - name: own tenant
    action: allow
    subject: {issuer: corp}
    to: [{paths: ["/tenants/{tenant}/**", "/{area}/shared"]}]
    when: 'path.tenant == subject.claims.tenant'
  - name: no blocked user
    action: deny
    to: [{paths: ["/tenants/**"]}]
    when: 'subject.claims.blocked'
"#,
    );
    let alice = || token(json!({"tenant": "acme", "blocked": false}));
    let get = |path: &str| call().request("GET", path).with(alice());
    assert!(get("/tenants/acme/x").is_allowed_by(&policy));
    assert!(!get("/tenants/other/x").is_allowed_by(&policy));
    // The pattern that matches captures no tenant.
    assert!(!get("/x/shared").is_allowed_by(&policy));
    // With two patterns that match, one that is true is enough.
    assert!(get("/tenants/acme/shared").is_allowed_by(&policy));
    // An application may read this as /tenants/other/x.
    assert!(!get("/tenants/acme/..%2fother/x").is_allowed_by(&policy));
    // No `blocked`: the deny rule's condition fails, and denies.
    let unknown = call()
        .request("GET", "/tenants/acme/x")
        .with(token(json!({"tenant": "acme"})));
    let decision = unknown.judged_by(&policy);
    assert_eq!(decision.reason.class(), "condition-failed");
    let reason = decision.reason.to_string();
    assert!(reason.starts_with("denied by \"no blocked user\" (shop/orders, p.yaml:11), because its condition could not be evaluated: there is no blocked"), "{reason}");
    // Of two tokens, one that is blocked is enough.
    let two = get("/tenants/acme/x").with(token(json!({"blocked": true})));
    assert_eq!(two.judged_by(&policy).reason.class(), "denied-by-rule");
}
