//! The little HTTP/1.1 that `web` and `orders` share.

use std::{convert::Infallible, io, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;

/// The longest body that a service of the shop reads, in bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Answers every request of every connection with `handler`; ends only with an error of the listener.
pub(crate) async fn serve<S, F>(
    listener: TcpListener,
    state: S,
    handler: fn(S, Request<Incoming>) -> F,
) -> io::Result<()>
where
    S: Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        let state = state.clone();
        let service = service_fn(move |request| {
            let response = handler(state.clone(), request);
            async move { Ok::<_, Infallible>(response.await) }
        });
        tokio::spawn(async move {
            // How a connection ends concerns only its client.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(30))
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A body, or the answer to give because there is none to be had.
pub(crate) async fn read_body(body: Incoming) -> Result<Bytes, Response<Full<Bytes>>> {
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(problem(
            StatusCode::BAD_REQUEST,
            &format!("the body could not be read (at most {BODY_LIMIT} bytes): {error}"),
        )),
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(body) => answer(status, "application/json", body),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// A problem document (RFC 9457) of the shop itself; what the mesh denies has a document of its own.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    let document = serde_json::json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    answer(
        status,
        "application/problem+json",
        document.to_string().into_bytes(),
    )
}

/// What is said to a method or path that a service does not have.
pub(crate) fn no_such_thing(method: &Method, path: &str) -> Response<Full<Bytes>> {
    problem(
        StatusCode::NOT_FOUND,
        &format!("there is no {method} {path} here"),
    )
}

/// An answer with a body of a media type.
pub(crate) fn answer(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(media_type),
    );
    response
}
