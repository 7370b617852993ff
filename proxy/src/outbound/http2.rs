//! HTTP/2 and gRPC calls of one application connection: each is a native stream of the wire to an endpoint of its own.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Destination, Outbound, unreachable};
use crate::http2::{Abandoned, Calls, answer, forward, is_grpc};
use crate::problem::Problem;
use crate::telemetry::{CallProtocol, Direction};
use crate::wire::{DESTINATION_HEADER, EndpointState, InFlight};

/// Carries the calls of one connection until it ends.
pub(super) async fn serve<S>(outbound: &Arc<Outbound>, destination: &Destination, io: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(calls) = Calls::handshake(io).await else {
        return;
    };
    let ended = calls
        .serve(outbound.parts.drain.stopping(), |request, respond| {
            let (outbound, destination) = (Arc::clone(outbound), destination.clone());
            tokio::spawn(async move { call(&outbound, &destination, request, respond).await });
        })
        .await;
    if let Err(error) = ended {
        tracing::debug!(service = %destination.service, %error, "an application's http/2 connection failed");
    }
}

/// One call, from the application to an endpoint.
async fn call(
    outbound: &Outbound,
    destination: &Destination,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let _live = outbound.parts.drain.call();
    let started = Instant::now();
    let grpc = is_grpc(request.headers());
    let (head, body) = request.into_parts();
    let ended = body.is_end_stream();
    let sent = match with_authority(Request::from_parts(head, ())) {
        Ok(head) => send(outbound, destination, &head, ended).await,
        Err(problem) => Err(problem),
    };
    let (response, upload, _in_flight) = match sent {
        Ok(sent) => sent,
        Err(problem) => return answer(respond, &problem, grpc),
    };
    let upload = (!ended).then_some((body, upload));
    let result = forward(upload, respond, response, |_| {}).await;
    let protocol = if grpc {
        CallProtocol::Grpc
    } else {
        CallProtocol::Http2
    };
    outbound
        .parts
        .metrics
        .call_ended(Direction::Outbound, protocol, started.elapsed());
    match result {
        Ok(()) => {}
        Err(Abandoned::Unanswered(error, respond)) => {
            let detail = format!("{} gave no valid answer: {error}", destination.service);
            let problem = Problem::new(StatusCode::BAD_GATEWAY, "peer-failed", detail);
            answer(*respond, &problem, grpc);
        }
        Err(error) => {
            tracing::debug!(service = %destination.service, %error, "a call broke off");
        }
    }
}

/// A call on its way to an endpoint.
type Sent = (ResponseFuture, h2::SendStream<Bytes>, InFlight);

/// Starts the call on the wire; on another endpoint if the first proves to be out of reach before it was sent.
async fn send(
    outbound: &Outbound,
    destination: &Destination,
    head: &Request<()>,
    ended: bool,
) -> Result<Sent, Problem> {
    let first = outbound.endpoint(&destination.service, None)?;
    match send_to(&first, head, ended).await {
        Ok(sent) => Ok(sent),
        Err(error) => {
            tracing::debug!(service = %destination.service, %error, "trying again");
            let second = outbound.endpoint(&destination.service, Some(&first))?;
            send_to(&second, head, ended)
                .await
                .map_err(|error| unreachable(&destination.service, &error))
        }
    }
}

async fn send_to(
    endpoint: &Arc<EndpointState>,
    head: &Request<()>,
    ended: bool,
) -> Result<Sent, crate::wire::WireError> {
    let in_flight = endpoint.begin();
    let mut head = head.clone();
    if let Ok(value) = HeaderValue::try_from(endpoint.endpoint.destination.to_string()) {
        head.headers_mut().insert(DESTINATION_HEADER, value);
    }
    let (response, upload) = endpoint.connection().await?.send(head, ended).await?;
    Ok((response, upload, in_flight))
}

/// A request whose URI names scheme and authority, as the wire wants it; an application may have named its host by the
/// `host` header alone (RFC 9113 §8.3.1).
fn with_authority(mut request: Request<()>) -> Result<Request<()>, Problem> {
    let refused = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail);
    if request.method() == Method::CONNECT {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "bad-request",
            "CONNECT is not carried for applications",
        ));
    }
    if request.uri().authority().is_some() {
        return Ok(request);
    }
    let host = request
        .headers()
        .get(header::HOST)
        .ok_or_else(|| refused("neither `:authority` nor `host` names the host"))?;
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme(request.uri().scheme_str().unwrap_or("http"))
        .authority(host.as_bytes())
        .path_and_query(path)
        .build()
        .map_err(|_| refused("the `host` header is not a host"))?;
    *request.uri_mut() = uri;
    Ok(request)
}
