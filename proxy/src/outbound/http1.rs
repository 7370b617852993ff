//! HTTP/1.1 calls of one application connection: each is balanced by itself and carried in a tunnel to its endpoint.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Destination, Outbound, unreachable};
use crate::exchange::{self, ExchangeError, Side, exchange};
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
    mut reader: MessageReader<R>,
    mut writer: W,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let limits = &outbound.http1;
    let mut stopping = std::pin::pin!(outbound.parts.drain.stopping());
    loop {
        let read = tokio::select! {
            biased;
            read = reader.request_head(limits) => read,
            // Only between calls: a call that has begun is carried to its end.
            () = &mut stopping => return,
        };
        let request = match read {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(error) => {
                if let Some(status) = error.status() {
                    write_problem(&mut writer, &malformed(status, &error), false).await;
                }
                return;
            }
        };
        let started = Instant::now();
        let live = outbound.parts.drain.call();
        let caller = Side {
            reader: &mut reader,
            writer: &mut writer,
        };
        let carried = carry(outbound, destination, &request, caller).await;
        outbound.parts.metrics.call_ended(
            Direction::Outbound,
            CallProtocol::Http1,
            started.elapsed(),
        );
        match carried {
            Ok(Carried {
                after,
                tunnel: Some(tunnel),
            }) if after.upgraded => {
                let callee = (tunnel.reader.into_stream(), tunnel.writer);
                if let Err(error) = relay((reader.into_stream(), writer), callee).await {
                    tracing::debug!(%error, "an upgraded connection broke off");
                }
                return;
            }
            Ok(Carried { after, .. }) if after.caller_persists => {}
            Ok(_) => {
                let _gone = writer.shutdown().await;
                return;
            }
            Err(problem) => {
                if let Some(problem) = problem {
                    write_problem(&mut writer, &problem, request.summary().head).await;
                }
                return;
            }
        }
        drop(live);
    }
}

/// A call that was answered.
struct Carried {
    after: exchange::After,
    /// The tunnel that now belongs to this connection alone (after an upgrade).
    tunnel: Option<Tunnel>,
}

/// Carries one call, on another endpoint if the first one proves to be out of reach. The error is what to tell the
/// application, if anything can be told.
async fn carry<R, W>(
    outbound: &Outbound,
    destination: &Destination,
    request: &RequestHead,
    caller: Side<'_, R, W>,
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
        let callee = Side {
            reader: &mut tunnel.reader,
            writer: &mut tunnel.writer,
        };
        let caller = Side {
            reader: &mut *caller.reader,
            writer: &mut *caller.writer,
        };
        let edits = HeaderEdits::default();
        match exchange(caller, callee, request, &edits, &outbound.http1).await {
            Ok(after) if after.upgraded => {
                return Ok(Carried {
                    after,
                    tunnel: Some(tunnel),
                });
            }
            Ok(after) => {
                drop(in_flight);
                if after.callee_persists {
                    endpoint.give_back(tunnel);
                }
                return Ok(Carried {
                    after,
                    tunnel: None,
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

async fn write_problem<W: AsyncWrite + Unpin>(writer: &mut W, problem: &Problem, head_only: bool) {
    let out = problem.to_http1(head_only, After::Close);
    // Whoever went away before the answer misses nothing.
    let _gone = writer.write_all(&out).await;
    let _gone = writer.shutdown().await;
}
