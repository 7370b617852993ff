use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_policy::{Document, document};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;

/// An issuer with one key, and the document that names it.
struct Issuer {
    key: EcdsaKeyPair,
    document: Arc<TokenIssuer>,
}

impl Issuer {
    fn new(extra: &str) -> Self {
        let text = format!(
            "apiVersion: countersign.dev/v1\nkind: TokenIssuer\nmetadata: {{name: corp, namespace: shop}}\n\
             spec: {{issuer: 'https://login.test', audiences: [shop], leeway: 0s{extra}}}"
        );
        let documents = document::parse([("issuer.yaml".to_owned(), text)]).unwrap();
        let Some(Document::TokenIssuer(document)) = documents.into_iter().next() else {
            panic!("not a TokenIssuer");
        };
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            key,
            document: Arc::new(document),
        }
    }

    fn keys(&self) -> IssuerKeys {
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "x": x, "y": y}]});
        let keys = KeySet::parse(&jwks.to_string()).unwrap();
        IssuerKeys::from([("shop/corp".to_owned(), Arc::new(keys))])
    }

    fn token(&self, audience: &str, expires: SystemTime) -> String {
        let exp = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let encode = |part: serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = encode(json!({"alg": "ES256", "kid": "1"}));
        let claims =
            json!({"iss": "https://login.test", "aud": audience, "sub": "alice", "exp": exp});
        let signed = format!("{header}.{}", encode(claims));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

struct Fixture {
    issuer: Issuer,
    keys: IssuerKeys,
    tokens: Tokens,
    registry: Registry,
    metrics: Metrics,
}

impl Fixture {
    fn new(extra: &str) -> Self {
        let issuer = Issuer::new(extra);
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        Self {
            keys: issuer.keys(),
            issuer,
            tokens: Tokens::default(),
            registry,
            metrics,
        }
    }

    fn verify(&self, value: &str, now: SystemTime) -> Result<Verified, InvalidToken> {
        let headers = http::HeaderMap::from_iter([(
            http::header::AUTHORIZATION,
            http::HeaderValue::from_str(value).unwrap(),
        )]);
        let issuers = [Arc::clone(&self.issuer.document)];
        self.tokens
            .verify(&issuers, &self.keys, &headers, now, &self.metrics)
    }

    /// How many tokens came to `outcome`.
    fn counted(&self, outcome: &str) -> usize {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find(|line| {
            line.starts_with("countersign_proxy_tokens_total")
                && line.contains(&format!("outcome=\"{outcome}\""))
        });
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_repeated_token_is_found_in_the_cache_until_it_expires() {
    let fixture = Fixture::new("");
    let bearer = format!("bearer {}", fixture.issuer.token("shop", now() + HOUR));
    for _ in 0..3 {
        let verified = fixture.verify(&bearer, now()).unwrap();
        assert_eq!(verified.subjects[0].issuer, "shop/corp");
        assert_eq!(verified.subjects[0].claims["sub"], "alice");
        assert!(verified.strip.is_empty());
    }
    assert_eq!(
        (fixture.counted("verified"), fixture.counted("cached")),
        (1, 2)
    );
    let expired = fixture.verify(&bearer, now() + HOUR).err().unwrap();
    assert_eq!(expired.class(), "token-expired");
}

#[test]
fn what_is_cached_ends_with_the_key_set_that_verified_it() {
    let mut fixture = Fixture::new("");
    let bearer = format!("Bearer {}", fixture.issuer.token("shop", now() + HOUR));
    fixture.verify(&bearer, now()).unwrap();
    fixture.keys = Issuer::new("").keys();
    let refused = fixture.verify(&bearer, now()).err().unwrap();
    assert_eq!(refused.class(), "token-bad-signature");
    fixture.keys.clear();
    let refused = fixture.verify(&bearer, now()).err().unwrap();
    assert_eq!(refused.class(), "issuer-keys-missing");
}

#[test]
fn each_refusal_has_its_word_and_challenge() {
    let fixture = Fixture::new("");
    let refused = |value: String| fixture.verify(&value, now()).err().unwrap();
    let bearer = |token: String| format!("Bearer {token}");

    let expired = refused(bearer(fixture.issuer.token("shop", now() - HOUR)));
    assert_eq!(expired.class(), "token-expired");
    assert_eq!(
        expired.challenge(),
        "Bearer error=\"invalid_token\", \
         error_description=\"the token expired 1h ago (TokenIssuer shop/corp)\""
    );
    let elsewhere = refused(bearer(fixture.issuer.token("ba\"nk\r\n", now() + HOUR)));
    assert_eq!(elsewhere.class(), "token-wrong-audience");
    let inside = elsewhere.challenge();
    assert_eq!(inside.matches('"').count(), 4, "{inside}");
    assert!(!inside.contains(['\r', '\n']), "{inside}");

    assert_eq!(
        refused("Bearer nonsense".to_owned()).class(),
        "token-malformed"
    );
    assert_eq!(fixture.counted("cached"), 0);
}

#[test]
fn no_token_is_no_error_and_other_schemes_are_not_tokens() {
    let fixture = Fixture::new("");
    for value in ["Basic dXNlcjpwYXNz", "Bear", ""] {
        assert!(
            fixture.verify(value, now()).unwrap().subjects.is_empty(),
            "{value}"
        );
    }
}

#[test]
fn a_token_that_is_not_to_be_forwarded_is_stripped() {
    let fixture = Fixture::new(", forward: false");
    let bearer = format!("Bearer {}", fixture.issuer.token("shop", now() + HOUR));
    for _ in 0..2 {
        let verified = fixture.verify(&bearer, now()).unwrap();
        assert_eq!(&*verified.strip[0], "authorization");
    }
}

#[test]
fn the_cache_is_bounded() {
    let fixture = Fixture::new("");
    let subject = Arc::new(Subject {
        issuer: "shop/corp".to_owned(),
        claims: serde_json::Map::new(),
        expires_at: now() + HOUR,
    });
    let keys = &fixture.keys["shop/corp"];
    for index in 0..2 * CACHED_TOKENS {
        let hash = sha256(&index.to_string());
        fixture
            .tokens
            .remember(hash, &fixture.issuer.document, keys, &subject, now());
    }
    assert!(fixture.tokens.cache.lock().unwrap().len() <= CACHED_TOKENS);
}
