mod foreign;
mod paths;
mod permissive;
mod sni;
mod tokens;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Limits;
use crate::directory::DeclaredProtocol;
use crate::http2::Client;
use crate::testing::{Ca, Callee, callee, caller, listener, policy, read_http1, tls_client};

/// Everything that `web` asks of port 8080.
const WEB_MAY_CALL: &str = "
  - name: web calls orders
    action: allow
    from: [{workload: shop/web}]
    to: [{ports: [8080]}]
";

/// `orders` with an application that answers every HTTP/1.1 request with the head that it got.
async fn orders(ca: &Ca, limits: Limits) -> Callee {
    let application = serve(answer_with_head).await;
    let orders = callee(ca, application, DeclaredProtocol::Detect, limits).await;
    orders.state.set_policy(policy(WEB_MAY_CALL));
    orders
}

/// Serves each connection with `answer`.
async fn serve<F>(answer: fn(TcpStream) -> F) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn answer_with_head(mut stream: TcpStream) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.write_all(&head).await.unwrap();
            head.clear();
        }
    }
}

#[tokio::test]
async fn a_call_goes_through_two_sidecars_and_arrives_with_the_verified_facts() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    for _ in 0..3 {
        let request =
            b"GET /orders HTTP/1.1\r\nHost: orders.shop\r\nCountersign-Peer: forged\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let (head, received) = read_http1(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(received.contains("countersign-peer: spiffe://test/ns/shop/sa/web\r\n"));
        assert!(
            received.contains(";URI=spiffe://test/ns/shop/sa/web\r\n"),
            "{received}"
        );
        assert!(received.contains("\r\ntraceparent: 00-"), "{received}");
        assert!(!received.contains("forged"), "{received}");
    }
}

#[tokio::test]
async fn a_denied_call_is_told_why_and_the_connection_goes_on() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let intruder = caller(&ca, "intruder", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(intruder.listen).await.unwrap();
    for _ in 0..2 {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n")
            .await
            .unwrap();
        let (head, body) = read_http1(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/problem+json"),
            "{head}"
        );
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["reason"], "no-rule-matched");
        assert!(
            head.contains(problem["decision_id"].as_str().unwrap()),
            "{head}"
        );
    }
}

#[tokio::test]
async fn nothing_is_allowed_before_there_is_a_policy() {
    let ca = Ca::new();
    let application = serve(answer_with_head).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n")
        .await
        .unwrap();
    let (head, body) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(body.contains("\"policy-not-loaded\""), "{body}");
}

#[tokio::test]
async fn the_application_is_not_dialled_before_the_verdict() {
    let ca = Ca::new();
    let application = listener().await;
    let address = application.local_addr().unwrap();
    let orders = callee(&ca, address, DeclaredProtocol::Detect, Limits::default()).await;
    orders.state.set_policy(policy(WEB_MAY_CALL));
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n"[..],
        b"\x00opaque",
    ] {
        let intruder = caller(&ca, "intruder", vec![orders.endpoint()], Limits::default()).await;
        let mut stream = TcpStream::connect(intruder.listen).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // The end of the answer, or a reset: either way it has been judged.
        let _denied = tokio::time::timeout(Duration::from_secs(10), stream.read_buf(&mut answer))
            .await
            .unwrap();
    }
    let dialled = std::pin::pin!(application.accept());
    assert!(
        futures_util::FutureExt::now_or_never(dialled).is_none(),
        "the application was dialled"
    );
}

#[tokio::test]
async fn an_opaque_connection_is_carried_both_ways_with_its_ends() {
    async fn reverse(mut stream: TcpStream) {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
    }
    let ca = Ca::new();
    for protocol in [DeclaredProtocol::Detect, DeclaredProtocol::Tcp] {
        let application = serve(reverse).await;
        let orders = callee(&ca, application, protocol, Limits::default()).await;
        orders.state.set_policy(policy(WEB_MAY_CALL));
        let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
        let mut stream = TcpStream::connect(web.listen).await.unwrap();
        // More than every window on the way.
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        stream.write_all(&sent).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        received.reverse();
        assert!(
            received == sent,
            "{} of {} bytes",
            received.len(),
            sent.len()
        );
    }
}

#[tokio::test]
async fn a_denied_opaque_connection_is_reset() {
    let ca = Ca::new();
    for protocol in [DeclaredProtocol::Detect, DeclaredProtocol::Tcp] {
        let orders = callee(
            &ca,
            serve(answer_with_head).await,
            protocol,
            Limits::default(),
        )
        .await;
        orders.state.set_policy(policy(WEB_MAY_CALL));
        let intruder = caller(&ca, "intruder", vec![orders.endpoint()], Limits::default()).await;
        // Of a declared port the reset may come before a byte was sent, even while connecting.
        let answered = async {
            let mut stream = TcpStream::connect(intruder.listen).await?;
            stream.write_all(b"\x00\x01\x02").await?;
            stream.read_u8().await
        };
        let error = answered.await.unwrap_err();
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "{protocol}"
        );
    }
}

/// An HTTP/2 application that echoes the body and answers with the trailers `grpc-status: 0`.
async fn grpc_echo(stream: TcpStream) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let peer = request.headers().get("countersign-peer").cloned().unwrap();
            let leaked = ["countersign-destination", "countersign_peer"]
                .iter()
                .any(|name| request.headers().contains_key(*name));
            let mut body = request.into_body();
            let mut response = Response::new(());
            response.headers_mut().insert("peer", peer);
            response
                .headers_mut()
                .insert("leaked", leaked.to_string().parse().unwrap());
            let mut send = respond.send_response(response, false).unwrap();
            while let Some(chunk) = body.data().await {
                let chunk = chunk.unwrap();
                body.flow_control().release_capacity(chunk.len()).unwrap();
                send.send_data(chunk, false).unwrap();
            }
            let trailers = HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                http::HeaderValue::from_static("0"),
            )]);
            send.send_trailers(trailers).unwrap();
        });
    }
}

async fn grpc_call(client: &Client, body: &[u8]) -> (Response<()>, Vec<u8>, Option<HeaderMap>) {
    let request = Request::builder()
        .method(Method::POST)
        .uri("http://orders.shop/shop.Orders/Create")
        .header("content-type", "application/grpc")
        .header("countersign-peer", "forged")
        .header("countersign_peer", "forged")
        .body(())
        .unwrap();
    let (response, mut send) = client.send(request, false).await.unwrap();
    send.send_data(Bytes::copy_from_slice(body), true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let (data, trailers) = read_h2(&mut body).await;
    (Response::from_parts(head, ()), data, trailers)
}

async fn read_h2(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut data = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        data.extend_from_slice(&chunk);
    }
    (data, body.trailers().await.unwrap())
}

#[tokio::test]
async fn grpc_calls_keep_their_trailers_and_get_grpc_statuses() {
    let ca = Ca::new();
    let application = serve(grpc_echo).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http2, Limits::default()).await;
    orders.state.set_policy(policy(WEB_MAY_CALL));

    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let client = Client::handshake(TcpStream::connect(web.listen).await.unwrap())
        .await
        .unwrap();
    let body = vec![7; 1_000_000];
    let (head, echoed, trailers) = grpc_call(&client, &body).await;
    assert_eq!(head.headers()["peer"], "spiffe://test/ns/shop/sa/web");
    assert_eq!(head.headers()["leaked"], "false");
    assert_eq!(echoed, body);
    assert_eq!(trailers.unwrap()["grpc-status"], "0");

    let intruder = caller(&ca, "intruder", vec![orders.endpoint()], Limits::default()).await;
    let stream = TcpStream::connect(intruder.listen).await.unwrap();
    let client = Client::handshake(stream).await.unwrap();
    let (head, _, _) = grpc_call(&client, b"x").await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()["grpc-status"], "7");
}

#[tokio::test]
async fn an_ordinary_client_with_an_svid_needs_no_sidecar() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let store = ca.store("web");
    let mut stream = tls_client(&store, orders.wire_address, b"http/1.1")
        .await
        .unwrap();
    stream
        .write_all(b"GET /a HTTP/1.1\r\nHost: orders.shop\r\n\r\n")
        .await
        .unwrap();
    let (head, received) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(received.starts_with("GET /a HTTP/1.1\r\n"), "{received}");
}

#[tokio::test]
async fn a_tunnel_leads_to_the_workloads_own_ports_and_nowhere_else() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let store = ca.store("web");
    let stream = tls_client(&store, orders.wire_address, b"h2")
        .await
        .unwrap();
    let client = Client::handshake(stream).await.unwrap();
    for elsewhere in ["127.0.0.1:22", "10.0.0.1:8081", "metadata.internal:80"] {
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = elsewhere.parse().unwrap();
        let (response, _send) = client.send(request, false).await.unwrap();
        assert_eq!(
            response.await.unwrap().status(),
            StatusCode::MISDIRECTED_REQUEST
        );
    }
}

#[tokio::test]
async fn plaintext_garbage_and_strangers_get_nowhere() {
    let ca = Ca::new();
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let orders = orders(&ca, limits).await;

    let mut plaintext = TcpStream::connect(orders.wire_address).await.unwrap();
    plaintext
        .write_all(b"GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _closed_or_reset = plaintext.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");

    let mut half_open = TcpStream::connect(orders.wire_address).await.unwrap();
    let closed = half_open.read_to_end(&mut Vec::new()).await;
    assert!(matches!(closed, Ok(0) | Err(_)));

    // Another CA of the same trust domain's name: the handshake ends with an alert.
    let stranger = Ca::new().store("web");
    stranger.set_bundle(ca.bundle_with_sequence(2)).unwrap();
    let refused = match tls_client(&stranger, orders.wire_address, b"http/1.1").await {
        Ok(mut stream) => stream.read_u8().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(refused.to_string().contains("alert"), "{refused}");
}

#[tokio::test]
async fn malformed_and_oversized_requests_are_answered_and_the_connection_closed() {
    let ca = Ca::new();
    let limits = Limits {
        header_bytes: 4096,
        ..Limits::default()
    };
    let orders = orders(&ca, limits).await;
    let web = caller(&ca, "web", vec![orders.endpoint()], limits).await;
    let long = format!(
        "GET / HTTP/1.1\r\nHost: o\r\nx: {}\r\n\r\n",
        "y".repeat(8192)
    );
    for (request, status) in [
        (
            "GET / HTTP/1.1\r\nHost: o\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        (long.as_str(), "431"),
    ] {
        let mut stream = TcpStream::connect(web.listen).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, _) = read_http1(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn draining_lets_the_call_in_flight_end() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    stream
        .write_all(b"GET /1 HTTP/1.1\r\nHost: o\r\n\r\n")
        .await
        .unwrap();
    read_http1(&mut stream).await;
    let drained = orders.drain.run(Duration::from_secs(10)).await;
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn a_denied_upload_is_read_to_its_end_if_it_is_small_and_never_waited_for() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let intruder = caller(&ca, "intruder", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(intruder.listen).await.unwrap();
    for _ in 0..2 {
        let small = b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\n\r\nsmall";
        stream.write_all(small).await.unwrap();
        let (head, _) = read_http1(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    let waits = b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(waits).await.unwrap();
    let (head, _) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
}
