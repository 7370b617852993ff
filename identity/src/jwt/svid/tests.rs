use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::jwt::KeySet;
use crate::jwt::test_keys::TestKey;
use crate::testing::TestAuthority;

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn td() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

struct Domain {
    key: TestKey,
    bundle: Bundle,
}

impl Domain {
    fn new() -> Self {
        let key = TestKey::generate(Algorithm::Es256);
        let keys = KeySet::of(&[key.jwk("k1")]).unwrap();
        let bundle = TestAuthority::new(&td()).unwrap().bundle().unwrap();
        let bundle = bundle.with_token_keys(Some(keys), None).unwrap();
        Self { key, bundle }
    }

    fn verify(&self, token: &str) -> Result<JwtSvid, JwtSvidError> {
        verify(token, "db", &self.bundle, now())
    }
}

/// Good claims, with these changes; `null` takes one away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "sub": "spiffe://shop.example/ns/shop/sa/orders", "aud": ["db", "cache"], "exp": NOW + 300, "iat": NOW,
    });
    let members = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.clone(), value.clone());
        }
    }
    claims
}

#[test]
fn a_good_token_proves_its_subject() {
    let domain = Domain::new();
    let token = domain.key.token("k1", &claims(json!({"jti": "1"})));
    let svid = domain.verify(&token).unwrap();
    assert_eq!(
        svid.id().as_str(),
        "spiffe://shop.example/ns/shop/sa/orders"
    );
    assert_eq!(svid.expires_at(), now() + Duration::from_secs(300));
    assert_eq!(svid.claims()["jti"], "1");
    assert_eq!(unverified_trust_domain(&token).unwrap(), td());
    // JWT-SVID §3.2 and RFC 7519: one audience may stand by itself.
    let token = domain.key.token("k1", &claims(json!({"aud": "db"})));
    domain.verify(&token).unwrap();
}

#[test]
fn what_the_standard_demands_is_demanded() {
    let domain = Domain::new();
    for (changes, expected) in [
        (json!({"sub": null}), "no claim `sub`"),
        (json!({"sub": "orders"}), "\"orders\" is not a SPIFFE ID"),
        (json!({"sub": "spiffe://shop.example"}), "has no path"),
        (
            json!({"sub": "spiffe://other.example/x"}),
            "spiffe://other.example/x, which the bundle of shop.example cannot verify",
        ),
        (json!({"aud": null}), "no claim `aud`"),
        (json!({"aud": []}), "expected \"db\""),
        (
            json!({"aud": ["other"]}),
            "is for \"other\"; expected \"db\"",
        ),
        (json!({"aud": 7}), "`aud` must be"),
        (json!({"exp": null}), "no claim `exp`"),
        (json!({"exp": NOW - 31}), "expired"),
        (json!({"iat": NOW + 31}), "not valid yet"),
        (json!({"nbf": NOW + 31}), "not valid yet"),
    ] {
        let token = domain.key.token("k1", &claims(changes));
        let error = domain.verify(&token).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn other_kinds_of_tokens_are_refused() {
    let domain = Domain::new();
    let of_type = |header: Value| {
        let claims = claims(json!({})).to_string();
        domain.verify(&domain.key.token_of(&header.to_string(), &claims))
    };
    for kind in ["JWT", "JOSE", "jose"] {
        of_type(json!({"alg": "ES256", "kid": "k1", "typ": kind})).unwrap();
    }
    of_type(json!({"alg": "ES256", "kid": "k1"})).unwrap();
    for kind in ["wit+jwt", "at+jwt", "txntoken+jwt", "dpop+jwt", ""] {
        let error = of_type(json!({"alg": "ES256", "kid": "k1", "typ": kind})).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with(r#"expected "JWT", "JOSE", or none"#),
            "{error}"
        );
    }
    for algorithm in ["none", "HS256", "EdDSA"] {
        let error = of_type(json!({"alg": algorithm, "kid": "k1"})).unwrap_err();
        assert!(error.to_string().contains(algorithm), "{error}");
    }
}

#[test]
fn a_key_that_is_missing_may_be_in_a_newer_bundle() {
    let domain = Domain::new();
    let token = domain.key.token("k2", &claims(json!({})));
    assert!(domain.verify(&token).unwrap_err().is_unknown_key());
    let forged = TestKey::generate(Algorithm::Es256).token("k1", &claims(json!({})));
    let error = domain.verify(&forged).unwrap_err();
    assert_eq!(error, JwtSvidError::Token(TokenError::BadSignature));
    assert!(!error.is_unknown_key());
    let without = TestAuthority::new(&td()).unwrap().bundle().unwrap();
    let error = verify(&token, "db", &without, now()).unwrap_err();
    assert!(matches!(error, JwtSvidError::NoKeys { .. }) && error.is_unknown_key());
}

#[test]
fn without_an_audience_nothing_is_verified() {
    let domain = Domain::new();
    let token = domain.key.token("k1", &claims(json!({})));
    let error = verify(&token, "", &domain.bundle, now()).unwrap_err();
    assert_eq!(error, JwtSvidError::NoAudience);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_changed_token_proves_nothing(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
        let domain = Domain::new();
        let token = domain.key.token("k1", &claims(json!({})));
        let at = at.index(token.len());
        let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
        if changed != token {
            prop_assert!(domain.verify(&changed).is_err());
        }
    }

    #[test]
    fn strangers_text_never_panics(text in ".{0,128}") {
        prop_assert!(unverified_trust_domain(&text).is_err());
    }
}
