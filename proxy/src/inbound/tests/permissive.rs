//! A sidecar takes nothing but mutual TLS, whatever a `MeshMode` says.

use countersign_identity::IdentityStore;

use super::*;

/// Whoever proves no identity may do everything, and `web` nothing.
const RULES: &str = "
  - name: anyone without an identity
    action: allow
    from: [{anonymous: true}]
---
apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: mesh, namespace: countersign-system}
spec: {mode: permissive, ports: {'8080': permissive}}
";

#[tokio::test]
async fn a_permissive_mesh_mode_lets_nobody_in_without_an_svid() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    orders.state.set_policy(policy(RULES));

    let request = b"GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n";
    let mut plaintext = TcpStream::connect(orders.wire_address).await.unwrap();
    plaintext.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _closed_or_reset = plaintext.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");

    // In TLS 1.3 a client learns when it reads that its certificate is missing.
    let anonymous = IdentityStore::new(ca.bundle_with_sequence(1));
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let answered = async {
            let mut stream = tls_client(&anonymous, orders.wire_address, alpn).await?;
            stream.write_all(request).await?;
            stream.read_u8().await
        };
        let refused = answered.await.unwrap_err();
        assert!(refused.to_string().contains("alert"), "{refused}");
    }

    // Who has an identity is not anonymous.
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    let mut stream = TcpStream::connect(web.listen).await.unwrap();
    stream.write_all(request).await.unwrap();
    let (head, _) = read_http1(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(orders.log.decisions(1).await.len(), 1);
}
