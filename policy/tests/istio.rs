//! Istio's policies decide here as they do there: generated policies and calls, beside a plain reading of Istio's
//! reference.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where it cannot go on"
)]

mod istio_reference;
mod support;

use countersign_policy::{Document, Policy, WorkloadPolicy, document};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use istio_reference::{Decision, Field, Rule, When};
use support::{TestCall, call, domain, orders, token};

const PRINCIPALS: [&str; 14] = [
    "cluster.local/ns/shop/sa/web",
    "cluster.local/ns/shop/sa/*",
    "cluster.local/ns/shop/sa/w*",
    "cluster.local/ns/shop/*",
    "shop.example/ns/shop/sa/web",
    "shop.example/ns/guest/*",
    "shop.example/*",
    "other.example/ns/shop/sa/web",
    "other.example/ns/*",
    "*/ns/shop/sa/web",
    "*/sa/web",
    "*/web",
    "*eb",
    "*",
];
const NAMESPACES: [&str; 5] = ["shop", "guest", "sh*", "*est", "*"];
const ACCOUNTS: [&str; 3] = ["web", "shop/web", "guest/web"];
const DOMAINS: [&str; 5] = ["shop.example", "other.example", "other*", "*.example", "*"];
const BLOCKS: [&str; 5] = [
    "10.0.0.0/8",
    "10.0.0.7",
    "192.0.2.0/24",
    "10.0.0.9/24",
    "0.0.0.0/0",
];
const REQUEST_PRINCIPALS: [&str; 9] = [
    "https://a.example/u1",
    "https://a.example/u2",
    "https://b.example/u1",
    "https://a.example/*",
    "https://a.example/u*",
    "*/u1",
    "*example/u1",
    "https://a*",
    "*",
];
const HOSTS: [&str; 7] = [
    "orders.shop",
    "orders.shop:8080",
    "Orders.shop*",
    "*.example.com",
    "*.SHOP",
    "orders.shop:*",
    "*",
];
const METHODS: [&str; 5] = ["GET", "POST", "P*", "*T", "*"];
const PATHS: [&str; 17] = [
    "/", "/a", "/a/", "/a/b", "/a/*", "/a*", "/*", "*/b", "*b", "*", "/a/{*}", "/{*}/b", "/a/{**}",
    "/{**}", "/{**}/b", "/a/{**}/", "/a/*/b",
];
const PORTS: [&str; 2] = ["8080", "9090"];
const CLAIMS: [(&str, &[&str]); 9] = [
    ("request.auth.principal", &REQUEST_PRINCIPALS),
    (
        "request.auth.audiences",
        &["shop", "sh*", "*op", "*", "other"],
    ),
    ("request.auth.presenter", &["client", "cl*", "*"]),
    (
        "request.auth.claims[groups]",
        &["buyer", "sell*", "*er", "*", "x"],
    ),
    ("request.auth.claims[realm][roles]", &["admin", "ad*", "*"]),
    (
        "request.auth.claims[https://x.example/role]",
        &["admin", "*"],
    ),
    (
        "request.auth.claims[scope]",
        &["read", "wr*", "read write", "*"],
    ),
    ("request.auth.claims[iss]", &["https://a.example", "*"]),
    ("request.auth.claims[level]", &["3", "*"]),
];
const OTHERS: [(&str, &[&str]); 11] = [
    (
        "request.headers[X-Tenant]",
        &["acme", "ac*", "*me", "*", "emca"],
    ),
    ("request.headers[x-version]", &["v1", "v2", "v*", "*"]),
    ("source.ip", &BLOCKS),
    ("remote.ip", &BLOCKS),
    ("source.namespace", &NAMESPACES),
    ("source.serviceAccount", &ACCOUNTS),
    ("source.principal", &PRINCIPALS),
    (
        "destination.ip",
        &["10.0.1.0/24", "10.0.1.9", "10.0.2.0/24"],
    ),
    ("destination.port", &PORTS),
    ("connection.sni", &["orders.shop", "*.shop", "ord*", "*"]),
    ("request.headers[x-version]", &["v1", "v3*"]),
];

fn some(values: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(select(values.to_vec()), 1..4)
}

/// Fields with values of an entry, each mostly left out; at least one is there.
fn entry(fields: &'static [(&'static str, &'static [&'static str])]) -> BoxedStrategy<Vec<Field>> {
    let each: Vec<_> = fields
        .iter()
        .map(|(name, values)| prop::option::weighted(0.2, (Just(*name), some(values))))
        .collect();
    each.prop_map(|fields| fields.into_iter().flatten().collect::<Vec<Field>>())
        .prop_filter("something", |fields| !fields.is_empty())
        .prop_filter(
            "Istio has no service accounts beside other names",
            |fields| {
                let has = |part: &str| fields.iter().any(|(name, _)| name.contains(part));
                !has("erviceAccounts") || !(has("amespaces") || has("rincipals"))
            },
        )
        .boxed()
}

const SOURCE: [(&str, &[&str]); 14] = [
    ("principals", &PRINCIPALS),
    ("notPrincipals", &PRINCIPALS),
    ("namespaces", &NAMESPACES),
    ("notNamespaces", &NAMESPACES),
    ("serviceAccounts", &ACCOUNTS),
    ("notServiceAccounts", &ACCOUNTS),
    ("trustDomains", &DOMAINS),
    ("notTrustDomains", &DOMAINS),
    ("ipBlocks", &BLOCKS),
    ("notIpBlocks", &BLOCKS),
    ("remoteIpBlocks", &BLOCKS),
    ("notRemoteIpBlocks", &BLOCKS),
    ("requestPrincipals", &REQUEST_PRINCIPALS),
    ("notRequestPrincipals", &REQUEST_PRINCIPALS),
];
const OPERATION: [(&str, &[&str]); 8] = [
    ("hosts", &HOSTS),
    ("notHosts", &HOSTS),
    ("methods", &METHODS),
    ("notMethods", &METHODS),
    ("paths", &PATHS),
    ("notPaths", &PATHS),
    ("ports", &PORTS),
    ("notPorts", &PORTS),
];

fn when() -> impl Strategy<Value = When> {
    let keys = [CLAIMS.as_slice(), OTHERS.as_slice()].concat();
    select(keys).prop_flat_map(|(key, values)| {
        let not = prop_oneof![2 => Just(Vec::new()), 1 => some(values)];
        let given = prop_oneof![3 => some(values), 1 => Just(Vec::new())];
        (given, not)
            .prop_filter("something", |(given, not)| {
                !(given.is_empty() && not.is_empty())
            })
            .prop_map(move |(values, not_values)| When {
                key,
                values,
                not_values,
            })
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    (
        prop::collection::vec(entry(&SOURCE), 0..3),
        prop::collection::vec(entry(&OPERATION), 0..3),
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(when(), 1..3)],
    )
        .prop_map(|(from, to, when)| Rule { from, to, when })
}

fn policy() -> impl Strategy<Value = istio_reference::Policy> {
    (
        select(vec!["shop", "shop", "shop", "istio-system", "guest"]),
        prop_oneof![2 => Just(None), 1 => select(vec![Some("orders"), Some("x")])],
        select(vec!["ALLOW", "ALLOW", "DENY", "AUDIT"]),
        prop::bool::weighted(0.1),
        prop::collection::vec(rule(), 0..3),
    )
        .prop_map(
            |(namespace, selector, action, dry_run, rules)| istio_reference::Policy {
                namespace,
                selector,
                action,
                dry_run,
                rules,
            },
        )
}

fn policies() -> impl Strategy<Value = Vec<istio_reference::Policy>> {
    prop::collection::vec(policy(), 1..4)
}

fn claims() -> impl Strategy<Value = serde_json::Value> {
    (
        select(vec!["https://a.example", "https://b.example"]),
        select(vec!["u1", "u2", ""]),
        select(vec![json!("shop"), json!(["x", "shop"]), json!(["other"])]),
        select(vec![json!("buyer"), json!(["seller", 7]), json!(null), json!(["x"])]),
        select(vec![json!({"roles": ["admin"]}), json!({"roles": "x"}), json!("admin")]),
        select(vec![json!("read write"), json!(["read"]), json!(3)]),
    )
        .prop_map(|(iss, sub, aud, groups, realm, scope)| {
            json!({
                "iss": iss, "sub": sub, "aud": aud, "groups": groups, "realm": realm, "scope": scope,
                "azp": "client", "https://x.example/role": "admin", "level": 3,
            })
        })
}

fn a_call() -> impl Strategy<Value = TestCall> {
    let peers = [
        None,
        Some("spiffe://shop.example/ns/shop/sa/web"),
        Some("spiffe://shop.example/ns/shop/sa/admin"),
        Some("spiffe://shop.example/ns/guest/sa/web"),
        Some("spiffe://other.example/ns/shop/sa/web"),
        Some("spiffe://third.test/ns/guest/sa/x"),
    ];
    let request = (
        select(vec!["GET", "POST", "PUT"]),
        select(vec![
            "orders.shop",
            "Orders.Shop:8080",
            "a.example.com",
            "x",
        ]),
        select(vec![
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/a/b/c",
            "/b",
            "/ab",
            "/a/b/?q=/b",
            "/c/a/b",
        ]),
        prop::option::of(select(vec!["acme", "ac", "emca", ""])),
        prop::option::of(select(vec!["v1", "v3.1"])),
        prop::option::of(select(vec!["10.0.0.7", "1.2.3.4, 192.0.2.9"])),
    );
    (
        select(peers.to_vec()),
        select(vec![[10, 0, 0, 7], [192, 0, 2, 1], [172, 16, 0, 1]]),
        select(vec![8080, 9090]),
        prop::option::weighted(0.8, request),
        prop::option::weighted(0.7, claims()),
        select(vec![None, Some("orders.shop")]),
    )
        .prop_map(|(peer, source, port, request, claims, sni)| {
            let mut made = call().on_port(port);
            made.peer = peer.map(|peer| peer.parse().unwrap());
            made.source_ip = Some(source.into());
            let Some((method, host, path, tenant, version, forwarded)) = request else {
                let made = made.opaque();
                return match sni {
                    Some(sni) => made.asking_for(sni),
                    None => made,
                };
            };
            made = made.request(method, path).host(host);
            let headers = [
                ("x-tenant", tenant),
                ("X-Version", version),
                ("X-Forwarded-For", forwarded),
            ];
            for (name, value) in headers {
                if let Some(value) = value {
                    made = made.header(name, value);
                }
            }
            match claims {
                Some(claims) => made.with(token(claims)),
                None => made,
            }
        })
}

/// Callers without an identity are known where mutual TLS is not asked for, as in a mesh of Istio without a
/// `PeerAuthentication`.
const PERMISSIVE: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: PERMISSIVE}}
";

fn documents(policies: &[istio_reference::Policy]) -> Vec<Document> {
    let files = policies
        .iter()
        .enumerate()
        .map(|(at, policy)| (format!("{at}.yaml"), policy.to_yaml(&format!("p{at}"))));
    let permissive = ("mode.yaml".to_owned(), PERMISSIVE.to_owned());
    document::parse(files.chain([permissive])).unwrap()
}

fn compile(documents: Vec<Document>) -> WorkloadPolicy {
    Policy::compile("r1", &domain(), documents)
        .unwrap()
        .for_workload(&orders())
}

fn check(policies: &[istio_reference::Policy], call: &TestCall) {
    let decision = call.judged_by(&compile(documents(policies)));
    let expected = istio_reference::decide(policies, call);
    let yaml: Vec<String> = policies.iter().map(|policy| policy.to_yaml("p")).collect();
    let context = || format!("{}\n{}\n{call:?}", decision.reason, yaml.join("---\n"));
    match expected {
        // Here, what no policy is about is denied.
        Decision::NoPolicy => assert!(!decision.is_allowed(), "{}", context()),
        _ => assert_eq!(
            decision.is_allowed(),
            expected == Decision::Allowed,
            "{}",
            context()
        ),
    }
}

/// The same policies as own kinds, read back from what an import writes.
#[cfg(feature = "tools")]
fn imported(policies: &[istio_reference::Policy]) -> Vec<Document> {
    let files = policies
        .iter()
        .enumerate()
        .map(|(at, policy)| (format!("{at}.yaml"), policy.to_yaml(&format!("p{at}"))));
    let permissive = ("mode.yaml".to_owned(), PERMISSIVE.to_owned());
    let options = countersign_policy::istio::Options::default();
    let imported = countersign_policy::istio::import(files.chain([permissive]), options).unwrap();
    document::parse([("own.yaml".to_owned(), imported.yaml)]).unwrap()
}

#[cfg(feature = "tools")]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_an_import_writes_decides_alike(policies in policies(), calls in prop::collection::vec(a_call(), 8)) {
        let (converted, imported) = (compile(documents(&policies)), compile(imported(&policies)));
        for call in &calls {
            let (one, other) = (call.judged_by(&converted), call.judged_by(&imported));
            prop_assert_eq!(one.is_allowed(), other.is_allowed());
            let rule = |decision: &countersign_policy::Decision| decision.rule.as_ref().map(|rule| rule.rule.clone());
            prop_assert_eq!(rule(&one), rule(&other));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn policies_decide_as_in_istio(policies in policies(), calls in prop::collection::vec(a_call(), 8)) {
        for call in &calls {
            check(&policies, call);
        }
    }
}
