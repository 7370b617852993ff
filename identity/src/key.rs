//! The private key of an SVID.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{CertificateParams, DistinguishedName, PublicKeyData};
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use zeroize::Zeroizing;

/// Why a key could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system's source of randomness, or memory, failed.
    #[error("a P-256 key could not be generated")]
    Generate,
    /// The key could not be written as PKCS #8.
    #[error("a P-256 key could not be encoded")]
    Encode,
    /// The certification request could not be encoded or signed.
    #[error("the certification request could not be made: {0}")]
    Request(#[from] rcgen::Error),
}

/// A P-256 key for an SVID.
///
/// It is generated in the cryptographic library's own memory, which is zeroized when it is freed. It signs; the one way to
/// read it is [`SvidKey::to_pkcs8_der`], for the workload whose key it is.
#[derive(Clone)]
pub struct SvidKey(Arc<P256Key>);

struct P256Key {
    pair: EcdsaKeyPair,
    spki: Vec<u8>,
}

impl SvidKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Generate)?;
        let mut key = P256Key {
            pair,
            spki: Vec::new(),
        };
        key.spki = key.subject_public_key_info();
        Ok(Self(Arc::new(key)))
    }

    /// A certification request for the public key, signed with the private one (PKCS #10,
    /// RFC 2986), DER. It names nothing: a CA takes the name from the attestation.
    ///
    /// # Errors
    /// Signing failed.
    pub fn csr_der(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&*self.0)?.der().to_vec())
    }

    /// The public key, a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    #[must_use]
    pub fn public_key_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// The private key, unencrypted PKCS #8 in DER (RFC 5208), for the SPIFFE Workload API: it hands a workload its own key.
    /// Wiped when dropped; not to be written anywhere.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.0.pair.to_pkcs8v1().map_err(|_| KeyError::Encode)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The key as rustls uses it.
    pub(crate) fn signing_key(&self) -> Arc<dyn SigningKey> {
        Arc::new(self.clone())
    }
}

impl fmt::Debug for SvidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SvidKey(P-256)")
    }
}

impl P256Key {
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

impl PublicKeyData for P256Key {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for P256Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Self::sign(self, message).ok_or(rcgen::Error::RingUnspecified)
    }
}

impl SigningKey for SvidKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        // RFC 8446 §4.2.3: in TLS 1.3 the scheme names the curve, so that P-256 has but one.
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.spki.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for SvidKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0
            .sign(message)
            .ok_or_else(|| rustls::Error::General("signing with the SVID's key failed".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key_material() {
        let key = SvidKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), "SvidKey(P-256)");
    }

    #[test]
    fn the_exported_key_is_the_same_key() {
        let key = SvidKey::generate().unwrap();
        let pkcs8 = key.to_pkcs8_der().unwrap();
        let read = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8).unwrap();
        assert_eq!(read.public_key().as_ref(), key.0.pair.public_key().as_ref());
    }

    #[test]
    fn keys_differ() {
        let (a, b) = (SvidKey::generate().unwrap(), SvidKey::generate().unwrap());
        assert_ne!(a.public_key_der(), b.public_key_der());
    }

    #[test]
    fn the_request_carries_the_public_key_and_no_name() {
        let key = SvidKey::generate().unwrap();
        let der = key.csr_der().unwrap().into();
        // Reading it verifies its signature.
        let request = rcgen::CertificateSigningRequestParams::from_der(&der).unwrap();
        assert_eq!(
            request.public_key.subject_public_key_info(),
            key.public_key_der()
        );
        assert!(request.params.subject_alt_names.is_empty());
        assert_eq!(request.params.distinguished_name.iter().count(), 0);
    }

    #[test]
    fn only_the_scheme_of_its_curve_is_chosen() {
        let key = SvidKey::generate().unwrap();
        let others = [
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
        ];
        assert!(key.choose_scheme(&others).is_none());
        let all = [
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ];
        assert!(key.choose_scheme(&all).is_some());
    }
}
