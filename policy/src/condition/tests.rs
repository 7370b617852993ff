use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use countersign_identity::TrustDomain;

use crate::call::{Intent, Request, Subject, Workload};

fn errors(source: &str) -> Vec<String> {
    Expression::compile(source, &["id"])
        .err()
        .unwrap_or_default()
}

fn evaluate_with(source: &str, request: Option<Request<'_>>) -> Result<bool, String> {
    let claims = json!({
        "tenant": "acme", "groups": ["buyer", "seller"], "level": 3, "score": 1.5, "big": u64::MAX, "deep": {"a": null},
        "many": vec![0; 300],
    });
    let subject = Subject {
        issuer: "shop/corp".to_owned(),
        claims: claims.as_object().unwrap().clone(),
        expires_at: UNIX_EPOCH,
    };
    let intent = Intent {
        scope: vec!["orders.create".to_owned()],
        tctx: json!({"order": {"total": 12}}).as_object().unwrap().clone(),
        req_wl: "spiffe://shop.example/ns/shop/sa/gateway".to_owned(),
        expires_at: UNIX_EPOCH,
    };
    let peer = "spiffe://shop.example/ns/shop/sa/web".parse().unwrap();
    let destination = Workload {
        namespace: "shop".to_owned(),
        service_account: "orders".to_owned(),
        labels: [("app".to_owned(), "orders".to_owned())].into(),
    };
    let facts = Facts {
        peer: Some(&peer),
        source_ip: Some("::ffff:10.0.0.7".parse().unwrap()),
        sni: Some("orders.shop"),
        subject: Some(&subject),
        intent: Some(&intent),
        request,
        path: request.map(|_| "/orders/7"),
        captures: &[("id", "7")],
        destination: &destination,
        destination_ip: Some("10.0.1.9".parse().unwrap()),
        local: &TrustDomain::parse("shop.example").unwrap(),
        port: 8080,
        time: UNIX_EPOCH + Duration::from_secs(1_795_428_000),
    };
    Expression::compile(source, &["id"])
        .map_err(|errors| errors.join("; "))?
        .evaluate(&facts)
}

fn evaluate(source: &str) -> Result<bool, String> {
    let mut headers = http::HeaderMap::new();
    headers.append("X-Tenant", "acme".parse().unwrap());
    headers.append("accept", "a".parse().unwrap());
    headers.append("accept", "b".parse().unwrap());
    let request = Request {
        method: "GET",
        host: "Orders.Shop:8080",
        path: "/orders/7?x=1",
        headers: &headers,
    };
    evaluate_with(source, Some(request))
}

#[test]
fn every_fact_can_be_asked_for() {
    for source in [
        "peer.id == 'spiffe://shop.example/ns/shop/sa/web'",
        "peer.trustDomain == 'shop.example' && peer.namespace == 'shop' && peer.workload == 'web'",
        "peer.address == '10.0.0.7'",
        "subject.issuer == 'shop/corp'",
        "'orders.create' in intent.scope && intent.tctx.order.total < 20",
        "intent.requester.endsWith('/sa/gateway')",
        "request.headers['x-tenant'] == subject.claims.tenant",
        "request.headers.accept == 'a, b'",
        "'buyer' in subject.claims.groups",
        "subject.claims.groups.exists(g, g.startsWith('sell'))",
        "subject.claims.level > 2 && subject.claims.score < 2.0 && subject.claims.big > 5",
        "subject.claims.deep.a == null",
        "!has(subject.claims.missing)",
        "request.method == 'GET' && request.host == 'orders.shop'",
        "request.authority == 'orders.shop:8080' && connection.sni == 'orders.shop'",
        "destination.address == '10.0.1.9' && destination.trustDomain == peer.trustDomain",
        "like(request.path, ['/x', '/orders/*']) && !like(request.path, ['*/orders', '/order'])",
        "like(subject.claims.groups, ['sell*']) && !like(subject.claims.groups, ['ell*', ''])",
        "like(lookup(subject, ['claims', 'tenant']), ['*']) && !like(lookup(subject, ['claims', 'x']), ['*'])",
        "lookup(subject.claims, ['deep', 'a', 'b']) == null && lookup(null, ['a']) == null",
        "lookup(subject.claims, ['level']) == 3 && lookup(intent, ['tctx', 'order', 'total']) == 12",
        "!like(subject.claims.level, ['3']) && !like(null, ['*'])",
        "'b' in words('a b  c') && words('') == [] && words(subject.claims.groups)[1] == 'seller'",
        "inRange(peer.address, ['192.0.2.0/24', '10.0.0.0/8']) && !inRange(peer.address, ['10.1.0.0/16'])",
        "join(['a', subject.claims.tenant], '/') == 'a/acme' && join(['a', null], '/') == null && join([''], '/') == null",
        "!inRange(null, ['0.0.0.0/0']) && !inRange('x', ['0.0.0.0/0'])",
        "request.path == '/orders/7' && request.query == 'x=1'",
        "path.id == '7'",
        "destination.namespace + '/' + destination.workload == 'shop/orders'",
        "destination.labels.app == 'orders' && destination.port == 8080",
        "time > timestamp('2026-01-01T00:00:00Z') && time.getFullYear() == 2026",
        "time - timestamp('2026-11-23T00:00:00Z') < duration('24h')",
        "request.path.matches('^/orders/[0-9]+$')",
        "!subject.claims.many.exists(a, a > 0) && [1, 2].all(a, [3, 4].all(b, a < b))",
        "!subject.claims.many.exists(a, [3, 4].all(b, a == b))",
        "peer.namespace != null && subject.claims.groups.map(g, g + '!')[0] == 'buyer!'",
        "request.headers.exists(name, name.startsWith('x-')) && size(intent.scope) == 1",
        "(subject.claims.level > 2 ? 'a' : 'b') == 'a' && string(destination.port) == '8080'",
    ] {
        assert_eq!(evaluate(source), Ok(true), "{source}");
    }
}

#[test]
fn a_fact_that_is_absent_is_null() {
    assert_eq!(evaluate_with("request == null", None), Ok(true));
    assert!(evaluate_with("request.method == 'GET'", None).is_err());
}

#[test]
fn what_cannot_be_evaluated_says_why_without_values() {
    for (source, expected) in [
        ("subject.claims.missing == 'x'", "there is no missing"),
        (
            "subject.claims[request.method] == 'x'",
            "there is no such key",
        ),
        (
            "subject.claims.tenant > 5",
            "> does not take string and int",
        ),
        (
            "subject.claims.tenant",
            "it is no boolean but of type string",
        ),
        (
            "subject.claims.many.exists(a, subject.claims.many.exists(b, a != b))",
            "it could take too long, because the call has a list of 300 items",
        ),
        (
            "subject.claims.many.exists(x, x == 1 && request.path.matches('^/orders'))",
            "it could take too long, because the call has a list of 300 items",
        ),
        ("1 / (subject.claims.level - 3) == 1", "it divides by zero"),
        (
            "subject.claims.groups[7] == 'x'",
            "an index is out of bounds",
        ),
        ("int(subject.claims.tenant) == 1", "the function int failed"),
    ] {
        assert_eq!(evaluate(source), Err(expected.to_owned()), "{source}");
    }
}

#[test]
fn what_is_wrong_is_found_when_the_policy_is_compiled() {
    let deep = format!("{}1{} == 1", "(".repeat(60), ")".repeat(60));
    let long_sum = format!("{}1 == 1", "1+".repeat(900));
    for (source, expected) in [
        (
            "peeer.id == ''",
            "in the expression, at 1:1: unknown variable `peeer`, did you mean `peer`?",
        ),
        (
            "true && claims.x",
            "in the expression, at 1:9: unknown variable `claims`, expected one of peer, ",
        ),
        (
            "peer.namespce == ''",
            "in the expression, at 1:5: unknown field of `peer`: `namespce`, did you mean `namespace`?",
        ),
        (
            "path.nr == ''",
            "in the expression, at 1:5: unknown field of `path`: `nr`, expected one of id",
        ),
        (
            "['a'].exists(x, y == x)",
            "in the expression, at 1:17: unknown variable `y`, ",
        ),
        (
            "foo(1)",
            "in the expression, at 1:4: unknown function `foo`, expected one of size, ",
        ),
        (
            "inRange(peer.address, ['10.0.0.1/8'])",
            "in the expression, at 1:8: the range \"10.0.0.1/8\" is not valid: the address has bits behind its prefix; ",
        ),
        (
            "inRange(peer.address, peer.id)",
            "in the expression, at 1:8: the ranges of `inRange` have to be a literal list",
        ),
        (
            "like(request.path, '/a')",
            "in the expression, at 1:5: `like` does not take a string and a string",
        ),
        (
            "request.path.startWith('/')",
            "in the expression, at 1:23: unknown function `startWith`, did you mean `startsWith`?",
        ),
        (
            "request.path.matches(request.host)",
            "in the expression, at 1:21: the regular expression of `matches` has to be a literal string",
        ),
        (
            "request.path.matches('(')",
            "in the expression, at 1:21: the regular expression is not valid: unclosed group",
        ),
        (
            "a.b{c: 1}",
            "in the expression, at 1:4: there are no message types here",
        ),
        (
            "[1].exists(a, [1].exists(b, [1].exists(c, true)))",
            "in the expression, at 1:39: comprehensions are nested too deeply: ",
        ),
        (
            &long_sum,
            "in the expression, at 1:1600: it is nested too deeply",
        ),
        (&"x".repeat(3000), "the expression has more than 2048 bytes"),
        (
            "request.method == 5",
            "in the expression, at 1:16: a string is never equal to a number",
        ),
        (
            "destination.port < '80'",
            "in the expression, at 1:18: `<` does not take a number and a string",
        ),
        (
            "request.path.startsWith(8080)",
            "in the expression, at 1:24: `startsWith` does not take a string and a number",
        ),
        (
            "request.path && true",
            "in the expression, at 1:14: `&&` does not take a string and a boolean",
        ),
        (
            "1 in intent.scope",
            "in the expression, at 1:3: `in` does not take a number and a list",
        ),
        (
            "request.method.exists(x, true)",
            "in the expression, at 1:8: expected a list or a map to go through, got a string",
        ),
        (
            "time.hours > 5",
            "in the expression, at 1:5: a timestamp has no field `hours`",
        ),
        (
            "request.headers['x-a'].y == ''",
            "in the expression, at 1:23: a string has no field `y`",
        ),
        (
            "intent.scope.exists(s, s > 5)",
            "in the expression, at 1:26: `>` does not take a string and a number",
        ),
        (
            "request.path + '/x'",
            "expected an expression that is true or false, this one is a string",
        ),
        ("peer.id ==", "in the expression, at 1:11: "),
        ("", "in the expression, at 1:1: "),
        ("peer\n  .id == =", "in the expression, at 2:10: "),
    ] {
        let found = errors(source);
        assert!(
            found.first().is_some_and(|e| e.starts_with(expected)),
            "{source}: {found:?}"
        );
        assert!(
            found.iter().all(|e| !e.contains('\n')),
            "{source}: {found:?}"
        );
    }
    assert_eq!(errors(&deep), Vec::<String>::new());
    assert!(!errors("peer.x == subject.y").is_empty());
    let without = Expression::compile("path.id == ''", &[])
        .err()
        .unwrap_or_default();
    assert_eq!(
        without,
        [
            "in the expression, at 1:5: `path` has the named segments of `to.paths`, and none has a name"
        ]
    );
}

#[test]
fn only_what_is_asked_for_is_built() {
    let roots = Expression::compile("peer.id == '' || time == null", &[])
        .unwrap()
        .roots();
    assert_eq!(
        roots,
        Roots {
            peer: true,
            time: true,
            ..Roots::default()
        }
    );
    let roots = Expression::compile("[1].exists(peer, peer == 1)", &[])
        .unwrap()
        .roots();
    assert_eq!(roots, Roots::default());
}

#[test]
fn hostile_shapes_are_refused_on_a_small_stack() {
    let repeated = |piece: &str, end: &str| format!("{}{end}", piece.repeat(2040 / piece.len()));
    let shapes = [
        repeated("(", "1"),
        repeated("[", "1"),
        repeated("!", "true"),
        repeated("-", "1"),
        repeated("{1:", "1"),
        repeated("peer.", "id"),
        repeated("peer[", "1"),
        repeated("1 in ", "[1]"),
        repeated("1?2:", "3"),
        repeated("true||", "true"),
        repeated("size(", "'a'"),
        repeated("[1].exists(x,", "true"),
        repeated("'", "'"),
        repeated("peer", "[0]"),
        repeated("[0]", ""),
        repeated("1,", "1"),
        repeated(")", ""),
    ];
    let check = || {
        for source in shapes {
            let _ = evaluate(&source);
        }
    };
    // As much as a tokio worker has.
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(check)
        .unwrap()
        .join()
        .unwrap();
}

/// Expressions of every type.
fn typed() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "1",
        "1u",
        "1.5",
        "'acme'",
        "true",
        "null",
        "b'x'",
        "[1]",
        "['GET']",
        "[]",
        "{'a': 1}",
        "duration('1h')",
        "time",
        "request.method",
        "request.headers",
        "request.headers['x-tenant']",
        "destination.port",
        "subject.claims.tenant",
        "subject.claims",
        "size('abc')",
        "(1 == 1)",
        "[1, 2].map(x, x + 1)",
        "string(1)",
        "int('7')",
        "time.getHours()",
        "(true ? 1 : 'a')",
        "request",
        "['a'].exists(x, x == 'a')",
    ])
}

/// What is compiled without types: to see what becomes of it.
fn evaluate_untyped(source: &str) -> Result<Value, ExecutionError> {
    let program = environment().compile(source).unwrap();
    let mut context = Context::with_env(Arc::clone(environment()));
    let headers = std::collections::HashMap::from([("x-tenant", "acme")]);
    let request = std::collections::HashMap::from([
        ("method", Value::from("GET")),
        ("headers", headers.into()),
    ]);
    context.add_variable_from_value("request", request);
    let port = std::collections::HashMap::from([("port", Value::Int(8080))]);
    context.add_variable_from_value("destination", port);
    let claims = std::collections::HashMap::from([("tenant", Value::from("acme"))]);
    let claims = std::collections::HashMap::from([("claims", Value::from(claims))]);
    context.add_variable_from_value("subject", claims);
    let since = chrono::DateTime::from_timestamp(1_795_428_000, 0).unwrap();
    context.add_variable_from_value("time", Value::Timestamp(since.fixed_offset()));
    program.execute(&context)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// What the types refuse is never true: no condition that works is lost.
    #[test]
    fn what_is_refused_for_its_types_is_never_true(
        one in typed(), operator in prop::sample::select(vec!["==", "<", ">=", "+", "-", "*", "&&", " in "]), other in typed(),
    ) {
        let source = format!("{one} {operator} {other}");
        if !errors(&source).is_empty() {
            let value = evaluate_untyped(&source);
            prop_assert_ne!(value, Ok(Value::Bool(true)), "{}", source);
        }
    }

    #[test]
    fn any_text_is_compiled_and_evaluated_or_refused(
        source in prop_oneof![
            "\\PC{0,60}",
            "[-a-c0-9.()\\[\\]{}+*/%!=<>&|?:,'\"\\\\ \n]{0,60}",
            prop::collection::vec(prop::sample::select(vec![
                "peer", "subject", ".claims", ".groups", ".exists(", "x", ",", ")", "(", "[", "]", "==", "&&", "||", "!", "1",
                "-9223372036854775808", "9223372036854775807", "0", "+", "-", "*", "/", "%", "'a'", "{", "}", ":", "?", " in ",
                "size(", ".matches('", "time", "duration('", "1h", "')", ".map(", ".filter(", ".all(", "string(", "int(",
                "1.5", "1u", "b'x'", "null", "request", ".headers", "[0]", "timestamp('", "has(", ".getHours('",
            ]), 0..16).prop_map(|parts| parts.concat()),
        ]
    ) {
        let _ = evaluate(&source);
    }
}
