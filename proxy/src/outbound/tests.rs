mod metrics;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Limits;
use crate::directory::{DeclaredProtocol, Endpoint};
use crate::testing::{Ca, callee, caller, id, listener, policy, read_http1};

const ANYONE: &str = "
  - name: anyone
    action: allow
";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n";

/// An application that answers each of `answers` requests per connection with its name, then closes.
async fn application(name: &'static str, answers: usize) -> std::net::SocketAddr {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                for _ in 0..answers {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}",
                        name.len()
                    );
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn calls_of_one_connection_are_balanced_one_by_one() {
    let ca = Ca::new();
    let mut endpoints = Vec::new();
    let mut callees = Vec::new();
    for name in ["a", "b"] {
        let application = application(name, usize::MAX).await;
        let callee = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
        callee.state.set_policy(policy(ANYONE));
        endpoints.push(callee.endpoint());
        callees.push(callee);
    }
    let web = caller(&ca, "web", endpoints, Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    let mut answered = std::collections::BTreeSet::new();
    // Half of the calls go to each; sixty-four of one kind in a row do not happen.
    for _ in 0..64 {
        stream.write_all(REQUEST).await.unwrap();
        answered.insert(read_http1(&mut stream).await.1);
    }
    assert_eq!(answered.len(), 2, "{answered:?}");
}

#[tokio::test]
async fn an_endpoint_that_is_someone_else_gets_nothing() {
    let ca = Ca::new();
    let application = application("orders", 1).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
    orders.state.set_policy(policy(ANYONE));
    let endpoint = Endpoint {
        spiffe_id: id("payments"),
        ..orders.endpoint()
    };
    let web = caller(&ca, "web", vec![endpoint], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let (head, body) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(body.contains("spiffe://test/ns/shop/sa/orders"), "{body}");
    assert!(body.contains("spiffe://test/ns/shop/sa/payments"), "{body}");
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let ca = Ca::new();
    let application = application("orders", usize::MAX).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
    orders.state.set_policy(policy(ANYONE));
    let closed = listener().await;
    let dead = Endpoint {
        wire_address: closed.local_addr().unwrap(),
        ..orders.endpoint()
    };
    drop(closed);
    let web = caller(&ca, "web", vec![dead, orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    for _ in 0..16 {
        stream.write_all(REQUEST).await.unwrap();
        assert_eq!(read_http1(&mut stream).await.1, "orders");
    }
}

#[tokio::test]
async fn an_application_that_closes_after_each_answer_costs_no_call() {
    let ca = Ca::new();
    let application = application("orders", 1).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
    orders.state.set_policy(policy(ANYONE));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    for _ in 0..32 {
        stream.write_all(REQUEST).await.unwrap();
        let (head, _) = read_http1(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

#[tokio::test]
async fn a_renewed_svid_is_presented_to_the_next_call_and_breaks_none() {
    let ca = Ca::new();
    let application = application("orders", usize::MAX).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
    orders.state.set_policy(policy(ANYONE));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    for _ in 0..4 {
        stream.write_all(REQUEST).await.unwrap();
        assert_eq!(read_http1(&mut stream).await.1, "orders");
        ca.issue(&web.store, "web");
    }
}

#[tokio::test]
async fn a_service_that_the_directory_does_not_know_is_unavailable() {
    let ca = Ca::new();
    let web = caller(&ca, "web", Vec::new(), Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let (head, body) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(body.contains("\"no-endpoints\""), "{body}");
}

#[tokio::test]
async fn a_stalled_request_body_is_given_up() {
    let ca = Ca::new();
    let limits = Limits {
        idle_body_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let sink = listener().await;
    let address = sink.local_addr().unwrap();
    let orders = callee(&ca, address, DeclaredProtocol::Http1, limits).await;
    orders.state.set_policy(policy(ANYONE));
    let web = caller(&ca, "web", vec![orders.endpoint()], limits).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nHost: orders.shop\r\nContent-Length: 10\r\n\r\nhalf";
    stream.write_all(request).await.unwrap();
    let (head, _) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
}

#[tokio::test]
async fn an_upgraded_connection_is_carried_both_ways() {
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello ";
        stream.write_all(answer).await.unwrap();
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() {
            stream
                .write_all(&byte.map(|byte| byte.to_ascii_uppercase()))
                .await
                .unwrap();
        }
    });
    let ca = Arc::new(Ca::new());
    let orders = callee(&ca, address, DeclaredProtocol::Http1, Limits::default()).await;
    orders.state.set_policy(policy(ANYONE));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    let request =
        b"GET /ws HTTP/1.1\r\nHost: o\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello ") {
        assert!(
            stream.read_buf(&mut answer).await.unwrap() > 0,
            "{answer:?}"
        );
    }
    stream.write_all(b"world").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "WORLD");
}

#[tokio::test]
async fn a_request_that_cannot_be_repeated_gets_a_connection_that_has_not_lain_idle() {
    // An application that answers twice on its first connection and reports on which one each request came.
    let listener = listener().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut connection = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            connection += 1;
            tokio::spawn(async move {
                loop {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{connection}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let ca = Ca::new();
    let orders = callee(&ca, address, DeclaredProtocol::Http1, Limits::default()).await;
    orders.state.set_policy(policy(ANYONE));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    let post = b"POST / HTTP/1.1\r\nHost: o\r\nContent-Length: 0\r\n\r\n";
    for (request, idle, connection) in [
        (&post[..], Duration::ZERO, "1"),
        (post, Duration::ZERO, "1"),
        (REQUEST, Duration::from_millis(1100), "1"),
        (post, Duration::from_millis(1100), "2"),
    ] {
        // The idle time itself is what is tested.
        tokio::time::sleep(idle).await;
        stream.write_all(request).await.unwrap();
        assert_eq!(read_http1(&mut stream).await.1, connection);
    }
}
