use std::net::SocketAddr;

use countersign_identity::testing::TestAuthority;
use countersign_identity::tls::ClientAuth;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::proto::GetBundleRequest;
use crate::proto::certificate_authority_client::CertificateAuthorityClient;
use crate::test_ca::{Asked, Serving, TestCa, orders, store_with, svid, td};

fn ca_id() -> ExpectedPeer {
    ExpectedPeer::Id(countersign_identity::spiffe::system::ca(&td()))
}

fn client(
    address: SocketAddr,
    store: &Arc<IdentityStore>,
    expected: ExpectedPeer,
) -> CertificateAuthorityClient<Channel> {
    CertificateAuthorityClient::new(channel(&address.to_string(), store, expected).unwrap())
}

async fn call(address: SocketAddr, store: &Arc<IdentityStore>) -> Result<(), Status> {
    client(address, store, ca_id())
        .get_bundle(GetBundleRequest {})
        .await
        .map(drop)
}

async fn on_any_port(ca: &Arc<TestCa>, auth: ClientAuth, limits: IncomingLimits) -> Serving {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Serving::on(ca, listener, auth, limits)
}

#[tokio::test]
async fn the_handler_knows_its_caller() {
    let ca = TestCa::new();
    let serving = Serving::start(&ca).await;
    let store = ca.new_store();
    call(serving.address, &store).await.unwrap();
    let (svid, key) = svid(&ca.authority, &orders());
    store.set_svid(svid, key).unwrap();
    call(serving.address, &store).await.unwrap();
    assert_eq!(
        ca.asked(),
        [Asked::Bundle(None), Asked::Bundle(Some(orders()))]
    );
}

#[tokio::test]
async fn without_an_svid_a_required_one_is_missed() {
    let ca = TestCa::new();
    let serving = on_any_port(&ca, ClientAuth::Required, IncomingLimits::default()).await;
    let status = call(serving.address, &ca.new_store()).await.unwrap_err();
    assert!(
        describe(&status).contains("CertificateRequired"),
        "{}",
        describe(&status)
    );
    assert_eq!(ca.asked(), []);
}

#[tokio::test]
async fn a_server_of_another_id_is_refused_in_words() {
    let authority = TestAuthority::new(&td()).unwrap();
    let store = store_with(&authority, &authority, &orders());
    let ca = TestCa::with(authority, store);
    let serving = Serving::start(&ca).await;
    let status = call(serving.address, &ca.new_store()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let line = describe(&status);
    for part in [
        &format!("TLS handshake with {} failed", serving.address)[..],
        "the peer is spiffe://shop.example/ns/shop/sa/orders, but",
        "sa/countersign-ca was expected",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(ca.asked(), []);
}

#[tokio::test]
async fn one_client_s_failed_handshake_is_nobody_else_s_concern() {
    let ca = TestCa::new();
    let serving = Serving::start(&ca).await;
    let forger = TestAuthority::new(&td()).unwrap();
    let forged = store_with(&ca.authority, &forger, &orders());
    for _ in 0..3 {
        let mut garbage = TcpStream::connect(serving.address).await.unwrap();
        garbage
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        // It is told that this is no TLS, and let go.
        let mut answer = Vec::new();
        drop(garbage.read_to_end(&mut answer).await);
        drop(TcpStream::connect(serving.address).await.unwrap());
        call(serving.address, &forged).await.unwrap_err();
        call(serving.address, &ca.new_store()).await.unwrap();
    }
    assert_eq!(ca.asked().len(), 3);
}

#[tokio::test]
async fn a_half_open_client_is_let_go_and_its_place_given_on() {
    let ca = TestCa::new();
    let limits = IncomingLimits {
        handshake: Duration::from_secs(2),
        concurrent_handshakes: 1,
        ..IncomingLimits::default()
    };
    let serving = on_any_port(&ca, ClientAuth::Optional, limits).await;
    let mut silent = TcpStream::connect(serving.address).await.unwrap();
    // The only place for a handshake is taken, so that this waits until the silent one has gone.
    call(serving.address, &ca.new_store()).await.unwrap();
    let read = silent.read(&mut [0; 16]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn more_who_come_at_once_than_there_are_places_are_served_in_turn() {
    let ca = TestCa::new();
    let limits = IncomingLimits {
        concurrent_handshakes: 2,
        waiting: 4,
        ..IncomingLimits::default()
    };
    let serving = on_any_port(&ca, ClientAuth::Optional, limits).await;
    let store = ca.new_store();
    let calls = (0..32).map(|_| call(serving.address, &store));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn who_waits_for_too_long_is_let_go_before_anything_is_spent_on_it() {
    let ca = TestCa::new();
    let limits = IncomingLimits {
        handshake: Duration::from_secs(2),
        concurrent_handshakes: 1,
        patience: Duration::ZERO,
        ..IncomingLimits::default()
    };
    let serving = on_any_port(&ca, ClientAuth::Optional, limits).await;
    let status = call(serving.address, &ca.new_store()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert_eq!(ca.asked(), []);
}

#[tokio::test]
async fn a_lost_connection_is_made_again_with_the_identity_of_the_moment() {
    let ca = TestCa::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listen = || TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
    let serve = || {
        Serving::on(
            &ca,
            listen(),
            ClientAuth::Optional,
            IncomingLimits::default(),
        )
    };

    let serving = serve();
    let store = ca.new_store();
    let mut client = client(serving.address, &store, ca_id());
    client.get_bundle(GetBundleRequest {}).await.unwrap();
    serving.stop().await;

    let (svid, key) = svid(&ca.authority, &orders());
    store.set_svid(svid, key).unwrap();
    let _serving = serve();
    // The call that meets the closing connection may fail; one after it does not.
    while client.get_bundle(GetBundleRequest {}).await.is_err() {}
    assert_eq!(ca.asked().last(), Some(&Asked::Bundle(Some(orders()))));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_listener() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = incoming(
        listener,
        &ca.store,
        ClientAuth::Optional,
        IncomingLimits::default(),
    )
    .unwrap();
    drop(TcpStream::connect(address).await.unwrap());
    drop(stream);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let ca = TestCa::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let status = call(address, &ca.new_store()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(
        describe(&status).contains(&format!("cannot connect to {address}")),
        "{status}"
    );
}

#[tokio::test]
async fn what_is_no_address_is_refused_at_once() {
    let ca = TestCa::new();
    for address in [
        "",
        "localhost",
        "http://localhost:1",
        "user@localhost:1",
        "a b:1",
        "a:99999",
    ] {
        let error = channel(address, &ca.new_store(), ca_id()).unwrap_err();
        assert!(
            matches!(error, ChannelError::Address { .. }),
            "{address:?}: {error}"
        );
    }
    for address in ["localhost:1", "127.0.0.1:1", "[::1]:1"] {
        assert!(
            channel(address, &ca.new_store(), ca_id()).is_ok(),
            "{address:?}"
        );
    }
}

#[test]
fn a_request_from_elsewhere_has_no_caller() {
    let status = Caller::of(&tonic::Request::new(())).unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal);
}

#[test]
fn a_status_is_described_by_what_the_other_end_says_or_what_happened() {
    let status = Status::permission_denied("spiffe://td/a may not");
    assert_eq!(
        describe(&status),
        "spiffe://td/a may not (PermissionDenied)"
    );
    let reset = io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer");
    let outer = ConnectError::Tcp {
        address: "ca:1".into(),
        source: reset,
    };
    let line = describe(&Status::from_error(Box::new(outer)));
    assert_eq!(line, "cannot connect to ca:1: connection reset by peer");
}
