//! Certification requests (RFC 2986): of one, only the public key is taken, and the proof that its sender has the private
//! one. Names and extensions in it are not even looked at.

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use crate::roca::is_roca;

/// No key that is accepted needs a longer request.
const MAX_BYTES: usize = 16 * 1024;
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Too long to be one.
    #[error("the certification request has {0} bytes; at most {MAX_BYTES} are accepted")]
    TooLarge(usize),
    /// Not a request.
    #[error("the certification request is not PKCS #10 in DER (RFC 2986)")]
    Malformed,
    /// A key whose private key others can find out.
    #[error(
        "the certification request is for an RSA key with the ROCA weakness (CVE-2017-15361): others can calculate its \
         private key. Make a new key, in software or with a device whose firmware is mended"
    )]
    Roca,
    /// A key that is not issued for.
    #[error(
        "the certification request is for {0}; expected a key on P-256, P-384 or Ed25519, or RSA of 2048 to 8192 bits"
    )]
    Key(String),
    /// The sender does not have the private key.
    #[error("the certification request is not signed by the private key of its public key")]
    Signature,
    /// SHA-1.
    #[error("the certification request is signed with SHA-1; use SHA-256")]
    Sha1,
}

/// A public key whose private key the sender has. Made by [`check`] only.
pub struct ProvedKey {
    public_key: SubjectPublicKeyInfo,
    thumbprint: String,
}

impl ProvedKey {
    /// The key to certify.
    pub fn public_key(&self) -> &SubjectPublicKeyInfo {
        &self.public_key
    }

    /// SHA-256 of its SubjectPublicKeyInfo, in lower-case hexadecimal digits.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }
}

/// Checks a request.
///
/// # Errors
/// When it cannot be read, is for a key that is not issued for, or is not signed by that key.
pub fn check(der: &[u8]) -> Result<ProvedKey, CsrError> {
    if der.len() > MAX_BYTES {
        return Err(CsrError::TooLarge(der.len()));
    }
    let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
        return Err(CsrError::Malformed);
    };
    let key = &request.certification_request_info.subject_pki;
    check_key_type(key)?;
    let signature = &request.signature_algorithm.algorithm;
    if [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA].contains(signature) {
        return Err(CsrError::Sha1);
    }
    request
        .verify_signature()
        .map_err(|_| CsrError::Signature)?;
    Ok(ProvedKey {
        public_key: SubjectPublicKeyInfo::from_der(key.raw)
            .map_err(|_| CsrError::Key("a key in an unusual encoding".to_owned()))?,
        thumbprint: hex::encode(digest(&SHA256, key.raw)),
    })
}

fn check_key_type(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<(), CsrError> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return Ok(());
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 || curve == OID_NIST_EC_P384 => Ok(()),
            Some(curve) => Err(CsrError::Key(format!("a key on the curve {curve}"))),
            None => Err(CsrError::Key("a key on an unnamed curve".to_owned())),
        };
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if *algorithm == OID_PKCS1_RSAENCRYPTION => {
            let bits = rsa.key_size();
            if !RSA_BITS.contains(&bits) {
                return Err(CsrError::Key(format!("an RSA key of {bits} bits")));
            }
            if is_roca(rsa.modulus) {
                return Err(CsrError::Roca);
            }
            Ok(())
        }
        _ => Err(CsrError::Key(format!("a key of the type {algorithm}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, RsaKeySize, SanType};

    fn request(key: &KeyPair) -> Vec<u8> {
        CertificateParams::default()
            .serialize_request(key)
            .unwrap()
            .der()
            .to_vec()
    }

    #[test]
    fn the_accepted_keys_are_taken() {
        let keys = [
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap(),
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
            KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        ];
        for key in keys {
            let proved = check(&request(&key)).unwrap();
            assert_eq!(
                proved.public_key().subject_public_key_info(),
                key.subject_public_key_info()
            );
            let expected = hex::encode(digest(&SHA256, &key.subject_public_key_info()));
            assert_eq!(proved.thumbprint(), expected);
        }
    }

    #[test]
    fn an_rsa_key_with_the_roca_weakness_is_refused() {
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let mut request = request(&key);
        let spki = key.subject_public_key_info();
        let (_, parsed) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&spki).unwrap();
        let Ok(PublicKey::RSA(rsa)) = parsed.parsed() else {
            panic!("an RSA key")
        };
        let weak = crate::roca::tests::weakened(rsa.modulus);
        let at = request
            .windows(weak.len())
            .position(|window| window == rsa.modulus)
            .unwrap();
        // The weakness is told before the signature, which nobody can make here.
        request[at..at + weak.len()].copy_from_slice(&weak);
        assert_eq!(check(&request).err(), Some(CsrError::Roca));
    }

    #[test]
    fn other_curves_are_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        assert!(matches!(check(&request(&key)), Err(CsrError::Key(_))));
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (ours, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let spki = ours.subject_public_key_info();
        let mut forged = request(&theirs);
        let theirs = theirs.subject_public_key_info();
        let at = forged
            .windows(theirs.len())
            .position(|window| window == theirs)
            .unwrap();
        forged[at..at + spki.len()].copy_from_slice(&spki);
        assert_eq!(check(&forged).err(), Some(CsrError::Signature));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let key = KeyPair::generate().unwrap();
        let mut trailing = request(&key);
        trailing.push(0);
        assert_eq!(check(&trailing).err(), Some(CsrError::Malformed));
        assert_eq!(check(&[]).err(), Some(CsrError::Malformed));
        assert_eq!(
            check(&vec![0; 20_000]).err(),
            Some(CsrError::TooLarge(20_000))
        );
    }

    #[test]
    fn names_in_a_request_do_not_matter() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("spiffe://evil/admin".try_into().unwrap())];
        let request = params.serialize_request(&key).unwrap();
        let proved = check(request.der()).unwrap();
        assert_eq!(
            proved.public_key().subject_public_key_info(),
            key.subject_public_key_info()
        );
    }

    proptest! {
        /// What encodes the signature has spare bits; what is signed has none.
        #[test]
        fn a_changed_request_is_refused_or_is_for_the_same_key(
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
        ) {
            let key = KeyPair::generate().unwrap();
            let mut changed = request(&key);
            let at = at.index(changed.len());
            changed[at] ^= flip;
            if let Ok(proved) = check(&changed) {
                prop_assert_eq!(proved.public_key().der_bytes(), key.der_bytes());
            }
        }

        #[test]
        fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(check(&bytes).is_err());
            crate::laws::any_request(&bytes);
        }
    }
}
