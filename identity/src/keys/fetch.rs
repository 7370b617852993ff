//! One GET request: resolve, dial an allowed address, TLS, read a bounded answer. No pool, no redirects, no proxy: a key set
//! is fetched every few minutes, and every part of the way is checked anew.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Url};

use super::address::{AddressRule, ForbiddenAddress};
use super::endpoint::{IssuerEndpoint, MAX_BODY_BYTES};
use crate::jwt::KeySetError;

/// Why a request did not bring what was wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The name does not resolve.
    #[error("cannot resolve {host}: {error}")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// It resolves to addresses that may not be dialled.
    #[error("{host}: {forbidden}")]
    Forbidden {
        /// The host.
        host: String,
        /// The last of the forbidden addresses.
        forbidden: ForbiddenAddress,
    },
    /// No address accepts a connection.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// The last one tried.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The host is no name that a certificate can have.
    #[error("{0} cannot be the name of a TLS server: {1}")]
    ServerName(String, InvalidDnsNameError),
    /// The TLS handshake failed.
    #[error("TLS handshake with {host} failed: {error}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// The file of certificate authorities cannot be read.
    #[error("cannot read certificate authorities from {path}: {error}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rustls_pki_types::pem::Error,
    },
    /// There is no certificate authority to check the server by.
    #[error("no usable certificate authority in {place}")]
    NoAuthorities {
        /// The file, or the system's store.
        place: String,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    TlsSetup(#[from] rustls::Error),
    /// The request could not be written from the URL.
    #[error("cannot make a request of {url}: {error}")]
    Request {
        /// The URL.
        url: Url,
        /// Why.
        error: http::Error,
    },
    /// The connection broke, or it is not HTTP.
    #[error("{url} did not answer: {error}")]
    Http {
        /// The URL.
        url: Url,
        /// Why.
        error: hyper::Error,
    },
    /// 3xx.
    #[error("{url} answered {status}, a redirect{}; redirects are not followed: configure the final URL", to(location.as_deref()))]
    Redirect {
        /// The URL.
        url: Url,
        /// The status.
        status: StatusCode,
        /// Where it leads, escaped.
        location: Option<String>,
    },
    /// Not 200.
    #[error("{url} answered {status}; expected 200 OK")]
    Status {
        /// The URL.
        url: Url,
        /// The status.
        status: StatusCode,
    },
    /// A longer answer than is read.
    #[error("{url} answered with more than {MAX_BODY_BYTES} bytes")]
    TooLarge {
        /// The URL.
        url: Url,
    },
    /// The body broke off.
    #[error("{url}: the answer broke off: {error}")]
    Body {
        /// The URL.
        url: Url,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not UTF-8.
    #[error("{url}: the answer is not UTF-8")]
    NotText {
        /// The URL.
        url: Url,
    },
    /// It took too long.
    #[error("{url} did not answer completely within {limit:?}")]
    Timeout {
        /// The URL.
        url: Url,
        /// The limit.
        limit: Duration,
    },
    /// The key set is unusable.
    #[error("{url}: {error}")]
    KeySet {
        /// The URL.
        url: Url,
        /// Why.
        error: KeySetError,
    },
}

/// What came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    /// `Cache-Control: max-age` (RFC 9111 §5.2.2.1), unless the answer is not to be stored.
    pub(super) max_age: Option<Duration>,
}

/// Fetches for one issuer, by its rules.
#[derive(Clone)]
pub(super) struct Fetcher {
    addresses: AddressRule,
    ca_file: Option<PathBuf>,
    limit: Duration,
}

impl Fetcher {
    pub(super) fn new(endpoint: &IssuerEndpoint) -> Self {
        let addresses = if endpoint.allow_private_addresses {
            AddressRule::Any
        } else {
            AddressRule::PublicOnly
        };
        Self {
            addresses,
            ca_file: endpoint.ca_file.clone(),
            limit: endpoint.request_timeout,
        }
    }

    /// Fetches `url`, which the caller has checked with [`IssuerEndpoint::check_url`].
    pub(super) async fn get(&self, url: &Url) -> Result<Answer, FetchError> {
        tokio::time::timeout(self.limit, self.connect_and_get(url))
            .await
            .unwrap_or_else(|_| {
                Err(FetchError::Timeout {
                    url: url.clone(),
                    limit: self.limit,
                })
            })
    }

    async fn connect_and_get(&self, url: &Url) -> Result<Answer, FetchError> {
        let tcp = self.dial(url).await?;
        if url.scheme() == "https" {
            exchange(self.handshake(url, tcp).await?, url).await
        } else {
            exchange(tcp, url).await
        }
    }

    /// Connects to the first allowed address of the URL's host that accepts.
    async fn dial(&self, url: &Url) -> Result<TcpStream, FetchError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let resolved: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            _ => tokio::net::lookup_host((host.as_str(), port))
                .await
                .map_err(|error| FetchError::Resolve {
                    host: host.clone(),
                    error,
                })?
                .collect(),
        };
        let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let mut failure = FetchError::Resolve {
            host: host.clone(),
            error: nothing(),
        };
        for address in resolved {
            if let Err(forbidden) = self.addresses.check(address.ip()) {
                failure = FetchError::Forbidden {
                    host: host.clone(),
                    forbidden,
                };
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = FetchError::Connect { address, error },
            }
        }
        Err(failure)
    }

    async fn handshake(
        &self,
        url: &Url,
        tcp: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, FetchError> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        };
        let name = ServerName::try_from(host.clone())
            .map_err(|error| FetchError::ServerName(host.clone(), error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.authorities()?)
            .with_no_client_auth();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
            .map_err(|error| FetchError::Tls { host, error })
    }

    /// Read for every request: a change of the file or of the system's store needs no restart.
    fn authorities(&self) -> Result<RootCertStore, FetchError> {
        let (certificates, place) = match &self.ca_file {
            Some(path) => {
                let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
                let certificates = read().map_err(|error| FetchError::CaFile {
                    path: path.clone(),
                    error,
                })?;
                (certificates, path.display().to_string())
            }
            None => (
                rustls_native_certs::load_native_certs().certs,
                "the system's store".to_owned(),
            ),
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates);
        if store.is_empty() {
            Err(FetchError::NoAuthorities { place })
        } else {
            Ok(store)
        }
    }
}

async fn exchange<S>(stream: S, url: &Url) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error| FetchError::Http {
        url: url.clone(),
        error,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request(url)?).await.map_err(broken)?;
        check_status(url, response.status(), response.headers())?;
        let max_age = max_age(response.headers());
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES)
            .collect()
            .await
            .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                Some(_) => FetchError::TooLarge { url: url.clone() },
                None => FetchError::Body {
                    url: url.clone(),
                    error,
                },
            })?;
        let text = String::from_utf8(body.to_bytes().into())
            .map_err(|_| FetchError::NotText { url: url.clone() })?;
        Ok(Answer { text, max_age })
    }
    .await;
    connection.abort();
    answer
}

fn request(url: &Url) -> Result<Request<Empty<Bytes>>, FetchError> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(
            USER_AGENT,
            concat!("countersign/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::new())
        .map_err(|error| FetchError::Request {
            url: url.clone(),
            error,
        })
}

fn check_status(url: &Url, status: StatusCode, headers: &HeaderMap) -> Result<(), FetchError> {
    if status == StatusCode::OK {
        Ok(())
    } else if status.is_redirection() {
        let location = headers
            .get(LOCATION)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .map(|value| {
                value
                    .chars()
                    .take(200)
                    .flat_map(char::escape_debug)
                    .collect()
            });
        Err(FetchError::Redirect {
            url: url.clone(),
            status,
            location,
        })
    } else {
        Err(FetchError::Status {
            url: url.clone(),
            status,
        })
    }
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives: Vec<String> = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
        .collect();
    if directives
        .iter()
        .any(|directive| directive == "no-store" || directive == "no-cache")
    {
        return None;
    }
    let seconds = directives
        .iter()
        .find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds
        .trim_matches('"')
        .parse()
        .ok()
        .map(Duration::from_secs)
}

fn to(location: Option<&str>) -> String {
    location
        .map(|location| format!(" to {location}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_read_unless_the_answer_is_not_to_be_stored() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, value.parse().unwrap());
            }
            max_age(&headers)
        };
        assert_eq!(
            of(&["public, Max-Age=600, must-revalidate"]),
            Some(Duration::from_mins(10))
        );
        assert_eq!(
            of(&["public", "max-age=\"60\""]),
            Some(Duration::from_mins(1))
        );
        assert_eq!(of(&["no-store, max-age=600"]), None);
        assert_eq!(of(&["max-age=soon"]), None);
        assert_eq!(of(&[]), None);
    }
}
