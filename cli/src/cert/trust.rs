//! Whether somebody who is believed vouches for a chain.

use std::path::Path;
use std::time::SystemTime;

use countersign_identity::{Bundle, SvidError, TrustDomain, X509Svid};
use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::entry::Entry;
use super::source::{self, Access, ReadError};

/// The trusted roots to verify against.
pub(super) struct Roots {
    /// Where they come from, for people.
    pub(super) origin: String,
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Reads roots from a file of any form that `inspect` reads too.
    pub(super) fn read(path: &Path) -> Result<Self, ReadError> {
        let bytes = source::read_file(path).map_err(|source| ReadError::File {
            path: path.to_owned(),
            source,
        })?;
        let origin = path.display().to_string();
        let found = source::from_bytes(&origin, &bytes, path.parent(), &Access::default())?;
        let groups = found.groups.into_iter();
        Ok(Self {
            origin,
            authorities: groups.flat_map(|group| group.certificates).collect(),
        })
    }

    /// The roots as the bundle of a trust domain.
    pub(super) fn bundle(&self, trust_domain: &TrustDomain) -> Result<Bundle, String> {
        Bundle::new(trust_domain.clone(), self.authorities.clone(), 0)
            .map_err(|error| format!("{}: {error}", self.origin))
    }
}

/// The verdict on a chain. Its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Trust {
    /// Whether a root vouches for the leaf; absent if that was not found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) verified: Option<bool>,
    /// Where the roots are from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bundle: Option<String>,
    pub(super) detail: String,
}

impl Trust {
    fn unknown(detail: impl Into<String>) -> Self {
        Self {
            verified: None,
            bundle: None,
            detail: detail.into(),
        }
    }

    /// That there are no roots to verify against.
    pub(super) fn no_roots() -> Self {
        Self::unknown("not verified: give the trusted roots with --bundle FILE")
    }
}

/// Verifies a chain, leaving aside whether it is valid now: that is a finding of its own, and should not
/// hide whose the chain is.
pub(super) fn verify(
    chain: Vec<CertificateDer<'static>>,
    roots: &Roots,
    path: &[&Entry<'_>],
    now: SystemTime,
) -> Trust {
    let svid = match X509Svid::from_chain(chain) {
        Ok(svid) => svid,
        Err(SvidError::NoUriSan) => {
            return Trust::unknown("not verified: only the chains of X.509-SVIDs are");
        }
        Err(_) => {
            return Trust::unknown("not verified: it breaks the rules of X.509-SVIDs (see above)");
        }
    };
    let verified = roots.bundle(svid.id().trust_domain()).and_then(|bundle| {
        svid.verify(&bundle, common_moment(path, now))
            .map_err(|error| error.to_string())
    });
    Trust {
        verified: Some(verified.is_ok()),
        bundle: Some(roots.origin.clone()),
        detail: match verified {
            Ok(()) => format!("vouched for by a root in {}", roots.origin),
            Err(problem) => problem,
        },
    }
}

/// The moment nearest to `now` at which all certificates are valid, if there is one.
fn common_moment(path: &[&Entry<'_>], now: SystemTime) -> SystemTime {
    let validities = || {
        path.iter()
            .filter_map(|entry| Some(entry.facts()?.validity))
    };
    let latest_start = validities().map(|(start, _)| start).max();
    let first_end = validities().map(|(_, end)| end).min();
    match (latest_start, first_end) {
        (Some(start), Some(end)) if start <= end => now.clamp(start, end),
        _ => now,
    }
}
