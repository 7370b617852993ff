//! What a decision takes of the allocator: nothing, where no condition (CEL) is asked. A sidecar judges every call, and
//! an allocator that is shared by all of them is what they would wait for.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use countersign_policy::WorkloadPolicy;
use support::{TestCall, call, intent, policy, token};

const RULES: &str = "
  - name: web creates orders
    action: allow
    from: [{workload: shop/web}]
    to: [{ports: [8080], methods: [POST], hosts: [orders.shop, '*.example.com'], paths: ['/orders', '/orders/{id}/items/**']}]
  - name: gRPC
    action: allow
    from: [{namespace: shop, not: {workload: shop/guest}}]
    to: [{ports: [9090], grpc: [{service: shop.v1.Orders}]}]
  - name: buyers
    action: allow
    from: [{spiffe: 'spiffe://shop.example/ns/shop/**'}]
    subject: {issuer: corp, audience: shop, claims: {groups: [buyer, seller], realm.level: 3}, not: {claims: {blocked: true}}}
    to: [{methods: [PUT], headers: {x-tenant: [acme]}}]
  - name: purpose
    action: allow
    intent: {scope: [orders.read], context: {tenant: acme}, requester: shop/web}
    to: [{methods: [PATCH]}]
  - name: tunnel
    action: allow
    from: [{workload: shop/db, cidr: 10.0.0.0/8}]
    to: [{ports: [5432], sni: ['*.db.shop']}]
  - name: nobody deletes
    action: deny
    to: [{methods: [DELETE]}]
";

/// The policy of the rules, and of so many more that none of these calls is about.
fn large_policy() -> WorkloadPolicy {
    let more: String = (0..200)
        .map(|number| {
            format!("  - {{name: more {number}, action: allow, from: [{{workload: shop/web}}], to: [{{ports: [8080], hosts: [h{number}.shop], methods: [GET], paths: ['/more/{number}/*']}}]}}\n")
        })
        .collect();
    policy(&format!("{}{more}", RULES.trim_start_matches('\n')))
}

fn allocations(policy: &WorkloadPolicy, call: &TestCall, class: &str) -> u64 {
    let call = call.as_call();
    let decision = policy.decide(&call);
    assert_eq!(decision.reason.class(), class, "{}", decision.reason);
    let counted = allocation_counter::measure(|| {
        std::hint::black_box(policy.decide(&call));
    });
    counted.count_total
}

#[test]
fn a_decision_without_conditions_allocates_nothing() {
    let policy = large_policy();
    let buyer = token(serde_json::json!({"groups": ["x", "buyer"], "realm": {"level": 3}}));
    let calls = [
        (call(), "allowed"),
        (call().host("EU.example.com."), "allowed"),
        (
            call().request("POST", "/orders/7/items/1/2?full=1"),
            "allowed",
        ),
        (
            call().on_port(9090).request("POST", "/shop.v1.Orders/Get"),
            "allowed",
        ),
        (
            call().request("GET", "/more/17/x").host("h17.shop"),
            "allowed",
        ),
        (
            call()
                .request("PUT", "/any")
                .header("X-Tenant", "acme")
                .with(buyer),
            "allowed",
        ),
        (
            call().request("PATCH", "/any").meant_for(intent(
                &["orders.read"],
                serde_json::json!({"tenant": "acme"}),
            )),
            "allowed",
        ),
        (
            call()
                .by("spiffe://shop.example/ns/shop/sa/db")
                .on_port(5432)
                .opaque()
                .asking_for("a.db.shop"),
            "denied-by-rule",
        ),
        (call().request("DELETE", "/orders"), "denied-by-rule"),
        (
            call()
                .by("spiffe://other.example/x")
                .request("DELETE", "/orders"),
            "denied-by-rule",
        ),
    ];
    for (call, class) in calls {
        assert_eq!(allocations(&policy, &call, class), 0, "{call:?}");
    }
}

#[test]
fn a_condition_allocates_and_is_counted() {
    let policy = policy("  - {name: a, action: allow, when: 'request.method == \"POST\"'}");
    assert!(allocations(&policy, &call(), "allowed") > 0);
}

/// It is put into words only when it is read: until then it is little.
#[test]
fn a_denial_that_no_rule_decides_allocates_little() {
    let policy = large_policy();
    let denied = call().request("GET", "/orders");
    let count = allocations(&policy, &denied, "no-rule-matched");
    assert!((1..=8).contains(&count), "{count}");
}
