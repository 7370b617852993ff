//! JWT-SVIDs: tokens that prove a SPIFFE ID to one audience (SPIFFE JWT-SVID).
//!
//! A token is verified by the bundle of the trust domain that it names, and by no other: [`unverified_trust_domain`] says
//! which bundle to take, and [`verify`] refuses any other one's.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::error::quoted;
use super::{
    Algorithm, Header, Parts, Purpose, TokenError, check_audience, check_times, object,
    required_string,
};
use crate::bundle::Bundle;
use crate::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};

/// JWT-SVID §2.1: what a JWT-SVID may be signed with.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];
/// How far the issuer's clock may be from ours.
const LEEWAY: Duration = Duration::from_secs(30);

/// Why a token is not a JWT-SVID that is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtSvidError {
    /// As any token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// JWT-SVID §3.1: the subject is a SPIFFE ID.
    #[error("the token's subject {subject} is not a SPIFFE ID: {source}")]
    Subject {
        /// The claim `sub`, quoted.
        subject: String,
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// A trust domain is nobody who could present a token.
    #[error("the token's subject {id} has no path, so that it names no workload")]
    NoPath {
        /// The ID.
        id: SpiffeId,
    },
    /// Only its own trust domain's keys may speak for an ID.
    #[error("the token is of {id}, which the bundle of {trust_domain} cannot verify")]
    OtherTrustDomain {
        /// The ID.
        id: SpiffeId,
        /// The bundle's.
        trust_domain: TrustDomain,
    },
    /// The bundle has X.509 authorities only.
    #[error("the bundle of {trust_domain} has no JWT keys, so that no token can be verified by it")]
    NoKeys {
        /// The bundle's trust domain.
        trust_domain: TrustDomain,
    },
    /// Nobody is meant.
    #[error("an audience is needed: a token that is for somebody else must not be taken")]
    NoAudience,
}

impl JwtSvidError {
    /// Whether a newer bundle may have the key that is missing.
    #[must_use]
    pub fn is_unknown_key(&self) -> bool {
        matches!(
            self,
            Self::NoKeys { .. } | Self::Token(TokenError::UnknownKey { .. })
        )
    }
}

/// A token that [`verify`] found good. Made by nothing else.
#[derive(Clone, Debug)]
pub struct JwtSvid {
    id: SpiffeId,
    expires_at: SystemTime,
    claims: Map<String, Value>,
}

impl JwtSvid {
    /// Whom it proves.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The claim `exp`.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Every claim, as the issuer wrote it.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Every claim, without a copy.
    #[must_use]
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }
}

/// Verifies a token that was presented to `audience` as of `now`, by the bundle of its trust domain (JWT-SVID §4, §5).
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(
    token: &str,
    audience: &str,
    bundle: &Bundle,
    now: SystemTime,
) -> Result<JwtSvid, JwtSvidError> {
    if audience.is_empty() {
        return Err(JwtSvidError::NoAudience);
    }
    let trust_domain = bundle.trust_domain();
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header, Purpose::JwtSvid)?;
    let algorithm = header.algorithm(&ALGORITHMS)?;
    // Read before the key is chosen: that the key of another trust domain's token is not known here would say nothing. It
    // is believed below, when the signature is.
    let claims = object("payload", parts.payload)?;
    let id = subject(&claims)?;
    if id.trust_domain() != trust_domain {
        let trust_domain = trust_domain.clone();
        return Err(JwtSvidError::OtherTrustDomain { id, trust_domain });
    }
    let keys = bundle.jwt_keys().ok_or_else(|| JwtSvidError::NoKeys {
        trust_domain: trust_domain.clone(),
    })?;
    let key = keys.choose(header.key_id.as_deref(), algorithm)?;
    parts.check_signature(key, algorithm)?;
    check_audience(&claims, &[audience.to_owned()])?;
    let (expires_at, _) = check_times(&claims, LEEWAY, now)?;
    Ok(JwtSvid {
        id,
        expires_at,
        claims,
    })
}

/// The trust domain of a token that nothing has been checked of. **Only to choose the bundle** for [`verify`].
///
/// # Errors
/// When the token cannot be read, or names no SPIFFE ID.
pub fn unverified_trust_domain(token: &str) -> Result<TrustDomain, JwtSvidError> {
    let parts = Parts::split(token)?;
    let id = subject(&object("payload", parts.payload)?)?;
    Ok(id.trust_domain().clone())
}

fn subject(claims: &Map<String, Value>) -> Result<SpiffeId, JwtSvidError> {
    let subject = required_string(claims, "sub")?;
    let id = SpiffeId::parse(subject).map_err(|source| JwtSvidError::Subject {
        subject: quoted(subject),
        source,
    })?;
    if id.path().is_empty() {
        return Err(JwtSvidError::NoPath { id });
    }
    Ok(id)
}

#[cfg(test)]
mod tests;
