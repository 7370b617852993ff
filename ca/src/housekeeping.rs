//! What the CA does with its authorities by itself: it notices what commands and other replicas change, replaces the
//! intermediate in time, and says aloud what only an operator can do.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_identity::IdentityStore;
use tokio::sync::Notify;

use crate::authority::{Authority, AuthorityError};
use crate::metrics::AuthorityMetrics;

/// How often a change is looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the same complaint is repeated: seldom, and when the end is near, often.
const REPEAT: (Duration, Duration) = (Duration::from_hours(1), Duration::from_mins(5));
/// How long to wait after a renewal that failed.
const RETRY: Duration = Duration::from_secs(30);

/// Keeps the authorities in order for ever. With `news` it looks for a change at once.
pub(crate) async fn keep(
    authority: Arc<Authority>,
    store: Arc<IdentityStore>,
    metrics: AuthorityMetrics,
    news: Arc<Notify>,
) {
    let mut complaints = Complaints::default();
    let mut retry_at = Instant::now();
    loop {
        match authority.reload().await {
            Ok(true) => tell(&authority, &store),
            Ok(false) => complaints.unread = None,
            Err(error) => complaints.unread(&error),
        }
        let now = SystemTime::now();
        if Instant::now() >= retry_at {
            match authority.renew_intermediate_if_due(now).await {
                Ok(true) => tell(&authority, &store),
                Ok(false) => {}
                Err(error) => {
                    retry_at = Instant::now() + RETRY;
                    complaints.not_renewed(&authority, &error, now);
                }
            }
            if let Err(error) = authority.tidy(now).await {
                retry_at = Instant::now() + RETRY;
                tracing::warn!(%error, "a private key that is of no use any more is not removed yet");
            }
        }
        metrics.expiry(authority.expiry(), now);
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = news.notified() => {}
        }
    }
}

/// Our own connections are verified by the new bundle, too.
fn tell(authority: &Authority, store: &IdentityStore) {
    let bundle = authority.bundle();
    let sequence = bundle.sequence();
    let (roots, tainted) = (bundle.x509_authorities().len(), bundle.tainted().len());
    tracing::info!(sequence, roots, tainted, "authorities in force");
    if let Err(error) = store.set_bundle((*bundle).clone()) {
        tracing::error!(%error, "our own bundle is not replaced");
    }
}

/// What has been complained of, and when.
#[derive(Default)]
struct Complaints {
    unread: Option<Instant>,
    not_renewed: Option<Instant>,
}

impl Complaints {
    fn unread(&mut self, error: &AuthorityError) {
        if is_time(&mut self.unread, REPEAT.1) {
            tracing::error!(%error, "a change of the authorities is not taken over; what was in force stays");
        }
    }

    fn not_renewed(&mut self, authority: &Authority, error: &AuthorityError, now: SystemTime) {
        let left = authority.expiry().intermediate.duration_since(now);
        let left_seconds = left.unwrap_or_default().as_secs();
        let (seldom, often) = REPEAT;
        if authority.is_urgent(now) {
            if is_time(&mut self.not_renewed, often) {
                tracing::error!(%error, left_seconds, "the intermediate ends soon, and nothing can be issued then");
            }
        } else if is_time(&mut self.not_renewed, seldom) {
            tracing::warn!(%error, left_seconds, "the intermediate has lived half its life, and is not renewed");
        }
    }
}

fn is_time(last: &mut Option<Instant>, every: Duration) -> bool {
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}
