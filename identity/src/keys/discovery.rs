//! From an issuer to its key set (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::endpoint::{EndpointError, IssuerEndpoint};
use super::fetch::{FetchError, Fetcher};
use crate::jwt::KeySet;

/// Why an issuer's metadata do not lead to its keys.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not the metadata that the specification describes.
    #[error("{url}: not OpenID provider metadata: {error}")]
    NotMetadata {
        /// Where they are from.
        url: Url,
        /// Why not.
        error: serde_json::Error,
    },
    /// Metadata of another issuer (§4.3).
    #[error("{url} is the metadata of the issuer {found:?}; expected {expected:?}, to the letter")]
    WrongIssuer {
        /// Where they are from.
        url: Url,
        /// Their issuer.
        found: String,
        /// The configured one.
        expected: String,
    },
    /// Metadata whose `jwks_uri` is no URL.
    #[error("{url} says that the keys are at {found:?}, which is not a URL: {error}")]
    BadJwksUri {
        /// Where the metadata are from.
        url: Url,
        /// The field.
        found: String,
        /// Why not.
        error: url::ParseError,
    },
}

/// The fields that are used.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// A key set, and how long the issuer says it may be kept.
pub(super) struct Found {
    pub(super) keys: KeySet,
    pub(super) max_age: Option<Duration>,
}

/// Anything that can go wrong on the way.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
}

/// Finds and fetches the issuer's key set.
pub(super) async fn look_up(
    endpoint: &IssuerEndpoint,
    fetcher: &Fetcher,
) -> Result<Found, LookupError> {
    let jwks_uri = match &endpoint.jwks_uri {
        Some(configured) => configured.clone(),
        None => discover(endpoint, fetcher).await?,
    };
    endpoint.check_url(&jwks_uri)?;
    let answer = fetcher.get(&jwks_uri).await?;
    let keys = KeySet::parse(&answer.text).map_err(|error| FetchError::KeySet {
        url: jwks_uri.clone(),
        error,
    })?;
    Ok(Found {
        keys,
        max_age: answer.max_age,
    })
}

async fn discover(endpoint: &IssuerEndpoint, fetcher: &Fetcher) -> Result<Url, LookupError> {
    let url = endpoint.metadata_url()?;
    endpoint.check_url(&url)?;
    let answer = fetcher.get(&url).await?;
    let metadata: Metadata =
        serde_json::from_str(&answer.text).map_err(|error| DiscoveryError::NotMetadata {
            url: url.clone(),
            error,
        })?;
    if metadata.issuer != endpoint.issuer {
        return Err(DiscoveryError::WrongIssuer {
            url,
            found: metadata.issuer,
            expected: endpoint.issuer.clone(),
        }
        .into());
    }
    Url::parse(&metadata.jwks_uri).map_err(|error| {
        DiscoveryError::BadJwksUri {
            url,
            found: metadata.jwks_uri,
            error,
        }
        .into()
    })
}
