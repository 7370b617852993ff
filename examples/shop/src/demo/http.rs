//! One HTTP/1.1 request on a connection of its own.

use std::{io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

/// Longer than any limit of the mesh; a call that takes this long is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) token: Option<&'a str>,
    pub(crate) body: &'a str,
}

/// What is answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no connection to {to}: {source}")]
    Connect { to: SocketAddr, source: io::Error },
    #[error("no answer from {to}: {source}")]
    Exchange {
        to: SocketAddr,
        source: hyper::Error,
    },
    #[error("no answer from {to} within {} s", PATIENCE.as_secs())]
    Slow { to: SocketAddr },
    #[error("the token cannot be sent in a header")]
    Token,
}

impl Answer {
    /// The body as JSON; null if it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A header as text; empty if it is not there.
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// Asks a server by its address.
pub(crate) async fn ask(to: SocketAddr, ask: Ask<'_>) -> Result<Answer, AskError> {
    timeout(PATIENCE, exchange(to, ask))
        .await
        .map_err(|_| AskError::Slow { to })?
}

async fn exchange(to: SocketAddr, ask: Ask<'_>) -> Result<Answer, AskError> {
    let failed = |source| AskError::Exchange { to, source };
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(ask.body.as_bytes())));
    *request.method_mut() = ask.method;
    *request.uri_mut() = ask.path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("shop.example"));
    if let Some(token) = ask.token {
        let value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| AskError::Token)?;
        headers.insert(header::AUTHORIZATION, value);
    }
    if !ask.body.is_empty() {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
    }

    let stream = TcpStream::connect(to)
        .await
        .map_err(|source| AskError::Connect { to, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends with the request; a failure shows in the answer.
    tokio::spawn(connection);
    let (head, body) = sender
        .send_request(request)
        .await
        .map_err(failed)?
        .into_parts();
    let body = body.collect().await.map_err(failed)?.to_bytes();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}
