//! The task that appends to the log: what waits while one commit is under way goes into the next one, all at once.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::chain::Head;
use super::checkpoint;
use super::{LogError, Record};
use crate::authority::Authority;
use crate::fault;
use crate::metrics::LogMetrics;
use crate::store::issuance_log::{self, Entry};
use crate::store::{Store, StoreError};

/// The most entries of one commit.
const BATCH: usize = 512;
/// How long a commit may take. Callers wait that long and, with bad luck, as long again.
pub(super) const COMMIT_LIMIT: Duration = Duration::from_secs(12);
/// How often the head is told in the diagnostics, for who wants to keep an anchor.
const TELL_EVERY: Duration = Duration::from_mins(10);

/// An entry that waits to be written.
pub(super) struct Pending {
    pub(super) record: Record,
    pub(super) json: String,
    pub(super) done: oneshot::Sender<Result<(), LogError>>,
}

pub(super) struct Writer {
    store: Store,
    authority: Arc<Authority>,
    metrics: LogMetrics,
    /// The certificate that the database is known to have.
    known_signer: Option<Vec<u8>>,
    told: (Head, Instant),
}

impl Writer {
    pub(super) fn new(
        store: Store,
        authority: Arc<Authority>,
        metrics: LogMetrics,
        head: Head,
    ) -> Self {
        Self {
            store,
            authority,
            metrics,
            known_signer: None,
            told: (head, Instant::now()),
        }
    }

    /// Until nobody can append any more.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Pending>) {
        let mut batch = Vec::new();
        let mut last = self.told.0;
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            let commit = self.commit(&batch);
            let result = match tokio::time::timeout(COMMIT_LIMIT, commit).await {
                Ok(result) => result,
                Err(_) => Err(LogError::Slow),
            };
            match &result {
                Ok(head) => {
                    last = *head;
                    self.metrics.committed(head, batch.len());
                    self.tell_now_and_then(head);
                }
                Err(error) => {
                    self.metrics.failed();
                    // It may have been another's transaction that was undone, or a restored database.
                    self.known_signer = None;
                    tracing::error!(%error, entries = batch.len(), "the issuance log cannot be written");
                }
            }
            for pending in batch.drain(..) {
                // Who asked may have gone away.
                let _ = pending.done.send(result.clone().map(|_| ()));
            }
        }
        tracing::info!(head = %last, "issuance log closed");
    }

    /// Appends `batch` after the head that the database has: other replicas append too.
    async fn commit(&mut self, batch: &[Pending]) -> Result<Head, LogError> {
        let mut tx = self.store.write().await?;
        let (sequence, hash) = issuance_log::lock_head(&mut tx).await?;
        let mut head = Head::from_parts(sequence, &hash).ok_or(LogError::Head)?;
        let mut entries = Vec::with_capacity(batch.len());
        for pending in batch {
            let previous = head;
            head = previous.next(&pending.json);
            entries.push(entry(pending, &previous, &head)?);
        }
        issuance_log::append(&mut tx, &entries).await?;
        let signer = self.authority.intermediate();
        let trust_domain = self.authority.trust_domain();
        let checkpoint = checkpoint::sign(&head, trust_domain, &signer, SystemTime::now()).await?;
        if self.known_signer.as_ref() != Some(&checkpoint.signer) {
            issuance_log::add_signer(&mut tx, &checkpoint.signer, signer.certificate()).await?;
        }
        issuance_log::add_checkpoint(&mut tx, &checkpoint).await?;
        issuance_log::set_head(&mut tx, head.row(), head.hash()).await?;
        fault::point("before-commit");
        tx.commit().await?;
        fault::point("after-commit");
        self.known_signer = Some(checkpoint.signer);
        Ok(head)
    }

    fn tell_now_and_then(&mut self, head: &Head) {
        let (_, when) = self.told;
        if when.elapsed() >= TELL_EVERY {
            tracing::info!(%head, "head of the issuance log");
            self.told = (*head, Instant::now());
        }
    }
}

fn entry(pending: &Pending, previous: &Head, head: &Head) -> Result<Entry, StoreError> {
    let record = &pending.record;
    let time = record.time().ok_or_else(|| {
        StoreError::Damaged(format!(
            "a record has the time {:?}, which is none",
            record.time
        ))
    })?;
    Ok(Entry {
        sequence: head.row(),
        time,
        serial: record.serial.clone(),
        spiffe_id: record.spiffe_id.clone(),
        attestation: record.attestation.kind.clone(),
        record: pending.json.clone(),
        previous_hash: previous.hash().to_vec(),
        hash: head.hash().to_vec(),
    })
}
