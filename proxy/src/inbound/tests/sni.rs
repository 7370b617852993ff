//! Opaque TLS connections are judged by the server name that they ask for.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

const RULES: &str = "
  - name: web calls the shop's servers
    action: allow
    from: [{workload: shop/web}]
    to: [{ports: [8080], sni: ['*.shop']}]
  - name: nobody calls the vault
    action: deny
    to: [{sni: [vault.shop]}]
";

/// What a TLS client that asks for `name` sends first.
fn hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

async fn echo(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let _ended = tokio::io::copy(&mut reader, &mut writer).await;
}

#[tokio::test]
async fn an_opaque_tls_connection_is_judged_by_its_server_name_and_replayed_untouched() {
    let ca = Ca::new();
    let application = serve(echo).await;
    let orders = callee(
        &ca,
        application,
        DeclaredProtocol::Detect,
        Limits::default(),
    )
    .await;
    orders.state.set_policy(policy(RULES));
    let web = caller(&ca, "web", vec![orders.endpoint()], Limits::default()).await;
    // An address is no server name (RFC 6066 §3).
    let examples = [
        ("orders.shop", Some("orders.shop"), "allowed"),
        ("Orders.Shop", Some("orders.shop"), "allowed"),
        ("vault.shop", Some("vault.shop"), "denied-by-rule"),
        ("elsewhere.test", Some("elsewhere.test"), "no-rule-matched"),
        ("10.0.0.1", None, "denied-by-rule"),
    ];
    for (name, _, class) in examples {
        let mut stream = TcpStream::connect(web.listen).await.unwrap();
        let mut sent = hello(name);
        // The first bytes alone do not have the name.
        let rest = sent.split_off(20);
        stream.write_all(&sent).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(&rest).await.unwrap();
        sent.extend(rest);
        let mut received = vec![0; sent.len()];
        let answered = stream.read_exact(&mut received).await;
        match class {
            "allowed" => {
                answered.unwrap();
                assert!(received == sent, "{name}");
            }
            _ => {
                let error = answered.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{name}");
            }
        }
    }
    let logged = orders.log.decisions(examples.len()).await;
    for ((name, sni, class), decision) in examples.iter().zip(logged) {
        assert_eq!(decision["sni"].as_str(), *sni, "{name}");
        assert_eq!(decision["reason_class"], *class, "{name}");
    }
}
