//! What the replicas of one CA tell one another by way of their database: each that it is there, and what it has in force;
//! and, when one has changed the state, that there is something new.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::sleep;

use super::Authority;
use crate::store::authority_state::{self, Replica};
use crate::store::{Store, StoreError, milliseconds, time};

/// How often it is looked whether there is something to tell, and how often it is told in any case.
const LOOK: Duration = Duration::from_millis(500);
const TELL: Duration = Duration::from_secs(5);
/// A replica that has been silent for so long is not there.
const SILENT: Duration = Duration::from_secs(20);
/// And after that it is forgotten.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// How long to wait before listening again.
const RETRY: Duration = Duration::from_secs(5);

impl Replica {
    /// Whether it was there a moment ago.
    pub(crate) fn is_there(&self, now: SystemTime) -> bool {
        now <= time(self.seen_at) + SILENT
    }

    /// Whether it gives out the bundle of this sequence, or a later one.
    pub(crate) fn has(&self, sequence: u64) -> bool {
        u64::try_from(self.sequence).is_ok_and(|has| has >= sequence)
    }
}

/// This process among the replicas.
pub(crate) struct Presence {
    store: Store,
    name: String,
}

impl Presence {
    /// Of the replica that listens at `address`.
    pub(crate) fn new(store: Store, address: SocketAddr) -> Self {
        // In Kubernetes, the name of the pod.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = format!("{} {address}", host.trim());
        Self {
            store,
            name: name.trim().to_owned(),
        }
    }

    /// Tells the others, for ever, what is in force here.
    pub(crate) async fn keep_telling(self: Arc<Self>, authority: Arc<Authority>) {
        let mut told: Option<Replica> = None;
        loop {
            let now = SystemTime::now();
            let replica = Replica {
                name: self.name.clone(),
                sequence: i64::try_from(authority.bundle().sequence()).unwrap_or(i64::MAX),
                intermediate: authority.intermediate().id(),
                seen_at: milliseconds(now),
            };
            let is_news = told.as_ref().is_none_or(|told| {
                told.sequence != replica.sequence
                    || told.intermediate != replica.intermediate
                    || time(told.seen_at) + TELL <= now
                    // The clock was set back.
                    || told.seen_at > replica.seen_at
            });
            if is_news {
                match self.tell(&replica, now).await {
                    Ok(()) => told = Some(replica),
                    Err(error) => {
                        tracing::debug!(%error, "other replicas are not told what is in force here");
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn tell(&self, replica: &Replica, now: SystemTime) -> Result<(), StoreError> {
        let before = now.checked_sub(FORGOTTEN).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut tx = self.store.write().await?;
        authority_state::seen(&mut tx, replica, milliseconds(before)).await?;
        tx.commit().await
    }

    /// Tells the others that this one stops.
    pub(crate) async fn end(&self) {
        let end = async {
            let mut tx = self.store.write().await?;
            authority_state::gone(&mut tx, &self.name).await?;
            tx.commit().await
        };
        if let Err(error) = end.await {
            tracing::debug!(%error, "other replicas are not told that this one stops");
        }
    }
}

/// All replicas of which the database knows.
///
/// # Errors
/// When it cannot be reached.
pub(crate) async fn all(store: &Store) -> Result<Vec<Replica>, StoreError> {
    let mut tx = store.read().await?;
    authority_state::replicas(&mut tx).await
}

/// Calls `news` whenever another replica, or a command, has changed the state, for ever. It is looked for from time to time
/// anyway: what is missed while the database is away comes late, and is not lost.
pub(crate) async fn listen(store: Store, news: Arc<Notify>) {
    loop {
        match store.listen().await {
            Ok(Some(mut listener)) => {
                // What came before.
                news.notify_one();
                while listener.recv().await.is_ok() {
                    news.notify_one();
                }
            }
            Ok(None) => return,
            Err(error) => tracing::debug!(%error, "the database does not tell of changes"),
        }
        sleep(RETRY).await;
    }
}
