use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::check::{Level, check};
use crate::document::parse;
use crate::{Call, Policy, Request, Subject, Workload};

fn domain() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn evidence(options: Options, lines: &[Value]) -> Evidence {
    let mut evidence = Evidence::new(options);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    evidence.read("log", text.as_bytes()).unwrap();
    assert_eq!(evidence.bad(), []);
    evidence
}

fn suggested(options: Options, lines: &[Value]) -> String {
    let suggestion = evidence(options, lines).suggest(&domain(), &[]).unwrap();
    assert_eq!(suggestion.uncovered, Vec::<String>::new());
    suggestion.text()
}

fn http(peer: &str, method: &str, path: &str) -> Value {
    json!({
        "time": "2026-11-23T10:00:00.000001Z", "decision_id": "x", "decision": "allow", "reason": "r", "reason_class": "allowed",
        "peer": format!("spiffe://shop.example/ns/shop/sa/{peer}"), "source": "127.0.0.1:4", "destination": "shop/orders",
        "port": 8080, "protocol": "http/1.1", "method": method, "host": "orders.shop", "path": path,
    })
}

fn with(mut line: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        line[name] = value.clone();
    }
    line
}

fn opaque(port: u16, fields: Value) -> Value {
    let line = json!({
        "decision": "allow", "peer": "spiffe://shop.example/ns/shop/sa/orders", "destination": "shop/store", "port": port,
        "protocol": "tcp",
    });
    with(line, fields)
}

#[test]
fn rules_are_the_least_that_allow_what_was_seen() {
    let subject = json!({"subject": {"issuer": "shop/corp", "sub": "alice"}});
    let mut lines = vec![
        with(http("web", "POST", "/orders"), subject.clone()),
        with(http("web", "POST", "/orders"), subject.clone()),
        http("probe", "GET", "/healthz"),
        with(http("probe", "HEAD", "/healthz"), json!({"port": 8081})),
        with(http("probe", "GET", "/healthz"), json!({"port": 8081})),
        with(
            http("probe", "GET", "/version"),
            json!({"time": "2026-11-24T00:00:00Z"}),
        ),
        with(http("spy", "GET", "/admin"), json!({"decision": "deny"})),
        opaque(7070, json!({})),
        opaque(7071, json!({"sni": "Store.shop"})),
        with(
            http("orders", "POST", "/shop.v1.Pay/Charge"),
            json!({"destination": "shop/payments", "port": 9090, "protocol": "grpc"}),
        ),
        with(
            http("x", "GET", "/"),
            json!({"peer": "spiffe://partner.example/batch"}),
        ),
    ];
    for id in [17, 18, 19, 20] {
        lines.push(with(
            http("web", "GET", &format!("/orders/{id}")),
            subject.clone(),
        ));
    }
    let expected = r#"# Suggested from the calls that were seen from 2026-11-23T10:00:00.000001Z to 2026-11-24T00:00:00Z. What was not seen is not allowed.
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  target: {workloads: [orders]}
  rules:
  # 1 call, 1 different
  - name: spiffe://partner.example/batch calls orders
    action: allow
    from: [{spiffe: spiffe://partner.example/batch}]
    to: [{ports: [8080], methods: [GET], paths: ["/"]}]

  # 4 calls, 4 different
  - name: shop/probe calls orders
    action: allow
    from: [{workload: shop/probe}]
    to:
    - {ports: [8080], methods: [GET], paths: ["/healthz", "/version"]}
    - {ports: [8081], methods: [GET, HEAD], paths: ["/healthz"]}

  # 6 calls, 5 different
  # /orders/{id}: 4 numbers
  - name: shop/web calls orders for a subject of shop/corp
    action: allow
    from: [{workload: shop/web}]
    subject: {}
    to:
    - {ports: [8080], methods: [GET], paths: ["/orders/{id}"]}
    - {ports: [8080], methods: [POST], paths: ["/orders"]}
---
# Suggested from the calls that were seen from 2026-11-23T10:00:00.000001Z to 2026-11-24T00:00:00Z. What was not seen is not allowed.
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: payments, namespace: shop}
spec:
  target: {workloads: [payments]}
  rules:
  # 1 call, 1 different
  - name: shop/orders calls payments
    action: allow
    from: [{workload: shop/orders}]
    to: [{ports: [9090], methods: [POST], grpc: [{service: shop.v1.Pay, method: Charge}]}]
---
# Suggested from the calls that were seen from 2026-11-23T10:00:00.000001Z to 2026-11-24T00:00:00Z. What was not seen is not allowed.
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: store, namespace: shop}
spec:
  target: {workloads: [store]}
  rules:
  # 2 calls, 2 different
  - name: shop/orders calls store
    action: allow
    from: [{workload: shop/orders}]
    to:
    - {ports: [7070]}
    - {ports: [7071], sni: [store.shop]}
"#;
    let found = suggested(Options::default(), &lines);
    assert!(found == expected, "{found}");
}

#[test]
fn an_issuer_is_named_where_it_is_known() {
    let issuer = |namespace: &str| {
        let text = format!(
            "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {{name: corp, namespace: {namespace}}}\nspec: {{issuer: https://x, audiences: [a]}}\n"
        );
        parse([("i.yaml".to_owned(), text)]).unwrap()
    };
    let line = with(
        http("web", "GET", "/"),
        json!({"subject": {"issuer": "shop/corp"}}),
    );
    let text = |known: &[Document]| {
        let suggestion = evidence(Options::default(), std::slice::from_ref(&line))
            .suggest(&domain(), known)
            .unwrap();
        assert_eq!(suggestion.uncovered, Vec::<String>::new());
        suggestion.text()
    };
    assert!(text(&issuer("shop")).contains("subject: {issuer: corp}"));
    assert!(text(&issuer("countersign-system")).contains("subject: {}"));
    // One that may come without a token needs none.
    let both = suggested(Options::default(), &[line.clone(), http("web", "GET", "/")]);
    assert!(!both.contains("subject:"), "{both}");
}

#[test]
fn policy_on_trial_counts() {
    let observed = |action: &str| json!({"observed": [{"action": action, "policy": "shop/new", "rule": "r", "file": "f", "line": 1}]});
    let wanted = with(
        with(http("web", "GET", "/wanted"), observed("allow")),
        json!({"decision": "deny"}),
    );
    let unwanted = with(http("web", "GET", "/unwanted"), observed("deny"));
    let denied = with(http("web", "GET", "/denied"), json!({"decision": "deny"}));
    let lines = [wanted, unwanted, denied];
    let text = suggested(Options::default(), &lines);
    assert!(
        text.contains("paths: [\"/unwanted\", \"/wanted\"]"),
        "{text}"
    );
    assert!(
        text.contains(
            "  # 1 of them were denied\n  # 1 of them a deny rule under observation would deny\n"
        ),
        "{text}"
    );
    assert_eq!(evidence(Options::default(), &lines).left_out(), 1);
    let all = Options {
        include_denied: true,
        ..Options::default()
    };
    assert!(suggested(all, &lines).contains("\"/denied\""));
}

#[test]
fn hosts_are_asked_for_where_that_is_wanted() {
    let lines = [
        http("web", "GET", "/"),
        with(http("web", "GET", "/"), json!({"host": "[::1]:8080"})),
        with(http("web", "GET", "/"), json!({"host": "Orders.Shop:80"})),
    ];
    let hosts = Options {
        hosts: true,
        ..Options::default()
    };
    let text = suggested(hosts, &lines);
    assert!(text.contains(r#"hosts: ["[::1]", orders.shop]"#), "{text}");
    assert!(!suggested(Options::default(), &lines).contains("hosts"));
}

#[test]
fn strangers_and_odd_paths_are_allowed_as_they_came() {
    let mut stranger = http("web", "GET", "/a;v=1/../b/%7Euser/caf%C3%A9");
    stranger.as_object_mut().unwrap().remove("peer");
    let text = suggested(Options::default(), &[stranger]);
    assert!(text.contains("from: [{anonymous: true}]"), "{text}");
    assert!(text.contains("paths: [\"/b/~user/caf%C3%A9\"]"), "{text}");
    let odd = [
        http("web", "GET", "/a%2Fb"),
        http("web", "get", "/"),
        http("web", "GET", "/ok"),
    ];
    let suggestion = evidence(Options::default(), &odd)
        .suggest(&domain(), &[])
        .unwrap();
    assert_eq!(suggestion.uncovered.len(), 2, "{:?}", suggestion.uncovered);
    assert!(suggestion.uncovered[0].starts_with("to shop/orders on port 8080: no rule allows "));
    assert!(suggestion.text().contains("/ok"));
}

#[test]
fn bad_lines_are_told_and_the_others_count() {
    let good = http("web", "GET", "/");
    let long = format!("{{\"path\":\"{}\"}}", "x".repeat(70_000));
    let wrong_port = with(good.clone(), json!({"port": 70_000}));
    let wrong_peer = with(good.clone(), json!({"peer": "web"}));
    let nowhere = with(good.clone(), json!({"destination": ""}));
    let cut = with(good.clone(), json!({"path": "/aaaa…"}));
    let log = format!(
        "{good}\n\n{{\"level\":\"info\"}}\n{{not json\n{long}\n{wrong_port}\n{wrong_peer}\n{nowhere}\n{cut}\n2026-11-24  INFO up\n[1]\n{good}"
    );
    let mut evidence = Evidence::new(Options::default());
    evidence
        .read(
            "a.log",
            std::io::BufReader::with_capacity(7, log.as_bytes()),
        )
        .unwrap();
    let told: Vec<String> = evidence.bad().iter().map(ToString::to_string).collect();
    let starts = [
        "a.log:4:1: expected a decision as one JSON object: ",
        "a.log:5:1: expected a decision as one JSON object, got a line of more than 65536 bytes",
        "a.log:6:1: expected a decision as one JSON object: invalid value: integer `70000`, expected u16",
        "a.log:7:1: expected a SPIFFE ID as `peer`, got \"web\"",
        "a.log:8:1: expected a destination as namespace/service-account, got \"\"",
        "a.log:9:1: the path was too long for the log and is cut: no rule can rest on it",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}");
    }
    assert_eq!((evidence.bad_lines(), evidence.different_calls()), (6, 1));
    assert_eq!(evidence.other_lines(), 4);
    let garbage = "{?\n".repeat(1000);
    evidence.read("b.log", garbage.as_bytes()).unwrap();
    assert_eq!((evidence.bad_lines(), evidence.bad().len()), (1006, 100));
}

/// A call as a log has it, to be judged apart from the code that suggested.
#[derive(Clone, Debug)]
struct Logged {
    peer: Option<String>,
    issuer: Option<&'static str>,
    destination: (&'static str, &'static str),
    port: u16,
    request: Option<(String, Vec<String>)>,
}

impl Logged {
    fn line(&self) -> Value {
        let mut line = json!({
            "decision": "allow", "destination": format!("{}/{}", self.destination.0, self.destination.1), "port": self.port,
            "protocol": "tcp",
        });
        if let Some(peer) = &self.peer {
            line["peer"] = json!(peer);
        }
        if let Some(issuer) = self.issuer {
            line["subject"] = json!({"issuer": issuer, "sub": "u"});
        }
        if let Some((method, path)) = &self.request {
            line = with(
                line,
                json!({"protocol": "http/2", "method": method, "path": format!("/{}", path.join("/")), "host": "h"}),
            );
        }
        line
    }

    fn is_allowed(&self, policy: &Policy) -> bool {
        let peer = self.peer.as_ref().map(|peer| peer.parse().unwrap());
        let far = SystemTime::now() + Duration::from_secs(1000);
        let subjects: Vec<_> = self
            .issuer
            .iter()
            .map(|issuer| {
                std::sync::Arc::new(Subject {
                    issuer: (*issuer).to_owned(),
                    claims: serde_json::Map::new(),
                    expires_at: far,
                })
            })
            .collect();
        let path = self
            .request
            .as_ref()
            .map(|(_, path)| format!("/{}", path.join("/")));
        let request = self
            .request
            .as_ref()
            .zip(path.as_ref())
            .map(|((method, _), path)| Request {
                method,
                host: "h",
                path,
                headers: &(),
            });
        let workload = Workload {
            namespace: self.destination.0.to_owned(),
            service_account: self.destination.1.to_owned(),
            ..Workload::default()
        };
        let call = Call {
            peer: peer.as_ref(),
            source_ip: None,
            destination_ip: None,
            port: self.port,
            sni: None,
            request,
            subjects: &subjects,
            intent: None,
            time: SystemTime::now(),
        };
        policy.decide(&workload, &call).is_allowed()
    }
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["orders", "items", "admin", "v1", "v2", "a.b", "~x", "caf%C3%A9", "x;y"]).prop_map(str::to_owned),
        3 => (0..40_u32).prop_map(|number| number.to_string()),
        1 => (0..9_u32).prop_map(|number| format!("6f1c2b7e-8f0a-4a52-9f1e-0123456789{number:02x}")),
    ]
}

fn logged() -> impl Strategy<Value = Logged> {
    let peer = prop_oneof![
        4 => prop::sample::select(vec!["shop.example/ns/shop/sa/web", "shop.example/ns/shop/sa/job", "other.example/x"])
            .prop_map(|id| Some(format!("spiffe://{id}"))),
        1 => Just(None),
    ];
    let request = prop_oneof![
        1 => Just(None),
        6 => (prop::sample::select(vec!["GET", "POST"]), prop::collection::vec(segment(), 1..4))
            .prop_map(|(method, path)| Some((method.to_owned(), path))),
    ];
    let destination = prop::sample::select(vec![
        ("shop", "orders"),
        ("shop", "store"),
        ("test", "orders"),
    ]);
    let issuer = prop::sample::select(vec![None, None, Some("shop/corp"), Some("shop/guests")]);
    (peer, issuer, destination, 8080..8083_u16, request).prop_map(
        |(peer, issuer, destination, port, request)| Logged {
            peer,
            issuer,
            destination,
            port,
            request,
        },
    )
}

const PERMISSIVE: &str = "apiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {name: m, namespace: countersign-system}\nspec: {mode: permissive}\n";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_call_is_allowed_and_what_was_not_seen_is_not(
        calls in prop::collection::vec(logged(), 1..80),
        distinct_values in 2..6_usize,
    ) {
        let lines: Vec<Value> = calls.iter().map(Logged::line).collect();
        let options = Options { distinct_values, ..Options::default() };
        let suggestion = evidence(options, &lines).suggest(&domain(), &[]).unwrap();
        prop_assert_eq!(&suggestion.uncovered, &Vec::<String>::new());
        let text = suggestion.text();
        let files = vec![("s.yaml".to_owned(), text.clone()), ("m.yaml".to_owned(), PERMISSIVE.to_owned())];

        let report = check(files.clone().into(), &domain(), None);
        prop_assert_eq!(report.count(Level::Error), 0, "{:?}\n{}", report.findings, text);
        prop_assert_eq!(&crate::format::format("s.yaml", &text).unwrap(), &text);

        let policy = Policy::compile("", &domain(), parse(files).unwrap()).unwrap();
        for call in &calls {
            prop_assert!(call.is_allowed(&policy), "{:?}\n{}", call, text);
        }
        let opaque = |call: &Logged, port: u16| calls.iter().any(|other| {
            other.request.is_none() && other.port == port && other.peer == call.peer && other.destination == call.destination
        });
        for call in &calls {
            let stranger = Logged { peer: Some("spiffe://shop.example/ns/shop/sa/stranger".to_owned()), ..call.clone() };
            prop_assert!(!stranger.is_allowed(&policy), "{:?}\n{}", stranger, text);
            let elsewhere = Logged { port: 1, ..call.clone() };
            prop_assert!(!elsewhere.is_allowed(&policy), "{:?}\n{}", elsewhere, text);
            let Some((method, path)) = call.request.clone() else { continue };
            // Of a port to which it opened connections, anything may come.
            if opaque(call, call.port) {
                continue;
            }
            let other = Logged { request: Some(("DELETE".to_owned(), path.clone())), ..call.clone() };
            prop_assert!(!other.is_allowed(&policy), "{:?}\n{}", other, text);
            for (at, segment) in path.iter().enumerate() {
                if segment.starts_with(|c: char| c.is_ascii_digit()) || segment.contains(';') {
                    continue;
                }
                // No rule rests on words being alike. But a parameter accepts a word, too, and so does what has no literal form.
                let accepted = calls.iter().any(|other| {
                    let segment = other.request.as_ref().and_then(|(_, path)| path.get(at));
                    (&other.peer, other.destination) == (&call.peer, call.destination)
                        && segment.is_some_and(|s| s.starts_with(|c: char| c.is_ascii_digit()) || s.contains(';'))
                });
                let mut path = path.clone();
                path[at] = "unseen".to_owned();
                let other = Logged { request: Some((method.clone(), path)), ..call.clone() };
                prop_assert!(accepted || !other.is_allowed(&policy), "{:?}\n{}", other, text);
            }
        }
    }
}
