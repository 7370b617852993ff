use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::document::{Document, parse};

const DESIGN: &str = r#"{"peer":"spiffe://td/ns/shop/sa/checkout","source_ip":"10.0.0.7",
 "destination":{"namespace":"shop","workload":"orders","labels":{"app":"orders"},"port":8080},
 "request":{"method":"POST","host":"orders.shop","path":"/orders?x=1","headers":{"x-tenant":"acme"}},
 "subject":{"issuer":"corp","claims":{"sub":"u1","groups":["buyer"],"tenant":"acme"}},
 "intent":{"scope":["orders.create"],"tctx":{}}, "time":"2026-11-23T10:00:00Z"}"#;

const NOW: SystemTime = UNIX_EPOCH;

fn domain() -> TrustDomain {
    TrustDomain::parse("td").unwrap()
}

fn issuers() -> Vec<Arc<TokenIssuer>> {
    let text = |metadata: &str| {
        format!(
            "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {metadata}\nspec: {{issuer: https://login.example, audiences: [shop]}}\n---\n"
        )
    };
    let text = text("{name: corp, namespace: shop}")
        + &text("{name: corp, namespace: countersign-system}")
        + &text("{name: partners, namespace: countersign-system}");
    parse([("i.yaml".to_owned(), text)])
        .unwrap()
        .into_iter()
        .map(|document| match document {
            Document::TokenIssuer(issuer) => Arc::new(issuer),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn resolve(text: &str) -> Result<ResolvedCall<'_>, String> {
    let call: CallJson<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    call.resolve(&domain(), &issuers(), NOW)
        .map_err(|error| error.to_string())
}

fn opaque_with(more: &str) -> String {
    format!(r#"{{"destination":{{"namespace":"shop","workload":"orders","port":1}}{more}}}"#)
}

#[test]
fn the_call_of_the_reference_is_read_whole() {
    let resolved = resolve(DESIGN).unwrap();
    let call = resolved.as_call();
    assert_eq!(
        call.peer.unwrap().as_str(),
        "spiffe://td/ns/shop/sa/checkout"
    );
    assert_eq!(call.source_ip, Some([10, 0, 0, 7].into()));
    assert_eq!(call.port, 8080);
    let request = call.request.unwrap();
    assert_eq!(
        (request.method, request.host, request.path),
        ("POST", "orders.shop", "/orders?x=1")
    );
    let mut headers = Vec::new();
    request
        .headers
        .for_each(&mut |name, value| headers.push((name.to_owned(), value.to_vec())));
    assert_eq!(headers, [("x-tenant".to_owned(), b"acme".to_vec())]);
    let [subject] = call.subjects else {
        panic!("{:?}", call.subjects);
    };
    assert_eq!(subject.issuer, "shop/corp");
    assert_eq!(subject.claims["groups"], json!(["buyer"]));
    assert_eq!(call.intent.unwrap().scope, ["orders.create"]);
    assert_eq!(call.time, UNIX_EPOCH + Duration::from_secs(1_795_428_000));
}

#[test]
fn strings_without_escapes_are_borrowed() {
    let call: CallJson<'_> = serde_json::from_str(DESIGN).unwrap();
    let request = call.request.unwrap();
    assert!(matches!(request.path, Cow::Borrowed(_)));
    let text = DESIGN.replace("/orders?x", r"/orders\u003fx");
    let call: CallJson<'_> = serde_json::from_str(&text).unwrap();
    assert_eq!(call.request.unwrap().path, "/orders?x=1");
}

#[test]
fn what_is_left_out_is_not_there() {
    let text = opaque_with("");
    let resolved = resolve(&text).unwrap();
    let call = resolved.as_call();
    assert!(call.peer.is_none() && call.source_ip.is_none() && call.request.is_none());
    assert!(call.subjects.is_empty() && call.intent.is_none() && call.sni.is_none());
    assert_eq!(call.time, NOW);
}

#[test]
fn workloads_without_a_trust_domain_are_of_the_meshs_own() {
    let text = opaque_with(r#","peer":"shop/web","intent":{"requester":"shop/api"}"#);
    let resolved = resolve(&text).unwrap();
    let call = resolved.as_call();
    assert_eq!(call.peer.unwrap().as_str(), "spiffe://td/ns/shop/sa/web");
    assert_eq!(call.intent.unwrap().req_wl, "spiffe://td/ns/shop/sa/api");
}

#[test]
fn issuers_are_those_of_the_workloads_namespace_and_then_the_roots() {
    let issuer = |given: &str| {
        let text = opaque_with(&format!(r#","subject":{{"issuer":"{given}"}}"#));
        resolve(&text).map(|call| call.as_call().subjects[0].issuer.clone())
    };
    assert_eq!(issuer("corp").unwrap(), "shop/corp");
    assert_eq!(issuer("partners").unwrap(), "countersign-system/partners");
    assert_eq!(
        issuer("countersign-system/corp").unwrap(),
        "countersign-system/corp"
    );
    assert_eq!(
        issuer("crop").unwrap_err(),
        "subject.issuer: there is no TokenIssuer crop that shop/orders believes, only shop/corp, \
         countersign-system/corp, countersign-system/partners"
    );
}

#[test]
fn a_token_counts_until_its_own_time_is_over() {
    let text = opaque_with(
        r#","subject":{"issuer":"corp","claims":{"exp":100}},"subjects":[{"issuer":"corp"}],"intent":{"exp":7}"#,
    );
    let resolved = resolve(&text).unwrap();
    let call = resolved.as_call();
    let [first, second] = call.subjects else {
        panic!("{:?}", call.subjects);
    };
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(first.expires_at, at(100));
    assert!(second.expires_at > at(200_000_000_000));
    assert_eq!(call.intent.unwrap().expires_at, at(7));
}

#[test]
fn mistakes_are_told() {
    for (text, expected) in [
        (opaque_with(r#","per":"x""#), "unknown field `per`"),
        (
            opaque_with(r#","request":{"path":"/"}"#),
            "missing field `method`",
        ),
        (
            opaque_with(r#","request":{"method":"GET","path":"/","headers":{"a":1}}"#),
            "invalid type: integer `1`, expected a string or a list of strings",
        ),
        (
            opaque_with(r#","time":"yesterday""#),
            "expected a time such as 2026-11-23T10:00:00Z, got \"yesterday\"",
        ),
        (
            opaque_with("").replace("\"port\"", "\"labels\":{\"a\":\"1\",\"a\":\"2\"},\"port\""),
            "the label \"a\" is given twice",
        ),
        (
            opaque_with(r#","source_ip":"10.0.0""#),
            "invalid IP address",
        ),
        (
            opaque_with(r#","peer":"web""#),
            "peer: expected a SPIFFE ID or namespace/account, got \"web\": there is no / in it",
        ),
        (opaque_with(r#","peer":"spiffe://TD/x""#), "peer: expected"),
        (
            opaque_with("").replace("orders", ""),
            "destination.workload: expected a name",
        ),
        (
            opaque_with("").replace(":1}", ":0}"),
            "destination.port: expected a port",
        ),
        (opaque_with("").replace(":1}", ":65536}"), "65536"),
        ("{}".to_owned(), "missing field `destination`"),
        (
            "5".to_owned(),
            "expected a JSON object with the facts of a call",
        ),
    ] {
        let Err(error) = resolve(&text) else {
            panic!("{text} is no mistake");
        };
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn headers_and_claims_are_not_in_debug_output() {
    let call: CallJson<'_> = serde_json::from_str(DESIGN).unwrap();
    let shown = format!("{:?}", call.request);
    assert!(!shown.contains("acme"), "{shown}");
    let shown = format!("{:?}", resolve(DESIGN).unwrap().as_call().subjects);
    assert!(!shown.contains("buyer"), "{shown}");
}

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    "[a-z/\\\\\"\u{e9}\u{1}]{1,8}".prop_map(Cow::Owned)
}

fn claims() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"]{0,5}".prop_map(Value::from),
        prop::collection::vec("[a-z]{0,3}", 0..3).prop_map(Value::from),
    ];
    prop::collection::btree_map("[a-z.]{1,4}", leaf, 0..3)
        .prop_map(|claims| claims.into_iter().collect())
}

fn request() -> impl Strategy<Value = RequestJson<'static>> {
    let name = "[a-z-]{1,6}".prop_map(Cow::<str>::Owned);
    let line = (name, text());
    // Lines of one name stand together, as JSON has them.
    let headers = prop::collection::vec(line, 0..4).prop_map(|mut lines| {
        lines.sort_by(|(one, _), (other, _)| one.cmp(other));
        HeaderLines::from_iter(lines)
    });
    (text(), text(), text(), headers).prop_map(|(method, host, path, headers)| RequestJson {
        method,
        host,
        path,
        headers,
    })
}

fn call() -> impl Strategy<Value = CallJson<'static>> {
    let labels = prop::collection::btree_map("[a-z]{1,4}", "[a-z]{0,4}", 0..3);
    let destination = ("[a-z]{1,4}", "[a-z]{1,4}", labels, 1_u16..).prop_map(
        |(namespace, workload, labels, port)| Destination {
            ip: None,
            namespace: namespace.into(),
            workload: workload.into(),
            labels: labels.into(),
            port,
        },
    );
    let subject =
        || ("[a-z/]{1,6}", claims()).prop_map(|(issuer, claims)| SubjectJson { issuer, claims });
    let intent = (
        prop::collection::vec("[a-z.]{1,5}", 0..3),
        claims(),
        "[a-z/]{0,5}",
        prop::option::of(any::<u64>()),
    )
        .prop_map(|(scope, tctx, requester, exp)| IntentJson {
            scope,
            tctx,
            requester,
            exp,
        });
    let time = prop::option::of((0_u64..200_000_000_000, 0_u32..1_000_000_000));
    (
        (
            prop::option::of(text()),
            any::<Option<IpAddr>>(),
            destination,
        ),
        (prop::option::of(text()), prop::option::of(request())),
        (
            prop::option::of(subject()),
            prop::collection::vec(subject(), 0..2),
        ),
        prop::option::of(intent),
        time,
    )
        .prop_map(
            |(
                (peer, source_ip, destination),
                (sni, request),
                (subject, subjects),
                intent,
                time,
            )| {
                CallJson {
                    peer,
                    source_ip,
                    destination,
                    sni,
                    request,
                    subject,
                    subjects,
                    intent,
                    time: time.map(|(seconds, nanos)| UNIX_EPOCH + Duration::new(seconds, nanos)),
                }
            },
        )
}

proptest! {
    #[test]
    fn a_destination_is_the_workload_that_it_names(one in call(), other in call()) {
        let workload = one.destination.to_workload();
        prop_assert!(one.destination.is(&workload));
        prop_assert_eq!(other.destination.is(&workload), other.destination.to_workload() == workload);
    }

    #[test]
    fn what_is_written_is_read_again(call in call()) {
        let text = serde_json::to_string(&call).unwrap();
        prop_assert!(!text.contains('\n'));
        let read: CallJson<'_> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read, call);
    }

    #[test]
    fn changed_calls_are_read_or_refused(at in any::<prop::sample::Index>(), insert in "[\\[\\]{}:,\"a1\\\\n-]{0,3}") {
        let mut text: Vec<char> = DESIGN.chars().collect();
        let at = at.index(text.len());
        text.splice(at..=at, insert.chars());
        let _ = resolve(&text.into_iter().collect::<String>());
    }
}
