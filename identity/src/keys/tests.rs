//! Against a real server on loopback.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

use super::*;
use crate::jwt::test_keys::{TestKey, jwks};
use crate::jwt::{Algorithm, IssuerRules, verify};

type Answer = Arc<dyn Fn() -> Response<Full<Bytes>> + Send + Sync>;

/// An issuer whose answers a test chooses, and whose requests it counts.
#[derive(Clone)]
struct Server {
    address: std::net::SocketAddr,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: Arc<JoinSet<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (for_task, log) = (Arc::clone(&answers), Arc::clone(&requests));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answers, log) = (Arc::clone(&for_task), Arc::clone(&log));
                let service = service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path().to_owned();
                    log.lock().unwrap().push(path.clone());
                    let answer = answers.lock().unwrap().get(&path).cloned();
                    async move {
                        Ok::<_, Infallible>(answer.map_or_else(|| status(404), |answer| answer()))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            address,
            answers,
            requests,
            _tasks: Arc::new(tasks),
        }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    fn answer(
        &self,
        path: &str,
        answer: impl Fn() -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) {
        self.answers
            .lock()
            .unwrap()
            .insert(path.to_owned(), Arc::new(answer));
    }

    fn text(&self, path: &str, text: impl Into<String>) {
        let text = text.into();
        self.answer(path, move || Response::new(Full::from(text.clone())));
    }

    /// Metadata that lead to `/keys`.
    fn metadata(&self) {
        let metadata = json!({"issuer": self.issuer(), "jwks_uri": self.url("/keys").as_str()});
        self.text("/.well-known/openid-configuration", metadata.to_string());
    }

    fn requests_of(&self, path: &str) -> usize {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| *seen == path)
            .count()
    }

    fn endpoint(&self) -> IssuerEndpoint {
        IssuerEndpoint {
            allow_http: true,
            allow_private_addresses: true,
            ..IssuerEndpoint::new(self.issuer())
        }
    }
}

fn status(code: u16) -> Response<Full<Bytes>> {
    Response::builder()
        .status(code)
        .body(Full::default())
        .unwrap()
}

/// The error of the first attempt.
async fn failure(endpoint: IssuerEndpoint) -> String {
    let state = KeyFollower::spawn(endpoint).unwrap().settled().await;
    assert!(state.keys.is_none());
    state.last_error.clone().expect("an attempt that fails")
}

async fn until(follower: &KeyFollower, condition: impl FnMut(&Arc<KeyState>) -> bool) {
    let mut changes = follower.changes();
    let wait = changes.wait_for(condition);
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("in time")
        .unwrap();
}

fn set(key: &TestKey, key_id: &str) -> String {
    jwks(&[key.jwk(key_id)])
}

#[tokio::test]
async fn keys_are_discovered_and_verify_tokens() {
    let server = Server::start().await;
    let key = TestKey::generate(Algorithm::Es256);
    server.metadata();
    server.text("/keys", set(&key, "k1"));
    let follower = KeyFollower::spawn(server.endpoint()).unwrap();
    let state = follower.settled().await;
    assert_eq!(state.last_error, None);
    assert!(state.fetched_at.is_some());
    assert_eq!(state.jwks.as_deref(), Some(set(&key, "k1").as_str()));

    let now = SystemTime::now();
    let exp = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 60;
    let token = key.token(
        "k1",
        &json!({"iss": server.issuer(), "aud": "a", "exp": exp}),
    );
    let rules = IssuerRules {
        issuer: server.issuer(),
        audiences: vec!["a".to_owned()],
        algorithms: Algorithm::DEFAULT.to_vec(),
        leeway: Duration::ZERO,
    };
    verify(&token, &rules, state.keys.as_ref().unwrap(), now).unwrap();
}

#[tokio::test]
async fn a_configured_key_set_needs_no_discovery() {
    let server = Server::start().await;
    server.text("/elsewhere", set(&TestKey::generate(Algorithm::EdDsa), "k"));
    let endpoint = IssuerEndpoint {
        issuer: "kubernetes".to_owned(),
        jwks_uri: Some(server.url("/elsewhere")),
        ..server.endpoint()
    };
    let state = KeyFollower::spawn(endpoint).unwrap().settled().await;
    assert!(state.keys.is_some(), "{:?}", state.last_error);
    assert_eq!(*server.requests.lock().unwrap(), ["/elsewhere"]);
}

#[tokio::test]
async fn a_file_of_keys_is_read_anew_and_its_last_good_state_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let key = |id| set(&TestKey::generate(Algorithm::Es256), id);
    std::fs::write(&path, key("k1")).unwrap();
    let endpoint = IssuerEndpoint {
        jwks_file: Some(path.clone()),
        ..IssuerEndpoint::new("kubernetes")
    };
    let follower = KeyFollower::spawn(endpoint.clone()).unwrap();
    assert_eq!(follower.settled().await.last_error, None);
    std::fs::write(&path, key("k2")).unwrap();
    let state = follower.look_for_key("k2", Duration::from_secs(20)).await;
    let keys = state.keys.clone().unwrap();
    assert_eq!(keys.key_ids().collect::<Vec<_>>(), ["k2"]);

    for (text, expected) in [
        ("{}".to_owned(), "not a JWK Set"),
        (" ".repeat(1024 * 1024 + 1), "more than"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = failure(endpoint.clone()).await;
        assert!(
            error.contains(expected) && error.contains("keys.json"),
            "{error}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    let error = failure(endpoint).await;
    assert!(error.contains("cannot read the key set from"), "{error}");
}

#[tokio::test]
async fn metadata_of_another_issuer_are_refused() {
    let server = Server::start().await;
    server.metadata();
    server.text("/keys", set(&TestKey::generate(Algorithm::EdDsa), "k"));
    let endpoint = IssuerEndpoint {
        issuer: format!("{}/", server.issuer()),
        ..server.endpoint()
    };
    let error = failure(endpoint).await;
    assert!(error.contains("to the letter"), "{error}");
    assert_eq!(server.requests_of("/keys"), 0);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let server = Server::start().await;
    let target = server.url("/real").to_string();
    server.answer("/.well-known/openid-configuration", move || {
        Response::builder()
            .status(302)
            .header("location", &target)
            .body(Full::default())
            .unwrap()
    });
    let error = failure(server.endpoint()).await;
    assert!(
        error.contains("302 Found, a redirect to http://"),
        "{error}"
    );
    assert!(error.contains("configure the final URL"), "{error}");
    assert_eq!(server.requests_of("/real"), 0);
}

#[tokio::test]
async fn private_addresses_are_not_dialled_unless_configured() {
    let server = Server::start().await;
    server.metadata();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}/keys", server.address.port());
        let endpoint = IssuerEndpoint {
            allow_private_addresses: false,
            jwks_uri: Some(Url::parse(&url).unwrap()),
            ..server.endpoint()
        };
        let error = failure(endpoint).await;
        assert!(
            error.contains("a loopback address, which is not dialled"),
            "{host}: {error}"
        );
    }
    assert_eq!(*server.requests.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn metadata_cannot_lead_to_where_configuration_may_not() {
    let server = Server::start().await;
    for (jwks_uri, expected) in [
        ("file:///etc/passwd", "is not an https URL"),
        ("keys", "is not a URL"),
        (
            "http://user:secret@127.0.0.1/",
            "must not carry a user name",
        ),
    ] {
        let metadata = json!({"issuer": server.issuer(), "jwks_uri": jwks_uri});
        server.text("/.well-known/openid-configuration", metadata.to_string());
        let error = failure(server.endpoint()).await;
        assert!(
            error.contains(expected) && !error.contains("secret"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn useless_answers_are_explained() {
    let server = Server::start().await;
    let keys = server.url("/keys");
    let endpoint = || IssuerEndpoint {
        jwks_uri: Some(keys.clone()),
        ..server.endpoint()
    };
    for (text, expected) in [
        ("<html>".to_owned(), "not valid JSON"),
        ("{}".to_owned(), "not a JWK Set"),
        ("x".repeat(1024 * 1024 + 1), "more than 1048576 bytes"),
    ] {
        server.text("/keys", text);
        let error = failure(endpoint()).await;
        assert!(error.contains(expected), "{error}");
    }
    server.answer("/keys", || Response::new(Full::from(&b"\xff"[..])));
    assert!(failure(endpoint()).await.contains("not UTF-8"));
    server.answer("/keys", || status(503));
    assert!(
        failure(endpoint())
            .await
            .contains("503 Service Unavailable; expected 200 OK")
    );
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = IssuerEndpoint {
        allow_http: true,
        allow_private_addresses: true,
        request_timeout: Duration::from_millis(200),
        ..IssuerEndpoint::new(format!("http://{address}"))
    };
    // The listener's queue accepts the connection; nobody answers.
    let error = failure(endpoint).await;
    assert!(
        error.contains("did not answer completely within 200ms"),
        "{error}"
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let endpoint = IssuerEndpoint {
        allow_http: true,
        allow_private_addresses: true,
        ..IssuerEndpoint::new(format!("http://{address}"))
    };
    let error = failure(endpoint).await;
    assert!(
        error.contains(&format!("cannot connect to {address}")),
        "{error}"
    );
}

#[tokio::test]
async fn the_last_good_keys_are_kept_and_new_ones_taken() {
    let server = Server::start().await;
    let (first, second) = (
        TestKey::generate(Algorithm::EdDsa),
        TestKey::generate(Algorithm::EdDsa),
    );
    server.text("/keys", set(&first, "k1"));
    let endpoint = IssuerEndpoint {
        jwks_uri: Some(server.url("/keys")),
        refresh: Duration::from_millis(20),
        ..server.endpoint()
    };
    let follower = KeyFollower::spawn(endpoint).unwrap();
    let good = follower.settled().await;

    server.answer("/keys", || status(500));
    until(&follower, |state| state.last_error.is_some()).await;
    let failing = follower.state();
    assert!(Arc::ptr_eq(
        failing.keys.as_ref().unwrap(),
        good.keys.as_ref().unwrap()
    ));
    assert!(failing.fetched_at >= good.fetched_at);

    server.text("/keys", set(&second, "k2"));
    until(&follower, |state| state.last_error.is_none()).await;
    let keys = follower.state().keys.clone().unwrap();
    assert_eq!(keys.key_ids().collect::<Vec<_>>(), ["k2"]);
}

#[tokio::test]
async fn the_same_keys_stay_the_same_set() {
    let server = Server::start().await;
    server.text("/keys", set(&TestKey::generate(Algorithm::EdDsa), "k"));
    let endpoint = IssuerEndpoint {
        jwks_uri: Some(server.url("/keys")),
        refresh: Duration::from_millis(10),
        ..server.endpoint()
    };
    let follower = KeyFollower::spawn(endpoint).unwrap();
    let first = follower.settled().await;
    until(&follower, |state| state.attempts >= 3).await;
    let later = follower.state();
    assert!(Arc::ptr_eq(
        first.keys.as_ref().unwrap(),
        later.keys.as_ref().unwrap()
    ));
    assert!(later.fetched_at > first.fetched_at);
}

#[tokio::test]
async fn a_rotated_key_is_found_at_once_and_an_invented_one_asked_for_once() {
    let server = Server::start().await;
    let (old, new) = (
        TestKey::generate(Algorithm::EdDsa),
        TestKey::generate(Algorithm::EdDsa),
    );
    server.text("/keys", set(&old, "old"));
    let endpoint = IssuerEndpoint {
        jwks_uri: Some(server.url("/keys")),
        ..server.endpoint()
    };
    let follower = KeyFollower::spawn(endpoint).unwrap();
    follower.settled().await;

    server.text("/keys", set(&new, "new"));
    let patience = Duration::from_secs(20);
    let state = follower.look_for_key("new", patience).await;
    assert_eq!(
        state.keys.as_ref().unwrap().key_ids().collect::<Vec<_>>(),
        ["new"]
    );
    assert_eq!(server.requests_of("/keys"), 2);

    // Known now, and so no reason to ask.
    follower.look_for_key("new", patience).await;
    assert_eq!(server.requests_of("/keys"), 2);
    // Unknown, but within the spacing of two such fetches: it is not waited for longer than patience.
    let state = follower
        .look_for_key("invented", Duration::from_millis(50))
        .await;
    assert_eq!(
        state.keys.as_ref().unwrap().key_ids().collect::<Vec<_>>(),
        ["new"]
    );
    assert_eq!(server.requests_of("/keys"), 2);
}

#[tokio::test]
async fn one_issuers_failure_is_not_anothers() {
    let (good, bad) = (Server::start().await, Server::start().await);
    good.text("/keys", set(&TestKey::generate(Algorithm::EdDsa), "k"));
    let endpoint = |server: &Server| IssuerEndpoint {
        jwks_uri: Some(server.url("/keys")),
        ..server.endpoint()
    };
    let followers = [&bad, &good].map(|server| KeyFollower::spawn(endpoint(server)).unwrap());
    assert!(followers[0].settled().await.keys.is_none());
    assert!(followers[1].settled().await.keys.is_some());
}

#[tokio::test]
async fn a_follower_that_is_dropped_asks_no_more() {
    let server = Server::start().await;
    server.text("/keys", set(&TestKey::generate(Algorithm::EdDsa), "k"));
    let endpoint = IssuerEndpoint {
        jwks_uri: Some(server.url("/keys")),
        refresh: Duration::from_millis(5),
        ..server.endpoint()
    };
    let follower = KeyFollower::spawn(endpoint).unwrap();
    follower.settled().await;
    let mut changes = follower.changes();
    drop(follower);
    // The task owns the sender: it is gone.
    let gone = async { while changes.changed().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("the task ends");
}

#[test]
fn bad_configuration_is_refused_before_anything_is_fetched() {
    let error = KeyFollower::spawn(IssuerEndpoint::new("http://a.example")).unwrap_err();
    assert!(
        error.to_string().contains("issuer \"http://a.example\""),
        "{error}"
    );
    assert!(error.to_string().contains("allowHttp"), "{error}");
}

mod tls {
    use super::*;
    use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// An https server for `name`; returns its port and its CA in PEM.
    async fn https_server(name: &str, body: String) -> (u16, String) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()])
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                // A client that refuses us ends the handshake.
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                let _ = stream.read(&mut [0; 4096]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        (port, ca.pem())
    }

    #[tokio::test]
    async fn the_servers_certificate_is_checked_against_the_configured_authorities() {
        let keys = set(&TestKey::generate(Algorithm::EdDsa), "k");
        let (port, ca) = https_server("localhost", keys).await;
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, ca).unwrap();
        let endpoint = |host: &str, ca_file: Option<std::path::PathBuf>| IssuerEndpoint {
            jwks_uri: Some(Url::parse(&format!("https://{host}:{port}/keys")).unwrap()),
            allow_private_addresses: true,
            ca_file,
            ..IssuerEndpoint::new("https://issuer.example")
        };
        let good = KeyFollower::spawn(endpoint("localhost", Some(ca_file.clone()))).unwrap();
        let state = good.settled().await;
        assert!(state.keys.is_some(), "{:?}", state.last_error);

        let other_name = failure(endpoint("127.0.0.1", Some(ca_file))).await;
        assert!(
            other_name.contains("TLS handshake with 127.0.0.1 failed"),
            "{other_name}"
        );
        let (_, other_ca) = https_server("localhost", String::new()).await;
        let other_file = directory.path().join("other.pem");
        std::fs::write(&other_file, other_ca).unwrap();
        let other_ca = failure(endpoint("localhost", Some(other_file))).await;
        assert!(
            other_ca.contains("TLS handshake with localhost failed"),
            "{other_ca}"
        );
        let missing = failure(endpoint(
            "localhost",
            Some(directory.path().join("none.pem")),
        ))
        .await;
        assert!(
            missing.contains("cannot read certificate authorities from"),
            "{missing}"
        );
    }
}

#[tokio::test]
async fn an_issuer_cannot_write_our_log() {
    let server = Server::start().await;
    let metadata = json!({"issuer": format!("x\n{}", "y".repeat(10_000)), "jwks_uri": "z"});
    server.text("/.well-known/openid-configuration", metadata.to_string());
    let error = failure(server.endpoint()).await;
    assert!(
        error.chars().count() <= 500 && !error.contains('\n'),
        "{error}"
    );
}
