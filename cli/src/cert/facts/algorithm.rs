//! Keys and signatures: their names, and whether they are strong enough for today.

use serde::Serialize;
use x509_parser::public_key::PublicKey;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// What is wrong with an algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cert) enum Weakness {
    /// It can be broken; nobody should believe it.
    Broken(String),
    /// It is not broken, but others may refuse it.
    Unusual(String),
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cert) struct KeyFacts {
    /// "ECDSA P-256", "RSA 2048".
    pub(in crate::cert) name: String,
    /// `ECDSA`, `RSA`, `Ed25519`, …, or an OID.
    algorithm: String,
    /// The size as people state it; absent where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    bits: Option<usize>,
    #[serde(skip)]
    pub(in crate::cert) weakness: Option<Weakness>,
}

impl KeyFacts {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).
    pub(in crate::cert) fn of(key: &SubjectPublicKeyInfo<'_>) -> Self {
        let oid = key.algorithm.algorithm.to_id_string();
        match oid.as_str() {
            "1.2.840.10045.2.1" => elliptic(key),
            "1.2.840.113549.1.1.1" | "1.2.840.113549.1.1.10" => rsa(key),
            "1.2.840.10040.4.1" => Self::new(
                "DSA",
                None,
                "DSA".to_owned(),
                Some(Weakness::Broken("DSA is no longer accepted".to_owned())),
            ),
            "1.3.101.112" => Self::new("Ed25519", Some(256), "Ed25519".to_owned(), None),
            "1.3.101.113" => Self::new(
                "Ed448",
                Some(456),
                "Ed448".to_owned(),
                Some(Weakness::Unusual(
                    "few TLS implementations take Ed448".to_owned(),
                )),
            ),
            "2.16.840.1.101.3.4.3.17" => post_quantum("ML-DSA-44"),
            "2.16.840.1.101.3.4.3.18" => post_quantum("ML-DSA-65"),
            "2.16.840.1.101.3.4.3.19" => post_quantum("ML-DSA-87"),
            _ => Self::new(
                &oid,
                None,
                format!("algorithm {oid}"),
                Some(Weakness::Unusual("its algorithm is not known".to_owned())),
            ),
        }
    }

    fn new(algorithm: &str, bits: Option<usize>, name: String, weakness: Option<Weakness>) -> Self {
        Self {
            name,
            algorithm: algorithm.to_owned(),
            bits,
            weakness,
        }
    }
}

fn post_quantum(name: &str) -> KeyFacts {
    KeyFacts::new(
        name,
        None,
        name.to_owned(),
        Some(Weakness::Unusual(format!(
            "few TLS implementations take {name}"
        ))),
    )
}

fn elliptic(key: &SubjectPublicKeyInfo<'_>) -> KeyFacts {
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok())
        .map(|oid| oid.to_id_string());
    let broken = |name: &str| Some(Weakness::Broken(format!("the curve {name} is too small")));
    let unusual = |name: &str| {
        Some(Weakness::Unusual(format!(
            "few TLS implementations take the curve {name}"
        )))
    };
    let (name, bits, weakness) = match curve.as_deref() {
        Some("1.2.840.10045.3.1.7") => ("P-256", 256, None),
        Some("1.3.132.0.34") => ("P-384", 384, None),
        Some("1.3.132.0.35") => ("P-521", 521, None),
        Some("1.3.132.0.33") => ("P-224", 224, unusual("P-224")),
        Some("1.2.840.10045.3.1.1") => ("P-192", 192, broken("P-192")),
        Some("1.3.132.0.10") => ("secp256k1", 256, unusual("secp256k1")),
        Some("1.3.132.0.6") => ("secp112r1", 112, broken("secp112r1")),
        Some("1.3.132.0.8") => ("secp160r1", 160, broken("secp160r1")),
        Some("1.3.132.0.9") => ("secp160k1", 160, broken("secp160k1")),
        Some("1.3.36.3.3.2.8.1.1.7") => ("brainpoolP256r1", 256, unusual("brainpoolP256r1")),
        Some("1.3.36.3.3.2.8.1.1.11") => ("brainpoolP384r1", 384, unusual("brainpoolP384r1")),
        Some("1.3.36.3.3.2.8.1.1.13") => ("brainpoolP512r1", 512, unusual("brainpoolP512r1")),
        Some(oid) => {
            let weakness = Weakness::Unusual(format!("the curve {oid} is not known"));
            let name = format!("ECDSA, curve {oid}");
            return KeyFacts::new("ECDSA", None, name, Some(weakness));
        }
        // RFC 5480 §2.1.1: the curve has to be named.
        None => {
            let weakness = Weakness::Broken("its curve has no name (RFC 5480 §2.1.1)".to_owned());
            let name = "ECDSA, curve not named".to_owned();
            return KeyFacts::new("ECDSA", None, name, Some(weakness));
        }
    };
    KeyFacts::new("ECDSA", Some(bits), format!("ECDSA {name}"), weakness)
}

fn rsa(key: &SubjectPublicKeyInfo<'_>) -> KeyFacts {
    let Ok(PublicKey::RSA(rsa)) = key.parsed() else {
        let weakness = Weakness::Broken("its RSA key cannot be read".to_owned());
        return KeyFacts::new("RSA", None, "RSA, unreadable".to_owned(), Some(weakness));
    };
    let bits = bit_length(rsa.modulus);
    let weakness = match (bits, bit_length(rsa.exponent)) {
        (..2048, _) => Some(Weakness::Broken(format!(
            "an RSA key of {bits} bits can be broken; at least 2048 are needed"
        ))),
        (_, 0 | 1) => Some(Weakness::Broken("its RSA exponent is 1".to_owned())),
        (8193.., _) => Some(Weakness::Unusual(format!(
            "most TLS implementations refuse an RSA key of {bits} bits"
        ))),
        (_, 2..=16) => Some(Weakness::Unusual(
            "its RSA exponent is smaller than 65537".to_owned(),
        )),
        (_, 34..) => Some(Weakness::Unusual(
            "most TLS implementations refuse so large an RSA exponent".to_owned(),
        )),
        _ => None,
    };
    KeyFacts::new("RSA", Some(bits), format!("RSA {bits}"), weakness)
}

/// The bits of a number, big endian, without those that are zero in front.
fn bit_length(number: &[u8]) -> usize {
    let mut bytes = number.iter().skip_while(|byte| **byte == 0);
    let Some(first) = bytes.next() else { return 0 };
    let first_bits = u8::BITS.saturating_sub(first.leading_zeros());
    bytes
        .count()
        .saturating_mul(8)
        .saturating_add(usize::try_from(first_bits).unwrap_or(0))
}

/// How a certificate is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cert) struct SignatureFacts {
    /// "ECDSA with SHA-256".
    pub(in crate::cert) name: String,
    pub(in crate::cert) weakness: Option<Weakness>,
}

impl SignatureFacts {
    /// Reads a signature's AlgorithmIdentifier.
    pub(in crate::cert) fn of(algorithm: &AlgorithmIdentifier<'_>) -> Self {
        let oid = algorithm.algorithm.to_id_string();
        let good = |name: &str| Self {
            name: name.to_owned(),
            weakness: None,
        };
        let broken = |name: &str, hash: &str| Self {
            name: name.to_owned(),
            weakness: Some(Weakness::Broken(format!("{hash} can be forged"))),
        };
        match oid.as_str() {
            "1.2.840.10045.4.3.2" => good("ECDSA with SHA-256"),
            "1.2.840.10045.4.3.3" => good("ECDSA with SHA-384"),
            "1.2.840.10045.4.3.4" => good("ECDSA with SHA-512"),
            "1.2.840.10045.4.3.1" => good("ECDSA with SHA-224"),
            "1.2.840.10045.4.1" => broken("ECDSA with SHA-1", "SHA-1"),
            "1.2.840.113549.1.1.11" => good("RSA with SHA-256"),
            "1.2.840.113549.1.1.12" => good("RSA with SHA-384"),
            "1.2.840.113549.1.1.13" => good("RSA with SHA-512"),
            "1.2.840.113549.1.1.14" => good("RSA with SHA-224"),
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => broken("RSA with SHA-1", "SHA-1"),
            "1.2.840.113549.1.1.4" => broken("RSA with MD5", "MD5"),
            "1.2.840.113549.1.1.2" => broken("RSA with MD2", "MD2"),
            "1.2.840.113549.1.1.10" => pss(algorithm),
            "1.3.101.112" => good("Ed25519"),
            "1.3.101.113" => good("Ed448"),
            "2.16.840.1.101.3.4.3.17" => good("ML-DSA-44"),
            "2.16.840.1.101.3.4.3.18" => good("ML-DSA-65"),
            "2.16.840.1.101.3.4.3.19" => good("ML-DSA-87"),
            "1.2.840.10040.4.3" => broken("DSA with SHA-1", "SHA-1"),
            "2.16.840.1.101.3.4.3.2" => good("DSA with SHA-256"),
            _ => Self {
                name: format!("algorithm {oid}"),
                weakness: Some(Weakness::Unusual("its algorithm is not known".to_owned())),
            },
        }
    }
}

/// RSASSA-PSS, whose hash is among the parameters, SHA-1 if absent (RFC 4055 §3.1).
fn pss(algorithm: &AlgorithmIdentifier<'_>) -> SignatureFacts {
    let parameters = algorithm.parameters.as_ref();
    let hash = parameters
        .and_then(|parameters| RsaSsaPssParams::try_from(parameters).ok())
        .map(|parameters| parameters.hash_algorithm_oid().to_id_string());
    let (hash, weakness) = match hash.as_deref() {
        Some("2.16.840.1.101.3.4.2.1") => ("SHA-256", None),
        Some("2.16.840.1.101.3.4.2.2") => ("SHA-384", None),
        Some("2.16.840.1.101.3.4.2.3") => ("SHA-512", None),
        Some("1.3.14.3.2.26") => (
            "SHA-1",
            Some(Weakness::Broken("SHA-1 can be forged".to_owned())),
        ),
        _ => (
            "a hash that is not known",
            Some(Weakness::Unusual("its hash is not known".to_owned())),
        ),
    };
    SignatureFacts {
        name: format!("RSA-PSS with {hash}"),
        weakness,
    }
}

#[cfg(test)]
mod tests {
    use super::bit_length;

    #[test]
    fn bits_are_counted_from_the_first_that_is_set() {
        for (number, bits) in [
            (&[][..], 0),
            (&[0, 0], 0),
            (&[1], 1),
            (&[3], 2),
            (&[1, 0, 1], 17),
            (&[0, 0x80, 0], 16),
        ] {
            assert_eq!(bit_length(number), bits, "{number:?}");
        }
    }
}
