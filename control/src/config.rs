//! The configuration file, read once; every mistake is reported at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_identity::TrustDomain;
use countersign_identity::keys::IssuerEndpoint;
use countersign_policy::Diagnostics;
use countersign_policy::yaml::{self, Value};

use crate::git::{Branch, Repository};

/// How often a remote repository is asked for its branch, unless configured.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

/// What the control plane was told at its start.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) trust_domain: TrustDomain,
    /// Where sidecars connect.
    pub(crate) listen: SocketAddr,
    /// Where the operator's endpoint is.
    pub(crate) ops: SocketAddr,
    pub(crate) state_directory: PathBuf,
    pub(crate) identity: IdentityConfig,
    pub(crate) policy: PolicyConfig,
    /// The file of workloads and services.
    pub(crate) directory: PathBuf,
    /// How to reach issuers that policy names, where that is not as usual.
    pub(crate) issuers: Vec<IssuerEndpoint>,
}

/// How the control plane comes to its own SVID.
#[derive(Debug)]
pub(crate) struct IdentityConfig {
    /// `host:port` of the CA.
    pub(crate) ca: String,
    /// PEM file of the roots by which the CA is known.
    pub(crate) bundle: PathBuf,
    pub(crate) evidence: EvidenceFile,
}

/// The file that proves to the CA who this is.
#[derive(Debug)]
pub(crate) enum EvidenceFile {
    /// A join token; the file is deleted once it was used.
    JoinToken(PathBuf),
    /// A JWT of an issuer that the CA knows; read anew each time.
    Jwt(PathBuf),
}

/// Where policy is.
#[derive(Debug)]
pub(crate) struct PolicyConfig {
    pub(crate) repository: Repository,
    pub(crate) branch: Branch,
    /// How often a remote repository is asked.
    pub(crate) interval: Duration,
}

/// Reads the configuration. Relative paths start at the file's own directory.
pub(crate) fn read_file(path: &Path) -> Result<Config, Diagnostics> {
    let base = path.parent().unwrap_or(Path::new(""));
    yaml::read_file(path, |value| config(value, base))
}

fn config(value: Value<'_>, base: &Path) -> Option<Config> {
    value.mapping(|fields| {
        let trust_domain = fields.required("trustDomain", |value| {
            value.parsed("a trust domain such as shop.example")
        });
        let listen = fields.required("listen", listen_address);
        let ops = fields.required("ops", listen_address);
        let state_directory = fields.required("stateDirectory", |value| file(value, base));
        let identity = fields.required("identity", |value| identity(value, base));
        let policy = fields.required("policy", |value| policy(value, base));
        let directory = fields.required("directory", |value| file(value, base));
        let issuers = fields.default("issuers", Vec::new(), |value| issuers(value, base));
        Some(Config {
            trust_domain: trust_domain?,
            listen: listen?,
            ops: ops?,
            state_directory: state_directory?,
            identity: identity?,
            policy: policy?,
            directory: directory?,
            issuers: issuers?,
        })
    })
}

fn listen_address(value: Value<'_>) -> Option<SocketAddr> {
    value.parsed("an address such as 127.0.0.1:15012")
}

fn file(value: Value<'_>, base: &Path) -> Option<PathBuf> {
    Some(base.join(value.text()?))
}

fn identity(value: Value<'_>, base: &Path) -> Option<IdentityConfig> {
    value.mapping(|fields| {
        let ca = fields.required("ca", host_and_port);
        let bundle = fields.required("bundle", |value| file(value, base));
        let join_token = fields.optional("joinTokenFile", |value| file(value, base));
        let jwt = fields.optional("jwtFile", |value| file(value, base));
        let evidence = match (join_token?, jwt?) {
            (Some(path), None) => EvidenceFile::JoinToken(path),
            (None, Some(path)) => EvidenceFile::Jwt(path),
            (None, None) => {
                return value.mistake(
                    "expected one of the fields `joinTokenFile` and `jwtFile`, got neither",
                );
            }
            (Some(_), Some(_)) => {
                return value
                    .mistake("expected one of the fields `joinTokenFile` and `jwtFile`, got both");
            }
        };
        Some(IdentityConfig {
            ca: ca?,
            bundle: bundle?,
            evidence,
        })
    })
}

fn host_and_port(value: Value<'_>) -> Option<String> {
    let text = value.text()?;
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !is_address {
        return value.expected("a host and port such as countersign-ca:15010");
    }
    Some(text.to_owned())
}

fn policy(value: Value<'_>, base: &Path) -> Option<PolicyConfig> {
    value.mapping(|fields| {
        let repository = fields.required("repository", |value| {
            match value.parsed("the path or URL of a git repository, or the path of a directory")? {
                Repository::Local(path) => Some(Repository::Local(base.join(path))),
                remote @ Repository::Remote(_) => Some(remote),
            }
        });
        let branch = fields.default("branch", None, |value| {
            value.parsed("a branch such as main").map(Some)
        });
        let interval = fields.default("interval", DEFAULT_INTERVAL, |value| {
            let interval = value.duration()?;
            if interval < Duration::from_millis(100) {
                return value.mistake("expected an interval of at least 100ms");
            }
            Some(interval)
        });
        Some(PolicyConfig {
            repository: repository?,
            branch: branch?.unwrap_or_default(),
            interval: interval?,
        })
    })
}

fn issuers(value: Value<'_>, base: &Path) -> Option<Vec<IssuerEndpoint>> {
    let mut seen = std::collections::BTreeSet::new();
    value.list("issuers", |value| {
        let endpoint = issuer(value, base)?;
        if !seen.insert(endpoint.issuer.clone()) {
            return value.mistake(format!(
                "the issuer {} is configured above already",
                endpoint.issuer
            ));
        }
        Some(endpoint)
    })
}

fn issuer(value: Value<'_>, base: &Path) -> Option<IssuerEndpoint> {
    let endpoint = value.mapping(|fields| {
        let url = |value: Value<'_>| value.parsed("a URL such as https://login.example/keys");
        let issuer = fields.required("issuer", Value::string);
        let discovery_url = fields.optional("discoveryUrl", url);
        let jwks_uri = fields.optional("jwksUri", url);
        let allow_http = fields.default("allowHttp", false, Value::bool);
        let allow_private_addresses = fields.default("allowPrivateAddresses", false, Value::bool);
        let ca_file = fields.optional("caFile", |value| file(value, base));
        let refresh = fields.optional("refresh", |value| {
            let refresh = value.duration()?;
            if refresh < Duration::from_secs(1) {
                return value.mistake("expected an interval of at least 1s");
            }
            Some(refresh)
        });
        let usual = IssuerEndpoint::new(issuer?);
        Some(IssuerEndpoint {
            discovery_url: discovery_url?,
            jwks_uri: jwks_uri?,
            allow_http: allow_http?,
            allow_private_addresses: allow_private_addresses?,
            ca_file: ca_file?,
            refresh: refresh?.unwrap_or(usual.refresh),
            ..usual
        })
    })?;
    match endpoint.check() {
        Ok(()) => Some(endpoint),
        Err(error) => value.mistake(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Diagnostics> {
        yaml::read("control.yaml", text, |value| {
            config(value, Path::new("/etc/countersign"))
        })
    }

    const WHOLE: &str = r#"
trustDomain: shop.example
listen: 127.1.2.1:15012
ops: 127.1.2.1:0
stateDirectory: /var/lib/control
identity: {ca: "127.1.2.1:15010", bundle: bundle.pem, joinTokenFile: /run/token}
policy: {repository: ../policy, branch: release, interval: 1s}
directory: directory.yaml
issuers:
- {issuer: "https://login.shop.example", discoveryUrl: "http://127.1.2.2:8400/.well-known/openid-configuration", allowHttp: true, allowPrivateAddresses: true, refresh: 30s}
"#;

    #[test]
    fn reads_everything_with_paths_from_the_files_directory() {
        let config = read(WHOLE).unwrap();
        assert_eq!(config.state_directory, Path::new("/var/lib/control"));
        assert_eq!(
            config.directory,
            Path::new("/etc/countersign/directory.yaml")
        );
        assert_eq!(
            config.identity.bundle,
            Path::new("/etc/countersign/bundle.pem")
        );
        assert!(
            matches!(config.identity.evidence, EvidenceFile::JoinToken(path) if path == Path::new("/run/token"))
        );
        assert_eq!(
            config.policy.repository,
            Repository::Local("/etc/countersign/../policy".into())
        );
        assert_eq!(config.policy.branch.to_string(), "release");
        assert_eq!(config.policy.interval, Duration::from_secs(1));
        let issuer = config.issuers.first().unwrap();
        assert_eq!(issuer.issuer, "https://login.shop.example");
        assert!(issuer.allow_http && issuer.allow_private_addresses && issuer.jwks_uri.is_none());
        assert_eq!(issuer.refresh, Duration::from_secs(30));
    }

    #[test]
    fn what_may_be_left_out_has_a_default() {
        let text = WHOLE
            .replace(", branch: release, interval: 1s", "")
            .replace("joinTokenFile", "jwtFile");
        let (text, _) = text.split_once("issuers:").unwrap();
        let config = read(text).unwrap();
        assert_eq!(config.policy.branch.to_string(), "main");
        assert_eq!(config.policy.interval, Duration::from_secs(10));
        assert!(config.issuers.is_empty());
        assert!(matches!(config.identity.evidence, EvidenceFile::Jwt(_)));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = r#"trustDomain: Shop
listen: 127.0.0.1
identity: {ca: ca, bundle: b, joinTokenFile: t, jwtFile: j}
policy: {repository: "http://git.example/p", branch: "-x", interval: 1ms}
directory: 7
issuers: [{issuer: "http://login.example"}]
opps: 127.0.0.1:1
"#;
        let mistakes = read(text).unwrap_err().to_string();
        let places: Vec<_> = mistakes
            .lines()
            .map(|line| line.splitn(4, ':').take(3).collect::<Vec<_>>().join(":"))
            .collect();
        let expected = [
            "1:1", "1:1", "1:14", "2:9", "3:11", "3:16", "4:22", "4:54", "4:70", "5:12", "6:11",
            "7:1",
        ];
        assert_eq!(
            places,
            expected.map(|place| format!("control.yaml:{place}")),
            "{mistakes}"
        );
        assert!(
            mistakes.contains("unknown field `opps`, did you mean `ops`?"),
            "{mistakes}"
        );
        assert!(
            mistakes.contains("http does not protect the policy on its way; use https or ssh"),
            "{mistakes}"
        );
        assert!(mistakes.contains("allowHttp"), "{mistakes}");
    }
}
