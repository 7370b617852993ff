//! What anybody may read over HTTPS: the OpenID Connect discovery document with the keys ([`oidc`]), and the SPIFFE bundle
//! ([`bundle`]). Read only, no secrets, one request per connection, bounded in time and number.

pub(crate) mod bundle;
pub(crate) mod certificate;
pub(crate) mod oidc;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to send its request's head.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a whole exchange may take.
const EXCHANGE_TIME: Duration = Duration::from_secs(30);
/// How many clients are served at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 256;
/// A pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A document, made anew for every request.
pub(crate) struct Document {
    /// The path that it is at.
    pub(crate) path: String,
    /// For how long others may keep it.
    pub(crate) max_age: Duration,
    /// Its JSON; `None` when it cannot be made, which the log has been told.
    pub(crate) json: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// Serves documents for ever.
pub(crate) async fn serve(listener: TcpListener, tls: TlsAcceptor, documents: Vec<Document>) {
    let documents = Arc::new(documents);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed, so a slot always comes.
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, remote_addr)) => {
                let (tls, documents) = (tls.clone(), Arc::clone(&documents));
                connections.spawn(async move {
                    let exchange = exchange(stream, tls, &documents);
                    match tokio::time::timeout(EXCHANGE_TIME, exchange).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => {
                            tracing::debug!(%remote_addr, error, "a web client failed");
                        }
                        Err(_) => tracing::debug!(%remote_addr, "a web client was too slow"),
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept web clients");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request. What goes wrong concerns only that client, who sees it.
async fn exchange(
    stream: TcpStream,
    tls: TlsAcceptor,
    documents: &[Document],
) -> Result<(), String> {
    let stream = tokio::time::timeout(HANDSHAKE_TIME, tls.accept(stream))
        .await
        .map_err(|_| "its handshake took too long".to_owned())?
        .map_err(|error| error.to_string())?;
    let service = service_fn(|request: Request<Incoming>| {
        let response = respond(documents, request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|error| error.to_string())
}

fn respond(documents: &[Document], method: &Method, path: &str) -> Response<Full<Bytes>> {
    const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let Some(document) = documents.iter().find(|document| document.path == path) else {
        let paths: Vec<&str> = documents.iter().map(|document| &*document.path).collect();
        let text = format!("not here; there are {}\n", paths.join(" "));
        return answer(StatusCode::NOT_FOUND, TEXT, text);
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let text = "expected GET or HEAD\n".to_owned();
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        let allowed = HeaderValue::from_static("GET, HEAD");
        response.headers_mut().insert(ALLOW, allowed);
        return response;
    }
    let Some(json) = (document.json)() else {
        let text = "not available now\n".to_owned();
        return answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text);
    };
    let mut response = answer(StatusCode::OK, JSON, json);
    let max_age = format!("public, max-age={}", document.max_age.as_secs());
    if let Ok(value) = HeaderValue::try_from(max_age) {
        response.headers_mut().insert(CACHE_CONTROL, value);
    }
    response
}

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
