//! The bundle's way over the wire and back.

use countersign_identity::{Bundle, BundleError, SpiffeIdError, TrustDomain};

use crate::proto;

/// Why a received bundle is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBundle {
    /// The message has no bundle where it must have one.
    #[error("the message has no bundle")]
    Missing,
    /// Its trust domain's name is not one.
    #[error("the bundle's trust domain: {0}")]
    TrustDomain(#[from] SpiffeIdError),
    /// Its authorities are not.
    #[error(transparent)]
    Authorities(#[from] BundleError),
}

impl From<&Bundle> for proto::Bundle {
    fn from(bundle: &Bundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain().to_string(),
            x509_authorities: bundle
                .x509_authorities()
                .iter()
                .map(|der| der.to_vec())
                .collect(),
            sequence: bundle.sequence(),
        }
    }
}

impl TryFrom<proto::Bundle> for Bundle {
    type Error = InvalidBundle;

    fn try_from(bundle: proto::Bundle) -> Result<Self, InvalidBundle> {
        let trust_domain = TrustDomain::parse(&bundle.trust_domain)?;
        let authorities = bundle
            .x509_authorities
            .into_iter()
            .map(Into::into)
            .collect();
        Ok(Self::new(trust_domain, authorities, bundle.sequence)?)
    }
}
