//! Mutual TLS in which a SPIFFE ID takes the place of a host name.
//!
//! TLS 1.3 only; the key exchange prefers X25519MLKEM768. Both sides take certificate and bundle
//! from an [`IdentityStore`] at the moment of the handshake, so that replacing them there concerns
//! the next handshake and no connection that exists.
//!
//! **Resumption never skips authorisation.** A resumed handshake shows no certificates, so that
//! rustls asks no verifier. Therefore:
//! - The two functions that give a peer's identity, [`peer_of_accepted`] and [`peer_of_connected`],
//!   verify the peer's chain again, against the bundle, the time and the expectation of the moment,
//!   whether the handshake was full or resumed. On a full one it repeats what the verifier has just
//!   done, two signature checks: cheap beside the handshake, and there is no case in which it is
//!   not done. A connection whose peer is not had from them has no peer.
//! - Sessions are forgotten on both sides when certificate or bundle are replaced, so that what is
//!   stale costs a full handshake instead of a refusal.
//! - A client configuration is for one expectation, and its sessions are its own.

mod peer;
mod resumption;
mod verifier;

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use rustls::client::{Resumption, Tls12Resumption};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::spiffe::{SpiffeId, TrustDomain};
use crate::store::IdentityStore;
use crate::svid::{SvidError, X509Svid};
pub use peer::PeerIdentity;
use resumption::{ClientSessions, ServerSessions};
use verifier::{OwnSvid, PeerVerifier};

/// Why there is no TLS configuration, or no identity of a peer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// The cryptographic library does not offer what is asked of it.
    #[error("the TLS configuration is not possible: {0}")]
    Configuration(#[from] rustls::Error),
    /// The peer's identity was asked before the handshake was complete.
    #[error("the TLS handshake is not complete, so that the peer is not known yet")]
    HandshakeIncomplete,
    /// The peer has sent no certificate.
    #[error("the peer has presented no certificate")]
    NoCertificate,
    /// The peer's certificate is not an X.509-SVID, or not one that is believed.
    #[error(transparent)]
    Svid(#[from] SvidError),
    /// The peer has proved an ID, but not one that was expected.
    #[error("the peer is {presented}, but {expected} was expected")]
    UnexpectedPeer {
        /// The ID that it has proved.
        presented: SpiffeId,
        /// Who was expected, in words.
        expected: String,
    },
}

/// Whom a client expects to find at the other end.
#[derive(Clone)]
pub enum ExpectedPeer {
    /// Exactly this ID.
    Id(SpiffeId),
    /// Any ID of the store's own trust domain, or of a foreign one whose bundle the store has.
    Known,
    /// Any ID of the store's own trust domain.
    TrustDomainMember,
    /// Any ID of the store's own trust domain that the predicate accepts.
    Matching(Arc<dyn Fn(&SpiffeId) -> bool + Send + Sync>),
}

impl ExpectedPeer {
    /// Checks an ID that has been verified by the bundle of its trust domain; `own` is the store's.
    fn check(&self, presented: &SpiffeId, own: &TrustDomain) -> Result<(), TlsError> {
        let is_member = presented.trust_domain() == own;
        let accepted = match self {
            Self::Id(expected) => presented == expected,
            Self::Known => true,
            Self::TrustDomainMember => is_member,
            Self::Matching(accepts) => is_member && accepts(presented),
        };
        if accepted {
            return Ok(());
        }
        let (presented, expected) = (presented.clone(), self.to_string());
        Err(TlsError::UnexpectedPeer {
            presented,
            expected,
        })
    }
}

impl fmt::Display for ExpectedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Known => f.write_str("a member of a known trust domain"),
            Self::TrustDomainMember => f.write_str("a member of the trust domain"),
            Self::Matching(_) => f.write_str("one of certain members of the trust domain"),
        }
    }
}

impl fmt::Debug for ExpectedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExpectedPeer({self})")
    }
}

/// Whether a server takes clients without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate, no connection.
    Required,
    /// A client may stay anonymous; a certificate that it does send must be good.
    Optional,
}

/// The configuration of a server that presents the store's SVID, and takes clients of the store's
/// trust domain, and of those foreign ones whose bundles the store has.
///
/// # Errors
/// The cryptographic library does not offer TLS 1.3.
pub fn server_config(
    store: &Arc<IdentityStore>,
    auth: ClientAuth,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_at(store, auth, alpn, Arc::new(DefaultTimeProvider))
}

/// As [`server_config`], with the time given by `clock`.
fn server_config_at(
    store: &Arc<IdentityStore>,
    auth: ClientAuth,
    alpn: &[&[u8]],
    clock: Arc<dyn TimeProvider>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = PeerVerifier::of_clients(Arc::clone(store), auth, Arc::clone(&PROVIDER));
    let mut config = ServerConfig::builder_with_details(Arc::clone(&PROVIDER), clock)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(OwnSvid::new(Arc::clone(store))));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(ServerSessions::new(Arc::clone(store)));
    // Each session is used once, and each connection brings one.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// The configuration of a client that takes `expected` for a server, and presents the store's
/// SVID if it has one.
///
/// Make one per expectation and keep it: its sessions, which save the next handshake its
/// signatures, live and die with it.
///
/// # Errors
/// The cryptographic library does not offer TLS 1.3.
pub fn client_config(
    store: &Arc<IdentityStore>,
    expected: ExpectedPeer,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, TlsError> {
    client_config_at(store, expected, alpn, Arc::new(DefaultTimeProvider))
}

/// As [`client_config`], with the time given by `clock`.
fn client_config_at(
    store: &Arc<IdentityStore>,
    expected: ExpectedPeer,
    alpn: &[&[u8]],
    clock: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = PeerVerifier::of_servers(Arc::clone(store), expected, Arc::clone(&PROVIDER));
    let mut config = ClientConfig::builder_with_details(Arc::clone(&PROVIDER), clock)
        .with_protocol_versions(&[&TLS13])?
        // What is dangerous is a verifier that verifies less than host names do; ours verifies
        // SPIFFE IDs instead.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(OwnSvid::new(Arc::clone(store))));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_sni = false;
    config.resumption = Resumption::store(Arc::new(ClientSessions::new(Arc::clone(store))))
        .tls12_resumption(Tls12Resumption::Disabled);
    Ok(Arc::new(config))
}

/// The name to give to rustls where it asks for the server's. It is the same for every server and
/// is not sent: an address, since addresses never go into SNI (RFC 6066 §3).
#[must_use]
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into())
}

/// The client at the other end of an accepted connection, verified as of `now`; none if it is
/// anonymous, which only [`ClientAuth::Optional`] lets happen.
///
/// # Errors
/// The handshake is not complete, or the client's SVID is not believed (any more).
pub fn peer_of_accepted(
    connection: &ServerConnection,
    store: &IdentityStore,
    now: SystemTime,
) -> Result<Option<PeerIdentity>, TlsError> {
    if connection.is_handshaking() {
        return Err(TlsError::HandshakeIncomplete);
    }
    let Some(chain) = connection.peer_certificates() else {
        return Ok(None);
    };
    verified_peer(chain, store, &ExpectedPeer::Known, now).map(Some)
}

/// The server at the other end of a connection, verified as of `now`.
///
/// # Errors
/// The handshake is not complete, the server's SVID is not believed (any more), or it is not
/// whom the caller expects.
pub fn peer_of_connected(
    connection: &ClientConnection,
    store: &IdentityStore,
    expected: &ExpectedPeer,
    now: SystemTime,
) -> Result<PeerIdentity, TlsError> {
    if connection.is_handshaking() {
        return Err(TlsError::HandshakeIncomplete);
    }
    let chain = connection
        .peer_certificates()
        .ok_or(TlsError::NoCertificate)?;
    verified_peer(chain, store, expected, now)
}

/// The one verification of a peer: the verifiers within a handshake use it, and the functions after it.
fn verified_peer(
    chain: &[CertificateDer<'_>],
    store: &IdentityStore,
    expected: &ExpectedPeer,
    now: SystemTime,
) -> Result<PeerIdentity, TlsError> {
    let chain = chain
        .iter()
        .map(|certificate| certificate.clone().into_owned())
        .collect();
    let peer = PeerIdentity::verified(X509Svid::from_chain(chain)?, store, now)?;
    expected.check(peer.id(), store.bundle().trust_domain())?;
    Ok(peer)
}

/// The cryptography of all our TLS, given explicitly so that no process-wide default matters.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut provider = default_provider();
    provider.kx_groups = vec![
        kx_group::X25519MLKEM768,
        kx_group::X25519,
        kx_group::SECP256R1,
    ];
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
});

#[cfg(test)]
mod tests;
