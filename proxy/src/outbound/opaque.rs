//! An opaque connection of the application: one tunnel, both ways, to one endpoint.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::{Destination, Outbound, unreachable};
use crate::counted::{ApplicationReader, ApplicationWriter};
use crate::relay::{RelayError, relay};
use crate::telemetry::{CallProtocol, Direction};
use crate::wire::ConnectRefused;

/// Carries the connection to its end. Whatever keeps it from its callee resets it, so that the application sees a failure
/// and not an early end.
pub(super) async fn carry(
    outbound: &Arc<Outbound>,
    destination: &Destination,
    first: BytesMut,
    reader: ApplicationReader,
    mut writer: ApplicationWriter,
) {
    let _live = outbound.parts.drain.call();
    let started = Instant::now();
    let service = &destination.service;
    let endpoint = match outbound.endpoint(service, None) {
        Ok(endpoint) => endpoint,
        Err(problem) => {
            tracing::warn!(%service, reason = problem.reason, "reset a connection: {}", problem.detail);
            return writer.reset();
        }
    };
    let _in_flight = endpoint.begin();
    let tunnel = match endpoint.fresh_tunnel().await {
        Ok(tunnel) => tunnel,
        Err(error) => {
            unreachable(service, &error);
            return writer.reset();
        }
    };
    let caller = (Cursor::new(first).chain(reader), &mut writer);
    let ended = relay(caller, tunnel.side.into_streams()).await;
    outbound
        .parts
        .metrics
        .call_ended(Direction::Outbound, CallProtocol::Tcp, started.elapsed());
    if let Err(error) = ended {
        match &error {
            RelayError::Callee(error) if was_refused(error) => {
                tracing::warn!(%service, %error, "reset a connection: it was denied");
            }
            _ => tracing::debug!(%service, %error, "an opaque connection broke off"),
        }
        writer.reset();
    }
}

fn was_refused(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(|source| source.is::<ConnectRefused>())
}
