//! When to ask a bundle endpoint again: pure state, so that it can be tested without a clock.

use std::time::Duration;

/// How often, if the bundle does not say (SPIFFE Federation §5.1 leaves it to us; §4.1.2 of Trust Domain and Bundle asks for
/// "a low number of minutes").
const USUAL: Duration = Duration::from_mins(5);
/// What `spiffe_refresh_hint` may make of it: a stranger must not have us ask all the time, and a rotation must not be
/// missed by more than an hour.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_hours(1));
/// The first wait after a failure; doubled by each further one, up to the usual interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// How the attempts went.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    failures: u32,
}

impl Schedule {
    /// How long to wait after a success. `jitter` is from 0 to 1, and takes up to a tenth off.
    pub(super) fn succeeded(&mut self, hint: Option<Duration>, jitter: f64) -> Duration {
        self.failures = 0;
        let (least, most) = BOUNDS;
        let interval = hint.map_or(USUAL, |hint| hint.clamp(least, most));
        interval.mul_f64(1.0 - 0.1 * jitter.clamp(0.0, 1.0))
    }

    /// How long to wait after a failure. `jitter` takes up to half of it off.
    pub(super) fn failed(&mut self, jitter: f64) -> Duration {
        let wait = FIRST_RETRY
            .saturating_mul(1_u32 << self.failures.min(16))
            .min(USUAL);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
    }
}

/// From 0 to 1. Without randomness, which aws-lc-rs does not run out of, there is no jitter.
pub(super) fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_followed_within_bounds() {
        let after = |hint, jitter| Schedule::default().succeeded(hint, jitter);
        let minutes = |minutes| Some(Duration::from_mins(minutes));
        assert_eq!(after(None, 0.0), USUAL);
        assert_eq!(after(minutes(10), 0.0), Duration::from_mins(10));
        assert_eq!(after(minutes(10), 1.0), Duration::from_mins(9));
        assert_eq!(after(Some(Duration::ZERO), 0.0), Duration::from_secs(5));
        assert_eq!(after(Some(Duration::MAX), 0.0), Duration::from_hours(1));
    }

    #[test]
    fn failures_back_off_and_a_success_starts_anew() {
        let mut schedule = Schedule::default();
        let waits: Vec<u64> = (0..40).map(|_| schedule.failed(0.0).as_secs()).collect();
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(waits[10..].iter().all(|wait| *wait == 300));
        assert_eq!(schedule.failed(1.0), Duration::from_secs(150));
        schedule.succeeded(None, 0.0);
        assert_eq!(schedule.failed(0.0), FIRST_RETRY);
    }
}
