//! An issuer's signing key, kept in the state directory.

use std::io;
use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

use crate::up::layout::write_private;

/// Why an issuer has no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssuerKeyError {
    #[error("cannot read the issuer's key {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot keep the issuer's key in {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a P-256 key; remove it, and a new one is made", path.display())]
    Damaged { path: PathBuf },
    #[error("cannot make a key")]
    Generate(#[from] rcgen::Error),
    #[error("cannot publish the key")]
    Publish(#[from] jsonwebtoken::errors::Error),
}

/// A P-256 key for ES256. It has no `Debug`: nothing may print it.
pub(crate) struct IssuerKey {
    id: String,
    signing_key: EncodingKey,
    jwks: Value,
}

impl IssuerKey {
    /// Reads the key, or makes one at the first start.
    pub(crate) fn open(path: &Path) -> Result<Self, IssuerKeyError> {
        let pem = match std::fs::read_to_string(path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_pem();
                write_private(path, pem.as_bytes()).map_err(|source| IssuerKeyError::Write {
                    path: path.to_owned(),
                    source,
                })?;
                pem
            }
            Err(source) => {
                return Err(IssuerKeyError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let pair =
            KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256).map_err(|_| {
                IssuerKeyError::Damaged {
                    path: path.to_owned(),
                }
            })?;
        let signing_key = EncodingKey::from_ec_der(pair.serialized_der());
        let mut jwk = Jwk::from_encoding_key(&signing_key, Algorithm::ES256)?;
        // RFC 7638: the same key has the same name after every start.
        let id = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self {
            id,
            signing_key,
            jwks: json!({ "keys": [jwk] }),
        })
    }

    /// The `kid` of tokens signed with it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn signing_key(&self) -> &EncodingKey {
        &self.signing_key
    }

    /// The public key as a JWK set (RFC 7517 §5).
    pub(super) fn jwks(&self) -> &Value {
        &self.jwks
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_stays_the_same_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let first = IssuerKey::open(&path).unwrap();
        let second = IssuerKey::open(&path).unwrap();
        assert_eq!(first.id(), second.id());
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!first.jwks().to_string().contains("\"d\""));
    }

    #[test]
    fn a_damaged_key_is_not_replaced_silently() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        std::fs::write(&path, "garbage").unwrap();
        assert!(matches!(
            IssuerKey::open(&path),
            Err(IssuerKeyError::Damaged { .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), b"garbage");
    }
}
