//! Trust domains that a rule accepts.

use std::fmt;
use std::str::FromStr;

use countersign_identity::{SpiffeIdError, TrustDomain};

/// One trust domain, or `*`: any that the mesh's bundle knows the roots of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrustDomainPattern {
    /// Any.
    Any,
    /// This one.
    Is(TrustDomain),
}

impl TrustDomainPattern {
    /// Whether the trust domain is accepted.
    #[must_use]
    pub fn matches(&self, domain: &TrustDomain) -> bool {
        match self {
            Self::Any => true,
            Self::Is(wanted) => wanted == domain,
        }
    }
}

impl FromStr for TrustDomainPattern {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
        match text {
            "*" => Ok(Self::Any),
            name => TrustDomain::parse(name).map(Self::Is),
        }
    }
}

impl fmt::Display for TrustDomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Is(domain) => domain.fmt(f),
        }
    }
}
