//! Hostile tokens at the attestors of tokens: whatever is done to a good one, it proves nobody any more.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_identity::TrustDomain;
use countersign_identity::jwt::Algorithm;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::time::Duration;

use super::*;
use crate::attest::kubernetes::{ClusterConfig, Clusters};
use crate::attest::template::Source;

const ISSUER: &str = "https://issuer.example";

struct Signer(EcdsaKeyPair);

impl Signer {
    fn new(directory: &Path) -> (Self, IssuerEndpoint) {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": "k", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        let file = directory.join("keys.json");
        std::fs::write(&file, json!({"keys": [jwk]}).to_string()).unwrap();
        let endpoint = IssuerEndpoint {
            jwks_file: Some(file),
            ..IssuerEndpoint::new(ISSUER)
        };
        (Self(key), endpoint)
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self
            .0
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn rules() -> IssuerRules {
    IssuerRules {
        issuer: ISSUER.to_owned(),
        audiences: vec!["ca".to_owned()],
        algorithms: vec![Algorithm::Es256],
        leeway: Duration::ZERO,
    }
}

fn claims(now: SystemTime) -> Value {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({
        "iss": ISSUER, "aud": "ca", "exp": now + 600, "name": "orders", "sub": "system:serviceaccount:shop:orders",
        "kubernetes.io": {
            "namespace": "shop", "serviceaccount": {"name": "orders", "uid": "u"}, "pod": {"name": "p", "uid": "u"},
        },
    })
}

/// What a stranger may do to a token that was caught.
#[derive(Clone, Debug)]
enum Change {
    Byte(prop::sample::Index, u8),
    Insert(prop::sample::Index, char),
    Remove(prop::sample::Index),
    Truncate(prop::sample::Index),
    Append(String),
    Header(String),
    Claims(String),
    NoSignature,
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (index(), 1..=127_u8).prop_map(|(at, by)| Change::Byte(at, by)),
        (index(), any::<char>()).prop_map(|(at, c)| Change::Insert(at, c)),
        index().prop_map(Change::Remove),
        index().prop_map(Change::Truncate),
        "[.=A-Za-z0-9 \\n]{1,8}".prop_map(Change::Append),
        prop_oneof![
            Just(r#"{"alg":"none"}"#.to_owned()),
            Just(r#"{"alg":"HS256","kid":"k"}"#.to_owned()),
            Just(r#"{"alg":"ES256","kid":"k","jwk":{}}"#.to_owned()),
            Just(r#"{"alg":"ES256","kid":"k","crit":["b64"],"b64":false}"#.to_owned()),
            ".{0,40}",
        ]
        .prop_map(Change::Header),
        prop_oneof![
            Just(
                r#"{"iss":"https://issuer.example","aud":"ca","exp":99999999999,"name":"root"}"#
                    .to_owned()
            ),
            ".{0,40}",
        ]
        .prop_map(Change::Claims),
        Just(Change::NoSignature),
    ]
}

fn changed(token: &str, change: &Change) -> String {
    let [header, payload, signature] = {
        let parts: Vec<&str> = token.split('.').collect();
        [parts[0], parts[1], parts[2]]
    };
    let mut characters: Vec<char> = token.chars().collect();
    match change {
        Change::Byte(at, by) => {
            let at = at.index(characters.len());
            characters[at] = char::from((characters[at] as u8) ^ by);
        }
        Change::Insert(at, c) => characters.insert(at.index(characters.len()), *c),
        Change::Remove(at) => {
            characters.remove(at.index(characters.len()));
        }
        Change::Truncate(at) => characters.truncate(at.index(characters.len())),
        Change::Append(text) => characters.extend(text.chars()),
        Change::Header(text) => {
            return format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(text));
        }
        Change::Claims(text) => {
            return format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(text));
        }
        Change::NoSignature => return format!("{header}.{payload}."),
    }
    characters.into_iter().collect()
}

/// Good as it is, refused in one line after any change.
#[test]
fn a_changed_token_proves_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (signer, endpoint) = Signer::new(directory.path());
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let _inside = runtime.enter();
    let template = "spiffe://shop.example/ns/ci/sa/{claims.name}";
    let issuers = JwtIssuers::start(vec![IssuerConfig {
        endpoint: endpoint.clone(),
        rules: rules(),
        allow: AllowRules::default(),
        template: Template::parse(template, &trust_domain, Source::Token).unwrap(),
    }])
    .unwrap();
    let cluster = ClusterConfig {
        rules: rules(),
        keys: Some(endpoint),
        api_server: None,
        allow: AllowRules::default(),
        allow_system_namespace: false,
    };
    let clusters = Clusters::start(vec![cluster], &trust_domain).unwrap();
    let (issuer, cluster) = (
        issuers.find(ISSUER).unwrap(),
        clusters.find(ISSUER).unwrap(),
    );
    let now = SystemTime::now();
    let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims(now));
    let attest = |token: &str| {
        runtime.block_on(async {
            let both = (
                issuer.attest(token, now).await,
                cluster.attest(token, now).await,
            );
            [both.0, both.1]
        })
    };
    let ids = attest(&token).map(|attested| attested.unwrap().id().to_string());
    assert_eq!(
        ids,
        [
            "spiffe://shop.example/ns/ci/sa/orders",
            "spiffe://shop.example/ns/shop/sa/orders"
        ]
    );
    // With the key's own `kid` in what is changed, or a name of another: a key that is not there is not waited for here.
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    runner
        .run(&change(), |change| {
            let changed = changed(&token, &change);
            prop_assume!(changed != token && !names_another_key(&changed));
            for attested in attest(&changed) {
                let refused = attested.map(|attested| attested.id().to_string());
                let told = refused.expect_err("a changed token").to_string();
                prop_assert!(!told.contains('\n'), "{}", told);
            }
            Ok(())
        })
        .unwrap();
}

/// Such a token is refused as well, after a look for the key, which takes a while.
fn names_another_key(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    header["kid"].as_str().is_some_and(|key| key != "k")
}
