//! What a field of a rule accepts: types that hold only what is valid, written as one string.

mod cidr;
mod claim;
mod claim_header;
mod host;
mod name;
mod path;
mod spiffe;
mod text;
mod trust_domain;
mod workload;

pub use cidr::{Cidr, CidrError};
pub use claim::ClaimValue;
pub(crate) use claim::find as find_claim;
pub use claim_header::{ClaimHeader, ClaimHeaderError};
pub(crate) use host::normal_host;
pub use host::{HostPattern, HostPatternError};
pub use name::{CookieName, HeaderName, Method, Name, NameError};
pub use path::{PathPattern, PathPatternError};
pub(crate) use path::{PathSegment, decode_segment};
pub use spiffe::{SpiffePattern, SpiffePatternError};
pub(crate) use text::TextPattern;
pub use trust_domain::TrustDomainPattern;
pub use workload::{WorkloadPattern, WorkloadPatternError};

/// A type that is read from, written as and sent as one string: needs `FromStr` and `Display`.
macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(
    Cidr,
    ClaimHeader,
    CookieName,
    HeaderName,
    HostPattern,
    Method,
    Name,
    PathPattern,
    SpiffePattern,
    TrustDomainPattern,
    WorkloadPattern
);
