//! The configuration, `ca.yaml`: read once, every mistake reported at once.

mod authority;
mod issuers;
mod kubernetes;
mod storage;
pub(crate) mod tokens;
mod x509_proof;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_identity::TrustDomain;
use countersign_policy::yaml::{self, Diagnostics, Fields, Value};

use crate::attest::jwt::IssuerConfig;
use crate::attest::kubernetes::ClusterConfig;
use crate::attest::x509_proof::RootsConfig;
use crate::authority::AuthorityConfig;
use crate::issue::TtlLimits;
use crate::store::PostgresConfig;
use tokens::{BundleEndpointConfig, JwtConfig, OidcConfig};

/// No SVID is valid for longer.
const LONGEST_TTL: Duration = Duration::from_hours(24 * 7);
const ADDRESS: &str = "an address such as 127.0.0.1:15010";

/// Everything that `ca.yaml` says.
#[derive(Debug)]
pub(crate) struct Config {
    /// What is issued for.
    pub(crate) trust_domain: TrustDomain,
    /// Where keys are, and the database, unless that is PostgreSQL.
    pub(crate) data_directory: PathBuf,
    /// The database that replicas share; none is SQLite in the data directory.
    pub(crate) postgres: Option<PostgresConfig>,
    /// gRPC over TLS.
    pub(crate) listen: SocketAddr,
    /// The operator's HTTP endpoint.
    pub(crate) ops: SocketAddr,
    /// How long SVIDs are valid.
    pub(crate) svid: TtlLimits,
    /// How JWT-SVIDs are issued.
    pub(crate) jwt: JwtConfig,
    /// The OpenID Connect issuer, if this CA is one.
    pub(crate) oidc: Option<OidcConfig>,
    /// Where other trust domains find the bundle, if they do.
    pub(crate) bundle_endpoint: Option<BundleEndpointConfig>,
    /// Roots and intermediates.
    pub(crate) authority: AuthorityConfig,
    /// Whose JWTs attest.
    pub(crate) issuers: Vec<IssuerConfig>,
    /// Whose pods' service account tokens attest.
    pub(crate) kubernetes: Vec<ClusterConfig>,
    /// Whose certificates attest.
    pub(crate) x509_proof: Vec<RootsConfig>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(crate) fn read(path: &Path) -> Result<Self, Diagnostics> {
        yaml::read_file(path, config)
    }
}

fn config(value: Value<'_>) -> Option<Config> {
    value.mapping(|fields| {
        let trust_domain: Option<TrustDomain> = fields.required("trustDomain", |v| {
            v.parsed("a trust domain such as shop.example")
        });
        let data_directory = fields.required("dataDirectory", Value::text);
        let directory = data_directory.map(Path::new);
        let listen = fields.required("listen", |v| v.parsed(ADDRESS));
        let ops = fields.required("ops", |v| v.parsed(ADDRESS));
        let postgres = fields.default("storage", None, storage::postgres);
        let svid = fields.default("svid", DEFAULT_TTLS, ttl_limits);
        let authority = authority::read(fields, directory, svid);
        let jwt = fields.default("jwt", JwtConfig::DEFAULT, tokens::jwt);
        let oidc = fields.optional("oidc", tokens::oidc);
        let bundle_endpoint = fields.optional("bundleEndpoint", tokens::bundle_endpoint);
        let issuers = fields.default("issuers", Vec::new(), |v| {
            issuers::read(v, trust_domain.as_ref())
        });
        let kubernetes = fields.default("kubernetes", Vec::new(), kubernetes::read);
        let x509_proof = fields.default("x509Proof", Vec::new(), |v| {
            x509_proof::read(v, trust_domain.as_ref())
        });
        let (issuers, kubernetes) = (issuers?, kubernetes?);
        let shared = issuers.iter().map(|issuer| &issuer.rules.issuer).find(|issuer| {
            kubernetes.iter().any(|cluster| cluster.rules.issuer == **issuer)
        });
        if let Some(issuer) = shared {
            return value.mistake(format!(
                "the issuer {issuer:?} is in `issuers` and in `kubernetes`: its tokens can be judged in one way only"
            ));
        }
        Some(Config {
            trust_domain: trust_domain?,
            data_directory: data_directory?.into(),
            postgres: postgres?,
            listen: listen?,
            ops: ops?,
            svid: svid?,
            jwt: jwt?,
            oidc: oidc?,
            bundle_endpoint: bundle_endpoint?,
            authority: authority?,
            issuers,
            kubernetes,
            x509_proof: x509_proof?,
        })
    })
}

const DEFAULT_TTLS: TtlLimits = TtlLimits {
    default: Duration::from_hours(1),
    min: Duration::from_mins(5),
    max: Duration::from_hours(24),
};

fn ttl_limits(value: Value<'_>) -> Option<TtlLimits> {
    value.mapping(|fields| ttl_limits_in(value, fields, DEFAULT_TTLS, LONGEST_TTL))
}

/// The fields of lifetimes; `value` is where they are.
fn ttl_limits_in(
    value: Value<'_>,
    fields: &mut Fields<'_>,
    defaults: TtlLimits,
    longest: Duration,
) -> Option<TtlLimits> {
    let default = fields.default("defaultTtl", defaults.default, Value::duration);
    let min = fields.default("minTtl", defaults.min, Value::duration);
    let max = fields.default("maxTtl", defaults.max, Value::duration);
    let limits = TtlLimits {
        default: default?,
        min: min?,
        max: max?,
    };
    if limits.min < Duration::from_secs(1) || limits.max > longest {
        return value.mistake(format!(
            "expected minTtl of at least 1s and maxTtl of at most {}h",
            longest.as_secs() / 3600
        ));
    }
    if limits.min > limits.default || limits.default > limits.max {
        return value.mistake(format!(
            "expected minTtl ≤ defaultTtl ≤ maxTtl, got {:?}, {:?} and {:?} (defaults included)",
            limits.min, limits.default, limits.max
        ));
    }
    Some(limits)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn read(text: &str) -> Result<Config, String> {
        yaml::read("ca.yaml", text, config).map_err(|mistakes| mistakes.to_string())
    }

    pub(crate) const MINIMAL: &str = "trustDomain: shop.example\ndataDirectory: /var/ca\n\
                           listen: 127.1.2.1:15010\nops: 127.1.2.1:15011\n";

    #[test]
    fn the_minimum_has_defaults() {
        let config = read(MINIMAL).unwrap();
        assert_eq!(config.svid, DEFAULT_TTLS);
        assert!(config.issuers.is_empty());
        assert_eq!(config.postgres, None);
        assert_eq!(config.data_directory, Path::new("/var/ca"));
    }

    #[test]
    fn tokens_and_what_is_published_are_read() {
        let config = read(&format!(
            "{MINIMAL}jwt: {{defaultTtl: 1m, keyLifetime: 12h}}\n\
             oidc: {{issuer: 'https://ids.shop.example', listen: 127.1.2.1:443, certificate: {{chainFile: a, keyFile: b}}}}\n\
             bundleEndpoint: {{listen: 127.1.2.1:8443}}\n"
        ))
        .unwrap();
        assert_eq!(config.jwt.ttl.default, Duration::from_mins(1));
        assert_eq!(config.jwt.key_lifetime, Duration::from_hours(12));
        assert_eq!(config.oidc.unwrap().certificate.key, Path::new("b"));
        assert_eq!(config.bundle_endpoint.unwrap().certificate, None);
        for (wrong, expected) in [
            (
                "jwt: {defaultTtl: 2h}",
                "expected minTtl ≤ defaultTtl ≤ maxTtl",
            ),
            ("jwt: {keyLifetime: 1s}", "keyLifetime of at least 2s"),
            (
                "oidc: {issuer: 'http://ids.shop.example'}",
                "expected an https URL without a query",
            ),
            (
                "oidc: {issuer: 'https://ids.shop.example?x'}",
                "expected an https URL without a query",
            ),
        ] {
            let mistakes = read(&format!("{MINIMAL}{wrong}\n")).unwrap_err();
            assert!(mistakes.contains(expected), "{mistakes}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let mistakes = read(
            "trustDomain: Shop\nlisten: 15010\nops: 127.1.2.1:15011\nsvid: {minTtl: 2h}\nissuers:\n\
             - {issuer: http://ci.example, audiences: [], spiffeId: x, discoverUrl: y}\n",
        )
        .unwrap_err();
        for expected in [
            "ca.yaml:1:14: expected a trust domain",
            "missing field `dataDirectory`",
            "ca.yaml:2:9: expected an address",
            "expected minTtl ≤ defaultTtl ≤ maxTtl",
            "audiences",
            "did you mean `discoveryUrl`",
            "is not https; set `allowHttp: true`",
        ] {
            assert!(mistakes.contains(expected), "{expected}\n{mistakes}");
        }
    }

    #[test]
    fn the_examples_of_the_documentation_are_configurations() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/attestation.md");
        let page = std::fs::read_to_string(page).unwrap();
        let mut seen = 0;
        for block in page.split("```yaml\n").skip(1) {
            let (example, _) = block.split_once("```").unwrap();
            if ["issuers:", "kubernetes:", "x509Proof:"]
                .iter()
                .any(|name| example.starts_with(name))
            {
                read(&format!("{MINIMAL}{example}")).unwrap();
                seen += 1;
            }
        }
        assert_eq!(seen, 3);
    }
}
