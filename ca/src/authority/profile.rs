//! What stands in the certificates: of the root, of the intermediate, of an SVID (SPIFFE X509-SVID, RFC 5280).

use std::time::{Duration, SystemTime};

use countersign_identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};

/// Certificates are valid from a little before they are made: clocks differ.
pub(crate) const BACKDATED: Duration = Duration::from_mins(1);

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// No randomness for a serial number.
    #[error("the system has no randomness for a serial number")]
    NoRandomness,
    /// The certificate cannot be encoded or signed.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The thread that waited for the key's device is gone.
    #[error("the program is stopping")]
    Stopping,
}

/// Root: self-signed, may sign whatever it likes.
pub(crate) fn root(
    trust_domain: &TrustDomain,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, ProfileError> {
    signing(
        trust_domain,
        "root",
        BasicConstraints::Unconstrained,
        now,
        not_after,
    )
}

/// Intermediate: signs leaves only (path length 0).
pub(crate) fn intermediate(
    trust_domain: &TrustDomain,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, ProfileError> {
    signing(
        trust_domain,
        "issuing",
        BasicConstraints::Constrained(0),
        now,
        not_after,
    )
}

/// What an external root is asked to certify: an intermediate as above. The rest is the root's to say.
pub(crate) fn intermediate_request(
    trust_domain: &TrustDomain,
) -> Result<CertificateParams, ProfileError> {
    let epoch = SystemTime::UNIX_EPOCH + BACKDATED;
    let mut params = intermediate(trust_domain, epoch, epoch)?;
    params.serial_number = None;
    params.use_authority_key_identifier_extension = false;
    Ok(params)
}

/// A signing certificate is itself of the trust domain, without a path (X509-SVID §3.2, §4.1, §4.3).
fn signing(
    trust_domain: &TrustDomain,
    role: &str,
    constraints: BasicConstraints,
    now: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, ProfileError> {
    let mut params = CertificateParams::default();
    let serial = serial()?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Countersign");
    // Two authorities of one trust domain differ by name, so that chains are built without guessing. A common name has
    // at most 64 characters (RFC 5280 appendix A.1), a trust domain's name 255: it stands in the URI, whole.
    let tag: String = serial
        .to_bytes()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let short: String = trust_domain.as_str().chars().take(40).collect();
    name.push(DnType::CommonName, format!("{short} {role} {tag}"));
    params.distinguished_name = name;
    params.serial_number = Some(serial);
    params.not_before = (now - BACKDATED).into();
    params.not_after = not_after.into();
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![SanType::URI(
        format!("spiffe://{trust_domain}").as_str().try_into()?,
    )];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A leaf: one SPIFFE ID, and nothing else of a name. The subject is empty, which makes the alternative name critical.
pub(crate) fn leaf(
    id: &SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, ProfileError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial()?);
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 128 random bits: never used twice, and not to be guessed (RFC 5280 §4.1.2.2).
fn serial() -> Result<SerialNumber, ProfileError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ProfileError::NoRandomness)?;
    Ok(SerialNumber::from_slice(&bytes))
}
