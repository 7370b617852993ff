//! `TokenIssuer`: whose tokens are believed.

use std::time::Duration;

use countersign_identity::jwt::Algorithm;
use serde::{Deserialize, Serialize};

use super::{Metadata, Origin};
use crate::pattern::HeaderName;

/// An issuer of JSON Web Tokens, and where a request carries them. It concerns the workloads of its
/// namespace; in the root namespace, those of the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenIssuer {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where the document starts.
    pub origin: Origin,
    /// The claim `iss`, exactly (RFC 7519 §4.1.1).
    pub issuer: String,
    /// A token has to be for one of these (RFC 7519 §4.1.3). At least one.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted. At least one.
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are.
    pub keys: KeySource,
    /// Where a request carries a token; at least one place.
    pub from: Vec<TokenLocation>,
    /// How far clocks may be apart.
    #[serde(rename = "leewaySeconds", with = "seconds")]
    pub leeway: Duration,
    /// Whether the application gets the token, too.
    pub forward: bool,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeySource {
    /// OpenID Connect discovery at the issuer (OpenID Connect Discovery 1.0 §4).
    Discovery,
    /// A JSON Web Key Set at this URL.
    JwksUri(String),
    /// This JSON Web Key Set (RFC 7517 §5), as JSON text.
    Inline(String),
}

/// A place in a request where a token may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenLocation {
    /// The header.
    pub header: HeaderName,
    /// What stands before the token in the header's value; may be empty.
    pub prefix: String,
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}
