//! Callers of another trust domain.

use std::sync::Arc;

use countersign_identity::{IdentityStore, TrustDomain};
use tokio_rustls::client::TlsStream;

use super::*;

const REQUEST: &[u8] = b"GET /orders HTTP/1.1\r\nHost: orders.shop\r\n\r\n";
const ID: &str = "spiffe://partner.example/ns/shop/sa/web";

/// The caller's own trust domain, whose workload `shop/web` knows the bundle of `test`.
struct Partner {
    ca: Ca,
    store: Arc<IdentityStore>,
}

impl Partner {
    fn new(test: &Ca) -> Self {
        let ca = Ca::of(TrustDomain::parse("partner.example").unwrap());
        let store = ca.store("web");
        store
            .set_foreign_bundles([test.bundle_with_sequence(1)])
            .unwrap();
        Self { ca, store }
    }

    /// The head and the content of the answer to a call on a new connection, and the connection.
    async fn call(&self, orders: &Callee) -> (String, String, TlsStream<TcpStream>) {
        let mut stream = tls_client(&self.store, orders.wire_address, b"http/1.1")
            .await
            .unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let (head, content) = read_http1(&mut stream).await;
        (head, content, stream)
    }

    async fn is_refused(&self, orders: &Callee) -> bool {
        match tls_client(&self.store, orders.wire_address, b"http/1.1").await {
            // In TLS 1.3 the client is done first: the server's refusal shows when it reads.
            Ok(mut stream) => {
                let _ = stream.write_all(REQUEST).await;
                stream.read_u8().await.is_err()
            }
            Err(_) => true,
        }
    }
}

fn trust_domain_document(more: &str) -> String {
    format!(
        "
---
apiVersion: countersign.dev/v1
kind: TrustDomain
metadata: {{name: partner, namespace: countersign-system}}
spec: {{trustDomain: partner.example, {more}bundleEndpoint: {{url: 'https://partner.example/', profile: https_web}}}}
"
    )
}

#[tokio::test]
async fn a_foreign_caller_is_believed_by_its_own_bundle_and_allowed_by_its_own_name() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let partner = Partner::new(&ca);
    assert!(partner.is_refused(&orders).await, "without its bundle");
    let bundle = || partner.ca.bundle_with_sequence(1);
    orders.store.set_foreign_bundles([bundle()]).unwrap();

    // `shop/web` is the mesh's own.
    let (head, _, _) = partner.call(&orders).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let named = format!(
        "
  - name: the partner's web
    action: allow
    from: [{{spiffe: '{ID}'}}]
{}",
        trust_domain_document("")
    );
    orders.state.set_policy(policy(&named));
    let (head, received, _) = partner.call(&orders).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        received.contains(&format!("countersign-peer: {ID}\r\n")),
        "{received}"
    );
    let decisions = orders.log.decisions(2).await;
    for decision in &decisions {
        assert_eq!(decision["peer"], ID, "{decision}");
    }

    // An authority that is known speaks for no other trust domain than its own.
    let impostor = Ca::of(TrustDomain::parse("partner.example").unwrap());
    impostor.issue(&partner.store, "web");
    assert!(partner.is_refused(&orders).await, "by another's signature");
}

#[tokio::test]
async fn a_caller_of_an_alias_is_judged_as_the_mesh_s_own_and_logged_as_itself() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let partner = Partner::new(&ca);
    let bundle = partner.ca.bundle_with_sequence(1);
    orders.store.set_foreign_bundles([bundle]).unwrap();
    let aliased = format!("{WEB_MAY_CALL}{}", trust_domain_document("alias: true, "));
    orders.state.set_policy(policy(&aliased));
    let (head, received, _) = partner.call(&orders).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        received.contains(&format!("countersign-peer: {ID}\r\n")),
        "{received}"
    );
    let [decision] = orders.log.decisions(1).await.try_into().unwrap();
    assert_eq!(decision["peer"], ID, "{decision}");
}

#[tokio::test]
async fn connections_end_when_the_bundle_of_their_caller_s_trust_domain_goes() {
    let ca = Ca::new();
    let orders = orders(&ca, Limits::default()).await;
    let partner = Partner::new(&ca);
    let bundle = partner.ca.bundle_with_sequence(1);
    let other = Ca::of(TrustDomain::parse("other.example").unwrap());
    let other = || other.bundle_with_sequence(1);
    orders
        .store
        .set_foreign_bundles([bundle.clone(), other()])
        .unwrap();
    let (_, _, mut theirs) = partner.call(&orders).await;
    let local = ca.store("web");
    let mut ours = tls_client(&local, orders.wire_address, b"http/1.1")
        .await
        .unwrap();
    // Another trust domain's bundle is no concern of theirs.
    orders.store.set_foreign_bundles([bundle]).unwrap();
    theirs.write_all(REQUEST).await.unwrap();
    read_http1(&mut theirs).await;

    orders.store.set_foreign_bundles([other()]).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), theirs.read_u8()).await;
    assert!(ended.unwrap().is_err(), "their connection goes on");
    assert!(partner.is_refused(&orders).await);
    ours.write_all(REQUEST).await.unwrap();
    let (head, _) = read_http1(&mut ours).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}
