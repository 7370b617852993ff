use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::{
    AlertDescription, CertificateError, Error, HandshakeKind, NamedGroup, ProtocolVersion,
};
use rustls_pki_types::UnixTime;

use super::*;
use crate::bundle::Bundle;
use crate::key::SvidKey;
use crate::spiffe::TrustDomain;
use crate::testing::TestAuthority;

mod foreign;
mod live;
mod resumption;

const HOUR: Duration = Duration::from_secs(3600);
const START: u64 = 1_800_000_000;

fn td() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn id(service_account: &str) -> SpiffeId {
    SpiffeId::for_workload(&td(), "shop", service_account).unwrap()
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START)
}

fn validity() -> RangeInclusive<SystemTime> {
    start() - HOUR..=start() + HOUR
}

/// A clock that only moves when it is told to.
#[derive(Debug)]
struct Clock(AtomicU64);

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(START)))
    }

    fn shared(this: &Arc<Self>) -> Arc<dyn TimeProvider> {
        Arc::<Self>::clone(this)
    }

    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            self.0.load(Ordering::Relaxed),
        )))
    }
}

/// A store that believes `authority`, with an SVID for `name` by `issuer`.
fn store_by(authority: &TestAuthority, issuer: &TestAuthority, name: &str) -> Arc<IdentityStore> {
    let store = IdentityStore::new(authority.bundle().unwrap());
    let (svid, key) = issuer.svid(&id(name), validity()).unwrap();
    store.set_svid(svid, key).unwrap();
    store
}

fn store(authority: &TestAuthority, name: &str) -> Arc<IdentityStore> {
    store_by(authority, authority, name)
}

/// A client and a server, their stores, and the one clock.
struct Pair {
    authority: TestAuthority,
    clock: Arc<Clock>,
    client_store: Arc<IdentityStore>,
    server_store: Arc<IdentityStore>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Pair {
    /// `web` calls `orders`, and expects it.
    fn new() -> Self {
        let authority = TestAuthority::new(&td()).unwrap();
        let (client, server) = (store(&authority, "web"), store(&authority, "orders"));
        Self::of(
            authority,
            client,
            server,
            ExpectedPeer::Id(id("orders")),
            ClientAuth::Required,
        )
    }

    fn of(
        authority: TestAuthority,
        client_store: Arc<IdentityStore>,
        server_store: Arc<IdentityStore>,
        expected: ExpectedPeer,
        auth: ClientAuth,
    ) -> Self {
        let clock = Clock::new();
        let client =
            client_config_at(&client_store, expected, &[b"h2"], Clock::shared(&clock)).unwrap();
        let server =
            server_config_at(&server_store, auth, &[b"h2"], Clock::shared(&clock)).unwrap();
        Self {
            authority,
            clock,
            client_store,
            server_store,
            client,
            server,
        }
    }

    fn handshake(&self) -> Result<Connected, Box<Failed>> {
        handshake(&self.client, &self.server)
    }

    /// Handshakes once, so that the next one can resume, and then once more, resuming.
    fn resumed(&self) -> Connected {
        assert_eq!(self.handshake().unwrap().kinds(), [HandshakeKind::Full; 2]);
        let resumed = self.handshake().unwrap();
        assert_eq!(resumed.kinds(), [HandshakeKind::Resumed; 2]);
        resumed
    }

    fn client_seen(&self, connected: &Connected) -> Result<Option<PeerIdentity>, TlsError> {
        peer_of_accepted(&connected.server, &self.server_store, self.clock.now())
    }

    fn server_seen(
        &self,
        connected: &Connected,
        expected: &ExpectedPeer,
    ) -> Result<PeerIdentity, TlsError> {
        peer_of_connected(
            &connected.client,
            &self.client_store,
            expected,
            self.clock.now(),
        )
    }
}

#[derive(Debug)]
struct Connected {
    client: ClientConnection,
    server: ServerConnection,
}

impl Connected {
    fn kinds(&self) -> [HandshakeKind; 2] {
        [
            self.client.handshake_kind().unwrap(),
            self.server.handshake_kind().unwrap(),
        ]
    }
}

/// What each side says of a handshake that failed.
#[derive(Debug)]
struct Failed {
    client: Option<Error>,
    server: Option<Error>,
}

/// Carries bytes between a client and a server until neither has any more to say.
fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<Connected, Box<Failed>> {
    let mut client = ClientConnection::new(Arc::clone(client), server_name()).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let (mut client_error, mut server_error) = (None, None);
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() && server_error.is_none() {
            server.read_tls(&mut bytes).unwrap();
            server_error = server.process_new_packets().err();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut bytes = wire.as_slice();
        while !bytes.is_empty() && client_error.is_none() {
            client.read_tls(&mut bytes).unwrap();
            client_error = client.process_new_packets().err();
        }
    }
    match (&client_error, &server_error) {
        (None, None) => Ok(Connected { client, server }),
        _ => Err(Box::new(Failed {
            client: client_error,
            server: server_error,
        })),
    }
}

#[test]
fn both_sides_know_each_other() {
    let pair = Pair::new();
    let connected = pair.handshake().unwrap();
    assert_eq!(
        *pair.client_seen(&connected).unwrap().unwrap().id(),
        id("web")
    );
    let server = pair
        .server_seen(&connected, &ExpectedPeer::Id(id("orders")))
        .unwrap();
    let svid = pair.server_store.svid().unwrap();
    assert_eq!(*server.id(), id("orders"));
    assert_eq!(server.not_after(), svid.not_after());
    assert_eq!(server.serial(), svid.serial());
    assert_eq!(server.thumbprint(), svid.thumbprint());
}

#[test]
fn tls_1_3_with_the_post_quantum_hybrid_and_no_server_name() {
    let connected = Pair::new().handshake().unwrap();
    assert_eq!(
        connected.client.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    let group = connected
        .client
        .negotiated_key_exchange_group()
        .unwrap()
        .name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(
        connected.kinds(),
        [HandshakeKind::Full; 2],
        "no hello retry"
    );
    assert_eq!(connected.client.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(connected.server.server_name(), None);
}

#[test]
fn classical_groups_remain_for_those_who_have_no_other() {
    for (group, name) in [
        (kx_group::X25519, NamedGroup::X25519),
        (kx_group::SECP256R1, NamedGroup::secp256r1),
    ] {
        let mut pair = Pair::new();
        let mut client = ClientConfig::clone(&pair.client);
        let mut provider = CryptoProvider::clone(client.crypto_provider());
        provider.kx_groups = vec![group];
        let verifier = PeerVerifier::of_servers(
            Arc::clone(&pair.client_store),
            ExpectedPeer::TrustDomainMember,
            Arc::clone(&PROVIDER),
        );
        client = ClientConfig::builder_with_details(Arc::new(provider), Clock::shared(&pair.clock))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(client.client_auth_cert_resolver);
        pair.client = Arc::new(client);
        let connected = pair.handshake().unwrap();
        assert_eq!(
            connected
                .server
                .negotiated_key_exchange_group()
                .unwrap()
                .name(),
            name
        );
    }
}

#[test]
fn another_id_than_expected_is_refused() {
    let authority = TestAuthority::new(&td()).unwrap();
    let (client, server) = (store(&authority, "web"), store(&authority, "wallet"));
    let expected = ExpectedPeer::Id(id("orders"));
    let pair = Pair::of(authority, client, server, expected, ClientAuth::Required);
    let error = pair.handshake().unwrap_err().client.unwrap().to_string();
    assert!(
        error.contains(
            "the peer is spiffe://shop.example/ns/shop/sa/wallet, but \
             spiffe://shop.example/ns/shop/sa/orders was expected"
        ),
        "{error}"
    );
}

#[test]
fn a_predicate_decides() {
    for (wanted, good) in [("orders", true), ("wallet", false)] {
        let authority = TestAuthority::new(&td()).unwrap();
        let (client, server) = (store(&authority, "web"), store(&authority, "orders"));
        let wanted = id(wanted);
        let expected = ExpectedPeer::Matching(Arc::new(move |id| *id == wanted));
        let pair = Pair::of(authority, client, server, expected, ClientAuth::Required);
        assert_eq!(pair.handshake().is_ok(), good);
    }
}

#[test]
fn forged_svids_are_refused_on_both_sides() {
    let unknown = Some(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    let told = Some(Error::AlertReceived(AlertDescription::UnknownCA));
    for server_is_forged in [false, true] {
        let authority = TestAuthority::new(&td()).unwrap();
        let forger = TestAuthority::new(&td()).unwrap();
        let forged = store_by(&authority, &forger, "orders");
        let good = store(&authority, "orders");
        let (client, server) = if server_is_forged {
            (good, forged)
        } else {
            (forged, good)
        };
        let expected = ExpectedPeer::Id(id("orders"));
        let pair = Pair::of(authority, client, server, expected, ClientAuth::Required);
        let failed = pair.handshake().unwrap_err();
        let Failed { client, server } = *failed;
        let (refuses, is_refused) = if server_is_forged {
            (client, server)
        } else {
            (server, client)
        };
        assert_eq!((refuses, is_refused), (unknown.clone(), told.clone()));
    }
}

#[test]
fn an_expired_svid_is_refused_and_the_alert_says_so() {
    let pair = Pair::new();
    pair.clock.advance(2 * HOUR);
    let failed = pair.handshake().unwrap_err();
    let expired = Error::InvalidCertificate(CertificateError::ExpiredContext {
        time: UnixTime::since_unix_epoch(Duration::from_secs(START) + 2 * HOUR),
        not_after: UnixTime::since_unix_epoch(Duration::from_secs(START) + HOUR),
    });
    assert_eq!(failed.client, Some(expired));
    let told = Error::AlertReceived(AlertDescription::CertificateExpired);
    assert_eq!(failed.server, Some(told));
}

#[test]
fn a_client_without_svid_is_refused_where_one_is_required() {
    let authority = TestAuthority::new(&td()).unwrap();
    let anonymous = IdentityStore::new(authority.bundle().unwrap());
    let server = store(&authority, "orders");
    let expected = ExpectedPeer::Id(id("orders"));
    let pair = Pair::of(authority, anonymous, server, expected, ClientAuth::Required);
    let failed = pair.handshake().unwrap_err();
    assert_eq!(failed.server, Some(Error::NoCertificatesPresented));
}

#[test]
fn where_it_is_optional_a_client_may_be_anonymous_but_not_false() {
    let authority = TestAuthority::new(&td()).unwrap();
    let forger = TestAuthority::new(&td()).unwrap();
    let anonymous = IdentityStore::new(authority.bundle().unwrap());
    let false_client = store_by(&authority, &forger, "web");
    let server = store(&authority, "orders");
    let expected = ExpectedPeer::Id(id("orders"));
    let mut pair = Pair::of(authority, anonymous, server, expected, ClientAuth::Optional);
    let connected = pair.handshake().unwrap();
    assert_eq!(pair.client_seen(&connected), Ok(None));

    pair.client = client_config_at(
        &false_client,
        ExpectedPeer::TrustDomainMember,
        &[b"h2"],
        Clock::shared(&pair.clock),
    )
    .unwrap();
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(pair.handshake().unwrap_err().server, Some(unknown));
}

#[test]
fn a_server_without_svid_refuses() {
    let authority = TestAuthority::new(&td()).unwrap();
    let server = IdentityStore::new(authority.bundle().unwrap());
    let client = store(&authority, "web");
    let expected = ExpectedPeer::TrustDomainMember;
    let pair = Pair::of(authority, client, server, expected, ClientAuth::Required);
    let told = Error::AlertReceived(AlertDescription::AccessDenied);
    assert_eq!(pair.handshake().unwrap_err().client, Some(told));
}

#[test]
fn before_the_handshake_is_complete_there_is_no_peer() {
    let pair = Pair::new();
    let client = ClientConnection::new(Arc::clone(&pair.client), server_name()).unwrap();
    let server = ServerConnection::new(Arc::clone(&pair.server)).unwrap();
    let expected = ExpectedPeer::TrustDomainMember;
    assert_eq!(
        peer_of_connected(&client, &pair.client_store, &expected, start()),
        Err(TlsError::HandshakeIncomplete)
    );
    assert_eq!(
        peer_of_accepted(&server, &pair.server_store, start()),
        Err(TlsError::HandshakeIncomplete)
    );
}

#[test]
fn a_peer_can_be_verified_again_while_its_connection_lasts() {
    let pair = Pair::new();
    let peer = pair
        .client_seen(&pair.handshake().unwrap())
        .unwrap()
        .unwrap();
    assert_eq!(peer.verify(&pair.server_store, start()), Ok(()));
    let not_after = start() + HOUR;
    assert_eq!(
        peer.verify(&pair.server_store, start() + 2 * HOUR),
        Err(SvidError::Expired {
            id: id("web"),
            not_after
        })
    );
}

#[test]
fn garbage_is_an_error_and_no_panic() {
    let pair = Pair::new();
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 0],
        &[0xff; 64],
    ] {
        let mut server = ServerConnection::new(Arc::clone(&pair.server)).unwrap();
        let mut bytes = garbage;
        server.read_tls(&mut bytes).unwrap();
        assert!(server.process_new_packets().is_err());
    }
}

#[test]
fn debug_and_errors_show_no_key() {
    let pair = Pair::new();
    let shown = format!("{:?} {:?}", pair.client_store, SvidKey::generate().unwrap());
    assert!(
        shown.contains("shop/sa/web") && shown.len() < 300,
        "{shown}"
    );
}
