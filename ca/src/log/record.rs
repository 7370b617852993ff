//! One issuance, as it stands in the log.

use std::net::SocketAddr;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, SecondsFormat, Utc};
use countersign_identity::X509Svid;
use serde::{Deserialize, Serialize};

use crate::attest::Attested;
use crate::issue::token::TokenFacts;

const X509_SVID: &str = "x509-svid";

/// One issuance. No secrets. The JSON of it is what is hashed: the fields in this order, without spaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When: RFC 3339, UTC, milliseconds.
    pub(crate) time: String,
    /// x509-svid, jwt-svid or wit-svid.
    pub(crate) kind: String,
    /// The serial number of the certificate; of a token, the claim `jti`.
    pub(crate) serial: String,
    /// Whom it names.
    pub(crate) spiffe_id: String,
    /// From when on it is good.
    pub(crate) not_before: String,
    /// Until when.
    pub(crate) not_after: String,
    /// How the identity was proved.
    pub(crate) attestation: AttestationRecord,
    /// Whom a JWT-SVID is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) audience: Vec<String>,
    /// SHA-256 of the SubjectPublicKeyInfo of the key that the SVID is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_thumbprint: Option<String>,
    /// SHA-256 of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate_thumbprint: Option<String>,
    /// SHA-256 of the certificate of the intermediate that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) issuer_thumbprint: Option<String>,
    /// Who asked; none for the CA itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote_address: Option<SocketAddr>,
}

/// How an identity was proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttestationRecord {
    /// See [`crate::attest::Kind`].
    pub(crate) kind: String,
    /// What the proof rests on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

impl Record {
    /// What is known of the issuance of an X.509-SVID.
    pub(crate) fn of_svid(
        svid: &X509Svid,
        attested: &Attested,
        key_thumbprint: &str,
        remote_address: Option<SocketAddr>,
        now: SystemTime,
    ) -> Self {
        Self {
            time: rfc3339(now, SecondsFormat::Millis),
            kind: X509_SVID.to_owned(),
            serial: svid.serial().to_owned(),
            spiffe_id: svid.id().to_string(),
            not_before: rfc3339(svid.not_before(), SecondsFormat::Secs),
            not_after: rfc3339(svid.not_after(), SecondsFormat::Secs),
            attestation: AttestationRecord::of(attested),
            audience: Vec::new(),
            key_thumbprint: Some(key_thumbprint.to_owned()),
            certificate_thumbprint: Some(hex::encode(svid.thumbprint())),
            issuer_thumbprint: svid
                .chain()
                .get(1)
                .map(|issuer| hex::encode(digest(&SHA256, issuer))),
            remote_address,
        }
    }

    /// What is known of the issuance of a token.
    pub(crate) fn of_token(
        token: &TokenFacts,
        attested: &Attested,
        remote_address: SocketAddr,
        now: SystemTime,
    ) -> Self {
        Self {
            time: rfc3339(now, SecondsFormat::Millis),
            kind: token.usage.name().to_owned(),
            serial: token.id.clone(),
            spiffe_id: attested.id().to_string(),
            not_before: rfc3339(token.issued_at, SecondsFormat::Secs),
            not_after: rfc3339(token.expires_at, SecondsFormat::Secs),
            attestation: AttestationRecord::of(attested),
            audience: token.audience.clone(),
            key_thumbprint: token.key_thumbprint.clone(),
            certificate_thumbprint: None,
            issuer_thumbprint: None,
            remote_address: Some(remote_address),
        }
    }

    /// Until when a certificate is good, milliseconds since 1970; none of what is no certificate, or if that is not what
    /// stands there.
    pub(crate) fn certificate_ends(&self) -> Option<i64> {
        let ends = DateTime::parse_from_rfc3339(&self.not_after).ok()?;
        (self.kind == X509_SVID).then(|| ends.timestamp_millis())
    }

    /// When, milliseconds since 1970; none if that is not what stands there.
    pub(crate) fn time(&self) -> Option<i64> {
        let time = DateTime::parse_from_rfc3339(&self.time).ok()?;
        Some(time.timestamp_millis())
    }
}

impl AttestationRecord {
    fn of(attested: &Attested) -> Self {
        Self {
            kind: attested.kind().name().to_owned(),
            detail: attested.detail().to_owned(),
        }
    }
}

fn rfc3339(time: SystemTime, precision: SecondsFormat) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(precision, true)
}

/// A record for tests.
#[cfg(test)]
pub(crate) fn example(serial: &str) -> Record {
    Record {
        time: "2027-01-15T08:00:00.000Z".to_owned(),
        kind: "x509-svid".to_owned(),
        serial: serial.to_owned(),
        spiffe_id: "spiffe://shop.example/ns/shop/sa/orders".to_owned(),
        not_before: "2027-01-15T07:59:00Z".to_owned(),
        not_after: "2027-01-15T09:00:00Z".to_owned(),
        attestation: AttestationRecord {
            kind: "jwt".to_owned(),
            detail: "a\nb".to_owned(),
        },
        audience: Vec::new(),
        key_thumbprint: Some("aa".to_owned()),
        certificate_thumbprint: Some("bb".to_owned()),
        issuer_thumbprint: Some("cc".to_owned()),
        remote_address: Some(([127, 0, 0, 1], 1).into()),
    }
}
