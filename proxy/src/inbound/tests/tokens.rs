//! Tokens, and what the application is told of them.

use std::time::SystemTime;

use super::*;
use crate::testing::Issuer;

const FIELDS: &str = ", forward: false, from: [{header: x-token}, {query: t}, {cookie: id}], \
     claimHeaders: {x-user: sub, x-audience: aud}, payloadHeader: x-payload";

const RULES: &str = "
  - name: web calls orders
    action: allow
    from: [{workload: shop/web}]
";

#[tokio::test]
async fn a_token_is_taken_out_wherever_it_is_and_its_claims_are_told() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let issuer = Issuer::new(FIELDS);
    let rules = format!("{RULES}---\n{}", Issuer::text(FIELDS));
    orders.state.set_policy(policy(&rules));
    orders.state.set_issuer_keys(issuer.keys());
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let token = issuer.token("shop", SystemTime::now() + Duration::from_secs(600));
    let payload = token.split('.').nth(1).unwrap();

    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    let forged = "X_User: mallory\r\nx-audience: all\r\nX-Payload: e30\r\n";
    for (path, header) in [
        ("//a?b=%2e", format!("X-Token: {token}\r\n")),
        (&format!("/a?t={token}&b=%2e"), String::new()),
        ("/a?b=%2e", format!("Cookie: a=1; id={token};b=2\r\n")),
        ("/a?b=%2e", String::new()),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: orders.shop\r\n{header}{forged}A: b\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, received) = read_http1(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(
            received.starts_with("GET /a?b=%2e HTTP/1.1\r\nHost: orders.shop\r\nA: b\r\n"),
            "{received}"
        );
        assert!(
            !received.contains(&token) && !received.contains("mallory"),
            "{received}"
        );
        let authenticated = path.contains("t=") || !header.is_empty();
        for told in [
            "x-user: alice\r\n".to_owned(),
            "x-audience: shop\r\n".to_owned(),
            format!("x-payload: {payload}\r\n"),
        ] {
            assert_eq!(
                received.contains(&told),
                authenticated,
                "{told} in {received}"
            );
        }
        assert_eq!(
            received.contains("\r\ncookie: a=1; b=2\r\n"),
            header.starts_with("Cookie"),
            "{received}"
        );
    }
    let logged = orders.log.decisions(4).await;
    let subjects: Vec<_> = logged
        .iter()
        .map(|line| line["subject"]["sub"].as_str())
        .collect();
    assert_eq!(
        subjects,
        [Some("alice"), Some("alice"), Some("alice"), None]
    );
}

/// An HTTP/2 application that answers every request with its path and its headers.
async fn answer_with_headers(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let mut response = Response::new(());
        *response.headers_mut() = request.headers().clone();
        let path = request.uri().path_and_query().unwrap().as_str();
        response.headers_mut().insert("path", path.parse().unwrap());
        respond.send_response(response, true).unwrap();
    }
}

#[tokio::test]
async fn over_http2_it_is_the_same() {
    let ca = Ca::new();
    let application = serve(answer_with_headers).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http2, Limits::default()).await;
    let issuer = Issuer::new(FIELDS);
    let rules = format!("{RULES}---\n{}", Issuer::text(FIELDS));
    orders.state.set_policy(policy(&rules));
    orders.state.set_issuer_keys(issuer.keys());
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let stream = TcpStream::connect(web.listen).await.unwrap();
    let client = Client::handshake(stream).await.unwrap();
    let token = issuer.token("shop", SystemTime::now() + Duration::from_secs(600));
    let request = Request::builder()
        .uri(format!("http://orders.shop/a?t={token}&b"))
        .header("cookie", "a=1")
        .header("cookie", format!("id={token}"))
        .header("cookie", "b=2")
        .header("x-user", "mallory")
        .header("x_user", "mallory")
        .body(())
        .unwrap();
    let (response, _) = client.send(request, true).await.unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert_eq!(headers["path"], "/a?b");
    assert_eq!(headers["x-user"], "alice");
    assert!(!headers.contains_key("x_user"));
    let cookies: Vec<_> = headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}
