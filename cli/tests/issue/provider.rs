//! An OpenID provider with a device authorization endpoint, and GitHub's endpoint for the tokens of jobs, over HTTP.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(crate) struct Provider {
    inner: Arc<Inner>,
}

struct Inner {
    key: EcdsaKeyPair,
    issuer: String,
    token_requests: AtomicUsize,
    now: u64,
}

impl Provider {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let inner = Arc::new(Inner {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            issuer: format!("http://{}", listener.local_addr().unwrap()),
            token_requests: AtomicUsize::new(0),
            now: since.unwrap().as_secs(),
        });
        let serving = Arc::clone(&inner);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                serving.serve(socket.unwrap());
            }
        });
        Self { inner }
    }

    pub(crate) fn issuer(&self) -> String {
        self.inner.issuer.clone()
    }

    /// How often a client has asked for a token.
    pub(crate) fn asked_for_a_token(&self) -> usize {
        self.inner.token_requests.load(Ordering::SeqCst)
    }

    pub(crate) fn jwks(&self) -> String {
        self.inner.jwks().to_string()
    }

    /// The same claims at every call, with a signature that need not be the same.
    pub(crate) fn token(&self, audience: &str) -> String {
        self.inner.token(audience)
    }

    pub(crate) fn jwt_svid(&self, id: &str, audience: &str) -> String {
        let now = self.inner.now;
        self.inner
            .sign(&json!({"sub": id, "aud": [audience], "iat": now, "exp": now + 300}))
    }
}

impl Inner {
    fn token(&self, audience: &str) -> String {
        if audience == "cli" {
            // What a client only hands on needs no signature that differs at every call.
            return "of.the.login".to_owned();
        }
        self.sign(&json!({
            "iss": self.issuer, "sub": "alice", "aud": audience, "iat": self.now, "exp": self.now + 300,
        }))
    }

    fn sign(&self, claims: &Value) -> String {
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = encoded(&json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}));
        let signed = format!("{header}.{}", encoded(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap().split_at(32);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }

    /// Answers one request.
    fn serve(&self, socket: TcpStream) {
        let mut reader = BufReader::new(socket);
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_owned();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (status, answer) = self.answer(&head, &String::from_utf8(body).unwrap());
        let answer = answer.to_string();
        let _ = write!(
            reader.into_inner(),
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
    }

    fn answer(&self, head: &[String], body: &str) -> (&'static str, Value) {
        let issuer = &self.issuer;
        let request = head.first().map_or("", String::as_str);
        match request.split(' ').nth(1).unwrap_or("") {
            "/.well-known/openid-configuration" => (
                "200 OK",
                json!({
                    "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
                    "token_endpoint": format!("{issuer}/token"),
                    "device_authorization_endpoint": format!("{issuer}/device"),
                }),
            ),
            "/keys" => ("200 OK", self.jwks()),
            "/device" if body.contains("client_id=cli") => (
                "200 OK",
                json!({
                    "device_code": "d1", "user_code": "WDJB-MJHT", "expires_in": 600, "interval": 0,
                    "verification_uri": format!("{issuer}/login"),
                }),
            ),
            "/token" if body.contains("device_code=d1") => {
                match self.token_requests.fetch_add(1, Ordering::SeqCst) {
                    0 => ("400 Bad Request", json!({"error": "authorization_pending"})),
                    _ => (
                        "200 OK",
                        json!({"id_token": self.token("cli"), "token_type": "Bearer"}),
                    ),
                }
            }
            "/github?api-version=2.0&audience=countersign-ca"
                if head
                    .iter()
                    .any(|line| line.eq_ignore_ascii_case("authorization: bearer of-the-job")) =>
            {
                ("200 OK", json!({"value": "token.for.countersign-ca"}))
            }
            _ => ("404 Not Found", json!({"error": "not_found"})),
        }
    }
}
