//! `TokenIssuer`: whose tokens are believed.

use std::time::Duration;

use countersign_identity::jwt::Algorithm;
use serde::{Deserialize, Serialize};

use super::{Metadata, Origin, Target, seconds};
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
    /// Whose calls may carry its tokens.
    pub target: Target,
    /// The claim `iss`, exactly (RFC 7519 §4.1.1).
    pub issuer: String,
    /// A token has to be for one of these (RFC 7519 §4.1.3); none is any audience, which only documents of Istio
    /// say.
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
