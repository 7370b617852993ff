//! What an OpenID provider says of itself (OpenID Connect Discovery 1.0).

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::output::printable;
use crate::web_client::{self, Ask, WebError};

/// The fields that are used.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    issuer: String,
    pub(crate) jwks_uri: Option<String>,
    pub(crate) token_endpoint: Option<String>,
    /// RFC 8628 §4.
    pub(crate) device_authorization_endpoint: Option<String>,
}

/// Why a provider is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("{url} answered {status}; expected a JSON document")]
    Status {
        url: String,
        status: http::StatusCode,
    },
    #[error("{url}: not the JSON that was expected")]
    Json {
        url: String,
        source: serde_json::Error,
    },
    #[error("the metadata are of the issuer \"{found}\"; expected \"{expected}\", to the letter")]
    WrongIssuer { found: String, expected: String },
    #[error("the provider has no `{0}`")]
    Lacks(&'static str),
}

impl Metadata {
    /// Fetches a provider's metadata and checks that they are its own (§4.3).
    pub(crate) async fn fetch(issuer: &str, authorities: Option<&Path>) -> Result<Self, OidcError> {
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let url = format!("{base}/.well-known/openid-configuration");
        let metadata: Self = get_json(&url, authorities).await?;
        if metadata.issuer != issuer {
            return Err(OidcError::WrongIssuer {
                found: printable(&metadata.issuer).into_owned(),
                expected: issuer.to_owned(),
            });
        }
        Ok(metadata)
    }
}

/// Fetches text that has to be there.
pub(crate) async fn get(url: &str, authorities: Option<&Path>) -> Result<Vec<u8>, OidcError> {
    let parsed = web_client::parse_url(url)?;
    let answer = web_client::ask(&parsed, Ask::Get, authorities).await?;
    match answer.status.is_success() {
        true => Ok(answer.body.to_vec()),
        false => Err(OidcError::Status {
            url: url.to_owned(),
            status: answer.status,
        }),
    }
}

async fn get_json<T: DeserializeOwned>(
    url: &str,
    authorities: Option<&Path>,
) -> Result<T, OidcError> {
    let body = get(url, authorities).await?;
    serde_json::from_slice(&body).map_err(|source| OidcError::Json {
        url: url.to_owned(),
        source,
    })
}
