//! Where an issuer's keys are.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::metadata::Metadata;

/// The longest answer that is read, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How to reach an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerEndpoint {
    /// The issuer, exactly as its tokens and its metadata name it. A text and not a `Url`: normalising would change it.
    pub issuer: String,
    /// Where the metadata are; without it, where OpenID Connect Discovery 1.0 §4 says.
    pub discovery_url: Option<Url>,
    /// Where the key set is; given, no metadata are fetched.
    pub jwks_uri: Option<Url>,
    /// A file with the key set; given, nothing is fetched, and the file is read instead: by the same schedule, and when a token
    /// names a key that it did not have.
    pub jwks_file: Option<PathBuf>,
    /// Allows `http` URLs. For development: whoever is on the way can put in keys of their own.
    pub allow_http: bool,
    /// Allows private, loopback and link-local addresses.
    pub allow_private_addresses: bool,
    /// PEM file of the only certificate authorities accepted of the issuer's server. Without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// How often the key set is fetched, if the issuer's `Cache-Control` does not say.
    pub refresh: Duration,
    /// How long one request may take, from name resolution to the last byte.
    pub request_timeout: Duration,
}

/// Why an issuer's configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The issuer is no URL.
    #[error(
        "the issuer \"{issuer}\" is not a URL ({error}); without a `jwksUri` or a `discoveryUrl` it must be one"
    )]
    IssuerNotUrl {
        /// The issuer.
        issuer: String,
        /// Why not.
        error: url::ParseError,
    },
    /// `http`, and not allowed.
    #[error(
        "{url} is not https; set `allowHttp: true` only if nobody else can be on the way to it"
    )]
    NotHttps {
        /// The URL.
        url: Url,
    },
    /// Not `http` or `https`, or without a host.
    #[error("{url} is not an https URL with a host")]
    NotHttp {
        /// The URL.
        url: Url,
    },
    /// A user name, password or fragment in the URL.
    #[error("the URL for {host} must not carry a user name, password or fragment")]
    Extras {
        /// The URL's host: the URL may hold a secret.
        host: String,
    },
}

impl IssuerEndpoint {
    /// An issuer on the public network with the defaults: https, public addresses, every 5 minutes, 10 s for a request.
    pub fn new(issuer: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            discovery_url: None,
            jwks_uri: None,
            jwks_file: None,
            allow_http: false,
            allow_private_addresses: false,
            ca_file: None,
            refresh: Duration::from_mins(5),
            request_timeout: Duration::from_secs(10),
        }
    }

    /// Checks the URLs that will be fetched first, so that a mistake shows when the program starts.
    ///
    /// # Errors
    /// When a URL cannot be used, or may not be.
    pub fn check(&self) -> Result<(), EndpointError> {
        if self.jwks_file.is_some() {
            return Ok(());
        }
        match &self.jwks_uri {
            Some(jwks_uri) => self.check_url(jwks_uri),
            None => self.check_url(&self.metadata_url()?),
        }
    }

    /// Where the metadata are: as configured, or as the specification says.
    pub(super) fn metadata_url(&self) -> Result<Url, EndpointError> {
        if let Some(url) = &self.discovery_url {
            return Ok(url.clone());
        }
        Metadata::url_of(&self.issuer).map_err(|error| EndpointError::IssuerNotUrl {
            issuer: self.issuer.clone(),
            error,
        })
    }

    /// Whether `url`, configured or found in metadata, may be fetched.
    pub(super) fn check_url(&self, url: &Url) -> Result<(), EndpointError> {
        let Some(host) = url.host_str() else {
            return Err(EndpointError::NotHttp { url: url.clone() });
        };
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(EndpointError::Extras {
                host: host.to_owned(),
            });
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allow_http => Ok(()),
            "http" => Err(EndpointError::NotHttps { url: url.clone() }),
            _ => Err(EndpointError::NotHttp { url: url.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn metadata_are_where_discovery_says() {
        for (issuer, expected) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
            ),
            (
                "https://a.example/t/1",
                "https://a.example/t/1/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(
                IssuerEndpoint::new(issuer).metadata_url(),
                Ok(url(expected))
            );
        }
        let elsewhere = url("https://b.example/metadata");
        let endpoint = IssuerEndpoint {
            discovery_url: Some(elsewhere.clone()),
            ..IssuerEndpoint::new("https://a.example")
        };
        assert_eq!(endpoint.metadata_url(), Ok(elsewhere));
    }

    #[test]
    fn only_https_unless_configured() {
        let strict = IssuerEndpoint::new("http://a.example");
        assert!(matches!(
            strict.check(),
            Err(EndpointError::NotHttps { .. })
        ));
        let lax = IssuerEndpoint {
            allow_http: true,
            ..strict
        };
        assert_eq!(lax.check(), Ok(()));
        for bad in [
            "ftp://a.example/",
            "file:///etc/passwd",
            "data:application/json,{}",
        ] {
            assert!(
                matches!(lax.check_url(&url(bad)), Err(EndpointError::NotHttp { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn an_issuer_that_is_no_url_needs_another_way() {
        let endpoint = IssuerEndpoint::new("kubernetes");
        assert!(matches!(
            endpoint.check(),
            Err(EndpointError::IssuerNotUrl { .. })
        ));
        let endpoint = IssuerEndpoint {
            jwks_uri: Some(url("https://a.example/keys")),
            ..endpoint
        };
        assert_eq!(endpoint.check(), Ok(()));
    }

    #[test]
    fn secrets_in_urls_are_refused_and_not_shown() {
        let endpoint = IssuerEndpoint::new("https://a.example");
        let error = endpoint
            .check_url(&url("https://me:hunter2@a.example/keys"))
            .unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
