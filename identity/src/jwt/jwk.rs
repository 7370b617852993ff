//! JSON Web Keys of public keys that come as X.509 has them (RFC 7517, RFC 7518 §6, RFC 8037 §2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::Algorithm;

/// Why a public key has no JWK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not a SubjectPublicKeyInfo.
    #[error("the public key is not a SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7)")]
    Malformed,
    /// A type of key that is not used.
    #[error("the public key is of the type {0}; expected P-256, P-384, P-521, Ed25519 or RSA")]
    Type(String),
}

/// A public key's JWK, and the algorithm that it signs with: for RSA, whose keys can do several, RS256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicJwk {
    /// The members that make up the key: `kty`, and what that type has.
    pub members: Map<String, Value>,
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// The JWK of a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
///
/// # Errors
/// It is not one, or of a type that is not used.
pub fn from_spki(der: &[u8]) -> Result<PublicJwk, JwkError> {
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], spki)) => from_parsed(&spki),
        _ => Err(JwkError::Malformed),
    }
}

pub(crate) fn from_parsed(spki: &SubjectPublicKeyInfo<'_>) -> Result<PublicJwk, JwkError> {
    let kind = &spki.algorithm.algorithm;
    if *kind == OID_SIG_ED25519 {
        let key = &*spki.subject_public_key.data;
        if key.len() != 32 {
            return Err(JwkError::Malformed);
        }
        return Ok(okp(key));
    }
    match spki.parsed() {
        Ok(PublicKey::EC(point)) if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            let curve = spki.algorithm.parameters.as_ref();
            let curve = curve.and_then(|curve| curve.as_oid().ok());
            let (name, size, algorithm) = match curve {
                Some(curve) if curve == OID_EC_P256 => ("P-256", 32, Algorithm::Es256),
                Some(curve) if curve == OID_NIST_EC_P384 => ("P-384", 48, Algorithm::Es384),
                Some(curve) if curve == OID_NIST_EC_P521 => ("P-521", 66, Algorithm::Es512),
                Some(curve) => return Err(JwkError::Type(curve.to_id_string())),
                None => return Err(JwkError::Malformed),
            };
            ec(point.data(), name, size, algorithm)
        }
        Ok(PublicKey::RSA(key)) if *kind == OID_PKCS1_RSAENCRYPTION => Ok(PublicJwk {
            members: members([
                ("kty", "RSA".to_owned()),
                ("n", encode(unsigned(key.modulus))),
                ("e", encode(unsigned(key.exponent))),
            ]),
            algorithm: Algorithm::Rs256,
        }),
        Ok(_) => Err(JwkError::Type(kind.to_id_string())),
        Err(_) => Err(JwkError::Malformed),
    }
}

/// An uncompressed point (SEC 1 §2.3.3), as two coordinates.
fn ec(point: &[u8], curve: &str, size: usize, algorithm: Algorithm) -> Result<PublicJwk, JwkError> {
    let Some((0x04, coordinates)) = point.split_first() else {
        return Err(JwkError::Malformed);
    };
    let (x, y) = coordinates
        .split_at_checked(size)
        .filter(|(_, y)| y.len() == size)
        .ok_or(JwkError::Malformed)?;
    Ok(PublicJwk {
        members: members([
            ("kty", "EC".to_owned()),
            ("crv", curve.to_owned()),
            ("x", encode(x)),
            ("y", encode(y)),
        ]),
        algorithm,
    })
}

fn okp(key: &[u8]) -> PublicJwk {
    PublicJwk {
        members: members([
            ("kty", "OKP".to_owned()),
            ("crv", "Ed25519".to_owned()),
            ("x", encode(key)),
        ]),
        algorithm: Algorithm::EdDsa,
    }
}

fn members<const N: usize>(of: [(&str, String); N]) -> Map<String, Value> {
    of.into_iter()
        .map(|(name, value)| (name.to_owned(), Value::String(value)))
        .collect()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A DER integer without the zero that only says that it is positive (RFC 7518 §6.3.1).
fn unsigned(mut big_endian: &[u8]) -> &[u8] {
    while let Some((0, rest)) = big_endian.split_first() {
        big_endian = rest;
    }
    big_endian
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};

    use super::*;
    use crate::jwt::KeySet;

    #[test]
    fn keys_of_each_type_are_read_as_keys_again() {
        let keys = [
            (
                KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
                Algorithm::Es256,
            ),
            (
                KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
                Algorithm::Es384,
            ),
            (
                KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
                Algorithm::Es512,
            ),
            (
                KeyPair::generate_for(&rcgen::PKCS_ED25519),
                Algorithm::EdDsa,
            ),
            (
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
                Algorithm::Rs256,
            ),
        ];
        for (key, algorithm) in keys {
            let jwk = from_spki(&key.unwrap().subject_public_key_info()).unwrap();
            assert_eq!(jwk.algorithm, algorithm);
            let set = KeySet::of(&[Value::Object(jwk.members.clone())]).unwrap();
            let read: Vec<_> = set.public_jwks().collect();
            assert_eq!(read, [&Value::Object(jwk.members)]);
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let mut spki = KeyPair::generate().unwrap().subject_public_key_info();
        assert_eq!(from_spki(&spki[1..]), Err(JwkError::Malformed));
        spki.push(0);
        assert_eq!(from_spki(&spki), Err(JwkError::Malformed));
        assert_eq!(from_spki(&[]), Err(JwkError::Malformed));
    }
}
