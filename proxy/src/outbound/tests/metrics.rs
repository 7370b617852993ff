//! What is counted of the wire, and of the bytes on both ends of it.

use super::*;
use crate::testing::metric;

#[tokio::test]
async fn connections_and_bytes_are_counted_at_both_ends() {
    let ca = Ca::new();
    let application = application("orders", usize::MAX).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
    orders.state.set_policy(policy(ANYONE));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    let mut answered = 0;
    for _ in 0..2 {
        stream.write_all(REQUEST).await.unwrap();
        let (head, body) = read_http1(&mut stream).await;
        answered += head.len() + body.len();
    }
    let outbound = |name: &str| metric(&web.registry, &format!("{name}{{direction=\"outbound\"}}"));
    let inbound = |name: &str| {
        metric(
            &orders.registry,
            &format!("{name}{{direction=\"inbound\"}}"),
        )
    };
    assert_eq!(
        outbound("received_bytes_total"),
        u64::try_from(2 * REQUEST.len()).ok()
    );
    assert_eq!(outbound("sent_bytes_total"), u64::try_from(answered).ok());
    assert_eq!(inbound("sent_bytes_total"), u64::try_from(answered).ok());
    // The application is told the verified facts, too.
    assert!(inbound("received_bytes_total") > outbound("received_bytes_total"));
    for of in [
        outbound("wire_connections_opened_total"),
        outbound("wire_connections"),
    ] {
        assert_eq!(of, Some(1));
    }
    assert_eq!(inbound("wire_connections"), Some(1));

    drop(stream);
    orders.drain.run(Duration::from_secs(10)).await;
    let closed = async {
        while outbound("wire_connections") != Some(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_keeps_calls_from_the_wire_is_counted_by_its_reason() {
    let ca = Ca::new();
    let application = application("orders", 1).await;
    let orders = callee(&ca, application, DeclaredProtocol::Http1, Limits::default()).await;
    let closed = listener().await;
    let dead = Endpoint {
        wire_address: closed.local_addr().unwrap(),
        ..orders.endpoint()
    };
    drop(closed);
    let somebody_else = Endpoint {
        spiffe_id: id("payments"),
        ..orders.endpoint()
    };
    for (endpoint, reason, handshake) in [
        (dead, "connect", None),
        (somebody_else, "handshake", Some("wrong-identity")),
    ] {
        let web = caller(&ca, "web", vec![endpoint], Limits::default()).await;
        let mut stream = TcpStream::connect(web.listen).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(read_http1(&mut stream).await.0.starts_with("HTTP/1.1 503 "));
        let of = |name: &str, reason: &str| {
            let labels = format!("{{direction=\"outbound\",reason=\"{reason}\"}}");
            metric(&web.registry, &format!("{name}{labels}"))
        };
        assert!(of("wire_failures_total", reason) >= Some(1));
        if let Some(handshake) = handshake {
            assert!(of("handshake_failures_total", handshake) >= Some(1));
        }
        let open = metric(&web.registry, "wire_connections{direction=\"outbound\"}");
        assert_eq!(open, Some(0));
    }
}
