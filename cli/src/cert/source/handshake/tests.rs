use std::net::TcpListener;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};

use super::*;

/// A server that demands a client certificate; gives its certificate and where it listens.
fn demanding_server(version: &'static SupportedProtocolVersion) -> (CertificateDer<'static>, u16) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        while connection.is_handshaking() && connection.complete_io(&mut socket).is_ok() {}
    });
    (cert.der().clone(), port)
}

fn inspect(port: u16) -> Result<(Vec<CertificateDer<'static>>, Connection), HandshakeError> {
    present("127.0.0.1", port, &Client::default(), TIMEOUT)
}

#[test]
fn a_server_that_demands_a_certificate_shows_its_own_and_what_it_demands() {
    let (certificate, port) = demanding_server(&TLS13);
    let (presented, connection) = inspect(port).unwrap();
    assert_eq!(presented, [certificate]);
    assert_eq!(connection.possession, Ok(()));
    assert_eq!(connection.alpn.as_deref(), Some("h2"));
    assert_eq!(connection.version.as_deref(), Some("TLS 1.3"));
    assert_eq!(connection.key_exchange.as_deref(), Some("X25519MLKEM768"));
    assert_eq!(
        connection.cipher_suite.as_deref(),
        Some("TLS_AES_256_GCM_SHA384")
    );
    let asked = connection.client_certificate.unwrap();
    assert!(!asked.presented);
    assert_eq!(asked.outcome, ClientOutcome::Required);
    assert_eq!(asked.authorities, ["CN=rcgen self signed cert"]);
    let schemes = asked.signature_algorithms;
    assert!(
        schemes.contains(&"ECDSA_NISTP256_SHA256".to_owned()),
        "{schemes:?}"
    );
}

#[test]
fn a_server_of_tls_1_2_shows_the_same() {
    let (certificate, port) = demanding_server(&TLS12);
    let (presented, connection) = inspect(port).unwrap();
    assert_eq!(presented, [certificate]);
    assert_eq!(connection.possession, Ok(()));
    assert_eq!(connection.version.as_deref(), Some("TLS 1.2"));
    assert_eq!(
        connection.cipher_suite.as_deref(),
        Some("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")
    );
    // The refusal is what came of there being no certificate, and no failure besides.
    assert_eq!(
        connection.client_certificate.unwrap().outcome,
        ClientOutcome::Required
    );
    assert_eq!(connection.failure, None);
}

/// A server that answers with an alert: fatal, of this number (RFC 8446 §6).
fn alerting_server(alert: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]).unwrap();
        socket.write_all(&[21, 3, 3, 0, 2, 2, alert]).unwrap();
    });
    port
}

#[test]
fn a_server_that_does_not_speak_tls_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut socket, _) = listener.accept().unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    let error = inspect(port).unwrap_err();
    assert!(
        matches!(error, HandshakeError::NothingPresented { .. }),
        "{error:?}"
    );
}

#[test]
fn a_server_with_which_nothing_can_be_spoken_is_told_with_what_else_can() {
    // protocol_version, handshake_failure
    let old = inspect(alerting_server(70)).unwrap_err();
    assert!(matches!(old, HandshakeError::OldTls { .. }), "{old:?}");
    let foreign = inspect(alerting_server(40)).unwrap_err();
    assert!(
        matches!(foreign, HandshakeError::NothingInCommon { .. }),
        "{foreign:?}"
    );
}
