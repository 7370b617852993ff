//! Whether somebody who is believed vouches for a chain.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_identity::{Bundle, SvidError, TrustDomain, X509Svid};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::Serialize;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::entry::Entry;
use super::source::{self, Access, ReadError};

/// The trusted roots to verify against.
pub(super) struct Roots {
    /// Where they come from, for people.
    pub(super) origin: String,
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// Whether they were asked for by name: then every chain is verified by them, and not only those of the mesh.
    pub(super) asked_for: bool,
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
            asked_for: true,
        })
    }

    fn unvouched(&self) -> String {
        format!("no root in {} vouches for it", self.origin)
    }

    /// Whether one of them has the name of a certificate's issuer.
    pub(super) fn has_issuer_of(&self, certificate: &X509Certificate<'_>) -> bool {
        let issuer = certificate.issuer().as_raw();
        self.authorities.iter().any(|der| {
            X509Certificate::from_der(der)
                .is_ok_and(|(_, authority)| authority.subject().as_raw() == issuer)
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

    fn never_valid() -> Self {
        Self::unknown("not verified: at no time have all of its certificates been valid")
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
    let Some(moment) = common_moment(path, now) else {
        return Trust::never_valid();
    };
    let verified = roots.bundle(svid.id().trust_domain()).and_then(|bundle| {
        svid.verify(&bundle, moment).map_err(|error| match error {
            // A file's bundle has no sequence that would say something.
            SvidError::UnknownAuthority { .. } => roots.unvouched(),
            error => error.to_string(),
        })
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

/// Verifies a chain that is no X.509-SVID's by RFC 5280: for a server or a client, whatever its name.
pub(super) fn verify_any(
    chain: &[CertificateDer<'static>],
    roots: &Roots,
    path: &[&Entry<'_>],
    now: SystemTime,
) -> Trust {
    let Some(moment) = common_moment(path, now) else {
        return Trust::never_valid();
    };
    let since_1970 = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let moment = UnixTime::since_unix_epoch(since_1970);
    let anchors = roots.authorities.iter();
    let anchors: Vec<_> = anchors
        .filter_map(|der| webpki::anchor_from_trusted_cert(der).ok())
        .collect();
    let verify = || {
        let (leaf, intermediates) = chain.split_first().ok_or(webpki::Error::BadDer)?;
        let leaf = EndEntityCert::try_from(leaf)?;
        let verify = |usage| {
            let algorithms = webpki::ALL_VERIFICATION_ALGS;
            leaf.verify_for_usage(
                algorithms,
                &anchors,
                intermediates,
                moment,
                usage,
                None,
                None,
            )
            .map(drop)
        };
        verify(KeyUsage::server_auth()).or_else(|error| match error {
            webpki::Error::RequiredEkuNotFoundContext(_) => verify(KeyUsage::client_auth()),
            error => Err(error),
        })
    };
    let verified = verify();
    Trust {
        verified: Some(verified.is_ok()),
        bundle: Some(roots.origin.clone()),
        detail: match verified {
            Ok(()) => format!("vouched for by a root in {}", roots.origin),
            Err(webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey) => {
                roots.unvouched()
            }
            Err(error) => format!("{}: {}", roots.unvouched(), first_word(&error)),
        },
    }
}

/// The rule that a chain breaks, by webpki's name: some come with all that would have been accepted.
fn first_word(error: &webpki::Error) -> String {
    let text = error.to_string();
    let word = text.split([' ', '(', '{']).next().unwrap_or_default();
    word.to_owned()
}

/// The moment nearest to `now` at which all certificates are valid, if there is one.
fn common_moment(path: &[&Entry<'_>], now: SystemTime) -> Option<SystemTime> {
    let validities = || {
        path.iter()
            .filter_map(|entry| Some(entry.facts()?.validity))
    };
    let latest_start = validities().map(|(start, _)| start).max();
    let first_end = validities().map(|(_, end)| end).min();
    match (latest_start, first_end) {
        (Some(start), Some(end)) if start > end => None,
        (Some(start), Some(end)) => Some(now.clamp(start, end)),
        _ => Some(now),
    }
}
