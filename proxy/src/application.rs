//! The workload itself: where allowed calls go. Dialling it takes a [`Permit`], so nothing reaches it unjudged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::net::TcpStream;

use crate::counted::{self, ApplicationReader, ApplicationWriter};
use crate::directory::OwnPort;
use crate::http2::Client;
use crate::judge::Permit;
use crate::problem::Problem;
use crate::telemetry::ByteCounters;

/// Connections to the workload's own ports.
pub(crate) struct Applications {
    /// How long a connection may take to open.
    connect_timeout: Duration,
    bytes: ByteCounters,
    /// One shared HTTP/2 connection per port.
    http2: Mutex<HashMap<SocketAddr, Client>>,
}

impl Applications {
    pub(crate) fn new(connect_timeout: Duration, bytes: ByteCounters) -> Self {
        Self {
            connect_timeout,
            bytes,
            http2: Mutex::default(),
        }
    }

    /// A new connection for the permitted call.
    pub(crate) async fn dial(
        &self,
        _permit: &Permit,
        port: &OwnPort,
    ) -> Result<(ApplicationReader, ApplicationWriter), Problem> {
        self.connect(port).await
    }

    /// The shared HTTP/2 connection (prior knowledge) for the permitted call.
    pub(crate) async fn http2(&self, _permit: &Permit, port: &OwnPort) -> Result<Client, Problem> {
        let existing = {
            let clients = self.http2.lock().unwrap_or_else(PoisonError::into_inner);
            clients
                .get(&port.application)
                .filter(|client| client.is_open())
                .cloned()
        };
        if let Some(client) = existing {
            return Ok(client);
        }
        let (reader, writer) = self.connect(port).await?;
        let stream = tokio::io::join(reader, writer);
        let client = Client::handshake(stream).await.map_err(|error| {
            Problem::new(
                StatusCode::BAD_GATEWAY,
                "application-failed",
                format!(
                    "the application on port {} does not speak HTTP/2: {error}",
                    port.port
                ),
            )
        })?;
        let mut clients = self.http2.lock().unwrap_or_else(PoisonError::into_inner);
        clients.insert(port.application, client.clone());
        Ok(client)
    }

    async fn connect(
        &self,
        port: &OwnPort,
    ) -> Result<(ApplicationReader, ApplicationWriter), Problem> {
        let unreachable = |why: &dyn std::fmt::Display| {
            Problem::unavailable(
                "application-unreachable",
                format!(
                    "the application does not accept connections on port {}: {why}",
                    port.port
                ),
            )
        };
        let stream =
            tokio::time::timeout(self.connect_timeout, TcpStream::connect(port.application))
                .await
                .map_err(|_| unreachable(&"it took too long"))?
                .map_err(|error| unreachable(&error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| unreachable(&error))?;
        let ByteCounters { received, sent } = &self.bytes;
        Ok(counted::split(stream, sent, received))
    }
}
