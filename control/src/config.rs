//! The configuration file, read once; every mistake is reported at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_identity::TrustDomain;
use countersign_identity::keys::IssuerEndpoint;
use countersign_policy::Diagnostics;
use countersign_policy::yaml::{self, Value};

use crate::federation::{Reach, read_reach};
use crate::git::{Branch, Repository};
use crate::signatures::{SignerFiles, SignersError, read_file as read_keys, read_listed};
use crate::source;

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
    /// How to reach bundle endpoints that policy names, likewise.
    pub(crate) federation: Vec<Reach>,
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
    /// Who has to have signed a commit.
    pub(crate) signers: Option<SignerFiles>,
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
        let federation = fields.default("federation", Vec::new(), |value| read_reach(value, base));
        Some(Config {
            trust_domain: trust_domain?,
            listen: listen?,
            ops: ops?,
            state_directory: state_directory?,
            identity: identity?,
            policy: policy?,
            directory: directory?,
            issuers: issuers?,
            federation: federation?,
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
        let signers = fields.optional("signers", |value| signers(value, base, repository.as_ref()));
        Some(PolicyConfig {
            repository: repository?,
            branch: branch?.unwrap_or_default(),
            interval: interval?,
            signers: signers?,
        })
    })
}

fn signers(value: Value<'_>, base: &Path, repository: Option<&Repository>) -> Option<SignerFiles> {
    let local = match repository {
        Some(Repository::Local(path)) => Some(path.as_path()),
        _ => None,
    };
    if let Some(path) = local
        && path.is_dir()
        && !source::is_git(path)
    {
        let path = path.display();
        value.note(format!(
            "expected no signers, since {path} is a plain directory, which nobody can sign; make it a git repository \
             (git init), or leave signers out"
        ));
    }
    value.mapping(|fields| {
        let ssh = fields.optional("ssh", |value| key_file(value, base, local, read_listed));
        let ssh_revoked = fields.optional("sshRevoked", |value| {
            key_file(value, base, local, read_keys)
        });
        let gpg = fields.optional("gpg", |value| key_file(value, base, local, read_listed));
        let files = SignerFiles {
            ssh: ssh?,
            ssh_revoked: ssh_revoked?,
            gpg: gpg?,
        };
        match &files {
            SignerFiles {
                ssh: None,
                gpg: None,
                ..
            } => value.mistake("expected at least one of the fields `ssh` and `gpg`, got neither"),
            SignerFiles {
                ssh: None,
                ssh_revoked: Some(_),
                ..
            } => value.mistake("`sshRevoked` is of no use without `ssh`"),
            _ => Some(files),
        }
    })
}

/// A file of keys that can be read now, and that nobody can change by a commit.
fn key_file(
    value: Value<'_>,
    base: &Path,
    repository: Option<&Path>,
    read: impl FnOnce(&Path) -> Result<Vec<u8>, SignersError>,
) -> Option<PathBuf> {
    let path = file(value, base)?;
    if let Err(error) = read(&path) {
        return value.mistake(error.to_string());
    }
    let real = |path: &Path| path.canonicalize().ok();
    if let (Some(repository), Some(path)) = (repository.and_then(real), real(&path))
        && path.starts_with(&repository)
    {
        return value.mistake(format!(
            "expected a file outside of the policy repository {}, or whoever can change the repository could make himself \
             a signer",
            repository.display()
        ));
    }
    Some(path)
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

    /// A configuration whose policy is in a repository of its own directory, and the operator's files beside it.
    fn signers(files: &[&str], policy: &str) -> Result<Config, Diagnostics> {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "a@example.org ssh-ed25519 AAAA\n").unwrap();
        }
        let text = WHOLE.replace("policy: {repository: ../policy,", policy);
        yaml::read("control.yaml", &text, |value| {
            config(value, directory.path())
        })
    }

    #[test]
    fn signers_are_files_of_the_operators_own() {
        let repository = ["policy/.git/HEAD", "allowed_signers", "keys.asc", "revoked"];
        let all = "policy: {repository: policy, signers: {ssh: allowed_signers, sshRevoked: revoked, gpg: keys.asc},";
        let files = signers(&repository, all).unwrap().policy.signers.unwrap();
        assert!(files.ssh.unwrap().ends_with("allowed_signers"));
        assert!(files.ssh_revoked.unwrap().ends_with("revoked"));
        assert!(files.gpg.unwrap().ends_with("keys.asc"));

        let refused = |policy: &str, files: &[&str]| {
            let mistakes = signers(files, policy).unwrap_err().to_string();
            assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
            mistakes
        };
        let mistake = refused("policy: {repository: policy, signers: {},", &repository);
        assert!(mistake.starts_with("control.yaml:7:39: "), "{mistake}");
        assert!(mistake.contains("got neither"), "{mistake}");
        let revoked = "policy: {repository: policy, signers: {sshRevoked: revoked, gpg: keys.asc},";
        let mistake = refused(revoked, &repository);
        assert!(mistake.contains("of no use without `ssh`"), "{mistake}");
        let ssh = "policy: {repository: policy, signers: {ssh: allowed_signers},";
        let mistake = refused(ssh, &["policy/.git/HEAD"]);
        assert!(
            mistake.starts_with("control.yaml:7:45: cannot read "),
            "{mistake}"
        );
    }

    #[test]
    fn signers_in_the_policy_repository_are_refused() {
        let own = "policy: {repository: policy, signers: {ssh: policy/allowed_signers},";
        let mistake = signers(&["policy/.git/HEAD", "policy/allowed_signers"], own).unwrap_err();
        let mistake = mistake.to_string();
        assert!(mistake.starts_with("control.yaml:7:45: "), "{mistake}");
        assert!(mistake.contains("make himself a signer"), "{mistake}");
    }

    #[test]
    fn a_plain_directory_has_no_signers() {
        let plain = "policy: {repository: policy, signers: {ssh: allowed_signers},";
        let mistake = signers(&["policy/a.yaml", "allowed_signers"], plain).unwrap_err();
        let mistake = mistake.to_string();
        assert!(
            mistake.starts_with("control.yaml:7:39: expected no signers"),
            "{mistake}"
        );
        assert!(mistake.contains("which nobody can sign"), "{mistake}");
    }
}
