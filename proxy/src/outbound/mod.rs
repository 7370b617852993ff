//! Calls from this sidecar's workload, from the application to the wire.
//!
//! [`connection`] names the steps; each protocol has a file. Whom a call reaches is the directory's word, and the peer has
//! to prove that it is that workload before a byte of the call is sent.

mod http1;
mod http2;
mod opaque;
#[cfg(test)]
mod tests;

use std::io::Cursor;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::balance;
use crate::config::OutboundListener;
use crate::counted;
use crate::detect::{DEFAULT_TIMEOUT, Detected, OpaqueReason, Protocol, declared_or_detected};
use crate::directory::{DeclaredProtocol, Service};
use crate::http1::{Limits, MessageReader};
use crate::parts::Parts;
use crate::problem::Problem;
use crate::telemetry::{ByteCounters, Direction};
use crate::wire::{EndpointState, Wire, WireError};

/// What every outbound call has need of.
pub(crate) struct Outbound {
    parts: Parts,
    wire: Wire,
    http1: Limits,
}

/// Where the calls of one listener go.
#[derive(Clone)]
pub(crate) struct Destination {
    /// `host:port`, as the directory names the service.
    pub(crate) service: Arc<str>,
    /// The listener's own word on the protocol; the directory's counts where there is none.
    pub(crate) protocol: DeclaredProtocol,
}

impl Outbound {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let limits = parts.config.limits;
        Arc::new(Self {
            wire: Wire::new(
                Arc::clone(&parts.identity),
                limits.connect_timeout,
                parts.metrics.clone(),
            ),
            http1: limits.http1(),
            parts,
        })
    }

    /// Forgets the endpoints that the directory no longer names, whenever it changes.
    pub(crate) async fn follow_directory(&self) {
        let mut changes = self.parts.state.changes();
        while changes.changed().await.is_ok() {
            if let Some(directory) = self.parts.state.directory() {
                self.wire.retain(&directory);
            }
        }
    }

    /// The service as the directory has it now.
    fn service(&self, name: &str) -> Result<Arc<Service>, Problem> {
        let directory = self.parts.state.directory();
        directory
            .as_ref()
            .and_then(|directory| directory.service(name))
            .cloned()
            .ok_or_else(|| {
                Problem::unavailable(
                    "unknown-service",
                    format!("the directory has no service {name}; is it spelled as host:port?"),
                )
            })
    }

    /// The endpoint for the next call to a service.
    fn endpoint(
        &self,
        name: &str,
        avoid: Option<&Arc<EndpointState>>,
    ) -> Result<Arc<EndpointState>, Problem> {
        let service = self.service(name)?;
        balance::choose(&self.wire, &service, avoid).ok_or_else(|| {
            Problem::unavailable("no-endpoints", format!("no workload of {name} is up"))
        })
    }
}

impl From<&OutboundListener> for Destination {
    fn from(listener: &OutboundListener) -> Self {
        Self {
            service: listener.service.as_str().into(),
            protocol: listener.protocol,
        }
    }
}

/// Accepts the application's connections to one service until the program begins to stop.
pub(crate) async fn serve(
    outbound: Arc<Outbound>,
    listener: TcpListener,
    destination: Destination,
) {
    let mut stopping = std::pin::pin!(outbound.parts.drain.stopping());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopping => return,
        };
        match accepted {
            Ok((tcp, _)) => {
                tokio::spawn(connection(Arc::clone(&outbound), tcp, destination.clone()));
            }
            Err(error) => crate::listen::pause_after(&error).await,
        }
    }
}

/// One connection of the application: find the protocol, then carry its calls.
async fn connection(outbound: Arc<Outbound>, tcp: TcpStream, destination: Destination) {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "an application's connection broke at once");
        return;
    }
    let declared = match destination.protocol {
        DeclaredProtocol::Detect => outbound
            .service(&destination.service)
            .map_or(DeclaredProtocol::Detect, |service| service.protocol),
        declared => declared,
    };
    let ByteCounters { received, sent } = outbound.parts.metrics.bytes(Direction::Outbound);
    let (mut reader, writer) = counted::split(tcp, received, sent);
    let detected = declared_or_detected(declared, &mut reader, DEFAULT_TIMEOUT).await;
    // What broke before it said anything is no call.
    let Ok(Detected { protocol, buffered }) = detected else {
        return;
    };
    let _undrained = outbound.parts.drain.connection();
    match protocol {
        Protocol::Http1 => {
            let reader = MessageReader::with_buffered(reader, buffered);
            http1::serve(&outbound, &destination, reader, writer).await;
        }
        Protocol::Http2 => {
            let io = tokio::io::join(Cursor::new(buffered).chain(reader), writer);
            http2::serve(&outbound, &destination, io).await;
        }
        Protocol::Opaque(OpaqueReason::Ended) if buffered.is_empty() => {}
        Protocol::Opaque(_) => {
            opaque::carry(&outbound, &destination, buffered, reader, writer).await;
        }
    }
}

/// What the application is told when the wire fails.
fn unreachable(service: &str, error: &WireError) -> Problem {
    tracing::warn!(service, %error, "a call could not be put on the wire");
    Problem::unavailable(
        "peer-unreachable",
        format!("{service} cannot be reached: {error}"),
    )
}
