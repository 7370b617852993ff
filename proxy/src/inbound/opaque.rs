//! Opaque connections: judged once, before the application is dialled, then carried both ways.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::AsyncRead;

use super::Inbound;
use crate::directory::OwnPort;
use crate::http2::answer;
use crate::judge::{Caller, Permit, Target};
use crate::relay::relay;
use crate::telemetry::{CallProtocol, Direction};
use crate::wire::{self, WireWriter};

/// A tunnel to a port that is declared to be opaque: the verdict is the answer to the `CONNECT`, and nothing is known of what
/// it will carry.
pub(super) async fn declared(
    inbound: &Arc<Inbound>,
    caller: &Caller,
    port: &OwnPort,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    match inbound.judge.judge(caller, target(port, None), None) {
        Ok(permit) => {
            let Ok((reader, writer)) = wire::accept_tunnel(request, respond) else {
                return;
            };
            carry(inbound, port, permit, reader, writer).await;
        }
        Err(denial) => answer(respond, denial.problem(), false),
    }
}

/// A tunnel that turned out to be opaque after it was answered: a denial resets it. `sni`: the server name that a TLS client
/// asks for.
pub(super) async fn detected(
    inbound: &Arc<Inbound>,
    caller: &Caller,
    port: &OwnPort,
    sni: Option<&str>,
    reader: impl AsyncRead + Unpin,
    writer: WireWriter,
) {
    match inbound.judge.judge(caller, target(port, sni), None) {
        Ok(permit) => carry(inbound, port, permit, reader, writer).await,
        Err(_logged) => writer.reset(Reason::REFUSED_STREAM),
    }
}

async fn carry<R: AsyncRead + Unpin>(
    inbound: &Inbound,
    port: &OwnPort,
    permit: Permit,
    reader: R,
    writer: WireWriter,
) {
    let started = Instant::now();
    match inbound.applications.dial(&permit, port).await {
        Ok(application) => {
            if let Err(error) = relay((reader, writer), application).await {
                tracing::debug!(port = port.port, %error, "an opaque connection broke off");
            }
        }
        Err(_logged) => writer.reset(Reason::CONNECT_ERROR),
    }
    inbound
        .parts
        .metrics
        .call_ended(Direction::Inbound, CallProtocol::Tcp, started.elapsed());
    drop(permit);
}

fn target<'s>(port: &OwnPort, sni: Option<&'s str>) -> Target<'s> {
    Target {
        address: port.destination.ip(),
        port: port.port,
        protocol: CallProtocol::Tcp,
        sni,
    }
}
