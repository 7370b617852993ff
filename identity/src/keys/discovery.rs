//! From an issuer to its key set (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).
//!
//! Why this is not the `openidconnect` crate: it depends on `rsa`, `p256`, `p384`, `ed25519-dalek`, `hmac` and `sha2`, a second
//! crypto stack that `deny.toml` keeps out, and verifies with those. What is needed of discovery is two fields and the rules
//! below, which are stricter than its own: the issuer to the letter, https, no redirect, no private address, bounded time and
//! size, no member twice.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use url::Url;

use super::endpoint::{EndpointError, IssuerEndpoint, MAX_BODY_BYTES};
use super::fetch::{FetchError, Fetcher};
use super::metadata::{DiscoveryError, Endpoint, Metadata, MetadataError};
use crate::jwt::KeySet;

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

impl From<MetadataError> for LookupError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Fetch(error) => Self::Fetch(error),
            MetadataError::Discovery(error) => Self::Discovery(error),
        }
    }
}

/// Finds and fetches the issuer's key set.
pub(super) async fn look_up(
    endpoint: &IssuerEndpoint,
    fetcher: &Fetcher,
) -> Result<Found, LookupError> {
    if let Some(path) = &endpoint.jwks_file {
        return Ok(read_file(path).await?);
    }
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

async fn read_file(path: &Path) -> Result<Found, FetchError> {
    let read = async {
        let mut text = String::new();
        let file = tokio::fs::File::open(path).await?;
        let limit = u64::try_from(MAX_BODY_BYTES).unwrap_or(u64::MAX);
        file.take(limit.saturating_add(1))
            .read_to_string(&mut text)
            .await?;
        if text.len() > MAX_BODY_BYTES {
            return Err(std::io::Error::other(format!(
                "it has more than {MAX_BODY_BYTES} bytes"
            )));
        }
        Ok(text)
    };
    let text = read.await.map_err(|error| FetchError::KeyFile {
        path: path.to_owned(),
        error,
    })?;
    let keys = KeySet::parse(&text).map_err(|error| FetchError::KeyFileSet {
        path: path.to_owned(),
        error,
    })?;
    Ok(Found {
        keys,
        max_age: None,
    })
}

async fn discover(endpoint: &IssuerEndpoint, fetcher: &Fetcher) -> Result<Url, LookupError> {
    let url = endpoint.metadata_url()?;
    endpoint.check_url(&url)?;
    let metadata = Metadata::fetch(url, &endpoint.issuer, fetcher).await?;
    Ok(metadata.endpoint(Endpoint::Keys)?)
}
