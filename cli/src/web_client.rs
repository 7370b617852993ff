//! Short requests to OpenID providers and CI services: TLS, one connection each, no redirects, bounded.
//!
//! What is asked for here is a proof of who we are, so that it goes over TLS; plain HTTP only to this
//! machine itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Url};

/// How long a request may take in all.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The most that an answer may hold, in bytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    #[error("{0} is not an https URL (plain http is for this machine alone)")]
    Url(String),
    #[error("{host} did not answer within {} s", TIMEOUT.as_secs())]
    Timeout { host: String },
    #[error("cannot connect to {host}")]
    Connect { host: String, source: io::Error },
    #[error("TLS handshake with {host} failed")]
    Tls { host: String, source: io::Error },
    #[error("cannot read certificate authorities in {}", path.display())]
    Authorities { path: PathBuf, source: pem::Error },
    #[error("there is no certificate authority to check {0} by; name some with --provider-ca FILE")]
    NoAuthorities(String),
    #[error("cannot set up TLS")]
    TlsSetup(#[source] rustls::Error),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
    #[error("the exchange with {host} broke off")]
    Exchange { host: String, source: hyper::Error },
    #[error("the answer of {host} cannot be read")]
    Body {
        host: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// What is asked.
pub(crate) enum Ask<'a> {
    Get,
    /// With `Authorization: bearer …`.
    GetWithToken(&'a str),
    /// `application/x-www-form-urlencoded`.
    Form(String),
}

/// Checks that a URL may be asked.
pub(crate) fn parse_url(text: &str) -> Result<Url, WebError> {
    let wrong = || {
        WebError::Url(
            text.chars()
                .flat_map(char::escape_default)
                .take(200)
                .collect(),
        )
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(wrong()),
    };
    let bare = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "https" if bare => Ok(url),
        "http" if bare && local => Ok(url),
        _ => Err(wrong()),
    }
}

/// Makes one request. `authorities` is a PEM file of the only ones to believe; without it, the system's.
pub(crate) async fn ask(
    url: &Url,
    ask: Ask<'_>,
    authorities: Option<&Path>,
) -> Result<Answer, WebError> {
    let host = url.host_str().unwrap_or_default().to_owned();
    tokio::time::timeout(TIMEOUT, connect_and_ask(url, &host, ask, authorities))
        .await
        .unwrap_or_else(|_| Err(WebError::Timeout { host: host.clone() }))
}

async fn connect_and_ask(
    url: &Url,
    host: &str,
    ask: Ask<'_>,
    authorities: Option<&Path>,
) -> Result<Answer, WebError> {
    let request = request(url, ask)?;
    let port = url.port_or_known_default().unwrap_or(443);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let socket = TcpStream::connect((bare, port))
        .await
        .map_err(|source| WebError::Connect {
            host: format!("{host}:{port}"),
            source,
        })?;
    if url.scheme() == "http" {
        return exchange(socket, host, request).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| WebError::Url(url.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(WebError::TlsSetup)?
        .with_root_certificates(roots(host, authorities)?)
        .with_no_client_auth();
    let socket = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(|source| WebError::Tls {
            host: host.to_owned(),
            source,
        })?;
    exchange(socket, host, request).await
}

fn roots(host: &str, authorities: Option<&Path>) -> Result<RootCertStore, WebError> {
    let certificates = match authorities {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|source| WebError::Authorities {
                path: path.to_owned(),
                source,
            })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    match roots.is_empty() {
        true => Err(WebError::NoAuthorities(host.to_owned())),
        false => Ok(roots),
    }
}

fn request(url: &Url, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, WebError> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let builder = Request::builder()
        .uri(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(
            USER_AGENT,
            concat!("countersign/", env!("CARGO_PKG_VERSION")),
        );
    Ok(match ask {
        Ask::Get => builder.body(Full::default())?,
        Ask::GetWithToken(token) => {
            let mut value =
                HeaderValue::try_from(format!("bearer {token}")).map_err(http::Error::from)?;
            value.set_sensitive(true);
            builder.header(AUTHORIZATION, value).body(Full::default())?
        }
        Ask::Form(form) => builder
            .method("POST")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))?,
    })
}

async fn exchange<S>(
    socket: S,
    host: &str,
    request: Request<Full<Bytes>>,
) -> Result<Answer, WebError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |source| WebError::Exchange {
        host: host.to_owned(),
        source,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(broken)?
            .into_parts();
        let body = Limited::new(body, ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|source| WebError::Body {
                host: host.to_owned(),
                source,
            })?;
        Ok(Answer {
            status: head.status,
            body: body.to_bytes(),
        })
    }
    .await;
    connection.abort();
    answer
}

#[cfg(test)]
mod tests {
    use super::parse_url;

    #[test]
    fn proofs_go_over_tls_or_stay_on_this_machine() {
        for good in [
            "https://login.example/realms/a",
            "http://127.0.0.1:8080/x",
            "http://localhost/x",
            "http://[::1]:80/",
        ] {
            assert!(parse_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://login.example",
            "http://127.0.0.1.evil.example/",
            "https://user:secret@login.example/",
            "ftp://localhost/",
            "login.example",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
