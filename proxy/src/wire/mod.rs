//! The wire: mutual TLS 1.3 and HTTP/2 between sidecars (HBONE).
//!
//! One connection per peer carries every call: a `CONNECT` tunnel for each HTTP/1.1 or opaque byte stream, a native
//! stream for each HTTP/2 call. [`pool`] keeps the outgoing side, [`accept`] the incoming one.

mod accept;
mod belief;
mod connection;
mod failure;
mod pool;
mod stream;

pub(crate) use accept::{Session, accept, server_config};
pub(crate) use belief::lost;
pub(crate) use connection::WireError;
pub(crate) use pool::{EndpointState, InFlight, Tunnel, Wire};
pub(crate) use stream::{ConnectRefused, WireWriter, accept_tunnel};

/// The original destination of a native HTTP/2 call, `ip:port`; what `:authority` is to a tunnel. Removed by the receiver.
pub(crate) const DESTINATION_HEADER: &str = "countersign-destination";

const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
