//! The CA's own SVID, which its server shows. It is issued like any other, logged like any other, and held in memory only.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::ops::ReadyPart;
use countersign_identity::{IdentityStore, KeyError, StoreError, SvidKey, X509Svid};

use crate::authority::profile::BACKDATED;
use crate::issue::Issuance;
use crate::refusal::Refusal;

/// The least and the most time between two looks at the wall clock: timers stand still while a machine is suspended.
const SLEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

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

/// Replaces the SVID at half its life, for ever. When that fails, the old one stays, and it is tried again.
pub(crate) async fn keep_fresh(
    issuance: Arc<Issuance>,
    store: Arc<IdentityStore>,
    ready: ReadyPart,
) {
    let (least, most) = SLEEP;
    let mut changes = store.changes();
    loop {
        let held = store.svid();
        let due = held
            .as_ref()
            .map(|svid| half_life(svid.not_before(), svid.not_after()));
        let left = due.and_then(|due| due.duration_since(SystemTime::now()).ok());
        tokio::select! {
            () = tokio::time::sleep(left.unwrap_or_default().clamp(least, most)) => {}
            // Cannot fail: we hold the store, which holds the sender.
            _ = changes.changed() => {}
        }
        let (now, bundle) = (SystemTime::now(), store.bundle());
        // Its root may be about to leave, or have left.
        let is_lasting = |svid: &Arc<X509Svid>| {
            svid.verify(&bundle, now).is_ok() && !bundle.is_tainted(svid, now)
        };
        if due.is_some_and(|due| now < due) && held.as_ref().is_some_and(is_lasting) {
            continue;
        }
        match issue(&issuance, &store).await {
            Ok(()) => ready.ready(),
            Err(error) => {
                tracing::error!(%error, "the CA's own svid is not renewed");
                if held.is_none_or(|svid| svid.not_after() <= SystemTime::now()) {
                    ready.not_ready(error.to_string());
                }
                tokio::time::sleep(most).await;
            }
        }
    }
}

/// Makes and forgets token keys when that is due, for ever. Our own store is told of the new bundle.
pub(crate) async fn keep_token_keys_fresh(issuance: Arc<Issuance>, store: Arc<IdentityStore>) {
    let (least, _) = SLEEP;
    loop {
        match issuance
            .authority
            .rotate_token_keys_if_due(SystemTime::now())
            .await
        {
            Ok(false) => {}
            Ok(true) => {
                if let Err(error) = store.set_bundle((*issuance.authority.bundle()).clone()) {
                    tracing::error!(%error, "the CA does not take its own bundle");
                }
            }
            Err(error) => tracing::error!(%error, "the token keys are not replaced"),
        }
        // Keys may be made to live for seconds; that nothing is due costs nothing to find out.
        tokio::time::sleep(least).await;
    }
}

/// Half of the time from when it was issued, which is later than where its validity begins.
fn half_life(not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    let issued = not_before + BACKDATED;
    issued + not_after.duration_since(issued).unwrap_or_default() / 2
}
