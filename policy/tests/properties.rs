//! Laws that hold for every policy and every call: the engine decides as a plain, slow reading of
//! the documents does, and what is added can only do what it says.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where it cannot go on"
)]

mod reference;
mod support;

use proptest::prelude::*;
use proptest::sample::select;

use countersign_policy::document::{self, Document};
use countersign_policy::{Policy, WorkloadPolicy};
use reference::{Fields, Operation, Rule, Source};
use support::{TestCall, call, domain, orders, token};

const WORKLOADS: [&str; 5] = ["shop/web", "shop/*", "*/web", "guest/web", "*/*"];
const PEERS: [&str; 6] = [
    "spiffe://shop.example/ns/shop/sa/web",
    "spiffe://shop.example/ns/shop/sa/api",
    "spiffe://shop.example/ns/guest/sa/web",
    "spiffe://other.example/ns/shop/sa/web",
    "spiffe://shop.example/ns/shop",
    "spiffe://shop.example",
];
const SPIFFE: [&str; 4] = [
    "spiffe://shop.example/ns/shop/sa/web",
    "spiffe://shop.example/ns/shop/**",
    "spiffe://other.example/**",
    "spiffe://shop.example/**",
];
const PATTERNS: [&str; 8] = [
    "/", "/a", "/a/b", "/a/*", "/{x}/b", "/a/**", "/**", "/a/{x}/c",
];
const PLAIN_PATHS: [&str; 9] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/b/b",
    "/c",
    "/a/x/c?y=1",
    "/b?/a",
];
const UNUSUAL_PATHS: [&str; 10] = [
    "/a/%62",
    "/a//b",
    "/b/../a",
    "/a%2fb",
    "/a\\b",
    "/%00",
    "*",
    "/a/./b",
    "/c/..;/a/b",
    "/a;v/b",
];
const CONDITIONS: [&str; 4] = [
    "request.method == 'GET'",
    "subject.claims.tenant == 'acme'",
    "destination.port > 8080",
    "peer.namespace == 'shop'",
];

fn some<T: Clone + std::fmt::Debug + 'static>(
    values: &[T],
    most: usize,
) -> impl Strategy<Value = Vec<T>> + use<T> {
    prop::collection::vec(select(values.to_vec()), 0..=most)
}

/// A field that is mostly left out.
fn maybe(values: &'static [&'static str]) -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(0.3, select(values))
}

fn source_fields() -> impl Strategy<Value = reference::SourceFields> {
    let ranges = &["10.0.0.0/8", "192.0.2.0/24"];
    let domains = &["shop.example", "other.example", "*"];
    let named = (
        maybe(&WORKLOADS),
        maybe(&["shop", "guest"]),
        maybe(&SPIFFE),
        maybe(domains),
    );
    let addresses = (maybe(ranges), prop::option::weighted(0.1, select(ranges)));
    (named, addresses, prop::bool::weighted(0.15)).prop_map(
        |((workload, namespace, spiffe, trust_domain), (cidr, forwarded_for), anonymous)| {
            let named = reference::SourceFields {
                workload,
                namespace,
                spiffe,
                trust_domain,
                cidr,
                forwarded_for,
                anonymous: false,
            };
            match anonymous {
                false => named,
                true => reference::SourceFields {
                    cidr,
                    forwarded_for,
                    anonymous,
                    ..reference::SourceFields::default()
                },
            }
        },
    )
}

fn sources() -> impl Strategy<Value = Vec<Source>> {
    let given = source_fields().prop_filter("something", |not| {
        *not != reference::SourceFields::default()
    });
    let not = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(given, 1..3),
    ];
    let source = (source_fields(), not).prop_map(|(is, not)| Source { is, not });
    prop::collection::vec(source.prop_filter("something", |s| !s.is_empty()), 0..3)
}

fn operation_fields() -> impl Strategy<Value = Fields> {
    (
        some(&[8080_u16, 9090], 1),
        some(&["GET", "POST"], 1),
        some(&["orders.shop", "*.example.com"], 1),
        some(&PATTERNS, 2),
        some(&["acme", "emca"], 1),
        prop_oneof![4 => Just(Vec::new()), 1 => some(&["x.shop", "y.shop"], 2)],
    )
        .prop_map(|(ports, methods, hosts, paths, tenants, sni)| Fields {
            ports,
            methods,
            hosts,
            paths,
            tenants,
            sni,
        })
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let not = prop_oneof![3 => Just(Fields::default()), 1 => operation_fields()];
    let operation = (operation_fields(), not).prop_map(|(is, not)| Operation { is, not });
    prop::collection::vec(operation.prop_filter("something", |o| !o.is_empty()), 0..3)
}

fn rule() -> impl Strategy<Value = Rule> {
    let subject = prop::option::weighted(0.2, select(vec!["acme", "emca"]));
    let condition = prop::option::weighted(0.2, select(CONDITIONS.to_vec()));
    let action = select(vec!["allow", "allow", "deny", "audit"]);
    let scope = prop::option::weighted(0.1, select(vec!["read", "write"]));
    let document = (
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.5),
    );
    (
        action,
        document,
        sources(),
        (subject, scope),
        operations(),
        condition,
    )
        .prop_map(
            |(action, (observe, root, open), from, (tenant, scope), to, condition)| Rule {
                action,
                observe,
                root,
                open,
                from,
                tenant,
                scope,
                to,
                condition,
            },
        )
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(rule(), 0..6)
}

fn a_call(paths: &'static [&'static str]) -> impl Strategy<Value = TestCall> {
    let peer = prop::option::weighted(0.9, select(PEERS.to_vec()));
    let request = prop::option::weighted(
        0.9,
        (
            select(vec!["GET", "POST", "get"]),
            select(vec!["orders.shop", "a.example.com:80", "b", "?"]),
            select(paths),
            prop::option::of(select(vec!["acme", "emca", "x"])),
            prop::option::weighted(
                0.3,
                select(vec!["10.0.0.1", "10.0.0.1, 192.0.2.1", "nonsense"]),
            ),
        ),
    );
    let sni = prop::option::of(select(vec!["x.shop", "z.shop"]));
    let scope = prop::option::of(some(&["read", "write"], 2));
    let address = prop::option::weighted(0.8, select(vec![[10, 0, 0, 7], [192, 0, 2, 1]]));
    let tokens = some(&["acme", "emca", ""], 2);
    let told = (sni, scope);
    (
        peer,
        request,
        address,
        select(vec![8080, 9090]),
        tokens,
        told,
    )
        .prop_map(|(peer, request, address, port, tokens, (sni, scope))| {
            let mut call = call().on_port(port);
            call.peer = peer.map(|peer| peer.parse().unwrap());
            call.source_ip = address.map(Into::into);
            call = match request {
                None => match sni {
                    Some(name) => call.asking_for(name),
                    None => call.opaque(),
                },
                Some((method, host, path, tenant, forwarded)) => {
                    let call = call.request(method, path).host(host);
                    let call = match tenant {
                        Some(tenant) => call.header("X-Tenant", tenant),
                        None => call,
                    };
                    match forwarded {
                        Some(list) => call.header("X-Forwarded-For", list),
                        None => call,
                    }
                }
            };
            call.intent = scope.map(|held| support::intent(&held, serde_json::json!({})));
            for tenant in tokens {
                let claims = match tenant {
                    "" => serde_json::json!({}),
                    tenant => serde_json::json!({"tenant": tenant}),
                };
                call = call.with(token(claims));
            }
            call
        })
}

/// Every rule as a document of its own, and an issuer; strangers are let in as far as the rules say.
fn documents(rules: &[Rule]) -> Vec<Document> {
    documents_where(rules, true)
}

fn documents_where(rules: &[Rule], permissive: bool) -> Vec<Document> {
    let files = rules
        .iter()
        .enumerate()
        .map(|(at, rule)| (format!("{at}.yaml"), rule.to_yaml(at)));
    let issuer = "apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.example, audiences: [shop]}
";
    let mode = match permissive {
        true => support::mesh_mode("mode: permissive, ambiguousPaths: accept"),
        false => String::new(),
    };
    let more = [("issuer.yaml", issuer), ("mode.yaml", &mode)];
    let more = more.map(|(file, text)| (file.to_owned(), text.to_owned()));
    document::parse(files.chain(more)).unwrap()
}

fn compile(documents: Vec<Document>) -> WorkloadPolicy {
    Policy::compile("r1", &domain(), documents)
        .unwrap()
        .for_workload(&orders())
}

const ALL_PATHS: [&str; 19] = {
    let mut all = [""; 19];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < 9 {
            PLAIN_PATHS[at]
        } else {
            UNUSUAL_PATHS[at - 9]
        };
        at += 1;
    }
    all
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_engine_decides_as_the_documents_say(rules in rules(), permissive in prop::bool::weighted(0.8), call in a_call(&PLAIN_PATHS)) {
        let decision = call.judged_by(&compile(documents_where(&rules, permissive)));
        let expected = reference::decide(&rules, permissive, &call);
        prop_assert_eq!(decision.is_allowed(), expected.allowed, "{}", decision.reason);
        let observed: Vec<&str> = decision.observed.iter().map(|o| o.rule.rule.as_str()).collect();
        prop_assert_eq!(observed, expected.observed);
        if let Some(rule) = &decision.rule {
            prop_assert!(expected.deciding.iter().any(|name| rule.rule == *name), "{} is not in {:?}", rule, expected.deciding);
        }
    }

    #[test]
    fn an_added_deny_rule_lets_nobody_in(rules in rules(), added in rule(), call in a_call(&ALL_PATHS)) {
        let before = call.is_allowed_by(&compile(documents(&rules)));
        let mut more = rules;
        more.push(Rule { action: "deny", observe: false, open: false, ..added });
        prop_assert!(before || !call.is_allowed_by(&compile(documents(&more))));
    }

    #[test]
    fn an_added_allow_rule_locks_nobody_out(rules in rules(), added in rule(), call in a_call(&ALL_PATHS)) {
        let before = call.is_allowed_by(&compile(documents(&rules)));
        let mut more = rules;
        // A policy that says nothing of a default takes away what the others' gave.
        more.push(Rule { action: "allow", observe: false, open: true, ..added });
        prop_assert!(!before || call.is_allowed_by(&compile(documents(&more))));
    }

    #[test]
    fn what_only_observes_decides_nothing(rules in rules(), added in rule(), call in a_call(&ALL_PATHS)) {
        let before = call.is_allowed_by(&compile(documents(&rules)));
        let mut more = rules;
        more.push(Rule { observe: true, ..added });
        prop_assert_eq!(before, call.is_allowed_by(&compile(documents(&more))));
    }

    #[test]
    fn order_decides_nothing(
        (rules, shuffled) in rules().prop_flat_map(|rules| (Just(documents(&rules)), Just(documents(&rules)).prop_shuffle())),
        call in a_call(&ALL_PATHS),
    ) {
        prop_assert_eq!(call.is_allowed_by(&compile(rules)), call.is_allowed_by(&compile(shuffled)));
    }

    #[test]
    fn the_way_to_a_sidecar_changes_nothing(rules in rules(), call in a_call(&ALL_PATHS)) {
        let documents = documents(&rules);
        let policy = Policy::compile("r1", &domain(), documents).unwrap();
        let concerning = policy.concerning(&orders());
        let sent = concerning.iter().map(|document| {
            let json = serde_json::to_string(document).unwrap();
            serde_json::from_str(&json).unwrap()
        });
        let received = compile(sent.collect());
        let (here, there) = (policy.decide(&orders(), &call.as_call()), call.judged_by(&received));
        prop_assert_eq!(here.reason, there.reason);
        prop_assert_eq!(here.observed, there.observed);
    }

    #[test]
    fn what_is_explained_is_what_is_decided(rules in rules(), permissive in prop::bool::weighted(0.8), call in a_call(&ALL_PATHS)) {
        let policy = compile(documents_where(&rules, permissive));
        let (decision, explained) = (call.judged_by(&policy), policy.explain(&call.as_call()));
        prop_assert_eq!(&explained.decision.reason, &decision.reason);
        prop_assert_eq!(&explained.decision.observed, &decision.observed);
        match explained.verdict_of_rules() {
            Some(verdict) => prop_assert_eq!(verdict, decision.verdict),
            None => prop_assert!(decision.rule.is_none(), "{}", decision.reason),
        }
        let matching = |decides: bool| {
            let of = explained.rules.iter().filter(move |rule| rule.matches && rule.decides == decides);
            of.map(|rule| rule.origin.clone()).collect::<Vec<_>>()
        };
        let observed: Vec<_> = decision.observed.iter().map(|observed| (*observed.rule).clone()).collect();
        prop_assert_eq!(matching(false), observed);
        if let Some(rule) = decision.rule {
            prop_assert!(matching(true).contains(&*rule));
        }
        // Parts, their alternatives and their fields add up.
        for rule in &explained.rules {
            prop_assert_eq!(rule.parts.iter().all(|part| part.matches == Some(true)), rule.matches, "{:?}", rule);
            for part in &rule.parts {
                let any = part.alternatives.iter().any(|alternative| alternative.matches);
                prop_assert_eq!(any, part.matches == Some(true), "{:?}", rule);
                for alternative in &part.alternatives {
                    let all = alternative.fields.iter().all(|field| field.matches);
                    prop_assert_eq!(all, alternative.matches, "{:?}", rule);
                }
            }
        }
    }
}
