//! One request: resolve, dial an allowed address, TLS, read a bounded answer. No pool, no redirects, no proxy: a key set
//! is fetched every few minutes, and every part of the way is checked anew.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, LOCATION, USER_AGENT,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls_pki_types::InvalidDnsNameError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::{Host, Url};

use super::address::{AddressRule, ForbiddenAddress};
use super::endpoint::{IssuerEndpoint, MAX_BODY_BYTES};
use super::server::KnownBy;
use crate::bundle::Bundle;
use crate::jwt::KeySetError;
use crate::spiffe::SpiffeId;
use crate::tls::TlsError;

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
    /// The server's SVID is not believed, or not that of whom it should be.
    #[error("{host}: {error}")]
    Peer {
        /// The host.
        host: String,
        /// Why.
        error: TlsError,
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
    /// The file of keys cannot be read.
    #[error("cannot read the key set from {path}: {error}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file of keys is unusable.
    #[error("{path}: {error}")]
    KeyFileSet {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KeySetError,
    },
}

/// A request.
pub struct Outgoing<'a> {
    /// Where to: `https`, or `http` where the caller allows that.
    pub url: &'a Url,
    /// A bearer token (RFC 6750 §2.1).
    pub bearer: Option<&'a str>,
    /// What is sent, with POST unless another method is asked for; without it, the request is a GET.
    pub content: Option<Content>,
}

/// What is sent with a request.
pub enum Content {
    /// `application/json`.
    Json(Vec<u8>),
    /// `application/x-www-form-urlencoded`, encoded.
    Form(String),
}

/// What came.
#[derive(Debug)]
pub struct Reply {
    /// Never a redirect.
    pub status: StatusCode,
    /// The body of a success (2xx), which is UTF-8 and bounded. Of a client error (4xx), what could be had of the body, since
    /// it may say why (RFC 6749 §5.2); of others, nothing.
    pub text: String,
    /// `Cache-Control: max-age` (RFC 9111 §5.2.2.1), unless the answer is not to be stored.
    pub max_age: Option<Duration>,
}

/// Makes requests of servers that need not be kind: see the module.
#[derive(Clone, Debug)]
pub struct Fetcher {
    addresses: AddressRule,
    server: KnownBy,
    limit: Duration,
}

impl Fetcher {
    /// Dials what `addresses` allows, believes the certificate authorities of `ca_file` (PEM; none: the system's), and gives
    /// up after `limit`, from name resolution to the last byte.
    #[must_use]
    pub fn new(addresses: AddressRule, ca_file: Option<PathBuf>, limit: Duration) -> Self {
        Self {
            addresses,
            server: KnownBy::Name { ca_file },
            limit,
        }
    }

    /// As [`Fetcher::new`], of a server that presents an X.509-SVID of `id`, verified by `bundle`, where others present a
    /// certificate of their name.
    #[must_use]
    pub fn of_spiffe(
        addresses: AddressRule,
        bundle: Bundle,
        id: SpiffeId,
        limit: Duration,
    ) -> Self {
        let server = KnownBy::SpiffeId {
            bundle: Box::new(bundle),
            id,
        };
        Self {
            addresses,
            server,
            limit,
        }
    }

    /// For one issuer, by its rules.
    pub(super) fn of_issuer(endpoint: &IssuerEndpoint) -> Self {
        let addresses = if endpoint.allow_private_addresses {
            AddressRule::Any
        } else {
            AddressRule::PublicOnly
        };
        Self::new(
            addresses,
            endpoint.ca_file.clone(),
            endpoint.request_timeout,
        )
    }

    /// Fetches `url`, which the caller has checked with [`IssuerEndpoint::check_url`].
    ///
    /// # Errors
    /// There is no answer of 200.
    pub async fn get(&self, url: &Url) -> Result<Reply, FetchError> {
        let reply = self
            .send(Outgoing {
                url,
                bearer: None,
                content: None,
            })
            .await?;
        if reply.status == StatusCode::OK {
            Ok(reply)
        } else {
            Err(FetchError::Status {
                url: url.clone(),
                status: reply.status,
            })
        }
    }

    /// Makes one request over a connection of its own.
    ///
    /// # Errors
    /// When there is no connection or no answer, or it is a redirect, which is never followed. Other statuses are the caller's
    /// to judge.
    pub async fn send(&self, outgoing: Outgoing<'_>) -> Result<Reply, FetchError> {
        let method = match outgoing.content {
            Some(_) => Method::POST,
            None => Method::GET,
        };
        self.send_by(method, outgoing).await
    }

    /// As [`Fetcher::send`], with another method.
    ///
    /// # Errors
    /// The same.
    pub async fn send_by(
        &self,
        method: Method,
        outgoing: Outgoing<'_>,
    ) -> Result<Reply, FetchError> {
        let url = outgoing.url;
        tokio::time::timeout(self.limit, self.connect_and_send(method, &outgoing))
            .await
            .unwrap_or_else(|_| {
                Err(FetchError::Timeout {
                    url: url.clone(),
                    limit: self.limit,
                })
            })
    }

    async fn connect_and_send(
        &self,
        method: Method,
        outgoing: &Outgoing<'_>,
    ) -> Result<Reply, FetchError> {
        let url = outgoing.url;
        let tcp = self.dial(url).await?;
        if url.scheme() == "https" {
            exchange(self.server.handshake(url, tcp).await?, method, outgoing).await
        } else {
            exchange(tcp, method, outgoing).await
        }
    }

    /// Resolves the URL's host, once, and connects.
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
        self.dial_first_allowed(host, resolved).await
    }

    /// Connects to the first allowed address that accepts. It is the address itself that is checked and dialled, not the
    /// name: a name that points elsewhere a moment later (DNS rebinding) changes nothing.
    async fn dial_first_allowed(
        &self,
        host: String,
        resolved: Vec<SocketAddr>,
    ) -> Result<TcpStream, FetchError> {
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
}

async fn exchange<S>(
    stream: S,
    method: Method,
    outgoing: &Outgoing<'_>,
) -> Result<Reply, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let url = outgoing.url;
    let broken = |error| FetchError::Http {
        url: url.clone(),
        error,
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let request = request(method, outgoing)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        check_no_redirect(url, status, response.headers())?;
        if !status.is_success() {
            let text = match status.is_client_error() {
                true => reason(response.into_body()).await,
                false => String::new(),
            };
            return Ok(Reply {
                status,
                text,
                max_age: None,
            });
        }
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
        Ok(Reply {
            status,
            text,
            max_age,
        })
    }
    .await;
    connection.abort();
    answer
}

/// A body that says why. That it cannot be read is no error of its own: it would hide the one that it is about.
async fn reason(body: hyper::body::Incoming) -> String {
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    body.ok()
        .and_then(|body| String::from_utf8(body.to_bytes().into()).ok())
        .unwrap_or_default()
}

fn request(method: Method, outgoing: &Outgoing<'_>) -> Result<Request<Full<Bytes>>, FetchError> {
    let url = outgoing.url;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let (kind, body) = match &outgoing.content {
        Some(Content::Json(json)) => (Some("application/json"), Full::from(json.clone())),
        Some(Content::Form(form)) => (
            Some("application/x-www-form-urlencoded"),
            Full::from(form.clone()),
        ),
        None => (None, Full::default()),
    };
    let failed = |error| FetchError::Request {
        url: url.clone(),
        error,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(
            USER_AGENT,
            concat!("countersign/", env!("CARGO_PKG_VERSION")),
        )
        .body(body)
        .map_err(failed)?;
    let headers = request.headers_mut();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    if let Some(token) = outgoing.bearer {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|error| failed(error.into()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

fn check_no_redirect(url: &Url, status: StatusCode, headers: &HeaderMap) -> Result<(), FetchError> {
    if !status.is_redirection() {
        Ok(())
    } else {
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
    use tokio::net::TcpListener;

    /// What DNS rebinding aims at: a name whose first address is good, or that has several. Every address is judged as it is
    /// dialled, whatever came before it.
    #[tokio::test]
    async fn a_name_with_a_public_address_leads_to_no_private_one() {
        let inside = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let private = inside.local_addr().unwrap();
        let fetcher = |rule| Fetcher::new(rule, None, Duration::from_secs(10));
        // Nobody can listen on a broadcast address, and the system says so at once.
        let elsewhere: SocketAddr = ([255, 255, 255, 255], 9).into();
        let name = || "rebound.example".to_owned();
        let error = fetcher(AddressRule::PublicOnly)
            .dial_first_allowed(name(), vec![elsewhere, private])
            .await
            .unwrap_err();
        assert!(matches!(error, FetchError::Forbidden { .. }), "{error}");
        let reached = tokio::time::timeout(Duration::from_millis(50), inside.accept()).await;
        assert!(reached.is_err(), "the private address was dialled");

        let stream = fetcher(AddressRule::Any)
            .dial_first_allowed(name(), vec![elsewhere, private])
            .await
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), private);
    }

    #[test]
    fn a_bearer_token_is_sent_and_never_shown() {
        let url = Url::parse("https://a.example/x").unwrap();
        let outgoing = |token| Outgoing {
            url: &url,
            bearer: Some(token),
            content: Some(Content::Json(b"{}".to_vec())),
        };
        let good = request(Method::POST, &outgoing("secret")).unwrap();
        assert_eq!(good.method(), Method::POST);
        assert_eq!(good.headers()[AUTHORIZATION], "Bearer secret");
        assert_eq!(good.headers()[CONTENT_TYPE], "application/json");
        assert!(!format!("{:?}", good.headers()).contains("secret"));
        let bad = request(Method::POST, &outgoing("sec\nret")).unwrap_err();
        assert!(!bad.to_string().contains("sec"), "{bad}");
    }

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
