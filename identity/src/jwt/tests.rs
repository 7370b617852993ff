use super::test_keys::{TestKey, jwks};
use super::*;
use proptest::prelude::*;
use serde_json::json;

const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn rules() -> IssuerRules {
    IssuerRules {
        issuer: "https://login.example".to_owned(),
        audiences: vec!["shop".to_owned(), "store".to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        leeway: Duration::from_secs(30),
    }
}

fn claims() -> Value {
    json!({"iss": "https://login.example", "aud": "shop", "sub": "alice", "exp": NOW + 300, "iat": NOW})
}

fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(&jwks(keys)).unwrap()
}

/// One ES256 issuer, and what `verify` says of the claims.
fn verdict(claims: &Value) -> Result<VerifiedToken, TokenError> {
    let key = TestKey::generate(Algorithm::Es256);
    verify(
        &key.token("k", claims),
        &rules(),
        &key_set(&[key.jwk("k")]),
        at(NOW),
    )
}

/// The same for a header.
fn verdict_of_header(header: &Value) -> Result<VerifiedToken, TokenError> {
    let key = TestKey::generate(Algorithm::Es256);
    let token = key.token_of(&header.to_string(), &claims().to_string());
    verify(&token, &rules(), &key_set(&[key.jwk("k")]), at(NOW))
}

#[test]
fn every_algorithm_verifies_its_own_tokens_and_no_others() {
    let keys: Vec<TestKey> = Algorithm::ALL.into_iter().map(TestKey::generate).collect();
    let set = key_set(
        &keys
            .iter()
            .map(|key| key.jwk(key.algorithm().name()))
            .collect::<Vec<_>>(),
    );
    for key in &keys {
        let name = key.algorithm().name();
        let verified = verify(&key.token(name, &claims()), &rules(), &set, at(NOW)).unwrap();
        assert_eq!(verified.subject(), Some("alice"));
        assert_eq!(verified.key_id(), Some(name));
        assert_eq!(verified.expires_at(), at(NOW + 300));
        assert_eq!(verified.valid_until(), at(NOW + 330));

        let forged = TestKey::generate(key.algorithm()).token(name, &claims());
        assert_eq!(
            verify(&forged, &rules(), &set, at(NOW)).unwrap_err(),
            TokenError::BadSignature
        );
    }
}

#[test]
fn unsigned_and_symmetric_tokens_are_refused() {
    for name in [
        "none", "None", "NONE", "HS256", "HS384", "HS512", "es256", "ES256K", "",
    ] {
        let error = verdict_of_header(&json!({"alg": name, "kid": "k"})).unwrap_err();
        assert!(
            matches!(error, TokenError::AlgorithmNotAllowed { .. }),
            "{name}: {error}"
        );
    }
    let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
    let unsigned = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    let set = key_set(&[TestKey::generate(Algorithm::Es256).jwk("k")]);
    let error = verify(&unsigned, &rules(), &set, at(NOW)).unwrap_err();
    assert!(
        matches!(error, TokenError::AlgorithmNotAllowed { .. }),
        "{error}"
    );
}

#[test]
fn the_algorithm_must_be_in_the_rules_and_fit_the_key() {
    let rsa = TestKey::generate(Algorithm::Ps256);
    let set = key_set(&[rsa.jwk("r")]);
    let only_rs256 = IssuerRules {
        algorithms: vec![Algorithm::Rs256],
        ..rules()
    };
    let error = verify(&rsa.token("r", &claims()), &only_rs256, &set, at(NOW)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token is signed with \"PS256\"; this issuer's tokens must be signed with RS256"
    );

    let mut declared = rsa.jwk("r");
    declared["alg"] = json!("RS256");
    let error = verify(
        &rsa.token("r", &claims()),
        &rules(),
        &key_set(&[declared]),
        at(NOW),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token is signed with PS256, but its key \"r\" is for RS256"
    );
}

#[test]
fn without_a_key_id_exactly_one_key_must_fit() {
    let (first, second) = (
        TestKey::generate(Algorithm::Es256),
        TestKey::generate(Algorithm::Es256),
    );
    let rsa = TestKey::generate(Algorithm::Rs256);
    let header = json!({"alg": "ES256"}).to_string();
    let token = first.token_of(&header, &claims().to_string());

    let one = key_set(&[first.jwk("a"), rsa.jwk("r")]);
    assert_eq!(
        verify(&token, &rules(), &one, at(NOW)).unwrap().key_id(),
        Some("a")
    );
    let two = key_set(&[first.jwk("a"), second.jwk("b")]);
    let error = verify(&token, &rules(), &two, at(NOW)).unwrap_err();
    assert_eq!(error, TokenError::AmbiguousKey { count: 2 });
    let error = verify(&token, &rules(), &key_set(&[rsa.jwk("r")]), at(NOW)).unwrap_err();
    assert_eq!(error, TokenError::UnknownKey { key_id: None });
}

#[test]
fn an_unknown_key_id_is_told_to_the_caller() {
    let error = verdict_of_header(&json!({"alg": "ES256", "kid": "rotated\n"})).unwrap_err();
    assert_eq!(
        error,
        TokenError::UnknownKey {
            key_id: Some("rotated\n".to_owned())
        }
    );
    assert_eq!(
        error.to_string(),
        r#"the issuer's key set has no key "rotated\n""#
    );
}

#[test]
fn headers_are_read_strictly() {
    let critical = json!({"alg": "ES256", "kid": "k", "crit": ["exp"], "exp": 1});
    let error = verdict_of_header(&critical).unwrap_err();
    assert!(
        matches!(error, TokenError::CriticalHeader { .. }),
        "{error}"
    );
    for kind in [
        json!("txntoken+jwt"),
        json!("secevent+jwt"),
        json!("dpop+jwt"),
        json!(1),
    ] {
        let error =
            verdict_of_header(&json!({"alg": "ES256", "kid": "k", "typ": kind})).unwrap_err();
        assert!(matches!(error, TokenError::WrongType { .. }), "{error}");
    }
    for kind in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        assert!(verdict_of_header(&json!({"alg": "ES256", "kid": "k", "typ": kind})).is_ok());
    }
    for header in [
        json!({"kid": "k"}),
        json!({"alg": 1}),
        json!({"alg": "ES256", "kid": 7}),
    ] {
        let error = verdict_of_header(&header).unwrap_err();
        assert!(matches!(error, TokenError::InvalidHeader { .. }), "{error}");
    }
    let error = verdict_of_header(&json!([])).unwrap_err();
    assert_eq!(error, TokenError::NotAnObject { part: "header" });
}

#[test]
fn a_key_in_the_header_is_not_used() {
    let (issuer, stranger) = (
        TestKey::generate(Algorithm::Es256),
        TestKey::generate(Algorithm::Es256),
    );
    let header = json!({"alg": "ES256", "kid": "k", "jwk": stranger.jwk("k")});
    let token = stranger.token_of(&header.to_string(), &claims().to_string());
    let error = verify(&token, &rules(), &key_set(&[issuer.jwk("k")]), at(NOW)).unwrap_err();
    assert_eq!(error, TokenError::BadSignature);
}

#[test]
fn a_second_member_of_one_name_is_refused() {
    let key = TestKey::generate(Algorithm::Es256);
    let payload = format!(r#"{{"sub":"root",{}"#, &claims().to_string()[1..]);
    let token = key.token_of(r#"{"alg":"ES256"}"#, &payload);
    let error = verify(&token, &rules(), &key_set(&[key.jwk("k")]), at(NOW)).unwrap_err();
    assert_eq!(
        error,
        TokenError::DuplicateMember {
            part: "payload",
            name: "\"sub\"".to_owned()
        }
    );
}

#[test]
fn times_are_checked_with_leeway() {
    for accepted in [
        json!({"exp": NOW - 29}),
        json!({"exp": NOW as f64 + 0.5}),
        json!({"nbf": NOW + 30, "iat": NOW + 30}),
        json!({"nbf": 0}),
    ] {
        verdict(&with(&accepted)).unwrap();
    }
    let text = |changes| verdict(&with(&changes)).unwrap_err().to_string();
    assert_eq!(text(json!({"exp": NOW - 300})), "the token expired 5m ago");
    assert_eq!(text(json!({"exp": NOW - 30})), "the token expired 30s ago");
    assert_eq!(
        text(json!({"exp": NOW - 90_061})),
        "the token expired 1d 1h ago"
    );
    assert_eq!(
        text(json!({"nbf": NOW + 31})),
        "the token is not valid yet: its `nbf` is 31s ahead of this clock"
    );
    assert_eq!(
        text(json!({"iat": NOW + 3600})),
        "the token is not valid yet: its `iat` is 1h ahead of this clock"
    );
    for bad in [
        json!("1800000000"),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(null),
    ] {
        let error = verdict(&with(&json!({"exp": bad}))).unwrap_err();
        assert!(
            matches!(error, TokenError::InvalidClaim { name: "exp", .. }),
            "{bad}: {error}"
        );
    }
}

#[test]
fn expiry_issuer_and_audience_are_required() {
    for name in ["exp", "iss", "aud"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(
            verdict(&claims).unwrap_err(),
            TokenError::MissingClaim(name)
        );
    }
}

#[test]
fn the_issuer_is_compared_to_the_letter() {
    for found in [
        "https://login.example/",
        "HTTPS://login.example",
        "https://evil.example",
    ] {
        let error = verdict(&with(&json!({"iss": found}))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the token is of the issuer \"{found}\"; expected \"https://login.example\"")
        );
    }
}

#[test]
fn any_of_the_audiences_will_do() {
    verdict(&with(&json!({"aud": ["other", "store"]}))).unwrap();
    let error = verdict(&with(&json!({"aud": ["a", "b"]}))).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the token is for "a" or "b"; expected "shop" or "store""#
    );
    let error = verdict(&with(&json!({"aud": []}))).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the token is for nothing; expected "shop" or "store""#
    );
    for bad in [json!({"shop": 1}), json!(["shop", 1]), json!(null)] {
        let error = verdict(&with(&json!({"aud": bad}))).unwrap_err();
        assert!(
            matches!(error, TokenError::InvalidClaim { name: "aud", .. }),
            "{error}"
        );
    }
    let key = TestKey::generate(Algorithm::Es256);
    let any = IssuerRules {
        audiences: Vec::new(),
        ..rules()
    };
    let token = key.token("k", &with(&json!({"aud": "elsewhere"})));
    verify(&token, &any, &key_set(&[key.jwk("k")]), at(NOW)).unwrap();
}

#[test]
fn what_is_no_signed_token_is_refused_before_anything_else() {
    let set = key_set(&[TestKey::generate(Algorithm::Es256).jwk("k")]);
    let refused = |token: &str| verify(token, &rules(), &set, at(NOW)).unwrap_err();
    assert_eq!(refused(""), TokenError::PartCount { found: 1 });
    assert_eq!(refused("a.b"), TokenError::PartCount { found: 2 });
    assert_eq!(refused("a.b.c.d.e"), TokenError::Encrypted);
    assert_eq!(
        refused("=.e30.e30"),
        TokenError::NotBase64 { part: "header" }
    );
    assert_eq!(
        refused("e30=.e30.e30"),
        TokenError::NotBase64 { part: "header" }
    );
    let huge = "a".repeat(MAX_TOKEN_BYTES + 1);
    assert!(matches!(refused(&huge), TokenError::TooLarge { .. }));
}

#[test]
fn the_unverified_issuer_is_only_read() {
    let key = TestKey::generate(Algorithm::Es256);
    let token = key.token("k", &claims());
    assert_eq!(unverified_issuer(&token).unwrap(), "https://login.example");
    let (signed, _) = token.rsplit_once('.').unwrap();
    assert_eq!(
        unverified_issuer(&format!("{signed}.")).unwrap(),
        "https://login.example"
    );
    assert_eq!(
        unverified_issuer("e30.e30.").unwrap_err(),
        TokenError::MissingClaim("iss")
    );
}

#[test]
fn unusable_keys_are_left_out_and_named() {
    let good = TestKey::generate(Algorithm::Es256);
    let mut private = TestKey::generate(Algorithm::Es256).jwk("leaked");
    private["d"] = json!("c2VjcmV0");
    let mut encryption = TestKey::generate(Algorithm::Es256).jwk("enc");
    encryption["use"] = json!("enc");
    let mut off_curve = TestKey::generate(Algorithm::Es256).jwk("off");
    off_curve["y"] = off_curve["x"].clone();
    let mut short = TestKey::generate(Algorithm::Es384).jwk("short");
    short["crv"] = json!("P-256");
    let mut wrong = TestKey::generate(Algorithm::EdDsa).jwk("wrong");
    wrong["alg"] = json!("RS256");
    let symmetric = json!({"kty": "oct", "kid": "hmac", "k": "c2VjcmV0"});
    let small = json!({"kty": "RSA", "kid": "small", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB"});
    let bad = [
        private,
        encryption,
        off_curve,
        short,
        wrong,
        symmetric,
        small,
        json!(7),
    ];

    let mut all = bad.to_vec();
    all.push(good.jwk("good"));
    let set = key_set(&all);
    assert_eq!(set.key_ids().collect::<Vec<_>>(), ["good"]);
    assert_eq!(set.skipped().len(), bad.len(), "{:#?}", set.skipped());
    assert!(matches!(
        KeySet::parse(&jwks(&bad)),
        Err(KeySetError::NoUsableKey { .. })
    ));
}

#[test]
fn only_public_members_are_passed_on() {
    let key = TestKey::generate(Algorithm::Rs256);
    let mut published = key.jwk("r");
    published["x5c"] = json!(["MIIB"]);
    published["secret"] = json!("hunter2");
    let set = key_set(&[published, json!({"kty": "oct", "k": "aHVudGVyMg"})]);
    assert_eq!(
        serde_json::from_str::<Value>(&set.to_jwks()).unwrap(),
        json!({"keys": [key.jwk("r")]})
    );
    KeySet::parse(&set.to_jwks()).unwrap();
}

#[test]
fn what_is_no_key_set_is_refused() {
    for (text, expected) in [
        ("", "not valid JSON"),
        ("[]", "not a JWK Set"),
        (r#"{"keys":{}}"#, "not a JWK Set"),
        (r#"{"keys":[]}"#, "no public signature key"),
        (r#"{"keys":[],"keys":[]}"#, "two members named \"keys\""),
    ] {
        let error = KeySet::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert_eq!(
        KeySet::parse(&jwks(&vec![json!({}); 257])).unwrap_err(),
        KeySetError::TooManyKeys { found: 257 }
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A changed token does not verify, whatever was changed, and the error is one line that does not show the token.
    #[test]
    fn changed_tokens_never_verify(
        which in 0..4_usize,
        position in any::<prop::sample::Index>(),
        replacement in prop::sample::select(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/\n\0 ".to_vec()
        ),
        remove in any::<bool>(),
    ) {
        let algorithm = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512, Algorithm::EdDsa][which];
        let key = TestKey::generate(algorithm);
        let set = key_set(&[key.jwk("k")]);
        let token = key.token("k", &claims());
        let mut changed = token.clone().into_bytes();
        let position = position.index(changed.len());
        if remove {
            changed.remove(position);
        } else {
            changed[position] = replacement;
        }
        let changed = String::from_utf8(changed).unwrap();
        prop_assume!(changed != token);
        let error = verify(&changed, &rules(), &set, at(NOW)).unwrap_err().to_string();
        prop_assert!(!error.contains('\n'), "{error}");
        for part in changed.split('.').filter(|part| part.len() > 8) {
            prop_assert!(!error.contains(part), "{error}");
        }
    }

    #[test]
    fn strangers_texts_never_panic(token in ".{0,200}", set in ".{0,200}") {
        let keys = key_set(&[TestKey::generate(Algorithm::EdDsa).jwk("k")]);
        prop_assert!(verify(&token, &rules(), &keys, at(NOW)).is_err());
        prop_assert!(unverified_issuer(&token).is_err());
        prop_assert!(KeySet::parse(&set).is_err());
    }

    /// Signed headers and claims of any shape: refused or accepted, never a panic, and errors stay one line.
    #[test]
    fn odd_headers_and_claims_never_panic(
        name in prop::sample::select(vec!["alg", "kid", "typ", "crit"]),
        claim in prop::sample::select(vec!["iss", "aud", "exp", "nbf", "iat", "sub"]),
        value in prop_oneof![
            any::<f64>().prop_map(|n| json!(n)), any::<i64>().prop_map(|n| json!(n)),
            ".*".prop_map(|s| json!(s)), Just(json!(null)), Just(json!([])), Just(json!([{}])),
        ],
    ) {
        let key = TestKey::generate(Algorithm::EdDsa);
        let set = key_set(&[key.jwk("k")]);
        let mut header = json!({"alg": "EdDSA", "kid": "k"});
        for (header, claims) in [
            { header[name] = value.clone(); (header, claims()) },
            (json!({"alg": "EdDSA", "kid": "k"}), with(&json!({claim: value}))),
        ] {
            let token = key.token_of(&header.to_string(), &claims.to_string());
            if let Err(error) = verify(&token, &rules(), &set, at(NOW)) {
                prop_assert!(!error.to_string().contains(['\n', '\r']), "{error}");
            }
        }
    }
}
