//! What the sidecar keeps about the endpoints that it calls: one connection per peer, idle tunnels, and their load.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_identity::{IdentityStore, SpiffeId};

use super::connection::{Connected, PeerConnection, WireError};
use super::stream::{WireReader, WireWriter};
use crate::directory::{Directory, Endpoint};
use crate::exchange::Side;
use crate::http1::MessageReader;
use crate::telemetry::Metrics;

/// How long a tunnel may lie idle and yet be used again. The peer ends idle tunnels, too, but later, so that it does not
/// end one that is just being used.
const IDLE_LIMIT: Duration = Duration::from_secs(20);

/// Idle tunnels kept per endpoint.
const IDLE_TUNNELS: usize = 256;

/// Every endpoint and every peer that is in use.
pub(crate) struct Wire {
    store: Arc<IdentityStore>,
    connect_timeout: Duration,
    metrics: Metrics,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    peers: HashMap<(SocketAddr, SpiffeId), Arc<PeerConnection>>,
    endpoints: HashMap<Endpoint, Arc<EndpointState>>,
}

/// One endpoint of a service.
pub(crate) struct EndpointState {
    pub(crate) endpoint: Endpoint,
    /// Shared with the peer's other endpoints (ports).
    peer: Arc<PeerConnection>,
    idle: Mutex<Vec<Tunnel>>,
    in_flight: AtomicUsize,
}

/// A tunnel that carries HTTP/1.1 exchanges one after the other.
pub(crate) struct Tunnel {
    pub(crate) side: Side<WireReader, WireWriter>,
    /// When its last exchange ended.
    idle_since: Instant,
    connection: Arc<Connected>,
}

/// Counts one call against its endpoint's load until it is dropped.
pub(crate) struct InFlight(Arc<EndpointState>);

impl Wire {
    pub(crate) fn new(
        store: Arc<IdentityStore>,
        connect_timeout: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            connect_timeout,
            metrics,
            inner: Mutex::default(),
        }
    }

    /// The state of an endpoint that the directory names.
    pub(crate) fn endpoint(&self, endpoint: &Endpoint) -> Arc<EndpointState> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = inner.endpoints.get(endpoint) {
            return Arc::clone(state);
        }
        let key = (endpoint.wire_address, endpoint.spiffe_id.clone());
        let peer = Arc::clone(inner.peers.entry(key).or_insert_with(|| {
            Arc::new(PeerConnection::new(
                endpoint.wire_address,
                endpoint.spiffe_id.clone(),
                Arc::clone(&self.store),
                self.connect_timeout,
                self.metrics.clone(),
            ))
        }));
        let state = Arc::new(EndpointState {
            endpoint: endpoint.clone(),
            peer,
            idle: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        });
        inner.endpoints.insert(endpoint.clone(), Arc::clone(&state));
        state
    }

    /// Forgets what the directory no longer names. Calls in flight there go on to their end.
    pub(crate) fn retain(&self, directory: &Directory) {
        let named = |endpoint: &Endpoint| {
            directory
                .services
                .values()
                .any(|service| service.endpoints.iter().any(|named| **named == *endpoint))
        };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.endpoints.retain(|endpoint, _| named(endpoint));
        inner.peers.retain(|_, peer| Arc::strong_count(peer) > 1);
    }
}

impl EndpointState {
    /// Calls in flight.
    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// The shared connection to the endpoint's peer.
    pub(crate) async fn connection(&self) -> Result<Arc<Connected>, WireError> {
        self.peer.get().await
    }

    /// An idle tunnel on today's connection, or a new one.
    pub(crate) async fn tunnel(&self) -> Result<Tunnel, WireError> {
        let connection = self.connection().await?;
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(mut tunnel) = idle.pop() {
                if Arc::ptr_eq(&tunnel.connection, &connection) && tunnel.is_idle() {
                    return Ok(tunnel);
                }
            }
        }
        self.open_tunnel(connection).await
    }

    /// A tunnel that has carried nothing yet.
    pub(crate) async fn fresh_tunnel(&self) -> Result<Tunnel, WireError> {
        self.open_tunnel(self.connection().await?).await
    }

    async fn open_tunnel(&self, connection: Arc<Connected>) -> Result<Tunnel, WireError> {
        let (reader, writer) = connection.open_tunnel(self.endpoint.destination).await?;
        let side = Side {
            reader: MessageReader::new(reader),
            writer,
        };
        Ok(Tunnel {
            side,
            idle_since: Instant::now(),
            connection,
        })
    }

    /// Takes back a tunnel whose exchange is over and that can carry another.
    pub(crate) fn give_back(&self, mut tunnel: Tunnel) {
        tunnel.idle_since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest lies at the front, and is the likeliest to have been ended by its peer.
        if idle.first_mut().is_some_and(|oldest| !oldest.is_idle()) || idle.len() >= IDLE_TUNNELS {
            idle.remove(0);
        }
        idle.push(tunnel);
    }
}

impl Tunnel {
    fn is_idle(&mut self) -> bool {
        self.connection.is_open()
            && self.idle_since.elapsed() < IDLE_LIMIT
            && self.side.reader.is_quiet()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
