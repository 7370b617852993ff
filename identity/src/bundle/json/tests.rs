use proptest::prelude::*;

use super::*;
use crate::jwt::Algorithm;
use crate::jwt::test_keys::TestKey;
use crate::testing::TestAuthority;

fn td() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn root() -> CertificateDer<'static> {
    TestAuthority::new(&td()).unwrap().root().clone()
}

fn keys(names: &[String]) -> Option<KeySet> {
    let members: Vec<Value> = names
        .iter()
        .map(|name| TestKey::generate(Algorithm::Es256).jwk(name))
        .collect();
    (!members.is_empty()).then(|| KeySet::of(&members).unwrap())
}

fn parse(text: &str) -> Result<SpiffeBundle, BundleJsonError> {
    SpiffeBundle::parse(td(), text)
}

fn entry() -> Value {
    x509_entry(&root()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_read_again(
        roots in 1..4_usize,
        sequence in any::<u64>(),
        refresh_hint in prop::option::of(any::<u32>()),
        jwt in prop::collection::hash_set("[a-zA-Z0-9_-]{1,12}", 0..3),
        wit in prop::collection::hash_set("[a-zA-Z0-9_-]{1,12}", 0..3),
    ) {
        let authorities = (0..roots).map(|_| root()).collect();
        let [jwt, wit] = [jwt, wit].map(|names| keys(&names.into_iter().collect::<Vec<_>>()));
        let bundle = Bundle::new(td(), authorities, sequence).unwrap();
        let written = SpiffeBundle {
            bundle: bundle.with_token_keys(jwt, wit).unwrap(),
            refresh_hint: refresh_hint.map(|seconds| Duration::from_secs(seconds.into())),
        };
        let text = written.to_json().unwrap();
        prop_assert_eq!(parse(&text).unwrap(), written);
    }

    #[test]
    fn strangers_text_never_panics(text in ".{0,256}") {
        prop_assert!(parse(&text).is_err());
    }

    /// No signature is over a root: what is read of a damaged one may be another, but is whole.
    #[test]
    fn a_damaged_bundle_never_panics_and_is_read_whole(
        at in any::<prop::sample::Index>(),
        with in any::<char>(),
    ) {
        let text = json!({"keys": [entry()], "spiffe_sequence": 7}).to_string();
        let at = at.index(text.len());
        let damaged: String = text
            .char_indices()
            .map(|(position, found)| if position == at { with } else { found })
            .collect();
        if let Ok(read) = parse(&damaged) {
            prop_assert_eq!(read.bundle.x509_authorities().len(), 1);
            match read.to_json() {
                Ok(text) => prop_assert_eq!(parse(&text).unwrap(), read),
                // The type of the root's key is another now, and has no words.
                Err(error) => prop_assert!(matches!(error, BundleJsonError::Jwk(_)), "{error}"),
            }
        }
    }
}

#[test]
fn entries_are_as_the_standard_writes_them() {
    let bundle = Bundle::new(td(), vec![root()], 3)
        .unwrap()
        .with_token_keys(keys(&["a".to_owned()]), None)
        .unwrap();
    let written = SpiffeBundle {
        bundle,
        refresh_hint: Some(Duration::from_secs(300)),
    };
    let json: Value = serde_json::from_str(&written.to_json().unwrap()).unwrap();
    assert_eq!(json["spiffe_sequence"], 3);
    assert_eq!(json["spiffe_refresh_hint"], 300);
    let [x509, jwt] = json["keys"].as_array().unwrap().as_slice() else {
        panic!("{json}")
    };
    assert_eq!(
        (&x509["use"], &x509["kty"]),
        (&json!("x509-svid"), &json!("EC"))
    );
    assert!(x509.get("kid").is_none() && x509["x5c"].as_array().unwrap().len() == 1);
    assert_eq!(
        (&jwt["use"], &jwt["kid"]),
        (&json!("jwt-svid"), &json!("a"))
    );
}

#[test]
fn what_is_not_known_is_ignored() {
    let text = json!({"keys": [
        entry(),
        {"kty": "EC", "use": "future-svid"},
        {"kty": "future", "use": "x509-svid"},
        {"kty": "future", "use": "jwt-svid"},
        {"kty": "EC"},
        7,
    ], "more": true});
    let read = parse(&text.to_string()).unwrap();
    assert_eq!(read.bundle.x509_authorities().len(), 1);
    assert_eq!((read.bundle.sequence(), read.refresh_hint), (0, None));
    assert!(read.bundle.jwt_keys().is_none());
}

#[test]
fn what_is_wrong_is_named() {
    let spoiled = |spoil: fn(&mut Value)| {
        let mut entry = entry();
        spoil(&mut entry);
        json!({"keys": [entry]}).to_string()
    };
    let nameless = json!({"kty": "EC", "crv": "P-256", "use": "jwt-svid"});
    for (text, expected) in [
        ("{}".to_owned(), "expected an object with a list `keys`"),
        ("[]".to_owned(), "expected an object with a list `keys`"),
        (r#"{"keys": []}"#.to_owned(), "has no X.509 authority"),
        (
            r#"{"keys": [], "keys": []}"#.to_owned(),
            "two members named \"keys\"",
        ),
        ("{\"keys\":\n x".to_owned(), "line 2, column 2"),
        (
            json!({"keys": [entry()], "spiffe_sequence": -1}).to_string(),
            "`spiffe_sequence` must be a whole number",
        ),
        (
            json!({"keys": [entry()], "spiffe_refresh_hint": "5m"}).to_string(),
            "`spiffe_refresh_hint` must be a whole number",
        ),
        (
            spoiled(|entry| entry["x5c"] = json!([])),
            "key 1 of the bundle, an X.509 authority, must have exactly one certificate",
        ),
        (
            spoiled(|entry| entry["x5c"] = json!(["!"])),
            "has an `x5c` that is not base64",
        ),
        (
            spoiled(|entry| entry["x5c"] = json!(["AAAA"])),
            "authority 1 of the bundle",
        ),
        (
            json!({"keys": [entry(), nameless]}).to_string(),
            "the jwt-svid keys of the bundle",
        ),
    ] {
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    let long = " ".repeat(MAX_BYTES + 1);
    assert!(matches!(
        parse(&long),
        Err(BundleJsonError::TooLarge { .. })
    ));
}

#[test]
fn token_keys_without_a_name_of_their_own_are_refused() {
    let key = TestKey::generate(Algorithm::Es256);
    let mut nameless = key.jwk("a");
    nameless.as_object_mut().unwrap().remove("kid");
    for members in [vec![nameless], vec![key.jwk("a"), key.jwk("a")]] {
        let keys = KeySet::of(&members).unwrap();
        let bundle = Bundle::new(td(), vec![root()], 1).unwrap();
        assert_eq!(
            bundle.with_token_keys(Some(keys), None),
            Err(BundleError::KeyIds { kind: JWT_SVID })
        );
    }
}
