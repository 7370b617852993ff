//! OpenID providers and CI services, as the commands ask them: by the client with which the CA asks issuers.
//!
//! What is asked for here is a proof of who we are, so that it goes over TLS; plain HTTP only to this machine itself.

use std::path::Path;
use std::time::Duration;

use countersign_identity::keys::{
    AddressRule, Content, DiscoveryError, Endpoint, FetchError, Fetcher, Metadata, MetadataError,
    Outgoing, Reply,
};
use url::{Host, Url};

/// How long a request may take in all.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Why a provider is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProviderError {
    #[error(
        "{0} is not a URL of a provider; expected https://HOST/…, without a user name (plain http is for this machine alone)"
    )]
    Url(String),
    #[error("{0}; name the authorities of its certificate with --provider-ca FILE")]
    NoAuthorities(Box<FetchError>),
    #[error(transparent)]
    Fetch(Box<FetchError>),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
}

impl From<FetchError> for ProviderError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NoAuthorities { .. } => Self::NoAuthorities(Box::new(error)),
            error => Self::Fetch(Box::new(error)),
        }
    }
}

impl ProviderError {
    /// Whether the provider may only have been slow.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Fetch(error) if matches!(**error, FetchError::Timeout { .. }))
    }
}

/// Asks providers and services, each request over a connection of its own.
pub(crate) struct Client(Fetcher);

impl Client {
    /// `authorities` is a PEM file of the only ones to believe; without it, the system's.
    pub(crate) fn new(authorities: Option<&Path>) -> Self {
        let authorities = authorities.map(Path::to_owned);
        // Where a user's own provider is, is the user's choice.
        Self(Fetcher::new(AddressRule::Any, authorities, TIMEOUT))
    }

    /// What an issuer says of itself.
    pub(crate) async fn metadata(&self, issuer: &str) -> Result<Metadata, ProviderError> {
        checked_url(issuer)?;
        let url = Metadata::url_of(issuer).map_err(|_| wrong_url(issuer))?;
        Metadata::fetch(url, issuer, &self.0)
            .await
            .map_err(|error| match error {
                MetadataError::Fetch(error) => error.into(),
                MetadataError::Discovery(error) => error.into(),
            })
    }

    /// Gets text that has to be there.
    pub(crate) async fn get(&self, url: &Url) -> Result<String, ProviderError> {
        Ok(self.0.get(url).await?.text)
    }

    /// Gets what the bearer of `token` may have.
    pub(crate) async fn get_as(&self, url: &Url, token: &str) -> Result<Reply, ProviderError> {
        self.send(url, Some(token), None).await
    }

    /// Posts a form.
    pub(crate) async fn post(&self, url: &Url, form: String) -> Result<Reply, ProviderError> {
        self.send(url, None, Some(Content::Form(form))).await
    }

    async fn send(
        &self,
        url: &Url,
        bearer: Option<&str>,
        content: Option<Content>,
    ) -> Result<Reply, ProviderError> {
        let outgoing = Outgoing {
            url,
            bearer,
            content,
        };
        Ok(self.0.send(outgoing).await?)
    }
}

/// An endpoint of a provider, if it may be asked.
pub(crate) fn endpoint(metadata: &Metadata, endpoint: Endpoint) -> Result<Url, ProviderError> {
    checked_url(metadata.endpoint(endpoint)?.as_str())
}

/// Checks that a URL may be asked.
pub(crate) fn checked_url(text: &str) -> Result<Url, ProviderError> {
    let url = Url::parse(text).map_err(|_| wrong_url(text))?;
    let local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(wrong_url(text)),
    };
    if !url.username().is_empty() || url.password().is_some() {
        // It may be a secret.
        let host = url.host_str().unwrap_or_default();
        return Err(wrong_url(&format!("{}://…@{host}/…", url.scheme())));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if local => Ok(url),
        _ => Err(wrong_url(text)),
    }
}

fn wrong_url(text: &str) -> ProviderError {
    let shown = text.chars().flat_map(char::escape_default).take(200);
    ProviderError::Url(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::checked_url;

    #[test]
    fn proofs_go_over_tls_or_stay_on_this_machine() {
        for good in [
            "https://login.example/realms/a",
            "http://127.0.0.1:8080/x",
            "http://localhost/x",
            "http://[::1]:80/",
        ] {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://login.example",
            "http://127.0.0.1.evil.example/",
            "https://user:secret@login.example/",
            "ftp://localhost/",
            "login.example",
        ] {
            let told = checked_url(bad).unwrap_err().to_string();
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
