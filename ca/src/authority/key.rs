//! The private keys of the authorities.

use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use super::AuthorityError;

/// An authority's ECDSA P-256 key. Wiped when dropped; not to be shown.
pub(crate) struct AuthorityKey(Zeroizing<KeyPair>);

impl AuthorityKey {
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(|pair| Self(Zeroizing::new(pair)))
    }

    /// Reads the PKCS #8 key in `pem`, the content of the file `path`.
    pub(crate) fn from_pem(pem: &str, path: &Path) -> Result<Self, AuthorityError> {
        let damaged = |found: String| AuthorityError::Damaged {
            path: path.to_owned(),
            expected: "a P-256 private key in PKCS #8 PEM",
            found,
        };
        // The parser's words are not passed on: they must not show any of a key.
        let pair = KeyPair::from_pem(pem)
            .map_err(|_| damaged(format!("{} bytes that are none", pem.len())))?;
        if pair.is_compatible(&PKCS_ECDSA_P256_SHA256) {
            Ok(Self(Zeroizing::new(pair)))
        } else {
            Err(damaged("a key of another type".to_owned()))
        }
    }

    pub(crate) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }
}

impl PublicKeyData for AuthorityKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&*self.0)
    }
}

impl SigningKey for AuthorityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
