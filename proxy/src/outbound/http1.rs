//! HTTP/1.1 calls of one application connection: each is balanced by itself and carried in a tunnel to its endpoint.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Destination, Outbound, unreachable};
use crate::exchange::{ExchangeError, Side, exchange, next_request};
use crate::http1::{HeaderEdits, MessageReader, RequestHead};
use crate::problem::{After, Problem, malformed};
use crate::relay::relay;
use crate::telemetry::{CallProtocol, Direction};
use crate::wire::Tunnel;

/// How often a call is tried in all, each time on another endpoint or connection.
const ATTEMPTS: usize = 3;

/// Carries the calls of one connection until it ends.
pub(super) async fn serve<R, W>(
    outbound: &Arc<Outbound>,
    destination: &Destination,
    reader: MessageReader<R>,
    writer: W,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut caller = Side { reader, writer };
    let mut stopping = pin!(outbound.parts.drain.stopping());
    while let Some(request) = next_request(&mut caller, &outbound.http1, &mut stopping).await {
        let started = Instant::now();
        let _live = outbound.parts.drain.call();
        let carried = carry(outbound, destination, &request, &mut caller).await;
        let metrics = &outbound.parts.metrics;
        metrics.call_ended(Direction::Outbound, CallProtocol::Http1, started.elapsed());
        match carried {
            Ok(Carried::Upgraded(tunnel)) => {
                let ended = relay(caller.into_streams(), tunnel.side.into_streams()).await;
                if let Err(error) = ended {
                    tracing::debug!(%error, "an upgraded connection broke off");
                }
                return;
            }
            Ok(Carried::Answered { persists: true }) => {}
            Ok(Carried::Answered { persists: false }) => {
                let _gone = caller.writer.shutdown().await;
                return;
            }
            Err(problem) => {
                if let Some(problem) = problem {
                    let head_only = request.summary().head;
                    problem
                        .write_http1(&mut caller.writer, head_only, After::Close)
                        .await;
                }
                return;
            }
        }
    }
}

/// A call that was answered.
enum Carried {
    /// The connection can carry another one, or not.
    Answered { persists: bool },
    /// Caller and callee go on in another protocol; the tunnel is theirs.
    Upgraded(Box<Tunnel>),
}

/// Carries one call, on another endpoint if the first one proves to be out of reach. The error is what to tell the
/// application, if anything can be told.
async fn carry<R, W>(
    outbound: &Outbound,
    destination: &Destination,
    request: &RequestHead,
    caller: &mut Side<R, W>,
) -> Result<Carried, Option<Problem>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let service = &destination.service;
    let mut tried = None;
    let mut attempt = 1;
    loop {
        let endpoint = outbound.endpoint(service, tried.as_ref())?;
        let in_flight = endpoint.begin();
        // What lay idle may have been ended by the peer at this very moment; a second attempt takes no such risk.
        let tunnel = if attempt == 1 {
            endpoint.tunnel().await
        } else {
            endpoint.fresh_tunnel().await
        };
        let mut tunnel = match tunnel {
            Ok(tunnel) => tunnel,
            // Nothing was sent: any call may be tried elsewhere.
            Err(error) if attempt == ATTEMPTS => return Err(Some(unreachable(service, &error))),
            Err(error) => {
                tracing::debug!(%service, %error, attempt, "trying again");
                attempt += 1;
                tried = Some(endpoint);
                continue;
            }
        };
        let edits = HeaderEdits::default();
        match exchange(caller, &mut tunnel.side, request, &edits, &outbound.http1).await {
            Ok(after) if after.upgraded => return Ok(Carried::Upgraded(Box::new(tunnel))),
            Ok(after) => {
                drop(in_flight);
                if after.callee_persists {
                    endpoint.give_back(tunnel);
                }
                return Ok(Carried::Answered {
                    persists: after.caller_persists,
                });
            }
            Err(error) if attempt < ATTEMPTS && error.may_repeat(request) => {
                tracing::debug!(%service, %error, attempt, "trying again");
                attempt += 1;
                tried = Some(endpoint);
            }
            Err(error) => return Err(problem_of(service, &error)),
        }
    }
}

fn problem_of(service: &str, error: &ExchangeError) -> Option<Problem> {
    match error {
        ExchangeError::Unanswered(callee) if callee.is_timeout() => Some(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "peer-timeout",
            format!("{service} took too long: {callee}"),
        )),
        ExchangeError::Unanswered(callee) => Some(Problem::new(
            StatusCode::BAD_GATEWAY,
            "peer-failed",
            format!("{service} gave no valid answer: {callee}"),
        )),
        ExchangeError::RequestBody(body) => body.status().map(|status| malformed(status, body)),
        ExchangeError::BrokenOff(_) | ExchangeError::Caller(_) => None,
    }
}
