//! What holds for any input whatever, as functions: tests call them with examples and with random input, the fuzzer with
//! what it finds. Built for these only.

#![expect(clippy::panic, reason = "a broken law ends the test")]

use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;

use crate::bundle::SpiffeBundle;
use crate::jwt::{self, Algorithm, IssuerRules, KeySet};
use crate::{Bundle, TrustDomain, X509Svid};

/// More than any message needs: what a stranger wrote is told in part.
const LONGEST_MESSAGE: usize = 2000;
/// The public key of RFC 7515, appendix A.3.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// No text is a token that nobody signed. Why not is a line, which does not repeat the text.
pub fn any_token(text: &str) {
    let rules = IssuerRules {
        issuer: "https://issuer.example".to_owned(),
        audiences: vec!["shop".to_owned()],
        algorithms: vec![Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa],
        leeway: Duration::ZERO,
    };
    let Ok(keys) = KeySet::parse(KEYS) else {
        panic!("a key of RFC 7515 is not read");
    };
    match jwt::verify(text, &rules, &keys, UNIX_EPOCH) {
        Ok(_) => panic!("{text:?} is believed"),
        Err(error) => check_message(&error),
    }
    if let Err(error) = jwt::unverified_issuer(text) {
        check_message(&error);
    }
    if let Err(error) = jwt::svid::unverified_trust_domain(text) {
        check_message(&error);
    }
}

/// Published keys are refused with a reason of one line, or are the same after they were written and read again.
pub fn any_bundle(text: &str) {
    match SpiffeBundle::parse(local(), text) {
        Err(error) => check_message(&error),
        Ok(bundle) => match bundle.to_json() {
            Err(error) => check_message(&error),
            Ok(written) => match SpiffeBundle::parse(local(), &written) {
                Ok(again) if again == bundle => {}
                other => panic!("{bundle:?} is written as {written}, which is {other:?}"),
            },
        },
    }
    match KeySet::parse(text) {
        Err(error) => check_message(&error),
        Ok(keys) => {
            let written = keys.to_jwks();
            match KeySet::parse(&written) {
                Ok(again) if again.key_ids().eq(keys.key_ids()) => {}
                other => panic!("{keys:?} are written as {written}, which is {other:?}"),
            }
        }
    }
}

/// A certificate is refused with a reason of one line, or names one workload; as an authority likewise.
pub fn any_certificate(der: &[u8]) {
    let certificate = CertificateDer::from(der.to_vec());
    match X509Svid::from_chain(vec![certificate.clone()]) {
        Err(error) => check_message(&error),
        Ok(svid) if svid.not_before() <= svid.not_after() || svid.id().path().is_empty() => {}
        Ok(svid) => {
            // It is never valid; but whoever asks must be told so.
            if let Ok(bundle) = Bundle::new(local(), vec![certificate.clone()], 1)
                && svid.verify(&bundle, svid.not_after()).is_ok()
            {
                panic!("{svid:?} ends before it begins, and is believed");
            }
        }
    }
    if let Err(error) = Bundle::new(local(), vec![certificate], 1) {
        check_message(&error);
    }
}

fn local() -> TrustDomain {
    match TrustDomain::parse("shop.example") {
        Ok(local) => local,
        Err(error) => panic!("shop.example is a trust domain: {error}"),
    }
}

fn check_message(error: &dyn Error) {
    let message = error.to_string();
    let is_line = !message.is_empty() && !message.chars().any(char::is_control);
    if !is_line || message.len() > LONGEST_MESSAGE {
        panic!("a reason is one line: {message:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::TestAuthority;

    const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.AAAA";

    fn changed(bytes: &mut Vec<u8>, cuts: Vec<(prop::sample::Index, usize, Vec<u8>)>) {
        for (at, length, insert) in cuts {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, insert);
        }
    }

    fn cuts() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, Vec<u8>)>> {
        let cut = (
            any::<prop::sample::Index>(),
            0_usize..4,
            prop::collection::vec(any::<u8>(), 0..4),
        );
        prop::collection::vec(cut, 1..4)
    }

    proptest! {
        #[test]
        fn any_changed_token_keeps_the_laws(cuts in cuts()) {
            let mut token = TOKEN.as_bytes().to_vec();
            changed(&mut token, cuts);
            any_token(&String::from_utf8_lossy(&token));
        }

        #[test]
        fn any_changed_keys_keep_the_laws(cuts in cuts()) {
            let mut keys = KEYS.as_bytes().to_vec();
            changed(&mut keys, cuts);
            any_bundle(&String::from_utf8_lossy(&keys));
        }

        #[test]
        fn any_changed_certificate_keeps_the_laws(cuts in cuts()) {
            let authority = TestAuthority::new(&local()).unwrap();
            let mut der = authority.root().to_vec();
            changed(&mut der, cuts);
            any_certificate(&der);
        }
    }
}
