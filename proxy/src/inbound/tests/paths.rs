//! The path that an application gets is the one that was judged.

use super::*;

/// `/a/…` for `web`, and `OPTIONS` wherever it goes.
const RULES: &str = "
  - name: web calls a
    action: allow
    from: [{workload: shop/web}]
    to: [{paths: ['/a/**']}, {methods: [OPTIONS]}]
";

const ACCEPT_AMBIGUOUS: &str = "
---
apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: orders, namespace: shop}
spec: {ambiguousPaths: accept}
";

/// A request line without its version, what becomes of it, and the path in the log.
type Example = (
    &'static str,
    Result<&'static str, &'static str>,
    &'static str,
);

const EXAMPLES: [Example; 19] = [
    ("GET /a/c?x=%2E//..", Ok("/a/c?x=%2E//.."), "/a/c"),
    ("GET //a/./b/../c?x=//%2e", Ok("/a/c?x=//%2e"), "/a/c"),
    ("GET /x/%2e%2E/%61/c?", Ok("/a/c?"), "/a/c"),
    ("GET /a/%c3%a4%20", Ok("/a/%C3%A4%20"), "/a/%C3%A4%20"),
    ("GET http://orders.shop/a/c", Ok("/a/c"), "/a/c"),
    ("GET http://orders.shop//a/./c?x", Ok("/a/c?x"), "/a/c"),
    ("OPTIONS *", Ok("*"), "*"),
    ("OPTIONS http://orders.shop", Ok("*"), "*"),
    ("OPTIONS http://orders.shop/", Ok("/"), "/"),
    ("GET http://orders.shop", Err("no-rule-matched"), "/"),
    ("GET /a/../b", Err("no-rule-matched"), "/b"),
    ("GET /a/%2e%2e/b", Err("no-rule-matched"), "/b"),
    (
        "GET //a/./b/..%2fx",
        Err("ambiguous-path"),
        "//a/./b/..%2fx",
    ),
    ("GET /a/%5c", Err("ambiguous-path"), "/a/%5c"),
    ("GET /a/\\b", Err("ambiguous-path"), "/a/\\b"),
    ("GET /a/%00", Err("ambiguous-path"), "/a/%00"),
    ("GET /a/%0d", Err("ambiguous-path"), "/a/%0d"),
    ("GET /a/%", Err("ambiguous-path"), "/a/%"),
    (
        "GET http://orders.shop/a/%2F",
        Err("ambiguous-path"),
        "/a/%2F",
    ),
];

#[tokio::test]
async fn an_application_gets_the_path_that_was_judged_and_logged() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    orders.state.set_policy(policy(RULES));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    // One connection: a call that is refused for its path does not end it.
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    for (sent, outcome, _) in EXAMPLES {
        let request = format!("{sent} HTTP/1.1\r\nHost: orders.shop\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_http1(&mut stream).await;
        match outcome {
            Ok(target) => {
                let method = sent.split(' ').next().unwrap();
                let expected = format!("{method} {target} HTTP/1.1\r\nHost: orders.shop\r\n");
                assert!(body.starts_with(&expected), "{sent}: {head}{body}");
            }
            Err(reason) => {
                let status = status_of(reason).as_u16();
                assert!(
                    head.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{sent}: {head}"
                );
                let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(problem["reason"], reason, "{sent}");
            }
        }
    }
    let logged = orders.log.decisions(EXAMPLES.len()).await;
    for ((sent, outcome, path), decision) in EXAMPLES.iter().zip(logged) {
        assert_eq!(decision["path"], *path, "{sent}");
        let class = outcome.err().unwrap_or("allowed");
        assert_eq!(decision["reason_class"], class, "{sent}");
    }
}

fn status_of(reason: &str) -> StatusCode {
    match reason {
        "ambiguous-path" => StatusCode::BAD_REQUEST,
        _ => StatusCode::FORBIDDEN,
    }
}

#[tokio::test]
async fn what_a_mesh_mode_accepts_goes_through_as_it_is() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let rules = format!("{RULES}{ACCEPT_AMBIGUOUS}");
    orders.state.set_policy(policy(&rules));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    for (sent, received) in [
        ("/a/./b%2fc", "GET /a/b%2Fc HTTP/1.1\r\n"),
        ("/a/b\\c", "GET /a/b\\c HTTP/1.1\r\n"),
    ] {
        let request = format!("GET {sent} HTTP/1.1\r\nHost: orders.shop\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_http1(&mut stream).await;
        assert!(body.starts_with(received), "{sent}: {head}{body}");
    }
    // One of its readings is `/secret`.
    let request = "GET /a/..%2f../secret HTTP/1.1\r\nHost: orders.shop\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let (head, _) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}

/// An HTTP/2 application that answers every request with the path that it got.
async fn answer_with_path(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let path = request.uri().path_and_query().unwrap().as_str();
        let response = Response::builder().header("path", path).body(()).unwrap();
        respond.send_response(response, true).unwrap();
    }
}

#[tokio::test]
async fn over_http2_it_is_the_same() {
    let ca = Ca::new();
    let application = serve(answer_with_path).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http2, Limits::default()).await;
    orders.state.set_policy(policy(RULES));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let stream = TcpStream::connect(web.listen).await.unwrap();
    let client = Client::handshake(stream).await.unwrap();
    let call = async |content_type: &'static str, path: &str| {
        let request = Request::builder()
            .uri(format!("http://orders.shop{path}"))
            .header("content-type", content_type)
            .body(())
            .unwrap();
        let (response, _) = client.send(request, true).await.unwrap();
        response.await.unwrap()
    };
    for (sent, outcome, _) in EXAMPLES {
        let Some(path) = sent.strip_prefix("GET /") else {
            continue;
        };
        let answer = call("text/plain", &format!("/{path}")).await;
        match outcome {
            Ok(received) => assert_eq!(answer.headers()["path"], received, "{sent}"),
            Err(reason) => assert_eq!(answer.status(), status_of(reason), "{sent}"),
        }
    }
    let answer = call("application/grpc", "/a/%2f").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["grpc-status"], "13");
}
