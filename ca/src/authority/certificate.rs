//! Reading the authorities' certificates.

use std::time::{Duration, SystemTime};

use countersign_identity::{SvidError, TrustDomain};
use rcgen::PublicKeyData;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Why a certificate is not one of an authority.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    /// Not PEM.
    #[error("expected a certificate in PEM, found {0} bytes without one")]
    Pem(usize),
    /// Not a certificate.
    #[error("expected an X.509 certificate in DER, found something else ({0})")]
    Der(String),
    /// A leaf.
    #[error("it may not sign certificates: its basic constraints do not say CA:TRUE")]
    NotAnAuthority,
    /// Not as SPIFFE has it.
    #[error("{0}")]
    Svid(Box<SvidError>),
    /// Of another trust domain.
    #[error("it is of the trust domain {found:?}, expected spiffe://{expected}")]
    OtherTrustDomain {
        /// Its URI names.
        found: String,
        /// What is configured.
        expected: TrustDomain,
    },
    /// Not yet, or no more.
    #[error("it {0}; check this machine's clock")]
    OutOfTime(&'static str),
}

impl From<SvidError> for CertificateError {
    fn from(error: SvidError) -> Self {
        Self::Svid(Box::new(error))
    }
}

/// Reads one certificate in PEM.
pub(crate) fn from_pem(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateError::Pem(pem.len()))
}

/// Reads a certificate that may sign others.
pub(crate) fn parse<'a>(
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if certificate.is_ca() => Ok(certificate),
        Ok(([], _)) => Err(CertificateError::NotAnAuthority),
        Ok((rest, _)) => Err(CertificateError::Der(format!(
            "{} bytes after it",
            rest.len()
        ))),
        Err(error) => Err(CertificateError::Der(error.to_string())),
    }
}

/// Its URI names.
pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let uri = |name: &'a GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    };
    names.iter().filter_map(uri).collect()
}

/// Whether it is valid.
pub(crate) fn check_time(
    certificate: &X509Certificate<'_>,
    now: SystemTime,
) -> Result<(), CertificateError> {
    let (not_before, not_after) = validity(certificate);
    if now < not_before {
        return Err(CertificateError::OutOfTime("is not valid yet"));
    }
    if not_after <= now {
        return Err(CertificateError::OutOfTime("has expired"));
    }
    Ok(())
}

/// From when, and until when.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let validity = certificate.validity();
    (time(validity.not_before), time(validity.not_after))
}

/// Whether this key is the one that is certified.
pub(crate) fn is_for(certificate: &X509Certificate<'_>, key: &impl PublicKeyData) -> bool {
    key.subject_public_key_info() == certificate.public_key().raw
}

/// Whether `issuer` signed it.
pub(crate) fn is_signed_by(
    certificate: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
) -> bool {
    certificate.issuer() == issuer.subject()
        && certificate
            .verify_signature(Some(issuer.public_key()))
            .is_ok()
}

fn time(time: x509_parser::time::ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
