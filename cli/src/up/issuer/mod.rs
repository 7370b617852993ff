//! The development OIDC issuer: tokens for the users of a mesh file, without any password.
//!
//! **For development only.** It hands a token to whoever can reach it, so it listens on loopback alone,
//! and answers no browser that was lured to it under another name (DNS rebinding). Each issuer of a mesh
//! has a path of its own: `/NAME/.well-known/openid-configuration`, `/NAME/jwks`, `/NAME/token`.

mod grant;
mod key;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub(crate) use self::grant::User;
pub(crate) use self::key::{IssuerKey, IssuerKeyError};

use self::grant::GrantError;

/// The most that a token request may hold, in bytes.
const REQUEST_LIMIT: usize = 64 << 10;

/// One issuer: what it calls itself, whom it knows, and its key.
pub(crate) struct DevelopmentIssuer {
    /// Its name in the mesh file, and the first segment of its path.
    pub(crate) name: String,
    /// The `iss` of its tokens.
    pub(crate) issuer: String,
    /// The audience of tokens that ask for none.
    pub(crate) audiences: Vec<String>,
    pub(crate) users: Vec<User>,
    pub(crate) key: IssuerKey,
}

/// Where an issuer is reached.
pub(crate) struct IssuerUrls {
    pub(crate) discovery: String,
    pub(crate) jwks: String,
    pub(crate) token: String,
}

impl IssuerUrls {
    /// The URLs of the issuer `name` behind `address`.
    pub(crate) fn new(address: SocketAddr, name: &str) -> Self {
        let base = format!("http://{address}/{name}");
        Self {
            discovery: format!("{base}/.well-known/openid-configuration"),
            jwks: format!("{base}/jwks"),
            token: format!("{base}/token"),
        }
    }
}

/// Serves the issuers until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, issuers: Vec<DevelopmentIssuer>) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let server = Arc::new(Server { address, issuers });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that broke before it was accepted concerns nobody.
                let Ok((socket, _)) = accepted else { continue };
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    let service = service_fn(|request| {
                        let server = Arc::clone(&server);
                        async move { Ok::<_, Infallible>(server.answer(request).await) }
                    });
                    // What goes wrong on a connection is its client's affair.
                    let _ = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Server {
    address: SocketAddr,
    issuers: Vec<DevelopmentIssuer>,
}

type Answer = Response<Full<Bytes>>;

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let addressed = request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok());
        if addressed != Some(self.address.to_string().as_str()) {
            return error(
                StatusCode::MISDIRECTED_REQUEST,
                "invalid_request",
                "wrong host",
            );
        }
        let path = request.uri().path().to_owned();
        let route = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .and_then(|(name, route)| {
                Some((
                    self.issuers.iter().find(|issuer| issuer.name == name)?,
                    route,
                ))
            });
        let Some((issuer, route)) = route else {
            return error(StatusCode::NOT_FOUND, "invalid_request", "no such issuer");
        };
        match (request.method(), route) {
            (&Method::GET, ".well-known/openid-configuration") => {
                json_answer(StatusCode::OK, &issuer.discovery(self.address))
            }
            (&Method::GET, "jwks") => json_answer(StatusCode::OK, issuer.key.jwks()),
            (&Method::POST, "token") => {
                match Limited::new(request.into_body(), REQUEST_LIMIT)
                    .collect()
                    .await
                {
                    Ok(form) => issuer.token(&form.to_bytes(), SystemTime::now()),
                    Err(_) => error(
                        StatusCode::BAD_REQUEST,
                        "invalid_request",
                        "the request is too long or broke off",
                    ),
                }
            }
            (_, ".well-known/openid-configuration" | "jwks" | "token") => error(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request",
                "GET for the documents, POST for tokens",
            ),
            _ => error(StatusCode::NOT_FOUND, "invalid_request", "no such page"),
        }
    }
}

impl DevelopmentIssuer {
    /// The provider metadata (OpenID Connect Discovery 1.0 §3) that applies to a token endpoint alone.
    fn discovery(&self, address: SocketAddr) -> Value {
        let urls = IssuerUrls::new(address, &self.name);
        json!({
            "issuer": self.issuer,
            "jwks_uri": urls.jwks,
            "token_endpoint": urls.token,
            "grant_types_supported": ["password"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The answer of the token endpoint (RFC 6749 §5).
    fn token(&self, form: &[u8], now: SystemTime) -> Answer {
        match grant::grant(self, form, now) {
            Ok(grant) => json_answer(
                StatusCode::OK,
                &json!({
                    "access_token": grant.token,
                    "token_type": "Bearer",
                    "expires_in": grant.lifetime_seconds,
                }),
            ),
            Err(refusal) => {
                let status = match refusal {
                    GrantError::Signing(_) => StatusCode::INTERNAL_SERVER_ERROR,
                    _ => StatusCode::BAD_REQUEST,
                };
                error(status, refusal.code(), &refusal.to_string())
            }
        }
    }
}

fn error(status: StatusCode, code: &str, description: &str) -> Answer {
    json_answer(
        status,
        &json!({ "error": code, "error_description": description }),
    )
}

fn json_answer(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Full::from(value.to_string()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;
    use crate::http_client;

    async fn started() -> (SocketAddr, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let issuer = DevelopmentIssuer {
            name: "corp".to_owned(),
            issuer: "https://login.shop.example".to_owned(),
            audiences: vec!["shop".to_owned()],
            users: vec![User {
                name: "alice".to_owned(),
                claims: serde_json::Map::new(),
            }],
            key: IssuerKey::open(&directory.path().join("corp.key.pem")).unwrap(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, vec![issuer]));
        (address, directory)
    }

    #[tokio::test]
    async fn discovery_leads_to_keys_that_verify_its_tokens() {
        let (address, _directory) = started().await;
        let discovery = http_client::get(address, "/corp/.well-known/openid-configuration").await;
        let discovery: Value = serde_json::from_slice(&discovery.unwrap().body).unwrap();
        assert_eq!(discovery["issuer"], "https://login.shop.example");

        let jwks = Url::parse(discovery["jwks_uri"].as_str().unwrap()).unwrap();
        let keys = http_client::get(address, jwks.path()).await.unwrap();
        let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&keys.body).unwrap();

        let endpoint = Url::parse(discovery["token_endpoint"].as_str().unwrap()).unwrap();
        let form = "grant_type=password&username=alice".to_owned();
        let answer = http_client::post_form(&endpoint, form).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        let token = answer["access_token"].as_str().unwrap();

        let header = jsonwebtoken::decode_header(token).unwrap();
        let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        rules.set_issuer(&["https://login.shop.example"]);
        rules.set_audience(&["shop"]);
        let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
        let verified = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap();
        assert_eq!(verified.claims["sub"], "alice");
    }

    #[tokio::test]
    async fn what_it_does_not_serve_is_an_error_in_json() {
        let (address, _directory) = started().await;
        for (path, status) in [
            ("/", StatusCode::NOT_FOUND),
            ("/other/jwks", StatusCode::NOT_FOUND),
            ("/corp/authorize", StatusCode::NOT_FOUND),
            ("/corp/token", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let answer = http_client::get(address, path).await.unwrap();
            assert_eq!(answer.status, status, "{path}");
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(body["error"], "invalid_request", "{path}");
        }
    }

    #[tokio::test]
    async fn a_browser_lured_by_another_name_is_turned_away() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (address, _directory) = started().await;
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "GET /corp/jwks HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    }
}
