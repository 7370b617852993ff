//! The facts in one certificate (RFC 5280), read but not judged. All text is safe to show.

mod algorithm;
mod extension;
mod name;
mod usage;

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

pub(super) use self::algorithm::{KeyFacts, SignatureFacts, Weakness};
pub(super) use self::extension::{ExtensionFacts, MOST_VALUES, NameFacts};
pub(super) use self::name::distinguished;
use super::text::{hexadecimal, shown};
use crate::instant::{Standing, rfc3339};

/// What one certificate says. Its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Facts {
    /// The `spiffe:` URI among the subject alternative names, valid or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spiffe_id: Option<String>,
    pub(super) subject: String,
    pub(super) issuer: String,
    /// What people call it: SPIFFE ID of a workload, first DNS name, common name, or the subject.
    #[serde(skip)]
    pub(super) title: String,
    /// What people call its issuer: common name, or the whole name.
    #[serde(skip)]
    pub(super) issuer_title: String,
    /// Hexadecimal.
    pub(super) serial: String,
    pub(super) version: u32,
    pub(super) not_before: String,
    pub(super) not_after: String,
    /// `valid`, `expired` or `not-yet-valid`.
    pub(super) state: &'static str,
    pub(super) lifetime_seconds: u64,
    /// Negative when it has expired.
    pub(super) seconds_left: i64,
    /// "42m left", "expired 3h ago".
    pub(super) time_left: String,
    pub(super) certificate_authority: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_length: Option<u32>,
    pub(super) key: KeyFacts,
    pub(super) signature_algorithm: String,
    pub(super) key_usage: Vec<String>,
    pub(super) extended_key_usage: Vec<String>,
    /// Subject alternative names; at most [`MOST_VALUES`] of them.
    pub(super) names: Vec<NameFacts>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) names_omitted: usize,
    pub(super) extensions: Vec<ExtensionFacts>,
    pub(super) fingerprints: Fingerprints,
    #[serde(skip)]
    pub(super) signature: SignatureFacts,
    /// Where the moment of inspection stands in the validity.
    #[serde(skip)]
    pub(super) standing: Standing,
    #[serde(skip)]
    pub(super) validity: (SystemTime, SystemTime),
}

/// Digests, hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fingerprints {
    /// SHA-256 of the certificate's DER.
    pub(super) sha256: String,
    /// SHA-256 of the SubjectPublicKeyInfo: what pins name (RFC 7469 §2.4).
    pub(super) public_key_sha256: String,
}

impl Facts {
    /// Reads the facts of a certificate.
    pub(super) fn of(
        der: &CertificateDer<'_>,
        certificate: &X509Certificate<'_>,
        now: SystemTime,
    ) -> Self {
        let validity = (
            system_time(certificate.validity().not_before),
            system_time(certificate.validity().not_after),
        );
        let standing = Standing::of(validity.0, validity.1, now);
        let (spiffe_id, names, names_omitted) = names(certificate);
        let subject = distinguished(certificate.subject());
        let issuer = distinguished(certificate.issuer());
        let constraints = certificate.basic_constraints().ok().flatten();
        let ca = constraints.as_ref().is_some_and(|found| found.value.ca);
        let signature = SignatureFacts::of(&certificate.signature_algorithm);
        let common = name::common(certificate.subject());
        Self {
            title: title(ca, spiffe_id.as_deref(), &names, common, &subject),
            issuer_title: name::common(certificate.issuer()).unwrap_or_else(|| issuer.clone()),
            spiffe_id,
            subject,
            issuer,
            serial: hexadecimal(certificate.raw_serial()),
            version: certificate.version().0.saturating_add(1),
            not_before: rfc3339(validity.0),
            not_after: rfc3339(validity.1),
            state: match standing {
                Standing::Valid(_) => "valid",
                Standing::Expired(_) => "expired",
                Standing::NotYet(_) => "not-yet-valid",
            },
            lifetime_seconds: validity
                .1
                .duration_since(validity.0)
                .unwrap_or_default()
                .as_secs(),
            seconds_left: seconds_between(now, validity.1),
            time_left: standing.to_string(),
            certificate_authority: ca,
            path_length: constraints.and_then(|found| found.value.path_len_constraint),
            key: KeyFacts::of(certificate.public_key()),
            signature_algorithm: signature.name.clone(),
            signature,
            key_usage: match certificate.key_usage() {
                Ok(Some(usage)) => usage::names(usage.value)
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
                _ => Vec::new(),
            },
            extended_key_usage: match certificate.extended_key_usage() {
                Ok(Some(usage)) => usage::extended_names(usage.value),
                _ => Vec::new(),
            },
            names,
            names_omitted,
            extensions: certificate
                .extensions()
                .iter()
                .take(MOST_VALUES)
                .map(ExtensionFacts::of)
                .collect(),
            fingerprints: Fingerprints {
                sha256: sha256(der),
                public_key_sha256: sha256(certificate.public_key().raw),
            },
            standing,
            validity,
        }
    }

    /// Whether it names its own issuer: a root, if it is a CA's.
    pub(super) fn is_self_issued(&self) -> bool {
        self.subject == self.issuer && !self.subject.is_empty()
    }

    /// How much of its life is left, 0 to 1.
    pub(super) fn share_left(&self) -> f64 {
        match self.standing {
            Standing::NotYet(_) => 1.0,
            Standing::Expired(_) => 0.0,
            Standing::Valid(left) => {
                let life = Duration::from_secs(self.lifetime_seconds.max(1));
                (left.as_secs_f64() / life.as_secs_f64()).clamp(0.0, 1.0)
            }
        }
    }
}

/// SHA-256, hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde's skip_serializing_if calls"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn title(
    ca: bool,
    spiffe_id: Option<&str>,
    names: &[NameFacts],
    common: Option<String>,
    subject: &str,
) -> String {
    let spiffe_id = spiffe_id.map(str::to_owned);
    let first_name = names
        .iter()
        .find(|name| name.kind != "damaged")
        .map(|name| name.value.clone());
    let candidates = match ca {
        // The roots and intermediates of a trust domain all have its ID; their names tell them apart.
        true => [common, spiffe_id, first_name],
        false => [spiffe_id, first_name, common],
    };
    candidates
        .into_iter()
        .flatten()
        .find(|candidate| !candidate.is_empty())
        .unwrap_or_else(|| match subject {
            "" => "(no name)".to_owned(),
            subject => subject.to_owned(),
        })
}

/// The SPIFFE ID, the names that are kept, and how many are not.
fn names(certificate: &X509Certificate<'_>) -> (Option<String>, Vec<NameFacts>, usize) {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return (None, Vec::new(), 0);
    };
    let names = &extension.value.general_names;
    let spiffe = names.iter().find_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with("spiffe:") => Some(shown(uri)),
        _ => None,
    });
    let kept = names.iter().take(MOST_VALUES).map(NameFacts::of).collect();
    (spiffe, kept, names.len().saturating_sub(MOST_VALUES))
}

/// A certificate's time as the system's.
pub(super) fn system_time(time: ASN1Time) -> SystemTime {
    let distance = Duration::from_secs(time.timestamp().unsigned_abs());
    let moment = match time.timestamp() {
        0.. => SystemTime::UNIX_EPOCH.checked_add(distance),
        _ => SystemTime::UNIX_EPOCH.checked_sub(distance),
    };
    // A year of four digits, all that a certificate can say, is within the system's range.
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn seconds_between(from: SystemTime, to: SystemTime) -> i64 {
    match to.duration_since(from) {
        Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
        Err(past) => i64::try_from(past.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}
