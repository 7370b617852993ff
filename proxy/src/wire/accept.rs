//! The accepting side of the wire: who is calling is known before a byte of a call is read.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::IdentityStore;
use countersign_identity::tls::{self, ClientAuth, PeerIdentity, TlsError, peer_of_accepted};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{ALPN_H2, ALPN_HTTP1, failure};
use crate::http2::Calls;
use crate::telemetry::HandshakeFailure;

/// Why a connection to the wire's port was closed before it could carry a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// It did not finish its handshake in time: half open, or not a TLS client that waits for us to speak first.
    #[error("no finished handshake within {0:?}")]
    TimedOut(Duration),
    /// The TLS handshake failed: plaintext, garbage, no certificate or one that does not verify.
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    /// The certificate does not stand today's verification.
    #[error("the peer's certificate was refused: {0}")]
    Peer(#[from] TlsError),
    /// A connection without a client certificate; the wire's TLS configuration demands one.
    #[error("the peer presented no certificate")]
    Anonymous,
    /// TLS was fine, HTTP/2 was not.
    #[error("the HTTP/2 preface failed: {0}")]
    Preface(h2::Error),
}

impl AcceptError {
    /// The word for it in metrics.
    pub(crate) fn class(&self) -> HandshakeFailure {
        match self {
            Self::TimedOut(_) => HandshakeFailure::Timeout,
            Self::Handshake(error) => failure::of_handshake(error),
            Self::Peer(error) => failure::of_peer(error),
            Self::Anonymous => HandshakeFailure::NoCertificate,
            Self::Preface(_) => HandshakeFailure::Incompatible,
        }
    }
}

/// A verified peer and what it speaks.
pub(crate) struct Accepted {
    pub(crate) peer: PeerIdentity,
    pub(crate) session: Session,
}

/// What the peer chose by ALPN.
pub(crate) enum Session {
    /// The wire proper.
    H2(Box<Calls<TlsStream<TcpStream>>>),
    /// An ordinary client with an SVID that speaks HTTP/1.1 without a tunnel.
    Http1(Box<TlsStream<TcpStream>>),
}

/// Finishes the handshakes of an incoming connection within `limit`.
pub(crate) async fn accept(
    tcp: TcpStream,
    tls: &Arc<rustls::ServerConfig>,
    store: &IdentityStore,
    limit: Duration,
) -> Result<Accepted, AcceptError> {
    tokio::time::timeout(limit, handshakes(tcp, tls, store))
        .await
        .unwrap_or(Err(AcceptError::TimedOut(limit)))
}

async fn handshakes(
    tcp: TcpStream,
    tls: &Arc<rustls::ServerConfig>,
    store: &IdentityStore,
) -> Result<Accepted, AcceptError> {
    tcp.set_nodelay(true).map_err(AcceptError::Handshake)?;
    let stream = TlsAcceptor::from(Arc::clone(tls))
        .accept(tcp)
        .await
        .map_err(AcceptError::Handshake)?;
    let (_, session) = stream.get_ref();
    let peer =
        peer_of_accepted(session, store, SystemTime::now())?.ok_or(AcceptError::Anonymous)?;
    if session.alpn_protocol() == Some(ALPN_HTTP1) {
        return Ok(Accepted {
            peer,
            session: Session::Http1(Box::new(stream)),
        });
    }

    let calls = Calls::handshake(stream)
        .await
        .map_err(AcceptError::Preface)?;
    Ok(Accepted {
        peer,
        session: Session::H2(Box::new(calls)),
    })
}

/// The TLS configuration of the wire's port.
pub(crate) fn server_config(
    store: &Arc<IdentityStore>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    tls::server_config(store, ClientAuth::Required, &[ALPN_H2, ALPN_HTTP1])
}
