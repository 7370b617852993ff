//! Our SVID: obtained from the CA at start, kept fresh for as long as the sidecar runs.

use std::convert::Infallible;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::ops::ReadyPart;
use countersign_api::svid::{Evidence, SvidClient, SvidClientError};
use countersign_identity::{Bundle, BundleError, IdentityStore, TrustDomain};
use zeroize::Zeroizing;

use crate::backoff::Backoff;
use crate::config::{EvidenceFile, IdentityConfig};
use crate::telemetry::Metrics;

/// A join token has a few dozen characters; more is some other file.
const LONGEST_TOKEN: usize = 4096;
/// The longest sleep before the wall clock is looked at again: a timer knows nothing of a clock that is set, nor of a
/// machine that was suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Why the sidecar cannot even ask for an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The bundle file cannot be read.
    #[error("the bundle {path} cannot be read: {source}")]
    ReadBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bundle file holds no bundle.
    #[error("the bundle {path}: {source}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BundleError,
    },
    /// The join token file cannot be read.
    #[error(
        "the join token {path} cannot be read: {source}; a token is of use once, make another with `countersign-ca join-token`"
    )]
    ReadToken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The CA did not take the join token.
    #[error("the join token {path} was refused: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the CA says.
        source: SvidClientError,
    },
    /// The join token file holds no token.
    #[error(
        "the file {path} holds no join token: expected one line of up to {LONGEST_TOKEN} bytes"
    )]
    Token {
        /// The file.
        path: PathBuf,
    },
}

/// A store that believes the configured bundle and has no SVID yet.
///
/// # Errors
/// The bundle file cannot be used.
pub fn store(
    config: &IdentityConfig,
    trust_domain: &TrustDomain,
) -> Result<Arc<IdentityStore>, IdentityError> {
    let path = &config.bundle;
    let pem = std::fs::read_to_string(path).map_err(|source| IdentityError::ReadBundle {
        path: path.clone(),
        source,
    })?;
    let bundle =
        Bundle::from_pem(trust_domain.clone(), &pem).map_err(|source| IdentityError::Bundle {
            path: path.clone(),
            source,
        })?;
    Ok(IdentityStore::new(bundle))
}

/// Obtains the sidecar's SVID, and keeps it fresh.
#[derive(Debug)]
pub struct Identity {
    client: SvidClient,
    /// The join token's file, until the token is used.
    token_file: Option<PathBuf>,
    report: Report,
}

impl Identity {
    /// Reads the evidence; the CA is not asked yet.
    ///
    /// # Errors
    /// The evidence file cannot be used.
    pub fn new(
        config: &IdentityConfig,
        store: Arc<IdentityStore>,
        ready: ReadyPart,
        metrics: Metrics,
    ) -> Result<Self, IdentityError> {
        let (evidence, token_file) = match &config.evidence {
            EvidenceFile::JoinToken(path) => {
                (Evidence::JoinToken(read_token(path)?), Some(path.clone()))
            }
            EvidenceFile::Jwt(path) => (Evidence::JwtFile(path.clone()), None),
            EvidenceFile::Certificate(files) => (Evidence::Certificate(files.clone()), None),
        };
        let client = SvidClient::new(Arc::clone(&store), config.ca.clone(), evidence);
        Ok(Self {
            client,
            token_file,
            report: Report {
                store,
                ready,
                metrics,
            },
        })
    }

    /// Obtains the first SVID. Without one the sidecar can do nothing, so it is tried for as long as it takes.
    ///
    /// # Errors
    /// The CA refuses the join token, which no further attempt would change.
    pub async fn obtain(&mut self) -> Result<(), IdentityError> {
        let mut backoff = Backoff::new();
        while let Err(error) = self.client.obtain().await {
            if let (Some(path), SvidClientError::Refused { .. }) = (&self.token_file, &error) {
                return Err(IdentityError::Refused {
                    path: path.clone(),
                    source: error,
                });
            }
            self.report.ready.not_ready(error.to_string());
            let wait = backoff.next_wait();
            tracing::warn!(%error, retry_in = ?wait, "no svid yet");
            tokio::time::sleep(wait).await;
        }
        if let Some(path) = self.token_file.take() {
            remove_token(&path);
        }
        let valid_for = self.report.now(SystemTime::now());
        if let Some(svid) = self.report.store.svid() {
            tracing::info!(id = %svid.id(), serial = svid.serial(), ?valid_for, "svid obtained");
        }
        Ok(())
    }

    /// Renews the SVID in time, and reports what becomes of it.
    pub async fn keep_fresh(self) -> Infallible {
        let Self { client, report, .. } = self;
        let renewed = client.keep_fresh(std::future::pending());
        let (never, ()) = tokio::join!(report.forever(), renewed);
        never
    }
}

/// Tells readiness and metrics of each new SVID, and of one that expires.
#[derive(Debug)]
struct Report {
    store: Arc<IdentityStore>,
    ready: ReadyPart,
    metrics: Metrics,
}

impl Report {
    async fn forever(&self) -> Infallible {
        let mut changes = self.store.changes();
        loop {
            let valid_for = self.now(SystemTime::now());
            tokio::select! {
                // Cannot fail: we hold the store, which holds the sender.
                _ = changes.changed() => {}
                () = tokio::time::sleep(valid_for.min(LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Reports the state of things; returns for how long it stays so if nothing is renewed.
    fn now(&self, now: SystemTime) -> Duration {
        let Some(svid) = self.store.svid() else {
            return Duration::MAX;
        };
        self.metrics.identity_renewed(svid.not_after());
        match svid.not_after().duration_since(now) {
            Ok(left) => {
                self.ready.ready();
                left
            }
            Err(_) => {
                self.ready
                    .not_ready("the SVID has expired and could not be renewed");
                Duration::MAX
            }
        }
    }
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    // Room for all of it from the start, so that no outgrown copy stays behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST_TOKEN + 1));
    std::fs::File::open(path)
        .and_then(|file| {
            file.take(LONGEST_TOKEN as u64 + 1)
                .read_to_string(&mut text)
        })
        .map_err(|source| IdentityError::ReadToken {
            path: path.to_owned(),
            source,
        })?;
    let token = text.trim();
    let is_token = !token.is_empty()
        && text.len() <= LONGEST_TOKEN
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_token {
        return Err(IdentityError::Token {
            path: path.to_owned(),
        });
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// The CA has taken the token, so it is worth nothing any more; that the file stays is untidy and no more.
fn remove_token(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "used join token not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn a_token_is_one_line() {
        let token = read_token(file("  abc-DEF_123\n").path()).unwrap();
        assert_eq!(token.as_str(), "abc-DEF_123");
        for wrong in ["", "\n", "two tokens", "two\nlines", &"x".repeat(5000)] {
            let error = read_token(file(wrong).path()).unwrap_err();
            assert!(matches!(error, IdentityError::Token { .. }), "{error}");
            assert!(wrong.is_empty() || !error.to_string().contains(wrong.trim()) || wrong == "\n");
        }
    }

    #[test]
    fn a_token_that_is_gone_says_how_to_get_another() {
        let message = read_token(Path::new("/nowhere/token"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "the join token /nowhere/token cannot be read: No such file or directory (os error 2); \
             a token is of use once, make another with `countersign-ca join-token`"
        );
    }

    #[test]
    fn a_bundle_that_is_none_is_named() {
        let trust_domain = TrustDomain::parse("shop.example").unwrap();
        let bundle = file("not a certificate");
        let config = IdentityConfig {
            ca: "127.0.0.1:1".to_owned(),
            bundle: bundle.path().to_owned(),
            evidence: EvidenceFile::Jwt("/nowhere".into()),
        };
        let error = store(&config, &trust_domain).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("the bundle {}: ", bundle.path().display())),
            "{error}"
        );
    }
}
