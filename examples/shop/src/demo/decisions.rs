//! The decisions that the sidecars log, one JSON line each, found in the mesh's state directory.

use std::{
    collections::HashSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::wait::{self, TimedOut};

/// A line may need a moment from the sidecar through `countersign up` to the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// One decision, as far as the demo is interested.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Decision {
    pub(crate) decision_id: String,
    pub(crate) decision: String,
    pub(crate) reason: String,
    pub(crate) reason_class: String,
    pub(crate) policy: Option<String>,
    pub(crate) rule: Option<String>,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u64>,
    pub(crate) revision: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) destination: String,
    pub(crate) protocol: String,
    pub(crate) path: Option<String>,
}

impl Decision {
    pub(crate) fn allowed(&self) -> bool {
        self.decision == "allow"
    }

    /// Which line of which file at which commit decided.
    pub(crate) fn origin(&self) -> String {
        let Some(revision) = self.revision.as_deref().map(short) else {
            return "refused before policy was asked".to_owned();
        };
        match (&self.file, self.line, &self.policy, &self.rule) {
            (Some(file), Some(line), Some(policy), Some(rule)) => {
                format!("{file}:{line} at commit {revision}: {policy}, \"{rule}\"")
            }
            _ => format!("denied by default, at commit {revision}"),
        }
    }
}

/// `spiffe://…/ns/shop/sa/web → shop/orders: allowed, http/1.1 /orders`
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer.as_deref().unwrap_or("nobody known");
        write!(f, "{peer} → {}, {}", self.destination, self.protocol)?;
        if let Some(path) = &self.path {
            write!(f, " {path}")?;
        }
        let verdict = if self.allowed() { "allowed" } else { "denied" };
        write!(f, ": {verdict}")
    }
}

/// A commit as people quote it.
pub(crate) fn short(revision: &str) -> &str {
    revision.get(..10).unwrap_or(revision)
}

/// The decision that was looked for is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error("the sidecars logged no decision {what}")]
    Absent { what: String, source: TimedOut },
    #[error("the log directory {} cannot be read", directory.display())]
    Read {
        directory: PathBuf,
        source: io::Error,
    },
}

/// Where decisions are found.
pub(crate) struct Decisions {
    logs: PathBuf,
}

impl Decisions {
    /// In the `logs` directory of a mesh's state.
    pub(crate) fn of(state: &Path) -> Self {
        Self {
            logs: state.join("logs"),
        }
    }

    /// What has been decided so far; what comes later is new.
    pub(crate) fn mark(&self) -> Result<HashSet<String>, FindError> {
        Ok(self
            .read()?
            .into_iter()
            .map(|decision| decision.decision_id)
            .collect())
    }

    /// The decision with an id.
    pub(crate) async fn by_id(&self, id: &str) -> Result<Decision, FindError> {
        self.find(&format!("with the id {id}"), |decision| {
            decision.decision_id == id
        })
        .await
    }

    /// The first decision that is not in `before` and is as asked for.
    pub(crate) async fn after(
        &self,
        before: &HashSet<String>,
        what: &str,
        is: impl Fn(&Decision) -> bool,
    ) -> Result<Decision, FindError> {
        self.find(what, |decision| {
            !before.contains(&decision.decision_id) && is(decision)
        })
        .await
    }

    async fn find(
        &self,
        what: &str,
        is: impl Fn(&Decision) -> bool,
    ) -> Result<Decision, FindError> {
        wait::until(PATIENCE, async || match self.read() {
            Ok(decisions) => decisions.into_iter().find(&is).map(Ok),
            Err(error) => Some(Err(error)),
        })
        .await
        .map_err(|source| FindError::Absent {
            what: what.to_owned(),
            source,
        })?
    }

    /// Every decision in every log. Lines that are something else are passed over.
    fn read(&self) -> Result<Vec<Decision>, FindError> {
        let failed = |source| FindError::Read {
            directory: self.logs.clone(),
            source,
        };
        let mut decisions = Vec::new();
        for entry in fs::read_dir(&self.logs).map_err(failed)? {
            let bytes = fs::read(entry.map_err(failed)?.path()).map_err(failed)?;
            let text = String::from_utf8_lossy(&bytes);
            decisions.extend(
                text.lines()
                    .filter_map(|line| serde_json::from_str(line).ok()),
            );
        }
        Ok(decisions)
    }
}
