//! Calls to this sidecar's workload, from the wire to the application.
//!
//! [`connection`] and [`tunnel`] name the steps; each step has a file. The application is dialled only with a
//! [`Permit`](crate::judge::Permit) in hand.

mod http1;
mod http2;
mod opaque;
#[cfg(test)]
mod tests;

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Method, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::application::Applications;
use crate::detect::{
    DEFAULT_TIMEOUT, Detected, OpaqueReason, Protocol, declared_or_detected, server_name,
};
use crate::directory::{DeclaredProtocol, Directory, OwnPort};
use crate::http1::{Limits, MessageReader};
use crate::http2::{Calls, answer, is_grpc};
use crate::judge::{Caller, Judge};
use crate::parts::Parts;
use crate::problem::{After, Problem};
use crate::state::State;
use crate::telemetry::Direction;
use crate::wire::{self, DESTINATION_HEADER, Session};

/// What every inbound call has need of.
pub(crate) struct Inbound {
    parts: Parts,
    judge: Judge,
    applications: Applications,
    http1: Limits,
}

impl Inbound {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let limits = parts.config.limits;
        Arc::new(Self {
            judge: Judge::new(parts.clone()),
            applications: Applications::new(
                limits.connect_timeout,
                parts.metrics.bytes(Direction::Inbound).clone(),
            ),
            http1: limits.http1(),
            parts,
        })
    }
}

/// Accepts connections of the wire until the program begins to stop.
pub(crate) async fn serve(
    inbound: Arc<Inbound>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
) {
    let mut stopping = std::pin::pin!(inbound.parts.drain.stopping());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopping => return,
        };
        match accepted {
            Ok((tcp, source)) => {
                tokio::spawn(connection(
                    Arc::clone(&inbound),
                    tcp,
                    source,
                    Arc::clone(&tls),
                ));
            }
            Err(error) => crate::listen::pause_after(&error).await,
        }
    }
}

/// One connection of the wire: handshakes, then its calls.
async fn connection(
    inbound: Arc<Inbound>,
    tcp: TcpStream,
    source: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
) {
    let limit = inbound.parts.config.limits.handshake_timeout;
    let accepted = match wire::accept(tcp, &tls, &inbound.parts.identity, limit).await {
        Ok(accepted) => accepted,
        Err(error) => {
            inbound
                .parts
                .metrics
                .handshake_failed(Direction::Inbound, error.class());
            tracing::info!(%source, %error, "refused a connection");
            return;
        }
    };
    let _open = inbound.parts.metrics.wire_opened(Direction::Inbound);
    let _undrained = inbound.parts.drain.connection();
    let Some(own) = inbound.parts.identity.svid() else {
        return;
    };
    let lost = wire::lost(accepted.peer.clone(), Arc::clone(&inbound.parts.identity));
    let caller = Caller::new(accepted.peer, source, own.id());
    let served = async {
        match accepted.session {
            Session::H2(calls) => wire_calls(&inbound, &caller, *calls).await,
            Session::Http1(stream) => untunnelled_http1(&inbound, &caller, *stream).await,
        }
    };
    tokio::select! {
        () = served => {}
        error = lost => {
            let peer = caller.peer().id();
            tracing::info!(%source, %peer, %error, "ends a connection whose peer is not believed any more");
        }
    }
}

/// The calls of one wire connection, each in a task of its own.
async fn wire_calls<S>(inbound: &Arc<Inbound>, caller: &Caller, calls: Calls<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = calls
        .serve(inbound.parts.drain.stopping(), |request, respond| {
            let (inbound, caller) = (Arc::clone(inbound), caller.clone());
            if request.method() == Method::CONNECT {
                tokio::spawn(tunnel(inbound, caller, request, respond));
            } else {
                tokio::spawn(native(inbound, caller, request, respond));
            }
        })
        .await;
    if let Err(error) = ended {
        tracing::debug!(source = %caller.source(), %error, "a wire connection failed");
    }
}

/// A tunnel: find the port, find the protocol, then judge and forward what it carries.
async fn tunnel(
    inbound: Arc<Inbound>,
    caller: Caller,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let port = match own_port(&inbound.parts.state, authority) {
        Ok(port) => port,
        Err(problem) => return answer(respond, &problem, false),
    };
    if port.protocol == DeclaredProtocol::Tcp {
        return opaque::declared(&inbound, &caller, &port, request, respond).await;
    }
    let Ok((mut reader, writer)) = wire::accept_tunnel(request, respond) else {
        return;
    };

    let begun = Instant::now();
    let detected = declared_or_detected(port.protocol, &mut reader, DEFAULT_TIMEOUT).await;
    // What broke before it said anything is no call.
    let Ok(Detected {
        protocol,
        mut buffered,
    }) = detected
    else {
        return;
    };
    match protocol {
        Protocol::Http1 => {
            let reader = MessageReader::with_buffered(reader, buffered);
            http1::serve(&inbound, &caller, &port, reader, writer).await;
        }
        Protocol::Http2 => {
            let reader = Cursor::new(buffered).chain(reader);
            http2::serve(&inbound, &caller, &port, tokio::io::join(reader, writer)).await;
        }
        Protocol::Opaque(OpaqueReason::Ended) if buffered.is_empty() => {}
        Protocol::Opaque(why) => {
            let patience = DEFAULT_TIMEOUT.saturating_sub(begun.elapsed());
            let sni = server_name(&mut reader, &mut buffered, patience).await;
            tracing::debug!(
                port = port.port,
                ?why,
                sni,
                "a connection is judged as opaque"
            );
            let reader = Cursor::new(buffered).chain(reader);
            opaque::detected(&inbound, &caller, &port, sni.as_deref(), reader, writer).await;
        }
    }
}

/// A native HTTP/2 call; the port is named by a header, or there is only one.
async fn native(
    inbound: Arc<Inbound>,
    caller: Caller,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let named = request
        .headers()
        .get(DESTINATION_HEADER)
        .map(|value| value.to_str());
    let port = match named {
        Some(destination) => own_port(&inbound.parts.state, destination.ok()),
        None => only_port(&inbound.parts.state),
    };
    match port {
        Ok(port) => http2::call(&inbound, &caller, &port, request, respond).await,
        Err(problem) => answer(respond, &problem, is_grpc(request.headers())),
    }
}

/// HTTP/1.1 straight on the TLS connection, from an ordinary client with an SVID.
async fn untunnelled_http1<S>(inbound: &Arc<Inbound>, caller: &Caller, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, mut writer) = tokio::io::split(stream);
    match only_port(&inbound.parts.state) {
        Ok(port) => {
            http1::serve(inbound, caller, &port, MessageReader::new(reader), writer).await;
        }
        Err(problem) => {
            problem.write_http1(&mut writer, false, After::Close).await;
        }
    }
}

/// The workload's port that a caller names by its original destination. Naming anything else must not make this sidecar
/// a relay to it.
fn own_port(state: &State, destination: Option<&str>) -> Result<OwnPort, Problem> {
    let directory = known(state)?;
    destination
        .and_then(|destination| directory.own_port(destination.parse().ok()?))
        .cloned()
        .ok_or_else(|| {
            Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "not-this-workload",
                format!(
                    "{} is not an address and port of {}",
                    destination.unwrap_or("the named destination"),
                    directory.own.name
                ),
            )
        })
}

/// The workload's port, for callers that name none.
fn only_port(state: &State) -> Result<OwnPort, Problem> {
    let directory = known(state)?;
    match directory.own.ports.as_slice() {
        [port] => Ok(port.clone()),
        ports => Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "port-not-named",
            format!("{} has {} ports; name one", directory.own.name, ports.len()),
        )),
    }
}

fn known(state: &State) -> Result<Arc<Directory>, Problem> {
    state.directory().ok_or_else(|| {
        Problem::unavailable(
            "no-directory",
            "this sidecar has not heard from its control plane yet; try again",
        )
    })
}
