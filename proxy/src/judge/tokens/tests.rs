use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;
use crate::testing::Issuer;

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
        self.verify_request("/", &[("authorization", value)], now)
    }

    fn verify_request(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
        now: SystemTime,
    ) -> Result<Verified, InvalidToken> {
        let headers = headers.iter().map(|(name, value)| {
            let value = http::HeaderValue::from_str(value).unwrap();
            (http::HeaderName::from_static(name), value)
        });
        let headers = http::HeaderMap::from_iter(headers);
        let request = Request {
            method: "GET",
            host: "orders.shop",
            path,
            headers: &headers,
        };
        let issuers = [Arc::clone(&self.issuer.document)];
        self.tokens
            .verify(&issuers, &self.keys, &request, now, &self.metrics)
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
        assert!(verified.remove.is_empty());
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
        assert_eq!(&*verified.remove[0], "authorization");
    }
}

#[test]
fn tokens_are_found_where_their_issuer_says_and_nowhere_else() {
    let fixture = Fixture::new(
        ", from: [{header: x-token}, {header: x-token, prefix: 'JWT '}, {query: access token}, {cookie: Id}]",
    );
    let token = fixture.issuer.token("shop", now() + HOUR);
    let escaped = token.replace('.', "%2e");
    let subjects = |path: &str, headers: &[(&'static str, &str)]| {
        let verified = fixture.verify_request(path, headers, now()).unwrap();
        verified.subjects.len()
    };
    for value in [token.clone(), format!("jwt {token}")] {
        assert_eq!(subjects("/", &[("x-token", &value)]), 1, "{value}");
    }
    assert_eq!(subjects(&format!("/?a&access%20token={escaped}"), &[]), 1);
    assert_eq!(
        subjects(
            &format!("/?access%20token={token}&access%20token={token}"),
            &[]
        ),
        2
    );
    for cookie in [
        format!("Id={token}"),
        format!("a=b; Id=\"{token}\"; c=d"),
        format!("id=x;Id={token}"),
    ] {
        assert_eq!(subjects("/", &[("cookie", &cookie)]), 1, "{cookie}");
    }
    for (path, headers) in [
        (format!("/?access+token={token}"), vec![]),
        (format!("/?Access%20token={token}"), vec![]),
        (format!("/access%20token={token}"), vec![]),
        ("/?access%20token=&access%20token".to_owned(), vec![]),
        (
            "/".to_owned(),
            vec![("authorization", format!("Bearer {token}"))],
        ),
        (
            "/".to_owned(),
            vec![("cookie", format!("id={token}; Id=; Id"))],
        ),
    ] {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        assert_eq!(subjects(&path, &headers), 0, "{path} {headers:?}");
    }
    let refused = fixture.verify_request("/?access%20token=x", &[], now());
    assert_eq!(refused.err().unwrap().class(), "token-malformed");
}

#[test]
fn a_token_in_a_place_of_another_issuer_is_refused_also_when_it_is_cached() {
    let fixture = Fixture::new(", from: [{header: x-token}]");
    let token = fixture.issuer.token("shop", now() + HOUR);
    fixture
        .verify_request("/", &[("x-token", &token)], now())
        .unwrap();
    let elsewhere = Issuer::new(", from: [{cookie: id}]");
    let mut other = TokenIssuer::clone(&elsewhere.document);
    other.issuer = "https://other.test".to_owned();
    let cookie = format!("id={token}");
    let headers = http::HeaderMap::from_iter([(
        http::header::COOKIE,
        http::HeaderValue::from_str(&cookie).unwrap(),
    )]);
    let request = Request {
        method: "GET",
        host: "",
        path: "/",
        headers: &headers,
    };
    let issuers = [Arc::clone(&fixture.issuer.document), Arc::new(other)];
    let refused = fixture
        .tokens
        .verify(&issuers, &fixture.keys, &request, now(), &fixture.metrics);
    assert_eq!(refused.err().unwrap().class(), "unknown-issuer");
}

#[test]
fn what_is_not_to_be_forwarded_is_taken_out_and_nothing_else() {
    let fixture = Fixture::new(
        ", forward: false, from: [{query: t}, {cookie: id}], claimHeaders: {x-user: sub, x-none: none}",
    );
    let token = fixture.issuer.token("shop", now() + HOUR);
    let (path, cookie) = (
        format!("/a?b=%2E&t={token}&c"),
        format!("a=1; id={token}; b=2"),
    );
    let verified = fixture
        .verify_request(&path, &[("cookie", &cookie)], now())
        .unwrap();
    let forwarded = verified.forwarded_path(Some(Cow::Borrowed(&path)));
    assert_eq!(forwarded.as_deref(), Some("/a?b=%2E&c"));
    assert_eq!(
        verified
            .remove
            .iter()
            .map(|name| &**name)
            .collect::<Vec<_>>(),
        ["x-none", "x-user", "cookie"]
    );
    let added: Vec<_> = verified
        .add
        .iter()
        .map(|(name, value)| (&**name, std::str::from_utf8(value).unwrap()))
        .collect();
    assert_eq!(added, [("x-user", "alice"), ("cookie", "a=1; b=2")]);

    let verified = fixture.verify_request("/a?b=%2E&t=", &[], now()).unwrap();
    assert_eq!(
        verified.forwarded_path(Some(Cow::Borrowed("/a?b=%2E&t="))),
        None
    );
    assert_eq!(verified.remove.len(), 2, "also without a token");
    assert!(verified.add.is_empty());
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
