//! SPIFFE IDs that a rule accepts.

use std::fmt;
use std::str::FromStr;

use countersign_identity::{SpiffeId, SpiffeIdError, TrustDomain};

/// One SPIFFE ID, exactly, or everything below one: `spiffe://shop.example/ns/shop/**`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffePattern {
    /// Without the `/**`.
    id: SpiffeId,
    below: bool,
}

/// Why a text is not a [`SpiffePattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffePatternError {
    /// A star elsewhere than in a final `/**`.
    #[error("a `*` may only stand at the end, as in spiffe://shop.example/ns/shop/**")]
    Star,
    /// What is left is not a SPIFFE ID.
    #[error(transparent)]
    Id(#[from] SpiffeIdError),
}

impl SpiffePattern {
    /// Whether the ID is accepted.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        if !self.below {
            return *id == self.id;
        }
        id.as_str()
            .strip_prefix(self.id.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
    }

    /// The pattern of the same paths in another trust domain.
    ///
    /// # Errors
    /// The ID would be longer than one may be.
    pub(crate) fn in_trust_domain(
        &self,
        trust_domain: &TrustDomain,
    ) -> Result<Self, SpiffeIdError> {
        Ok(Self {
            id: self.id.in_trust_domain(trust_domain)?,
            below: self.below,
        })
    }

    /// The ID that is accepted, or that the accepted ones are below of.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Whether the IDs below are meant, and not the ID itself.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.below
    }
}

impl FromStr for SpiffePattern {
    type Err = SpiffePatternError;

    fn from_str(text: &str) -> Result<Self, SpiffePatternError> {
        let (id, below) = match text.strip_suffix("/**") {
            Some(id) => (id, true),
            None => (text, false),
        };
        if id.contains('*') {
            return Err(SpiffePatternError::Star);
        }
        Ok(Self {
            id: id.parse()?,
            below,
        })
    }
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.id, if self.below { "/**" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, id: &str) -> bool {
        pattern
            .parse::<SpiffePattern>()
            .unwrap()
            .matches(&id.parse().unwrap())
    }

    #[test]
    fn ids_match_exactly_or_below() {
        assert!(matches("spiffe://a/ns/x/sa/y", "spiffe://a/ns/x/sa/y"));
        assert!(!matches("spiffe://a/ns/x/sa/y", "spiffe://a/ns/x/sa/y2"));
        assert!(matches("spiffe://a/ns/x/**", "spiffe://a/ns/x/sa/y"));
        assert!(!matches("spiffe://a/ns/x/**", "spiffe://a/ns/x"));
        assert!(!matches("spiffe://a/ns/x/**", "spiffe://a/ns/xy/sa/y"));
        assert!(matches("spiffe://a/**", "spiffe://a/b"));
        assert!(!matches("spiffe://a/**", "spiffe://ab/b"));
        assert_eq!(
            "spiffe://a/*/x".parse::<SpiffePattern>(),
            Err(SpiffePatternError::Star)
        );
        assert!("https://a/**".parse::<SpiffePattern>().is_err());
    }
}
