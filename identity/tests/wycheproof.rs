//! Wycheproof's vectors of JOSE (the Go module `github.com/c2sp/wycheproof`, fetched by `go`): known ways to get signatures
//! past a verifier.
//!
//! Their payloads are no claims. A good signature is known by the payload being looked at, which is not done before: the error
//! is then of the payload. Every vector that is called valid and refused here is in [`REFUSED`], with the reason.
//!
//! The vectors of ECDSA, RSA and Ed25519 are the affair of aws-lc, which runs them itself: nothing of these algorithms is
//! written here but the fixed length of signatures (RFC 7518 §3.4), which the JOSE vectors have.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails should fail where it stands"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use countersign_identity::jwt::{Algorithm, IssuerRules, KeySet, TokenError, verify};
use serde_json::{Value, json};

const MODULE: &str = "github.com/c2sp/wycheproof@v0.0.0-20260902155932-3fa63dd0344a";
const SUM: &str = "h1:pNbL2nztRsWfW/ispAwsvcDFxs9Id38uIsR2/Up5G2c=";

/// Vectors that are valid by the standard and are refused here, by file and number. So are all whose keys are symmetric
/// (`kty: oct`, HMAC): whoever can verify with such a key can issue, so that it is no issuer's.
const REFUSED: &[(&str, u64, &str)] = &[
    ("json_web_signature", 346, ALGORITHM),
    ("json_web_signature", 350, ALGORITHM),
    ("json_web_signature", 347, ES521),
    ("json_web_signature", 351, ES521),
];
const ALGORITHM: &str = "the token is of PS384, its key says that it is for PS256 (RFC 7517 §4.4)";
const ES521: &str = "the key says that it is for ES521, which is no algorithm of RFC 7518";

/// Vectors that are to be refused and are accepted here.
const ACCEPTED: &[(&str, u64, &str)] = &[("json_web_crypto", 46, ROCA), ("json_web_key", 7, ROCA)];
const ROCA: &str = "the signature is good; the issuer's RSA key is of a smart card with the ROCA weakness (CVE-2017-15361). How \
                    the keys were made that an issuer publishes is not looked at";

/// The folder of the vectors; none where `go` is not there, which CI does not accept.
fn vectors() -> Option<PathBuf> {
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", MODULE]);
    // Outside of any module.
    let output = go.current_dir(std::env::temp_dir()).output();
    let Ok(output) = output else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "go is missing"
        );
        eprintln!("NOT RUN: go is missing; it comes with: apt-get install golang-go");
        return None;
    };
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["Sum"], SUM, "{told}");
    Some(Path::new(told["Dir"].as_str().unwrap()).join("testvectors_v1"))
}

/// Of one key, or of a set.
fn keys_of(key: &Value) -> Vec<Value> {
    match key.get("keys").and_then(Value::as_array) {
        Some(set) => set.clone(),
        None => vec![key.clone()],
    }
}

fn is_accepted(key: &Value, token: &str) -> bool {
    let rules = IssuerRules {
        issuer: "nobody".to_owned(),
        audiences: Vec::new(),
        algorithms: Algorithm::ALL.to_vec(),
        leeway: Duration::ZERO,
    };
    let Ok(keys) = KeySet::parse(&json!({"keys": keys_of(key)}).to_string()) else {
        return false;
    };
    match verify(token, &rules, &keys, SystemTime::now()) {
        Ok(_) => true,
        // What is looked at after the signature.
        Err(
            TokenError::NotJson { part, .. }
            | TokenError::NotAnObject { part }
            | TokenError::NotBase64 { part },
        ) => part == "payload",
        Err(TokenError::MissingClaim(_) | TokenError::WrongIssuer { .. }) => true,
        Err(_) => false,
    }
}

#[test]
fn no_forged_signature_is_accepted_and_every_refused_good_one_has_a_reason() {
    let Some(vectors) = vectors() else { return };
    let (mut refused, mut wrongly) = (BTreeSet::new(), BTreeSet::new());
    let mut counts = [0; 3];
    for file in ["json_web_signature", "json_web_key", "json_web_crypto"] {
        let text = fs::read_to_string(vectors.join(format!("{file}_test.json"))).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        for group in all["testGroups"].as_array().unwrap() {
            let key = group.get("public").unwrap_or(&group["private"]);
            for test in group["tests"].as_array().unwrap() {
                let number = test["tcId"].as_u64().unwrap();
                let token = match &test["jws"] {
                    // Of encryption (JWE), which there is none of here.
                    Value::Null => continue,
                    Value::String(token) => token.clone(),
                    other => other.to_string(),
                };
                let result = test["result"].as_str().unwrap();
                assert!(
                    ["valid", "invalid"].contains(&result),
                    "{file} {number}: {result}"
                );
                let valid = result == "valid";
                match (valid, is_accepted(key, &token)) {
                    (true, true) => counts[0] += 1,
                    (false, false) => counts[1] += 1,
                    (true, false) => {
                        counts[2] += 1;
                        let symmetric = |key: &Value| key["kty"] == "oct";
                        if !keys_of(key).iter().all(symmetric) {
                            refused.insert((file, number, test["comment"].to_string()));
                        }
                    }
                    (false, true) => {
                        wrongly.insert((file, number, test["comment"].to_string()));
                    }
                }
            }
        }
    }
    let [accepted, forged, good_refused] = counts;
    eprintln!("accepted {accepted}, refused forged {forged}, refused good {good_refused}");
    let listed: BTreeSet<_> = REFUSED
        .iter()
        .map(|(file, number, _)| (*file, *number))
        .collect();
    let found: BTreeSet<_> = refused
        .iter()
        .map(|(file, number, _)| (*file, *number))
        .collect();
    assert_eq!(found, listed, "{refused:?}");
    let listed: BTreeSet<_> = ACCEPTED
        .iter()
        .map(|(file, number, _)| (*file, *number))
        .collect();
    let found: BTreeSet<_> = wrongly
        .iter()
        .map(|(file, number, _)| (*file, *number))
        .collect();
    assert_eq!(found, listed, "{wrongly:?}");
    assert!(accepted > 0 && forged > 400);
}
