//! The CA's own SVID, which its server shows. It is issued like any other, logged like any other, and held in memory only.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::ops::ReadyPart;
use countersign_identity::{IdentityStore, KeyError, StoreError, SvidKey};

use crate::issue::Issuance;
use crate::refusal::Refusal;

/// After a failure it is tried again this often; the SVID in use has half of its life left then.
const RETRY: Duration = Duration::from_secs(10);
/// The longest sleep before the wall clock is looked at again: timers stand still while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Why the CA has no SVID.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnSvidError {
    /// The key cannot be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It was not issued.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It does not fit.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Issues an SVID for a new key to `store`.
///
/// # Errors
/// When it cannot be issued. What the store has stays.
pub(crate) async fn issue(issuance: &Issuance, store: &IdentityStore) -> Result<(), OwnSvidError> {
    let key = SvidKey::generate()?;
    let svid = issuance
        .issue_own(&key.csr_der()?, SystemTime::now())
        .await?;
    Ok(store.set_svid(svid, key)?)
}

/// Replaces the SVID at half its life, and the intermediate when that is due, for ever.
pub(crate) async fn keep_fresh(
    issuance: Arc<Issuance>,
    store: Arc<IdentityStore>,
    ready: ReadyPart,
) {
    let mut retry_at = None;
    loop {
        tokio::time::sleep(LONGEST_SLEEP.min(RETRY)).await;
        let now = SystemTime::now();
        if retry_at.is_some_and(|at| now < at) {
            continue;
        }
        retry_at = None;
        match issuance.authority.renew_intermediate_if_due(now) {
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "the intermediate is not renewed");
                retry_at = Some(now + Duration::from_mins(10));
            }
        }
        let due = store
            .svid()
            .is_none_or(|svid| half_life(svid.not_before(), svid.not_after()) <= now);
        if !due {
            continue;
        }
        match issue(&issuance, &store).await {
            Ok(()) => ready.ready(),
            Err(error) => {
                tracing::error!(%error, "the CA's own svid is not renewed");
                if store.svid().is_none_or(|svid| svid.not_after() <= now) {
                    ready.not_ready(error.to_string());
                }
            }
        }
    }
}

fn half_life(not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    not_before + not_after.duration_since(not_before).unwrap_or_default() / 2
}
