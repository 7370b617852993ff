//! SPIFFE IDs and trust domains, parsed strictly by the SPIFFE-ID specification.
//!
//! Strict means: one spelling per identity. What is not the canonical spelling is refused, never
//! normalised, so that two IDs are the same exactly if their bytes are.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest SPIFFE ID in bytes (SPIFFE-ID §2.3).
pub const MAX_ID_LENGTH: usize = 2048;
/// The longest trust domain name in bytes (SPIFFE-ID §2.3).
pub const MAX_TRUST_DOMAIN_LENGTH: usize = 255;

const SCHEME: &str = "spiffe://";

/// Why a text is not a SPIFFE ID or a trust domain. One variant per rule of the specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// SPIFFE-ID §2: the scheme is `spiffe`, in lower case, followed by `://`.
    #[error("a SPIFFE ID starts with \"spiffe://\" (in lower case)")]
    Scheme,
    /// SPIFFE-ID §2.3.
    #[error("a SPIFFE ID has at most {MAX_ID_LENGTH} bytes, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// SPIFFE-ID §2: the trust domain name is not empty.
    #[error("the trust domain name is missing")]
    EmptyTrustDomain,
    /// SPIFFE-ID §2.3.
    #[error(
        "a trust domain name has at most {MAX_TRUST_DOMAIN_LENGTH} bytes, this one has {length}"
    )]
    TrustDomainTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// SPIFFE-ID §2.1: no user information in the authority.
    #[error("a trust domain name has no user information, but there is an '@'")]
    UserInfo,
    /// SPIFFE-ID §2.1: no port in the authority, nor the `:` before it.
    #[error("a trust domain name has no port, but there is a ':'")]
    Port,
    /// SPIFFE-ID §2.1.
    #[error(
        "{character:?} is not allowed in a trust domain name: only a-z, 0-9, '.', '-' and '_' are"
    )]
    TrustDomainCharacter {
        /// The first character that is not allowed.
        character: char,
    },
    /// SPIFFE-ID §2: no query component.
    #[error("a SPIFFE ID has no query, but there is a '?'")]
    Query,
    /// SPIFFE-ID §2: no fragment component.
    #[error("a SPIFFE ID has no fragment, but there is a '#'")]
    Fragment,
    /// SPIFFE-ID §2.2: no percent-encoding.
    #[error("a SPIFFE ID has no percent-encoding, but there is a '%'")]
    PercentEncoding,
    /// SPIFFE-ID §2.2.
    #[error(
        "{character:?} is not allowed in a path segment: only a-z, A-Z, 0-9, '.', '-' and '_' are"
    )]
    PathCharacter {
        /// The first character that is not allowed.
        character: char,
    },
    /// SPIFFE-ID §2.2: no empty path segments.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// SPIFFE-ID §2.2: no relative path segments.
    #[error("the path has a relative segment, \".\" or \"..\"")]
    DotSegment,
    /// SPIFFE-ID §2.2: no trailing slash.
    #[error("the path ends with a '/'")]
    TrailingSlash,
}

/// The name of a trust domain, such as `shop.example`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain name, without a scheme (SPIFFE-ID §2.1).
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(name)?;
        Ok(Self(name.into()))
    }

    /// The name, without a scheme.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A SPIFFE ID, such as `spiffe://shop.example/ns/shop/sa/orders`. Cheap to clone.
///
/// The path may be empty: such an ID names the trust domain itself, and no workload.
#[derive(Clone)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain: TrustDomain,
}

/// What an ID of the form `/ns/<namespace>/sa/<service account>` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadName<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The service account.
    pub service_account: &'a str,
}

impl SpiffeId {
    /// Reads a SPIFFE ID (SPIFFE-ID §2).
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(uri: &str) -> Result<Self, SpiffeIdError> {
        if uri.len() > MAX_ID_LENGTH {
            return Err(SpiffeIdError::TooLong { length: uri.len() });
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        // RFC 3986 §3.2: the authority ends at the first of these.
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (name, path) = rest.split_at(end);
        check_trust_domain(name)?;
        check_path(path)?;
        Ok(Self {
            uri: uri.into(),
            trust_domain: TrustDomain(name.into()),
        })
    }

    /// The ID of a workload: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// The rule that the namespace or the service account breaks as a path segment, or that the
    /// whole would be too long.
    pub fn for_workload(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, SpiffeIdError> {
        check_segment(namespace)?;
        check_segment(service_account)?;
        let uri = format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}");
        if uri.len() > MAX_ID_LENGTH {
            return Err(SpiffeIdError::TooLong { length: uri.len() });
        }
        Ok(Self {
            uri: uri.into(),
            trust_domain: trust_domain.clone(),
        })
    }

    /// The whole ID, as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The ID of the same path in another trust domain.
    ///
    /// # Errors
    /// It would be longer than an ID may be.
    pub fn in_trust_domain(&self, trust_domain: &TrustDomain) -> Result<Self, SpiffeIdError> {
        Self::parse(&format!("{SCHEME}{trust_domain}{}", self.path()))
    }

    /// The path with its leading slash, or the empty string.
    #[must_use]
    pub fn path(&self) -> &str {
        let start = SCHEME.len() + self.trust_domain.0.len();
        self.uri.get(start..).unwrap_or_default()
    }

    /// Namespace and service account, if the path is `/ns/<namespace>/sa/<service account>`.
    #[must_use]
    pub fn workload(&self) -> Option<WorkloadName<'_>> {
        let (namespace, account) = self.path().strip_prefix("/ns/")?.split_once('/')?;
        let service_account = account.strip_prefix("sa/")?;
        (!service_account.contains('/')).then_some(WorkloadName {
            namespace,
            service_account,
        })
    }
}

/// The identities of Countersign's own parts.
pub mod system {
    use super::{SpiffeId, TrustDomain};

    /// The namespace of Countersign's own parts, and the root namespace of policy.
    pub const NAMESPACE: &str = "countersign-system";

    /// The certificate authority's own ID.
    #[must_use]
    pub fn ca(trust_domain: &TrustDomain) -> SpiffeId {
        part(trust_domain, "countersign-ca")
    }

    /// The control plane's ID.
    #[must_use]
    pub fn control(trust_domain: &TrustDomain) -> SpiffeId {
        part(trust_domain, "countersign-control")
    }

    // The segments are valid, and a trust domain of at most 255 bytes leaves room for them
    // (tested below), so that this needs no error.
    fn part(trust_domain: &TrustDomain, service_account: &str) -> SpiffeId {
        let uri = format!(
            "{}{trust_domain}/ns/{NAMESPACE}/sa/{service_account}",
            super::SCHEME
        );
        SpiffeId {
            uri: uri.into(),
            trust_domain: trust_domain.clone(),
        }
    }
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::EmptyTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_LENGTH {
        return Err(SpiffeIdError::TrustDomainTooLong { length: name.len() });
    }
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_');
    match name.chars().find(|&c| !allowed(c)) {
        None => Ok(()),
        // "user:password@host" has a colon too: what comes before an '@' is user information.
        Some(_) if name.contains('@') => Err(SpiffeIdError::UserInfo),
        Some(':') => Err(SpiffeIdError::Port),
        Some('%') => Err(SpiffeIdError::PercentEncoding),
        Some(character) => Err(SpiffeIdError::TrustDomainCharacter { character }),
    }
}

/// `path` is empty, or starts with the character that ended the authority.
fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    match path.chars().find(|c| matches!(c, '?' | '#')) {
        Some('?') => return Err(SpiffeIdError::Query),
        Some(_) => return Err(SpiffeIdError::Fragment),
        None => {}
    }
    let Some(segments) = path.strip_prefix('/') else {
        return Ok(());
    };
    let Some(segments) = segments.strip_suffix('/') else {
        return match segments {
            "" => Err(SpiffeIdError::TrailingSlash),
            _ => segments.split('/').try_for_each(check_segment),
        };
    };
    segments.split('/').try_for_each(check_segment)?;
    Err(SpiffeIdError::TrailingSlash)
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match segment {
        "" => return Err(SpiffeIdError::EmptySegment),
        "." | ".." => return Err(SpiffeIdError::DotSegment),
        _ => {}
    }
    match segment.chars().find(|&c| !allowed(c)) {
        None => Ok(()),
        Some('%') => Err(SpiffeIdError::PercentEncoding),
        Some(character) => Err(SpiffeIdError::PathCharacter { character }),
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.uri == other.uri
    }
}

impl Eq for SpiffeId {}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.uri.hash(state);
    }
}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uri.cmp(&other.uri)
    }
}

/// Both types are read, written, shown and sent as their text.
macro_rules! as_text {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl FromStr for $type {
            type Err = SpiffeIdError;

            fn from_str(text: &str) -> Result<Self, SpiffeIdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(de::Error::custom)
            }
        }
    };
}

as_text!(TrustDomain);
as_text!(SpiffeId);

#[cfg(test)]
mod tests;
