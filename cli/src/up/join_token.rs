//! Join tokens: how the programs of a local mesh prove to the CA who they are, once.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use countersign_identity::SpiffeId;
use tokio::process::Command;

use super::layout::write_private;
use crate::output::printable;

/// How long making a token may take.
const TIME: Duration = Duration::from_secs(15);

/// How long a token is good for: the start of one program.
const TTL: &str = "10m";

/// Has join tokens made by the CA's own command.
#[derive(Debug)]
pub(crate) struct TokenSource {
    pub(crate) ca: PathBuf,
    pub(crate) ca_config: PathBuf,
}

/// Why there is no join token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinTokenError {
    #[error("has no join token: countersign-ca cannot be run")]
    Run(#[source] io::Error),
    #[error("has no join token: countersign-ca was not done within {} s", TIME.as_secs())]
    Time,
    #[error("has no join token: countersign-ca says: {0}")]
    Refused(String),
    #[error("has no join token: cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl TokenSource {
    /// Has a token made for an identity, and puts it into a file for its owner alone.
    pub(crate) async fn put(&self, id: &SpiffeId, file: &Path) -> Result<(), JoinTokenError> {
        let making = Command::new(&self.ca)
            .arg("join-token")
            .arg("--config")
            .arg(&self.ca_config)
            .args(["--spiffe-id", id.as_str(), "--ttl", TTL])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(TIME, making)
            .await
            .map_err(|_| JoinTokenError::Time)?
            .map_err(JoinTokenError::Run)?;
        if !output.status.success() {
            let problem = String::from_utf8_lossy(&output.stderr);
            return Err(JoinTokenError::Refused(
                printable(problem.trim()).into_owned(),
            ));
        }
        write_private(file, output.stdout.trim_ascii()).map_err(|source| JoinTokenError::Write {
            path: file.to_owned(),
            source,
        })
    }
}
