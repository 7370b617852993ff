//! The verdict on certificates: what verifies and what does not, each rule by itself, so that an
//! expired certificate of the right authority does not look like one of a wrong authority.

use std::time::SystemTime;

use countersign_identity::{Bundle, SpiffeId, TrustDomain, X509Svid};
use serde::Serialize;

use super::describe::Description;
use super::handshake::Handshake;
use super::read::Presented;

/// The trusted roots to verify against.
pub(super) struct Roots {
    /// Where they come from, for people.
    pub(super) origin: String,
    pub(super) pem: String,
}

/// Certificates and the verdict on them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) handshake: Option<Handshake>,
    pub(super) certificates: Vec<Description>,
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Whether no check failed.
    pub(super) fn holds(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.outcome != Outcome::Failed)
    }
}

/// One rule, and whether it holds.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// Stable, kebab-case.
    pub(super) check: &'static str,
    pub(super) outcome: Outcome,
    pub(super) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl Check {
    fn of(check: &'static str, result: Result<String, String>) -> Self {
        let (outcome, detail) = match result {
            Ok(detail) => (Outcome::Passed, detail),
            Err(detail) => (Outcome::Failed, detail),
        };
        Self {
            check,
            outcome,
            detail,
        }
    }
}

/// Judges certificates as of `now`.
pub(super) fn examine(presented: Presented, roots: Option<&Roots>, now: SystemTime) -> Report {
    let Presented {
        origin,
        certificates,
        handshake,
    } = presented;
    let descriptions: Vec<_> = certificates
        .iter()
        .filter_map(|certificate| Description::of(certificate, now))
        .collect();
    let mut checks = Vec::new();
    if let Some(handshake) = &handshake {
        checks.push(Check::of(
            "key-possession",
            handshake
                .possession
                .clone()
                .map(|()| "the server signed the handshake with the leaf's key".to_owned()),
        ));
    }
    // Authorities alone are a bundle: there is no leaf whose rules could apply.
    if descriptions
        .iter()
        .all(|description| description.certificate_authority)
    {
        checks.extend(descriptions.iter().map(signing_certificate));
    } else {
        let svid = X509Svid::from_chain(certificates);
        checks.push(Check::of(
            "x509-svid",
            match &svid {
                Ok(svid) => Ok(format!("a well-formed X.509-SVID of {}", svid.id())),
                Err(error) => Err(error.to_string()),
            },
        ));
        checks.push(chain(svid.ok().as_ref(), &descriptions, roots, now));
    }
    checks.push(validity(&descriptions));
    Report {
        target: origin,
        handshake,
        certificates: descriptions,
        checks,
    }
}

/// Whether the time lies in the validity of every certificate.
fn validity(descriptions: &[Description]) -> Check {
    let mut bad = Vec::new();
    for (index, description) in descriptions.iter().enumerate() {
        if !description.standing.is_valid() {
            bad.push(format!(
                "certificate {}: {}",
                index + 1,
                description.standing
            ));
        }
    }
    let first_to_end = descriptions
        .iter()
        .min_by_key(|description| description.validity.1);
    Check::of(
        "validity",
        match first_to_end {
            Some(first) if bad.is_empty() => Ok(first.standing.to_string()),
            _ => Err(bad.join("; ")),
        },
    )
}

/// Whether the chain leads to a trusted root, leaving aside whether it is valid now.
fn chain(
    svid: Option<&X509Svid>,
    descriptions: &[Description],
    roots: Option<&Roots>,
    now: SystemTime,
) -> Check {
    const NAME: &str = "chain";
    let Some(roots) = roots else {
        return Check {
            check: NAME,
            outcome: Outcome::Skipped,
            detail: "no trusted roots at hand; give --bundle FILE or --state DIR".to_owned(),
        };
    };
    let Some(svid) = svid else {
        return Check {
            check: NAME,
            outcome: Outcome::Skipped,
            detail: "only the chain of an X.509-SVID is verified".to_owned(),
        };
    };
    let verified = Bundle::from_pem(svid.id().trust_domain().clone(), &roots.pem)
        .map_err(|error| format!("{}: {error}", roots.origin))
        .and_then(|bundle| {
            svid.verify(&bundle, common_moment(descriptions, now))
                .map_err(|e| e.to_string())
        });
    Check::of(
        NAME,
        verified.map(|()| format!("leads to a root in {}", roots.origin)),
    )
}

/// The moment nearest to `now` at which all certificates are valid, if there is one.
fn common_moment(descriptions: &[Description], now: SystemTime) -> SystemTime {
    let latest_start = descriptions
        .iter()
        .map(|description| description.validity.0)
        .max();
    let first_end = descriptions
        .iter()
        .map(|description| description.validity.1)
        .min();
    match (latest_start, first_end) {
        (Some(start), Some(end)) if start <= end => now.clamp(start, end),
        _ => now,
    }
}

/// The rules of a signing certificate (SPIFFE X509-SVID §3.2, §4.1, §4.3).
fn signing_certificate(description: &Description) -> Check {
    let result = if !description.key_usage.contains(&"keyCertSign") {
        Err("an authority must be allowed to sign certificates (key usage keyCertSign)".to_owned())
    } else {
        match description.spiffe_id.as_deref().map(path_of) {
            None => Ok("an authority without a SPIFFE ID".to_owned()),
            Some(Some(domain)) => Ok(format!("an authority of trust domain {domain}")),
            Some(None) => Err("an authority's SPIFFE ID must be a trust domain alone".to_owned()),
        }
    };
    Check::of("signing-certificate", result)
}

/// The trust domain of a SPIFFE ID that is nothing but a trust domain.
fn path_of(id: &str) -> Option<TrustDomain> {
    let id = SpiffeId::parse(id).ok()?;
    id.path().is_empty().then(|| id.trust_domain().clone())
}
