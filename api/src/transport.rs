//! gRPC over our mutual TLS: whoever calls or answers has proved its SPIFFE ID.

mod incoming;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::IdentityStore;
use countersign_identity::tls::{
    ExpectedPeer, TlsError, client_config, peer_of_connected, server_name,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::x509_proof::ChannelBinding;

pub use incoming::{Caller, Incoming, IncomingLimits, TlsIo, incoming};

/// How long a connection may take to come about, TCP and TLS together, unless more is allowed for TLS.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// After how much silence a peer with calls in flight is asked whether it is still there, …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and how long it may take to answer, before its connection is given up.
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(10);
/// The protocol that gRPC speaks, as ALPN names it (RFC 9113 §3.2).
const ALPN: &[&[u8]] = &[b"h2"];

/// Why a channel could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The address is not one.
    #[error("{address:?} is not an address; expected host:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// TLS is not possible.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no connection now.
    #[error("{reason}")]
    Connection {
        /// Why.
        reason: String,
    },
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Tcp {
        address: Arc<str>,
        source: io::Error,
    },
    #[error("TLS handshake with {address} failed: {source}")]
    Handshake {
        address: Arc<str>,
        source: io::Error,
    },
    #[error("{address} is not to be trusted: {source}")]
    Peer { address: Arc<str>, source: TlsError },
    #[error("no connection with {address} within {} s", limit.as_secs())]
    TimedOut { address: Arc<str>, limit: Duration },
}

/// A gRPC channel to `address` (`host:port`), which must turn out to be `expected`. It connects
/// when it is first used, and again when the connection is lost, each time with the store's
/// identity of the moment.
///
/// # Errors
/// The address is not one, or TLS is not possible.
pub fn channel(
    address: &str,
    store: &Arc<IdentityStore>,
    expected: ExpectedPeer,
) -> Result<Channel, ChannelError> {
    channel_within(CONNECT_LIMIT, address, store, expected)
}

/// As [`channel`], with so much time for a connection to come about. The other end's system has to answer within
/// [`CONNECT_LIMIT`]; the rest is for a server that many come to at once, where a connection waits for its turn.
///
/// # Errors
/// As [`channel`].
pub fn channel_within(
    limit: Duration,
    address: &str,
    store: &Arc<IdentityStore>,
    expected: ExpectedPeer,
) -> Result<Channel, ChannelError> {
    let (endpoint, connector) = prepare(address, store, expected, limit)?;
    Ok(
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_uri| {
            let connector = connector.clone();
            async move { connector.connect().await.map(TokioIo::new) }
        })),
    )
}

fn prepare(
    address: &str,
    store: &Arc<IdentityStore>,
    expected: ExpectedPeer,
    limit: Duration,
) -> Result<(Endpoint, Connector), ChannelError> {
    let not_an_address = || ChannelError::Address {
        address: address.to_owned(),
    };
    let authority: http::uri::Authority = address.parse().map_err(|_| not_an_address())?;
    if authority.port_u16().is_none() || address.contains('@') {
        return Err(not_an_address());
    }
    // Of the URI, only the authority has a meaning: the connector below does what "https" means.
    let endpoint = Endpoint::from_shared(format!("https://{authority}"))
        .map_err(|_| not_an_address())?
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_LIMIT);
    let connector = Connector {
        address: authority.as_str().into(),
        tls: client_config(store, expected.clone(), ALPN)?,
        store: Arc::clone(store),
        expected,
        limit,
    };
    Ok((endpoint, connector))
}

/// A channel over one connection, which is made now, and what both ends know it by. When the connection is lost, so is the
/// channel: what is bound to the connection must not go over another.
///
/// # Errors
/// The address is not one, TLS is not possible, or there is no connection.
pub async fn channel_over_one_connection(
    address: &str,
    store: &Arc<IdentityStore>,
    expected: ExpectedPeer,
) -> Result<(Channel, ChannelBinding), ChannelError> {
    let (endpoint, connector) = prepare(address, store, expected, CONNECT_LIMIT)?;
    let failed = |error: &dyn std::fmt::Display| ChannelError::Connection {
        reason: error.to_string(),
    };
    let stream = connector.connect().await.map_err(|error| failed(&error))?;
    let binding =
        ChannelBinding::of_connected(stream.get_ref().1).map_err(|error| failed(&error))?;
    let once = Arc::new(std::sync::Mutex::new(Some(stream)));
    let connect = tower::service_fn(move |_uri| {
        let stream = once.lock().ok().and_then(|mut once| once.take());
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection was lost");
        std::future::ready(stream.map(TokioIo::new).ok_or_else(gone))
    });
    let channel = endpoint.connect_with_connector(connect).await;
    Ok((channel.map_err(|error| failed(&error))?, binding))
}

#[derive(Clone)]
struct Connector {
    address: Arc<str>,
    tls: Arc<ClientConfig>,
    store: Arc<IdentityStore>,
    expected: ExpectedPeer,
    limit: Duration,
}

impl Connector {
    async fn connect(self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let (address, limit) = (Arc::clone(&self.address), self.limit);
        tokio::time::timeout(limit, self.connect_unlimited())
            .await
            .unwrap_or(Err(ConnectError::TimedOut { address, limit }))
    }

    async fn connect_unlimited(self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let Self {
            address,
            tls,
            store,
            expected,
            limit,
        } = self;
        let tcp_error = |source| ConnectError::Tcp {
            address: Arc::clone(&address),
            source,
        };
        let limit = limit.min(CONNECT_LIMIT);
        let tcp = tokio::time::timeout(limit, TcpStream::connect(&*address))
            .await
            .map_err(|_| ConnectError::TimedOut {
                address: Arc::clone(&address),
                limit,
            })?
            .map_err(tcp_error)?;
        tcp.set_nodelay(true).map_err(tcp_error)?;
        let stream = TlsConnector::from(tls)
            .connect(server_name(), tcp)
            .await
            .map_err(|source| ConnectError::Handshake {
                address: Arc::clone(&address),
                source,
            })?;
        peer_of_connected(stream.get_ref().1, &store, &expected, SystemTime::now())
            .map_err(|source| ConnectError::Peer { address, source })?;
        Ok(stream)
    }
}

/// One line that says why a call failed: what the other end says, or where the call never came
/// so far, what happened on the way.
#[must_use]
pub fn describe(status: &Status) -> String {
    let Some(mut cause) = std::error::Error::source(status) else {
        return format!("{} ({:?})", status.message(), status.code());
    };
    let mut line = status.message().to_owned();
    loop {
        let text = cause.to_string();
        // What tonic calls everything that happens to a connection; what has happened comes after it.
        if text != "transport error" && !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        match cause.source() {
            Some(deeper) => cause = deeper,
            None => return line,
        }
    }
}

#[cfg(test)]
mod tests;
