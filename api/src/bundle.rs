//! The bundle's way over the wire and back.

use countersign_identity::jwt::{KeySet, KeySetError};
use countersign_identity::{Bundle, BundleError, SpiffeIdError, TrustDomain};
use rustls_pki_types::CertificateDer;

use crate::proto;

/// Why a received bundle is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// The message has no bundle where it must have one.
    #[error("the message has no bundle")]
    Missing,
    /// Its trust domain's name is not one.
    #[error("the bundle's trust domain: {0}")]
    TrustDomain(#[from] SpiffeIdError),
    /// Its authorities are not.
    #[error(transparent)]
    Authorities(#[from] BundleError),
    /// Its token keys are not.
    #[error("the bundle's {kind} keys: {source}")]
    TokenKeys {
        /// JWT-SVID or WIT-SVID.
        kind: &'static str,
        /// What is wrong with them.
        source: KeySetError,
    },
}

impl From<&Bundle> for proto::Bundle {
    fn from(bundle: &Bundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain().to_string(),
            x509_authorities: bundle
                .x509_authorities()
                .iter()
                .map(|der| der.to_vec())
                .collect(),
            sequence: bundle.sequence(),
            tainted_authorities: bundle.tainted().iter().map(|der| der.to_vec()).collect(),
            jwt_keys: bundle.jwt_keys().map(KeySet::to_jwks).unwrap_or_default(),
            wit_keys: bundle.wit_keys().map(KeySet::to_jwks).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::Bundle> for Bundle {
    type Error = InvalidBundle;

    fn try_from(bundle: proto::Bundle) -> Result<Self, InvalidBundle> {
        let trust_domain = TrustDomain::parse(&bundle.trust_domain)?;
        let authorities = bundle
            .x509_authorities
            .into_iter()
            .map(Into::into)
            .collect();
        let jwt_keys = token_keys("JWT-SVID", &bundle.jwt_keys)?;
        let wit_keys = token_keys("WIT-SVID", &bundle.wit_keys)?;
        let tainted: Vec<CertificateDer<'static>> = bundle
            .tainted_authorities
            .into_iter()
            .map(Into::into)
            .collect();
        let bundle = Self::new(trust_domain, authorities, bundle.sequence)?.with_tainted(&tainted);
        Ok(bundle.with_token_keys(jwt_keys, wit_keys)?)
    }
}

fn token_keys(kind: &'static str, jwks: &str) -> Result<Option<KeySet>, InvalidBundle> {
    if jwks.is_empty() {
        return Ok(None);
    }
    KeySet::parse(jwks)
        .map(Some)
        .map_err(|source| InvalidBundle::TokenKeys { kind, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_ca::{bundle, td};
    use countersign_identity::testing::TestAuthority;

    const KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k1",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

    #[test]
    fn there_and_back() {
        let authority = TestAuthority::new(&td()).unwrap();
        let plain = bundle(&authority, 3);
        let with_keys = plain
            .clone()
            .with_token_keys(Some(KeySet::parse(KEY).unwrap()), None)
            .unwrap();
        for bundle in [plain, with_keys] {
            let read: Bundle = proto::Bundle::from(&bundle).try_into().unwrap();
            assert_eq!(read, bundle);
        }
    }

    #[test]
    fn token_keys_that_are_none_refuse_the_bundle() {
        let authority = TestAuthority::new(&td()).unwrap();
        for jwks in ["{}", "x", r#"{"keys":[]}"#, &KEY.replace("kid", "id")] {
            let mut sent = proto::Bundle::from(&bundle(&authority, 3));
            sent.jwt_keys = jwks.to_owned();
            assert!(Bundle::try_from(sent).is_err(), "{jwks}");
        }
    }
}
