//! How long to wait before trying again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double with each failure up to a limit, each shortened by a random part, so that sidecars that lost the same
/// server do not all come back in the same moment.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It went well: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// It failed again: how long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        let longest = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(0.5 + 0.5 * random_fraction())
    }
}

/// From 0 to 1. The standard library's keyed hash is random enough for this, and needs no other crate.
fn random_fraction() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_again() {
        let mut backoff = Backoff::new();
        for longest in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            let wait = backoff.next_wait();
            let longest = Duration::from_millis(longest);
            assert!(
                longest / 2 <= wait && wait <= longest,
                "{wait:?} of {longest:?}"
            );
        }
        for _ in 0..100 {
            assert!(backoff.next_wait() <= LONGEST);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }

    #[test]
    fn waits_differ() {
        let waits: std::collections::HashSet<_> =
            (0..10).map(|_| Backoff::new().next_wait()).collect();
        assert!(waits.len() > 1);
    }
}
