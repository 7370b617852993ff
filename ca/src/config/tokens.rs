//! The parts of `ca.yaml` about tokens, and about what is published for others to verify by.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use countersign_policy::yaml::Value;
use url::Url;

use super::{ADDRESS, ttl_limits_in};
use crate::authority::TokenLifetimes;
use crate::authority::tokens::schedule::Lifetimes;
use crate::issue::TtlLimits;
use crate::web::certificate::CertificateFiles;

/// How JWT-SVIDs are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JwtConfig {
    /// How long they are valid.
    pub(crate) ttl: TtlLimits,
    /// How long a key signs.
    pub(crate) key_lifetime: Duration,
}

impl JwtConfig {
    pub(crate) const DEFAULT: Self = Self {
        ttl: TtlLimits {
            default: Duration::from_mins(5),
            min: Duration::from_secs(10),
            max: Duration::from_hours(1),
        },
        key_lifetime: Duration::from_hours(24),
    };

    /// How long keys live: WIT-SVIDs are valid as long as X.509-SVIDs.
    pub(crate) fn lifetimes(&self, svid: TtlLimits) -> TokenLifetimes {
        let lifetimes = |longest_token| Lifetimes {
            signing: self.key_lifetime,
            longest_token,
        };
        TokenLifetimes {
            jwt: lifetimes(self.ttl.max),
            wit: lifetimes(svid.max),
        }
    }
}

/// The CA as an OpenID Connect issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OidcConfig {
    /// The claim `iss`, and where clients look for the keys.
    pub(crate) issuer: Url,
    /// HTTPS.
    pub(crate) listen: SocketAddr,
    /// Its certificate.
    pub(crate) certificate: CertificateFiles,
}

/// The SPIFFE bundle endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BundleEndpointConfig {
    /// HTTPS.
    pub(crate) listen: SocketAddr,
    /// Its certificate (profile https_web); without, it shows the CA's own SVID (profile https_spiffe).
    pub(crate) certificate: Option<CertificateFiles>,
    /// How often others should look.
    pub(crate) refresh_hint: Duration,
}

pub(super) fn jwt(value: Value<'_>) -> Option<JwtConfig> {
    const LONGEST: Duration = Duration::from_hours(24);
    value.mapping(|fields| {
        let ttl = ttl_limits_in(value, fields, JwtConfig::DEFAULT.ttl, LONGEST);
        let key_lifetime = fields.default(
            "keyLifetime",
            JwtConfig::DEFAULT.key_lifetime,
            Value::duration,
        );
        let config = JwtConfig {
            ttl: ttl?,
            key_lifetime: key_lifetime?,
        };
        if config.key_lifetime < Duration::from_secs(2) {
            return value.mistake("expected a keyLifetime of at least 2s");
        }
        Some(config)
    })
}

pub(super) fn oidc(value: Value<'_>) -> Option<OidcConfig> {
    value.mapping(|fields| {
        let issuer = fields.required("issuer", issuer);
        let listen = fields.required("listen", |v| v.parsed(ADDRESS));
        let certificate = fields.required("certificate", certificate);
        Some(OidcConfig {
            issuer: issuer?,
            listen: listen?,
            certificate: certificate?,
        })
    })
}

/// OpenID Connect Discovery 1.0 §3: https, without a query and a fragment.
fn issuer(value: Value<'_>) -> Option<Url> {
    const EXPECTED: &str = "an https URL without a query, such as https://ids.shop.example";
    let url: Url = value.parsed(EXPECTED)?;
    let plain = url.scheme() == "https"
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if plain {
        Some(url)
    } else {
        value.expected(EXPECTED)
    }
}

pub(super) fn bundle_endpoint(value: Value<'_>) -> Option<BundleEndpointConfig> {
    value.mapping(|fields| {
        let listen = fields.required("listen", |v| v.parsed(ADDRESS));
        let certificate = fields.optional("certificate", certificate);
        let refresh_hint = fields.default("refreshHint", Duration::from_mins(5), Value::duration);
        Some(BundleEndpointConfig {
            listen: listen?,
            certificate: certificate?,
            refresh_hint: refresh_hint?,
        })
    })
}

fn certificate(value: Value<'_>) -> Option<CertificateFiles> {
    value.mapping(|fields| {
        let chain = fields.required("chainFile", Value::text);
        let key = fields.required("keyFile", Value::text);
        Some(CertificateFiles {
            chain: PathBuf::from(chain?),
            key: PathBuf::from(key?),
        })
    })
}
