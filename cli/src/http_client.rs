//! Short HTTP requests to the parts of a mesh on this machine: one connection each, no TLS, no
//! redirects.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Url;

/// How long a request may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The most that an answer may hold, in bytes.
const ANSWER_LIMIT: usize = 4 << 20;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("cannot connect to {address}")]
    Connect { address: String, source: io::Error },
    #[error("no HTTP address: {0}")]
    Address(Url),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    #[error("the exchange broke off")]
    Exchange(#[from] hyper::Error),
    #[error("the answer cannot be read")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// `GET http://ADDRESS/PATH`
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<HttpAnswer, HttpError> {
    let authority = address.to_string();
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(HOST, &authority)
        .body(Full::default())?;
    exchange(&authority, request).await
}

/// `POST` of a form (`application/x-www-form-urlencoded`) to an `http` URL.
pub(crate) async fn post_form(url: &Url, form: String) -> Result<HttpAnswer, HttpError> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(HttpError::Address(url.clone()));
    };
    let authority = format!("{host}:{port}");
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.path())
        .header(HOST, &authority)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::from(form))?;
    exchange(&authority, request).await
}

async fn exchange(authority: &str, request: Request<Full<Bytes>>) -> Result<HttpAnswer, HttpError> {
    tokio::time::timeout(TIMEOUT, async {
        let socket = TcpStream::connect(authority)
            .await
            .map_err(|source| HttpError::Connect {
                address: authority.to_owned(),
                source,
            })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let exchange = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT)
                .collect()
                .await
                .map_err(HttpError::Body)?;
            Ok(HttpAnswer {
                status: head.status,
                body: body.to_bytes(),
            })
        };
        // The connection only moves while it is polled; it ends after the exchange or breaks it.
        tokio::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            outcome = connection => match outcome {
                Ok(()) => exchange.await,
                Err(error) => Err(error.into()),
            },
        }
    })
    .await
    .map_err(|_| HttpError::Timeout)?
}
