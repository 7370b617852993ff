//! The issuance log: an entry for every certificate, only ever appended to, each chained to the one before by a hash
//! (`chain.rs`), with signed checkpoints (`checkpoint.rs`). A certificate is handed out when its entry is on the disk, so
//! that none is in use that nobody knows of. `docs/ca-log.md` has the format for others.
//!
//! [`IssuanceLog`] is what issuance sees of it. Behind it one task (`writer.rs`) commits together what is there to commit:
//! under load that is one write to the disk for many certificates.

pub(crate) mod chain;
pub(crate) mod checkpoint;
pub(crate) mod commands;
pub(crate) mod in_use;
mod record;
mod verify;
mod writer;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::authority::Authority;
use crate::authority::profile::ProfileError;
use crate::metrics::LogMetrics;
use crate::store::{Store, StoreError};
use chain::Head;
pub(crate) use record::Record;
use writer::{Pending, Writer};

/// Entries that may wait for the database. More callers than that wait for their turn to wait.
const QUEUE: usize = 4096;

/// Why an entry is not in the log, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The database.
    #[error(transparent)]
    Store(Arc<StoreError>),
    /// The checkpoint cannot be signed.
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(Arc<ProfileError>),
    /// The record cannot be encoded.
    #[error("the record cannot be encoded: {0}")]
    Encode(Arc<serde_json::Error>),
    /// The head in the database is none.
    #[error("the head of the log is damaged; `countersign-ca log verify` tells more")]
    Head,
    /// The database takes too long.
    #[error("the database was not done within {} s", writer::COMMIT_LIMIT.as_secs())]
    Slow,
    /// The task that writes is gone.
    #[error("the log is shut")]
    Shut,
}

impl From<StoreError> for LogError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<ProfileError> for LogError {
    fn from(error: ProfileError) -> Self {
        Self::Sign(Arc::new(error))
    }
}

/// The log, to append to. Cheap to clone; when the last one is dropped, the task that writes ends.
#[derive(Clone)]
pub(crate) struct IssuanceLog(mpsc::Sender<Pending>);

impl IssuanceLog {
    /// Opens, or begins, the log in `store`, and starts the task that writes. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub(crate) async fn open(
        store: Store,
        authority: Arc<Authority>,
        metrics: LogMetrics,
    ) -> Result<Self, LogError> {
        let head = begin(&store, &authority).await?;
        tracing::info!(%head, "issuance log opened");
        metrics.head(&head);
        let (sender, queue) = mpsc::channel(QUEUE);
        tokio::spawn(Writer::new(store, authority, metrics, head).run(queue));
        Ok(Self(sender))
    }

    /// Appends an entry and waits until it is on the disk.
    ///
    /// # Errors
    /// When that is not certain. The certificate must then not be handed out.
    pub(crate) async fn append(&self, record: Record) -> Result<(), LogError> {
        let json =
            serde_json::to_string(&record).map_err(|error| LogError::Encode(error.into()))?;
        let (done, is_done) = oneshot::channel();
        let pending = Pending { record, json, done };
        self.0.send(pending).await.map_err(|_| LogError::Shut)?;
        is_done.await.map_err(|_| LogError::Shut)?
    }
}

async fn begin(store: &Store, authority: &Authority) -> Result<Head, LogError> {
    use crate::store::issuance_log;
    let begin = Head::begin(authority.trust_domain());
    let mut tx = store.write().await?;
    issuance_log::begin(&mut tx, begin.hash()).await?;
    let (sequence, hash) = issuance_log::head(&mut tx).await?;
    tx.commit().await?;
    Head::from_parts(sequence, &hash).ok_or(LogError::Head)
}

#[cfg(test)]
pub(crate) mod tests;
