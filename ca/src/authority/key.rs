//! A private key in memory.

use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use x509_parser::der_parser::parse_der;
use zeroize::Zeroizing;

use super::keys::KeyError;

/// An authority's ECDSA P-256 key. Wiped when dropped; not to be shown.
pub(crate) struct AuthorityKey(Zeroizing<KeyPair>);

impl AuthorityKey {
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(|pair| Self(Zeroizing::new(pair)))
    }

    /// Reads the PKCS #8 key in `pem`, the content of the file `path`.
    pub(crate) fn from_pem(pem: &str, path: &Path) -> Result<Self, KeyError> {
        let damaged = |found: String| KeyError::Damaged {
            path: path.to_owned(),
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

/// The signature of a JWS: `r` and `s`, 32 bytes each (RFC 7518 §3.4).
pub(crate) fn jws_signature(
    key: &impl SigningKey,
    message: &[u8],
) -> Result<[u8; 64], rcgen::Error> {
    fixed_length(&key.sign(message)?).ok_or(rcgen::Error::RingUnspecified)
}

/// An ECDSA signature in DER, as X.509 has it (RFC 3279 §2.2.3), in fixed length.
fn fixed_length(der: &[u8]) -> Option<[u8; 64]> {
    let ([], signature) = parse_der(der).ok()? else {
        return None;
    };
    let [r, s] = signature.as_sequence().ok()?.as_slice() else {
        return None;
    };
    let mut fixed = [0; 64];
    let halves = fixed.split_at_mut(32);
    for (number, half) in [(r, halves.0), (s, halves.1)] {
        let bytes = number.as_slice().ok()?;
        let bytes = match bytes.split_first() {
            // Only says that the number is positive.
            Some((0, rest)) => rest,
            _ => bytes,
        };
        let start = half.len().checked_sub(bytes.len())?;
        half.get_mut(start..)?.copy_from_slice(bytes);
    }
    Some(fixed)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_jws_signature_verifies() {
        // Often enough that a short `r` or `s` is among them.
        for _ in 0..600 {
            let key = AuthorityKey::generate().unwrap();
            let signature = jws_signature(&key, b"message").unwrap();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.der_bytes())
                .verify(b"message", &signature)
                .unwrap();
        }
    }

    #[test]
    fn what_is_no_signature_has_no_fixed_length() {
        for der in [&[][..], &[0x30, 0], &[0x30, 3, 2, 1, 1], &[4, 1, 1]] {
            assert_eq!(fixed_length(der), None);
        }
    }
}
