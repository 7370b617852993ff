//! One shared mTLS connection to one peer, re-made when it breaks or when our own SVID has been renewed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use countersign_identity::tls::{
    ExpectedPeer, PeerIdentity, TlsError, client_config, peer_of_connected, server_name,
};
use countersign_identity::{Bundle, IdentityStore, SpiffeId};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use h2::SendStream;
use h2::client::ResponseFuture;
use http::Request;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::{self, WireReader, WireWriter};
use super::{ALPN_H2, belief, failure};
use crate::http2::Client;
use crate::telemetry::{Direction, Metrics, WireFailure};

/// How long a connection may be used whose peer presented an SVID of a root that is about to leave. The peer renews it
/// within seconds; a new connection shows the new one.
const TAINTED_LIMIT: Duration = Duration::from_secs(2);
/// As long, for a peer of another trust domain that has several roots. One of them may be about to leave, and a published
/// bundle does not say which (SPIFFE Trust Domain and Bundle §4): a peer that has renewed in time is met again in time.
const SEVERAL_ROOTS_LIMIT: Duration = Duration::from_secs(30);

/// Why a call could not be put on the wire.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WireError {
    /// We have no SVID to present (yet), or it has expired.
    #[error("this sidecar has no valid SVID to present")]
    NoIdentity,
    /// No TCP connection.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        address: SocketAddr,
        error: Arc<std::io::Error>,
    },
    /// The TLS handshake failed; on our side most often because the peer is not who the directory says it is.
    #[error("the TLS handshake with {address}, expected to be {expected}, failed: {error}")]
    Handshake {
        address: SocketAddr,
        expected: SpiffeId,
        error: Arc<std::io::Error>,
    },
    /// The peer's certificate does not stand today's verification.
    #[error("{address} is not {expected}: {error}")]
    WrongPeer {
        address: SocketAddr,
        expected: SpiffeId,
        error: Arc<TlsError>,
    },
    /// The connection or its handshakes took too long.
    #[error("connecting to {address} took longer than {limit:?}")]
    TimedOut {
        address: SocketAddr,
        limit: Duration,
    },
    /// The connection broke or the peer refused the stream.
    #[error("the connection to {address} failed: {error}")]
    Broken {
        address: SocketAddr,
        error: Arc<h2::Error>,
    },
}

impl WireError {
    /// Counts an attempt that has come to nothing.
    fn count(&self, metrics: &Metrics) {
        let direction = Direction::Outbound;
        let (reason, handshake) = match self {
            // There was no attempt.
            Self::NoIdentity => return,
            Self::Connect { .. } | Self::TimedOut { .. } => (WireFailure::Connect, None),
            Self::Handshake { error, .. } => {
                let class = failure::of_handshake(error);
                (WireFailure::Handshake, Some(class))
            }
            Self::WrongPeer { error, .. } => {
                (WireFailure::Handshake, Some(failure::of_peer(error)))
            }
            Self::Broken { error, .. } => (broke(error), None),
        };
        metrics.wire_failed(direction, reason);
        if let Some(class) = handshake {
            metrics.handshake_failed(direction, class);
        }
    }
}

fn broke(error: &h2::Error) -> WireFailure {
    if error.is_io() {
        WireFailure::Broken
    } else {
        WireFailure::Protocol
    }
}

/// The way to one peer: an address, and the only SPIFFE ID that it may present there.
pub(crate) struct PeerConnection {
    address: SocketAddr,
    expected: SpiffeId,
    store: Arc<IdentityStore>,
    /// One per peer, since the sessions in it are resumed with this peer only.
    tls: Result<Arc<rustls::ClientConfig>, TlsError>,
    /// How long connecting and the handshakes may take together.
    limit: Duration,
    metrics: Metrics,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    connected: Option<Arc<Connected>>,
    /// The attempt under way: whoever needs the connection meanwhile waits for the same one.
    attempt: Option<Attempt>,
}

type Attempt = Shared<BoxFuture<'static, Result<Arc<Connected>, WireError>>>;

/// A connection whose peer has proved to be the expected one.
pub(crate) struct Connected {
    address: SocketAddr,
    client: Client,
    /// The thumbprint of the SVID that we presented on it.
    presented: [u8; 32],
    peer: PeerIdentity,
    /// Whether the peer is of our own trust domain.
    is_own: bool,
    made: Instant,
    looked: Mutex<Looked>,
}

/// What a bundle says of a peer that was verified by it.
struct Looked {
    by: Arc<Bundle>,
    /// For how long the connection may be used; `None` for as long as it lasts.
    limit: Option<Duration>,
}

impl Looked {
    /// `own` is whether the bundle is that of our own trust domain, which tells what is tainted.
    fn new(peer: &PeerIdentity, by: Arc<Bundle>, own: bool) -> Self {
        let limit = if own {
            by.is_tainted(peer.svid(), SystemTime::now())
                .then_some(TAINTED_LIMIT)
        } else {
            (by.x509_authorities().len() > 1).then_some(SEVERAL_ROOTS_LIMIT)
        };
        Self { by, limit }
    }
}

impl PeerConnection {
    pub(super) fn new(
        address: SocketAddr,
        expected: SpiffeId,
        store: Arc<IdentityStore>,
        limit: Duration,
        metrics: Metrics,
    ) -> Self {
        let tls = client_config(&store, ExpectedPeer::Id(expected.clone()), &[ALPN_H2]);
        Self {
            address,
            expected,
            store,
            tls,
            limit,
            metrics,
            slot: Mutex::default(),
        }
    }

    /// The shared connection; made now if there is none, if it is closed, if it presented an SVID that has since
    /// been renewed, or if its peer's has to be. (Calls in flight on such a connection go on; new calls leave it, and it ends with the last.)
    pub(crate) async fn get(&self) -> Result<Arc<Connected>, WireError> {
        let svid = self.store.svid().ok_or(WireError::NoIdentity)?;
        if svid.not_after() <= SystemTime::now() {
            return Err(WireError::NoIdentity);
        }
        let presented = svid.thumbprint();
        let bundle = self.store.bundle_of(self.expected.trust_domain());
        let attempt = {
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            match &slot.connected {
                Some(connected) if connected.is_usable(&presented, bundle.as_ref()) => {
                    return Ok(Arc::clone(connected));
                }
                _ => slot.connected = None,
            }
            slot.attempt
                .get_or_insert_with(|| self.attempt(presented))
                .clone()
        };
        let result = attempt.clone().await;
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot
            .attempt
            .as_ref()
            .is_some_and(|current| current.ptr_eq(&attempt))
        {
            slot.attempt = None;
            slot.connected = result.as_ref().ok().cloned();
        }
        result
    }

    fn attempt(&self, presented: [u8; 32]) -> Attempt {
        let (address, expected, limit) = (self.address, self.expected.clone(), self.limit);
        let (store, tls) = (Arc::clone(&self.store), self.tls.clone());
        let metrics = self.metrics.clone();
        async move {
            let connecting = connect(address, expected, store, tls, presented, &metrics);
            let connected = tokio::time::timeout(limit, connecting)
                .await
                .unwrap_or(Err(WireError::TimedOut { address, limit }));
            if let Err(error) = &connected {
                error.count(&metrics);
            }
            connected
        }
        .boxed()
        .shared()
    }
}

async fn connect(
    address: SocketAddr,
    expected: SpiffeId,
    store: Arc<IdentityStore>,
    tls: Result<Arc<rustls::ClientConfig>, TlsError>,
    presented: [u8; 32],
    metrics: &Metrics,
) -> Result<Arc<Connected>, WireError> {
    let to_connect = |error| WireError::Connect {
        address,
        error: Arc::new(error),
    };
    let wrong_peer = |error| WireError::WrongPeer {
        address,
        expected: expected.clone(),
        error: Arc::new(error),
    };
    let expectation = ExpectedPeer::Id(expected.clone());
    let config = tls.map_err(wrong_peer)?;

    let tcp = TcpStream::connect(address).await.map_err(to_connect)?;
    tcp.set_nodelay(true).map_err(to_connect)?;
    let tls = TlsConnector::from(config)
        .connect(server_name(), tcp)
        .await
        .map_err(|error| WireError::Handshake {
            address,
            expected: expected.clone(),
            error: Arc::new(error),
        })?;
    let (_, session) = tls.get_ref();
    let own = store.bundle();
    let bundle = store.bundle_of(expected.trust_domain());
    let peer =
        peer_of_connected(session, &store, &expectation, SystemTime::now()).map_err(wrong_peer)?;
    let is_own = own.trust_domain() == expected.trust_domain();
    // Without a bundle of its trust domain, the peer was not believed.
    let looked = Looked::new(&peer, bundle.unwrap_or(own), is_own);

    let (open, metrics) = (metrics.wire_opened(Direction::Outbound), metrics.clone());
    let ended = move |result: Result<(), h2::Error>| {
        drop(open);
        if let Err(error) = result {
            metrics.wire_failed(Direction::Outbound, broke(&error));
        }
    };
    let client = Client::handshake_until(tls, until_lost(peer.clone(), store, address), ended)
        .await
        .map_err(|error| WireError::Broken {
            address,
            error: Arc::new(error),
        })?;
    Ok(Arc::new(Connected {
        address,
        client,
        presented,
        peer,
        made: Instant::now(),
        is_own,
        looked: Mutex::new(looked),
    }))
}

/// Completes when the peer is not believed any more.
async fn until_lost(peer: PeerIdentity, store: Arc<IdentityStore>, address: SocketAddr) {
    let id = peer.id().clone();
    let error = belief::lost(peer, store).await;
    tracing::info!(%address, %id, %error, "ends a connection whose peer is not believed any more");
}

impl Connected {
    /// `bundle` is that of the peer's trust domain.
    fn is_usable(&self, presented: &[u8; 32], bundle: Option<&Arc<Bundle>>) -> bool {
        self.is_open()
            && self.presented == *presented
            && bundle.is_some_and(|bundle| {
                let limit = self.limit(bundle);
                limit.is_none_or(|limit| self.made.elapsed() < limit)
            })
    }

    /// For how long the connection may be used; looked at once per bundle.
    fn limit(&self, bundle: &Arc<Bundle>) -> Option<Duration> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&looked.by, bundle) {
            *looked = Looked::new(&self.peer, Arc::clone(bundle), self.is_own);
        }
        looked.limit
    }

    /// Whether calls may still be started on it.
    pub(crate) fn is_open(&self) -> bool {
        self.client.is_open()
    }

    /// Opens a tunnel to `destination` (RFC 9113 §8.5) without waiting for the answer: a refusal shows at the first read.
    pub(crate) async fn open_tunnel(
        &self,
        destination: SocketAddr,
    ) -> Result<(WireReader, WireWriter), WireError> {
        let mut request = Request::new(());
        *request.method_mut() = http::Method::CONNECT;
        *request.uri_mut() = authority(destination).into();
        let (response, send) = self.send(request, false).await?;
        Ok(stream::requested(response, send))
    }

    /// Starts an HTTP/2 call as a native stream.
    pub(crate) async fn send(
        &self,
        request: Request<()>,
        end_of_stream: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), WireError> {
        self.client
            .send(request, end_of_stream)
            .await
            .map_err(|error| WireError::Broken {
                address: self.address,
                error: Arc::new(error),
            })
    }
}

/// `ip:port` as a URI's authority.
fn authority(address: SocketAddr) -> http::uri::Authority {
    // An address and a port always spell a valid authority; the fallback is never reached and names no one.
    http::uri::Authority::from_maybe_shared(Bytes::from(address.to_string()))
        .unwrap_or_else(|_| http::uri::Authority::from_static("0.0.0.0:0"))
}
