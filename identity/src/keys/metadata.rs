//! What an OpenID provider says of itself (OpenID Connect Discovery 1.0 §3, RFC 8414 §2).

use serde::Deserialize;
use url::Url;

use super::fetch::{FetchError, Fetcher};

/// Why a provider's metadata do not lead anywhere.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Not the metadata that the specification describes.
    #[error("{url}: not OpenID provider metadata: {error}")]
    NotMetadata {
        /// Where they are from.
        url: String,
        /// Why not.
        error: serde_json::Error,
    },
    /// Metadata of another issuer (§4.3).
    #[error("{url} is the metadata of the issuer {found:?}; expected {expected:?}, to the letter")]
    WrongIssuer {
        /// Where they are from.
        url: String,
        /// Their issuer.
        found: String,
        /// The configured one.
        expected: String,
    },
    /// An endpoint that is not there.
    #[error("{url}: the provider has no `{name}`")]
    NoEndpoint {
        /// Where the metadata are from.
        url: String,
        /// The field.
        name: &'static str,
    },
    /// An endpoint that is no URL.
    #[error("{url}: its `{name}` is {found:?}, which is not a URL: {error}")]
    BadEndpoint {
        /// Where the metadata are from.
        url: String,
        /// The field.
        name: &'static str,
        /// What it says.
        found: String,
        /// Why not.
        error: url::ParseError,
    },
}

/// Why a provider's metadata cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// They cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// They are not what they should be.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
}

/// An endpoint of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Its key set (`jwks_uri`).
    Keys,
    /// Where tokens are given out (`token_endpoint`).
    Token,
    /// Where a device starts its login (RFC 8628 §4).
    DeviceAuthorization,
}

/// A provider's metadata, of its own issuer; the fields that are used.
#[derive(Debug)]
pub struct Metadata {
    url: Url,
    document: Document,
}

#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

impl Metadata {
    /// Where an issuer's metadata are: OpenID Connect Discovery 1.0 §4, the issuer without a slash at its end and the
    /// well-known path.
    ///
    /// # Errors
    /// The issuer is no URL.
    pub fn url_of(issuer: &str) -> Result<Url, url::ParseError> {
        let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
        Url::parse(&format!("{issuer}/.well-known/openid-configuration"))
    }

    /// Fetches the metadata at `url`, which must be those of `issuer`, to the letter (§4.3).
    ///
    /// # Errors
    /// They cannot be fetched, or are not what they should be.
    pub async fn fetch(url: Url, issuer: &str, fetcher: &Fetcher) -> Result<Self, MetadataError> {
        let reply = fetcher.get(&url).await?;
        Ok(Self::parse(url, issuer, &reply.text)?)
    }

    fn parse(url: Url, issuer: &str, text: &str) -> Result<Self, DiscoveryError> {
        let document: Document = match serde_json::from_str(text) {
            Ok(document) => document,
            Err(error) => {
                return Err(DiscoveryError::NotMetadata {
                    url: url.into(),
                    error,
                });
            }
        };
        if document.issuer != issuer {
            return Err(DiscoveryError::WrongIssuer {
                url: url.into(),
                found: document.issuer,
                expected: issuer.to_owned(),
            });
        }
        Ok(Self { url, document })
    }

    /// Where an endpoint is. Whether it may be asked is the caller's to judge.
    ///
    /// # Errors
    /// There is none, or it is no URL.
    pub fn endpoint(&self, endpoint: Endpoint) -> Result<Url, DiscoveryError> {
        let document = &self.document;
        let (name, found) = match endpoint {
            Endpoint::Keys => ("jwks_uri", &document.jwks_uri),
            Endpoint::Token => ("token_endpoint", &document.token_endpoint),
            Endpoint::DeviceAuthorization => (
                "device_authorization_endpoint",
                &document.device_authorization_endpoint,
            ),
        };
        let url = || self.url.to_string();
        let found = found
            .as_ref()
            .ok_or_else(|| DiscoveryError::NoEndpoint { url: url(), name })?;
        Url::parse(found).map_err(|error| DiscoveryError::BadEndpoint {
            url: url(),
            name,
            found: found.clone(),
            error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_there_and_urls_or_named() {
        let url = Metadata::url_of("https://a.example/").unwrap();
        let text = r#"{"issuer": "https://a.example/", "jwks_uri": "https://a.example/k", "token_endpoint": "k"}"#;
        let metadata = Metadata::parse(url.clone(), "https://a.example/", text).unwrap();
        let told = |endpoint| {
            metadata
                .endpoint(endpoint)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            told(Endpoint::Keys),
            Ok("https://a.example/k".parse().unwrap())
        );
        assert_eq!(
            told(Endpoint::Token),
            Err(format!(
                "{url}: its `token_endpoint` is \"k\", which is not a URL: relative URL without a base"
            ))
        );
        assert_eq!(
            told(Endpoint::DeviceAuthorization),
            Err(format!(
                "{url}: the provider has no `device_authorization_endpoint`"
            ))
        );
        let other = Metadata::parse(url, "https://a.example", text).unwrap_err();
        assert!(other.to_string().contains("to the letter"), "{other}");
    }
}
