//! HTTP/1.1 calls on one connection: each is judged by itself.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Inbound;
use crate::counted::{ApplicationReader, ApplicationWriter};
use crate::directory::OwnPort;
use crate::exchange::{self, ExchangeError, Side, exchange, is_repeatable, next_request};
use crate::http1::{AddedHeaders, HeaderEdits, Limits, MessageReader, RequestHead};
use crate::judge::{Caller, Permit, Target};
use crate::problem::{After, Problem};
use crate::relay::relay;
use crate::telemetry::{CallProtocol, Direction};
use crate::wire::DESTINATION_HEADER;

/// How long a connection to the application may lie idle and yet take a request that could not be repeated. Applications
/// end idle connections after a few seconds, at the very moment of the next request if it so happens.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// A connection to the application, made for this caller's connection and kept as long.
struct Application {
    side: Side<ApplicationReader, ApplicationWriter>,
    /// When its last response had been read.
    idle_since: Instant,
}

impl Application {
    fn can_take(&mut self, request: &RequestHead) -> bool {
        self.side.reader.is_quiet()
            && (is_repeatable(request) || self.idle_since.elapsed() < TRUSTED_IDLE)
    }
}

/// The most that is read of a denied request's content.
const SKIPPED_BODY: u64 = 64 * 1024;

/// Serves the calls of one connection until it ends.
pub(super) async fn serve<R, W>(
    inbound: &Arc<Inbound>,
    caller: &Caller,
    port: &OwnPort,
    reader: MessageReader<R>,
    writer: W,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut caller_side = Side { reader, writer };
    let mut application: Option<Application> = None;
    let mut stopping = pin!(inbound.parts.drain.stopping());
    while let Some(request) = next_request(&mut caller_side, &inbound.http1, &mut stopping).await {
        let started = Instant::now();
        let head_only = request.summary().head;
        let target = Target {
            address: port.destination.ip(),
            port: port.port,
            protocol: CallProtocol::Http1,
            sni: None,
        };
        let permit = match inbound.judge.judge(caller, target, Some(facts(&request))) {
            Ok(permit) => permit,
            Err(denial) => {
                let Side { reader, writer } = &mut caller_side;
                let after = after_denial(reader, &request, &inbound.http1).await;
                if denial.problem().write_http1(writer, head_only, after).await {
                    continue;
                }
                return;
            }
        };

        let result = forward(
            inbound,
            port,
            &permit,
            &request,
            &mut caller_side,
            &mut application,
        )
        .await;
        let metrics = &inbound.parts.metrics;
        metrics.call_ended(Direction::Inbound, CallProtocol::Http1, started.elapsed());
        match result {
            Ok(after) if after.upgraded => {
                return upgraded(permit, caller_side, application).await;
            }
            Ok(after) if after.caller_persists => {
                if !after.callee_persists {
                    application = None;
                }
            }
            Ok(_) => {
                let _gone = caller_side.writer.shutdown().await;
                return;
            }
            Err(problem) => {
                if let Some(problem) = problem {
                    problem
                        .write_http1(&mut caller_side.writer, head_only, After::Close)
                        .await;
                }
                return;
            }
        }
    }
}

/// Reads what is left of a denied request, if that is little, so that the connection can carry another.
async fn after_denial<R: AsyncRead + Unpin>(
    reader: &mut MessageReader<R>,
    request: &RequestHead,
    limits: &Limits,
) -> After {
    // A caller that waits for `100 Continue` does not send its content, and must not be waited for.
    let closes = request.wants_close() || request.expects_continue();
    if !closes && matches!(reader.skip_body(SKIPPED_BODY, limits).await, Ok(true)) {
        After::KeepAlive
    } else {
        After::Close
    }
}

/// Hands an allowed call to the application. The error is what to tell the caller, if anything can be told.
async fn forward<R, W>(
    inbound: &Inbound,
    port: &OwnPort,
    permit: &Permit,
    request: &RequestHead,
    caller: &mut Side<R, W>,
    application: &mut Option<Application>,
) -> Result<exchange::After, Option<Problem>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let added = verified_facts(permit)?;
    let removed: Vec<&str> = permit.removed().chain([DESTINATION_HEADER]).collect();
    // The application is the origin server: it is told the path and no more (RFC 9112 §3.2.1), and the one that was judged.
    let path = permit.path().unwrap_or(request.path_and_query());
    let edits = HeaderEdits {
        remove: &removed,
        add: Some(&added),
        target: (path != request.target()).then_some(path),
        ..HeaderEdits::default()
    };

    // An application may end a connection that lies idle, and may do so while the request is on its way.
    application.take_if(|application| !application.can_take(request));
    loop {
        let reused = application.is_some();
        let callee = match application {
            Some(application) => application,
            None => {
                let (reader, writer) = inbound.applications.dial(permit, port).await?;
                let reader = MessageReader::new(reader);
                application.insert(Application {
                    side: Side { reader, writer },
                    idle_since: Instant::now(),
                })
            }
        };
        match exchange(caller, &mut callee.side, request, &edits, &inbound.http1).await {
            Ok(after) => {
                callee.idle_since = Instant::now();
                return Ok(after);
            }
            Err(error) if reused && error.may_repeat(request) => *application = None,
            Err(error) => {
                tracing::debug!(port = port.port, %error, "an exchange with the application broke off");
                return Err(problem_of(&error, port));
            }
        }
    }
}

/// The verified facts as header lines. An application that relies on them must not get a call without them.
fn verified_facts(permit: &Permit) -> Result<AddedHeaders, Problem> {
    let mut added = AddedHeaders::new();
    for (name, value) in permit.added() {
        added.push(name, value).map_err(|error| {
            let detail = format!("the verified fact {name} is not a header value: {error}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        })?;
    }
    Ok(added)
}

fn problem_of(error: &ExchangeError, port: &OwnPort) -> Option<Problem> {
    match error {
        ExchangeError::Unanswered(callee) if callee.is_timeout() => Some(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "application-timeout",
            format!(
                "the application on port {} took too long: {callee}",
                port.port
            ),
        )),
        ExchangeError::Unanswered(callee) => Some(Problem::new(
            StatusCode::BAD_GATEWAY,
            "application-failed",
            format!(
                "the application on port {} gave no valid answer: {callee}",
                port.port
            ),
        )),
        ExchangeError::RequestBody(body) => body
            .status()
            .map(|status| crate::problem::malformed(status, body)),
        ExchangeError::BrokenOff(_) | ExchangeError::Caller(_) => None,
    }
}

/// After `101 Switching Protocols` both sides speak something else; the call lasts as long as they do.
async fn upgraded<R, W>(permit: Permit, caller: Side<R, W>, application: Option<Application>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Some(application) = application else {
        return;
    };
    if let Err(error) = relay(caller.into_streams(), application.side.into_streams()).await {
        tracing::debug!(%error, "an upgraded connection broke off");
    }
    drop(permit);
}

/// The facts of a request that policy can ask for.
fn facts(request: &RequestHead) -> countersign_policy::Request<'_> {
    countersign_policy::Request {
        method: request.method(),
        host: request.host(),
        path: request.path_and_query(),
        headers: request,
    }
}

impl countersign_policy::Headers for RequestHead {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self.headers() {
            visit(name, value);
        }
    }
}
