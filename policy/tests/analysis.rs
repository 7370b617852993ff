//! What the comparison of policies says is what the engine decides: a generated call is decided in another way by two
//! generated policies exactly if it lies in a region that is told.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod generated;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use countersign_policy::analysis::{Difference, diff, needless, told};
use countersign_policy::{Intent, Policy, Subject, Workload, document};
use generated::policies;
use support::{TestCall, call, domain, intent, token};

fn workload() -> impl Strategy<Value = Workload> {
    (
        select(vec!["shop", "guest"]),
        select(vec!["orders", "web", "else"]),
        prop::option::of(select(vec!["orders", "x"])),
        prop::option::of(select(vec!["db"])),
    )
        .prop_map(|(namespace, account, app, tier)| {
            let labels = [("app", app), ("tier", tier)];
            let labels = labels
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
            Workload {
                namespace: namespace.to_owned(),
                service_account: account.to_owned(),
                labels: labels.collect(),
            }
        })
}

fn headers() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = select(vec![
        "x-x",
        "X-X",
        "x-X",
        "X-y",
        "x-y",
        "x-forwarded-for",
        "X-Forwarded-For",
    ]);
    let value = select(vec![
        "a",
        "b",
        "a, b",
        "",
        " a ",
        "c",
        "10.1.2.3",
        "192.0.2.9, 10.9.9.9",
        "?",
    ]);
    prop::collection::btree_map(
        name.prop_map(str::to_owned),
        value.prop_map(str::to_owned),
        0..4,
    )
}

fn tokens() -> impl Strategy<Value = Vec<serde_json::Value>> {
    let claims = select(vec![
        r#"{}"#,
        r#"{"tenant": "acme"}"#,
        r#"{"tenant": ["acme", "emca"], "aud": "test"}"#,
        r#"{"tenant": "emca", "a": {"b": 1}}"#,
        r#"{"a": "x", "a.b": true, "aud": ["shop", "test"]}"#,
    ]);
    prop::collection::vec(
        claims.prop_map(|text| serde_json::from_str(text).unwrap()),
        0..3,
    )
}

fn an_intent() -> impl Strategy<Value = Option<Intent>> {
    let scopes = subsequence(vec!["orders.create", "orders.read", "x"], 0..=2);
    let contexts = select(vec![
        r#"{}"#,
        r#"{"order": 7}"#,
        r#"{"order": [8], "tenant": "acme"}"#,
    ]);
    let requesters = select(vec![
        "spiffe://shop.example/ns/shop/sa/web",
        "spiffe://other.example/x",
        "nobody",
    ]);
    let intents = (scopes, contexts, requesters).prop_map(|(scopes, context, requester)| {
        let mut intent = intent(&scopes, serde_json::from_str(context).unwrap());
        intent.req_wl = requester.to_owned();
        intent
    });
    prop::option::weighted(0.4, intents)
}

fn a_call() -> impl Strategy<Value = TestCall> {
    const PEERS: [&str; 7] = [
        "spiffe://shop.example/ns/shop/sa/web",
        "spiffe://shop.example/ns/shop/sa/api",
        "spiffe://shop.example/ns/guest/sa/web",
        "spiffe://other.example/ns/shop/sa/web",
        "spiffe://third.example/ns/shop/sa/web",
        "spiffe://shop.example/ns/shop",
        "spiffe://shop.example",
    ];
    const PATHS: [&str; 14] = [
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/a/b/c",
        "/b/b",
        "/c",
        "/a/x/c?y=1",
        "*",
        "/a/%62",
        "/b/../a",
        "/a;v/b",
        "/c/..;/a/b",
        "/a/é/c",
    ];
    let request = (
        select(vec!["GET", "POST", "get", "PUT"]),
        select(vec![
            "orders.shop",
            "a.example.com:80",
            "x.eu.example.com",
            "b",
            "?",
        ]),
        select(&PATHS),
        headers(),
    );
    let addresses = select(vec![
        "10.0.0.7",
        "10.1.0.7",
        "192.0.2.1",
        "2001:db8::1",
        "203.0.113.1",
    ]);
    (
        prop::option::weighted(0.85, select(&PEERS)),
        prop::option::weighted(0.85, request),
        prop::option::weighted(0.8, addresses),
        select(vec![8080, 9090, 7070]),
        tokens(),
        an_intent(),
        prop::option::of(select(vec!["orders.shop", "A.example.com", "x"])),
    )
        .prop_map(|(peer, request, address, port, tokens, intent, sni)| {
            let mut call = call().on_port(port);
            call.peer = peer.map(|peer| peer.parse().unwrap());
            call.source_ip = address.map(|address| address.parse().unwrap());
            call.sni = sni.map(str::to_owned);
            call.intent = intent;
            match request {
                None => call = call.opaque(),
                Some((method, host, path, headers)) => {
                    call = call.request(method, path).host(host);
                    call.request.as_mut().unwrap().headers = headers;
                }
            }
            for claims in tokens {
                let token = Subject {
                    issuer: "countersign-system/corp".to_owned(),
                    ..Subject::clone(&token(claims))
                };
                call = call.with(Arc::new(token));
            }
            call
        })
}

fn compiled(text: &str) -> Policy {
    let documents = document::parse([("p.yaml".to_owned(), text.to_owned())]);
    Policy::compile("r", &domain(), documents.unwrap()).unwrap()
}

fn told_all(difference: &Difference) -> String {
    let changes = [
        ("allowed", &difference.allowed),
        ("denied", &difference.denied),
    ];
    let lines = changes.into_iter().flat_map(|(what, changes)| {
        changes
            .iter()
            .map(move |change| format!("{what}: {:?}\n", change.region))
    });
    lines.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("CASES").map_or(300, |c| c.parse().unwrap()), ..ProptestConfig::default() })]

    #[test]
    fn a_call_is_decided_in_another_way_exactly_if_it_lies_in_a_region(
        (old, new) in policies(),
        calls in prop::collection::vec((workload(), a_call()), 60),
    ) {
        let (old_policy, new_policy) = (compiled(&old), compiled(&new));
        let difference = diff(&old_policy, &new_policy, None).unwrap();
        prop_assert!(difference.cut_short.is_empty());
        for (workload, call) in &calls {
            let was = old_policy.decide(workload, &call.as_call()).is_allowed();
            let is = new_policy.decide(workload, &call.as_call()).is_allowed();
            let expected = (is && !was, was && !is);
            if let Some(found) = difference.regions_have(workload, &call.as_call()) {
                prop_assert_eq!(found, expected, "{:?} {:?}\n{}\n{}\n{}", workload, call, old, new, told_all(&difference));
            }
        }
    }

    #[test]
    fn every_example_is_decided_as_it_is_told(((old, new), with_directory) in (policies(), any::<bool>())) {
        let (old, new) = (compiled(&old), compiled(&new));
        let workload = |account: &str, app: &str| Workload {
            namespace: "shop".to_owned(),
            service_account: account.to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
        };
        let directory = [workload("orders", "orders"), workload("api", "api")];
        let difference = diff(&old, &new, with_directory.then_some(&directory[..])).unwrap();
        for (changes, allows) in [(&difference.allowed, true), (&difference.denied, false)] {
            for change in changes {
                let example = &change.example;
                prop_assert!(example.confirmed, "{:?}", change);
                let call = &example.call;
                prop_assert_eq!(call.judged_by(&new.for_workload(&call.workload)).is_allowed(), allows);
                prop_assert_eq!(call.judged_by(&old.for_workload(&call.workload)).is_allowed(), !allows);
                prop_assert!(!with_directory || directory.contains(&call.workload));
            }
        }
    }

    #[test]
    fn without_the_rules_that_do_nothing_every_call_is_decided_as_before((policy, _) in policies()) {
        let whole = compiled(&policy);
        let mut lines: Vec<String> = policy.lines().map(str::to_owned).collect();
        for found in needless(&whole, None).unwrap().needless {
            // Every document's spec is a line, with one rule at its end.
            let line = &mut lines[found.rule.line - 1];
            let rules = line.find("rules: [").unwrap();
            line.truncate(rules);
            line.push_str(if line.contains("default: ") { "}" } else { "default: deny}" });
        }
        let less = compiled(&lines.join("\n"));
        let difference = diff(&whole, &less, None).unwrap();
        prop_assert!(difference.is_empty(), "{}\n{}\n{}", policy, lines.join("\n"), told_all(&difference));
        prop_assert!(needless(&less, None).unwrap().needless.is_empty());
    }

    #[test]
    fn a_policy_does_not_differ_from_itself((policy, _) in policies()) {
        let difference = diff(&compiled(&policy), &compiled(&policy), None).unwrap();
        prop_assert!(difference.is_empty() && !difference.widens());
    }
}

#[test]
fn regions_are_told_in_the_words_of_the_policy() {
    let policy = |rules: &str| {
        compiled(&format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  target: {{labels: {{app: orders}}}}\n  rules:\n{rules}"
        ))
    };
    let read = "  - {name: read, action: allow, from: [{namespace: shop}], to: [{ports: [8080], methods: [GET, HEAD], paths: ['/orders/{id}']}]}\n";
    let delete = "  - {name: delete, action: allow, from: [{workload: shop/web}], to: [{ports: [8080], methods: [DELETE], paths: ['/orders/**']}]}\n";
    let difference = diff(&policy(read), &policy(&format!("{read}{delete}")), None).unwrap();
    assert!(difference.denied.is_empty() && difference.widens());
    let [change] = difference.allowed.as_slice() else {
        panic!("{}", told_all(&difference));
    };
    let region = &change.region;
    assert_eq!(told(&region.from), "shop/web");
    assert_eq!(told(&region.to), "shop/* {app: orders}");
    assert_eq!(told(&region.ports), "8080");
    assert_eq!(told(&region.methods), "DELETE");
    assert_eq!(told(&region.paths), "/orders/**");
    assert_eq!(change.example.after.rule.as_ref().unwrap().rule, "delete");
}

/// What the documentation says of paths with several readings.
#[test]
fn a_path_with_several_readings_can_change_only_where_every_reading_is_allowed() {
    let policy = |rules: &str| {
        compiled(&format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  rules:\n{rules}"
        ))
    };
    // `/a/b;v` is `/a/b;v` to some applications and `/a/b` to others.
    let two = policy(
        "  - {name: b, action: allow, to: [{paths: [/a/b]}]}\n  - {name: others, action: allow, to: [{paths: ['/a/*'], not: {paths: [/a/b]}}]}\n",
    );
    let one = policy("  - {name: all, action: allow, to: [{paths: ['/a/*']}]}\n");
    let difference = diff(&two, &one, None).unwrap();
    assert!(difference.is_empty() && difference.has_paths());
    let workload = support::orders();
    let twofold = call().request("GET", "/a/b;v");
    assert!(!two.decide(&workload, &twofold.as_call()).is_allowed());
    assert!(one.decide(&workload, &twofold.as_call()).is_allowed());
    assert_eq!(difference.regions_have(&workload, &twofold.as_call()), None);
}
