//! HTTP/2 and gRPC calls: native streams of the wire, or HTTP/2 with prior knowledge in a tunnel.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Inbound;
use crate::directory::{DeclaredProtocol, OwnPort};
use crate::http1::same_name;
use crate::http2::{Abandoned, Calls, answer, forward, is_grpc};
use crate::judge::{Caller, Permit, Target};
use crate::problem::Problem;
use crate::telemetry::{CallProtocol, Direction};
use crate::wire::DESTINATION_HEADER;

/// Serves the calls of an HTTP/2 connection that lies in a tunnel.
pub(super) async fn serve<S>(inbound: &Arc<Inbound>, caller: &Caller, port: &OwnPort, io: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(calls) = Calls::handshake(io).await else {
        return;
    };
    let ended = calls
        .serve(inbound.parts.drain.stopping(), |request, respond| {
            let (inbound, caller, port) = (Arc::clone(inbound), caller.clone(), port.clone());
            tokio::spawn(async move { call(&inbound, &caller, &port, request, respond).await });
        })
        .await;
    if let Err(error) = ended {
        tracing::debug!(port = port.port, %error, "a tunnelled http/2 connection failed");
    }
}

/// One call: judge, then forward.
pub(super) async fn call(
    inbound: &Arc<Inbound>,
    caller: &Caller,
    port: &OwnPort,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let started = Instant::now();
    let grpc = is_grpc(request.headers());
    let protocol = if grpc {
        CallProtocol::Grpc
    } else {
        CallProtocol::Http2
    };
    if let Err(problem) = check(&request, port) {
        return answer(respond, &problem, grpc);
    }
    let target = Target {
        address: port.destination.ip(),
        port: port.port,
        protocol,
        sni: None,
    };
    let permit = match inbound.judge.judge(caller, target, Some(facts(&request))) {
        Ok(permit) => permit,
        Err(denial) => return answer(respond, denial.problem(), grpc),
    };

    let (mut head, body) = request.into_parts();
    edit(&mut head.headers, &permit);
    if let Some(path) = permit.path() {
        head.uri = match with_path(head.uri, path) {
            Ok(uri) => uri,
            Err(error) => {
                let detail = format!("the normal form of the path cannot be sent: {error}");
                let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail);
                return answer(respond, &problem, grpc);
            }
        };
    }
    let ended = body.is_end_stream();
    let started_call = match inbound.applications.http2(&permit, port).await {
        Ok(client) => client
            .send(Request::from_parts(head, ()), ended)
            .await
            .map_err(|error| application_failed(port, &error)),
        Err(problem) => Err(problem),
    };
    let result = match started_call {
        Ok((response, upload)) => {
            let upload = (!ended).then_some((body, upload));
            forward(upload, respond, response, |_| {}).await
        }
        Err(problem) => {
            answer(respond, &problem, grpc);
            return;
        }
    };
    inbound
        .parts
        .metrics
        .call_ended(Direction::Inbound, protocol, started.elapsed());
    match result {
        Ok(()) => {}
        Err(Abandoned::Unanswered(error, respond)) => {
            answer(*respond, &application_failed(port, &error), grpc);
        }
        Err(error) => tracing::debug!(port = port.port, %error, "an http/2 call broke off"),
    }
    drop(permit);
}

/// What cannot be forwarded whatever policy says.
fn check(request: &Request<RecvStream>, port: &OwnPort) -> Result<(), Problem> {
    if matches!(
        port.protocol,
        DeclaredProtocol::Http1 | DeclaredProtocol::Tcp
    ) {
        return Err(Problem::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "protocol-mismatch",
            format!(
                "port {} does not speak HTTP/2; call it as its directory entry says",
                port.port
            ),
        ));
    }
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let host = request
        .headers()
        .get(header::HOST)
        .map(HeaderValue::as_bytes);
    // RFC 9113 §8.3.1: they must agree, or one of two readers is fooled.
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "`:authority` and `host` name different hosts",
            ))
        }
        (None, None) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "neither `:authority` nor `host` names the host",
        )),
        _ => Ok(()),
    }
}

/// Replaces what only we may say by the verified facts.
fn edit(headers: &mut HeaderMap, permit: &Permit) {
    let ours = |name: &HeaderName| {
        let removed = permit.removed().chain([DESTINATION_HEADER]);
        removed
            .into_iter()
            .any(|removed| same_name(name.as_str(), removed))
    };
    let forged: Vec<_> = headers.keys().filter(|name| ours(name)).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    for (name, value) in permit.added() {
        // The permit holds only what may stand in a header.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value))
        {
            headers.insert(name, value);
        }
    }
}

/// The same URI with the path that was judged.
fn with_path(uri: Uri, path: &str) -> Result<Uri, http::Error> {
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(path.parse()?);
    Ok(Uri::from_parts(parts)?)
}

fn application_failed(port: &OwnPort, error: &h2::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_GATEWAY,
        "application-failed",
        format!(
            "the application on port {} gave no valid HTTP/2 answer: {error}",
            port.port
        ),
    )
}

/// The facts of a request that policy can ask for.
fn facts(request: &Request<RecvStream>) -> countersign_policy::Request<'_> {
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str())
        .or_else(|| {
            request
                .headers()
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
        });
    countersign_policy::Request {
        method: request.method().as_str(),
        host: host.unwrap_or_default(),
        path: request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str()),
        headers: request.headers(),
    }
}
