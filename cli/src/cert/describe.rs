//! The facts in one certificate (RFC 5280), read but not judged.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, KeyUsage};
use x509_parser::oid_registry;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::instant::{Standing, rfc3339};

/// What one certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Description {
    /// The `spiffe://` URI among the subject alternative names, valid or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spiffe_id: Option<String>,
    pub(super) subject: String,
    pub(super) issuer: String,
    /// Hexadecimal.
    pub(super) serial: String,
    pub(super) not_before: String,
    pub(super) not_after: String,
    /// "42m left", "expired 3h ago".
    pub(super) time_left: String,
    pub(super) key: String,
    pub(super) certificate_authority: bool,
    pub(super) key_usage: Vec<&'static str>,
    pub(super) extended_key_usage: Vec<String>,
    /// Subject alternative names other than the SPIFFE ID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) other_names: Vec<String>,
    /// SHA-256 of the DER form, hexadecimal.
    pub(super) thumbprint: String,
    /// Where the moment of inspection stands in the validity.
    #[serde(skip)]
    pub(super) standing: Standing,
    /// The validity itself.
    #[serde(skip)]
    pub(super) validity: (SystemTime, SystemTime),
}

impl Description {
    /// Reads the facts of a certificate that parses; `None` if it does not.
    pub(super) fn of(certificate: &CertificateDer<'_>, now: SystemTime) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let (spiffe, other_names) = names(&parsed);
        let validity = (
            system_time(parsed.validity().not_before),
            system_time(parsed.validity().not_after),
        );
        let standing = Standing::of(validity.0, validity.1, now);
        let thumbprint = digest::digest(&digest::SHA256, certificate);
        Some(Self {
            spiffe_id: spiffe,
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: hex::encode(parsed.raw_serial()),
            not_before: rfc3339(validity.0),
            not_after: rfc3339(validity.1),
            time_left: standing.to_string(),
            key: key_type(parsed.public_key()),
            certificate_authority: is_authority(&parsed),
            key_usage: key_usage(&parsed),
            extended_key_usage: extended_key_usage(&parsed),
            other_names,
            thumbprint: hex::encode(thumbprint),
            standing,
            validity,
        })
    }
}

/// The SPIFFE ID, and all other subject alternative names.
fn names(certificate: &X509Certificate<'_>) -> (Option<String>, Vec<String>) {
    let mut spiffe = None;
    let mut others = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::URI(uri) if uri.starts_with("spiffe://") && spiffe.is_none() => {
                    spiffe = Some((*uri).to_owned());
                }
                GeneralName::URI(uri) => others.push(format!("URI {uri}")),
                GeneralName::DNSName(name) => others.push(format!("DNS {name}")),
                other => others.push(other.to_string()),
            }
        }
    }
    (spiffe, others)
}

fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    matches!(certificate.basic_constraints(), Ok(Some(extension)) if extension.value.ca)
}

/// Times before 1970 are shown as 1970: no certificate of a mesh is that old.
fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn key_type(key: &SubjectPublicKeyInfo<'_>) -> String {
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    match key.parsed() {
        Ok(PublicKey::EC(point)) => match curve {
            Some(oid) if oid == oid_registry::OID_EC_P256 => "ECDSA P-256".to_owned(),
            Some(oid) if oid == oid_registry::OID_NIST_EC_P384 => "ECDSA P-384".to_owned(),
            Some(oid) if oid == oid_registry::OID_NIST_EC_P521 => "ECDSA P-521".to_owned(),
            _ => format!("ECDSA, {} bits", point.key_size()),
        },
        Ok(PublicKey::RSA(rsa)) => format!("RSA, {} bits", rsa.key_size()),
        _ if key.algorithm.algorithm == oid_registry::OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => format!("algorithm {}", key.algorithm.algorithm),
    }
}

/// RFC 5280 §4.2.1.3, by the names used there.
fn key_usage(certificate: &X509Certificate<'_>) -> Vec<&'static str> {
    let Ok(Some(extension)) = certificate.key_usage() else {
        return Vec::new();
    };
    let usage: &KeyUsage = extension.value;
    [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
        (usage.encipher_only(), "encipherOnly"),
        (usage.decipher_only(), "decipherOnly"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

/// RFC 5280 §4.2.1.12: the two that matter to TLS by name, others by OID.
fn extended_key_usage(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.extended_key_usage() else {
        return Vec::new();
    };
    let usage = extension.value;
    [
        (usage.any, "any"),
        (usage.server_auth, "serverAuth"),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name.to_owned()))
    .chain(usage.other.iter().map(ToString::to_string))
    .collect()
}
