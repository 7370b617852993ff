//! Who issued whom, proved by the signatures.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::AlgorithmIdentifier;

use super::entry::Entry;

/// How many certificates of the right name are tried as the issuer of one.
const MOST_CANDIDATES: usize = 16;

/// A certificate's issuer among the certificates that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// It has signed itself.
    SelfSigned,
    /// The certificate of this index has signed it.
    IssuedBy(usize),
    /// The certificate of this index has the name of its issuer, but not signed it.
    NotSignedBy(usize),
    /// The certificate of this index has the name of its issuer; the signature's algorithm cannot be
    /// verified here.
    Unproven(usize),
    /// Its issuer is not there.
    Missing,
}

impl Link {
    /// The index of the issuer, where there is one.
    pub(super) fn issuer(self) -> Option<usize> {
        match self {
            Self::IssuedBy(index) | Self::Unproven(index) => Some(index),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Good,
    Bad,
    Impossible,
}

/// Finds the issuer of an entry, first in its own group.
pub(super) fn link(entry: &Entry<'_>, all: &[Entry<'_>]) -> Link {
    let Ok(read) = &entry.read else {
        return Link::Missing;
    };
    let certificate = &read.parsed;
    let issuer = certificate.issuer().as_raw();
    let own_name = certificate.subject().as_raw() == issuer;
    if own_name && prove(certificate, certificate) == Proof::Good {
        return Link::SelfSigned;
    }
    let candidates = |own_group: bool| {
        all.iter().enumerate().filter_map(move |(index, other)| {
            let parsed = &other.read.as_ref().ok()?.parsed;
            let fits = (other.group == entry.group) == own_group
                && other.number != entry.number
                && parsed.subject().as_raw() == issuer
                && parsed.subject().iter().next().is_some();
            fits.then_some((index, parsed, own_group))
        })
    };
    let (mut unproven, mut bad) = (None, None);
    for (index, candidate, own_group) in candidates(true)
        .chain(candidates(false))
        .take(MOST_CANDIDATES)
    {
        match prove(certificate, candidate) {
            Proof::Good => return Link::IssuedBy(index),
            Proof::Impossible => unproven = unproven.or(Some(index)),
            // Roots of one name are many, and told apart by their key identifiers.
            Proof::Bad if own_group && !names_another_key(certificate, candidate) => {
                bad = bad.or(Some(index));
            }
            Proof::Bad => {}
        }
    }
    match (unproven, bad) {
        (Some(index), _) => Link::Unproven(index),
        (None, Some(index)) => Link::NotSignedBy(index),
        (None, None) if own_name && prove(certificate, certificate) == Proof::Impossible => {
            Link::SelfSigned
        }
        (None, None) => Link::Missing,
    }
}

/// Whether a certificate says that its issuer's key is another than this one's (RFC 5280 §4.2.1.1).
fn names_another_key(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let named =
        certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref(),
                _ => None,
            });
    let own = issuer
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id),
            _ => None,
        });
    matches!((named, own), (Some(named), Some(own)) if named.0 != own.0)
}

/// Whether `issuer`'s key has signed `certificate`.
fn prove(certificate: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Proof {
    let key = issuer.public_key();
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok())
        .map(|oid| oid.to_id_string());
    let Some(algorithm) = verifier(&certificate.signature_algorithm, curve.as_deref()) else {
        return Proof::Impossible;
    };
    let verified = UnparsedPublicKey::new(algorithm, &key.subject_public_key.data).verify(
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    );
    match verified {
        Ok(()) => Proof::Good,
        // A key of a size that is not verified with may have signed nonetheless.
        Err(_) if is_unverifiable_rsa(issuer) => Proof::Impossible,
        Err(_) => Proof::Bad,
    }
}

fn is_unverifiable_rsa(issuer: &X509Certificate<'_>) -> bool {
    let key = issuer.public_key();
    key.algorithm.algorithm == oid_registry::OID_PKCS1_RSAENCRYPTION
        && key
            .parsed()
            .is_ok_and(|key| !(2048..=8192).contains(&key.key_size()))
}

fn verifier(
    algorithm: &AlgorithmIdentifier<'_>,
    curve: Option<&str>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let oid = algorithm.algorithm.to_id_string();
    let verifier: &'static dyn VerificationAlgorithm = match (oid.as_str(), curve) {
        ("1.2.840.10045.4.3.2", Some("1.2.840.10045.3.1.7")) => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some("1.2.840.10045.3.1.7")) => &signature::ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some("1.2.840.10045.3.1.7")) => &signature::ECDSA_P256_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", Some("1.3.132.0.34")) => &signature::ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some("1.3.132.0.34")) => &signature::ECDSA_P384_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some("1.3.132.0.34")) => &signature::ECDSA_P384_SHA512_ASN1,
        ("1.2.840.10045.4.3.2", Some("1.3.132.0.35")) => &signature::ECDSA_P521_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some("1.3.132.0.35")) => &signature::ECDSA_P521_SHA384_ASN1,
        ("1.2.840.10045.4.3.4", Some("1.3.132.0.35")) => &signature::ECDSA_P521_SHA512_ASN1,
        // Only to show who issued whom: that SHA-1 proves nothing is a finding of its own.
        ("1.2.840.113549.1.1.5" | "1.3.14.3.2.29", _) => {
            &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY
        }
        ("1.2.840.113549.1.1.11", _) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.12", _) => &signature::RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", _) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.10", _) => pss(algorithm)?,
        ("1.3.101.112", _) => &signature::ED25519,
        _ => return None,
    };
    Some(verifier)
}

fn pss(algorithm: &AlgorithmIdentifier<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let parameters = RsaSsaPssParams::try_from(algorithm.parameters.as_ref()?).ok()?;
    let hash = parameters.hash_algorithm_oid();
    if *hash == oid_registry::OID_NIST_HASH_SHA256 {
        Some(&signature::RSA_PSS_2048_8192_SHA256)
    } else if *hash == oid_registry::OID_NIST_HASH_SHA384 {
        Some(&signature::RSA_PSS_2048_8192_SHA384)
    } else if *hash == oid_registry::OID_NIST_HASH_SHA512 {
        Some(&signature::RSA_PSS_2048_8192_SHA512)
    } else {
        None
    }
}
