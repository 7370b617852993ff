//! Waiting for a condition that only looking again can tell.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The condition did not come.
#[derive(Debug, thiserror::Error)]
#[error("nothing after {} s", .0.as_secs())]
pub(crate) struct TimedOut(Duration);

/// Looks again and again until there is something, for at most `patience`.
pub(crate) async fn until<T>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(TimedOut(patience));
        }
        sleep(Duration::from_millis(10)).await;
    }
}
