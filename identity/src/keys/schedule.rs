//! When to fetch: pure state, so that it can be tested without a clock.
//!
//! Two reasons lead to a fetch: the key set's age, and a token with a `kid` that the set does not have (the issuer may have
//! rotated). Tokens come from strangers, so that the second reason is rationed: each `kid` once per interval, and never
//! two such fetches within [`MIN_SPACING`].

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// What an issuer's `max-age` may make of the interval.
const MAX_AGE_BOUNDS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(60));
/// The first wait after a failure; doubled by each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The least time between two fetches for unknown `kid`s.
const MIN_SPACING: Duration = Duration::from_secs(10);
/// Longer `kid`s are never asked for: they are not remembered, and so could not be rationed.
const MAX_KEY_ID_BYTES: usize = 256;

/// When the next fetch is due.
#[derive(Debug)]
pub(super) struct Schedule {
    refresh: Duration,
    failures: u32,
    due: Instant,
    /// When each unknown `kid` was last fetched for. Bounded by [`MIN_SPACING`] and the interval.
    asked: HashMap<String, Instant>,
    last_asked: Option<Instant>,
}

impl Schedule {
    /// Due at once, then every `refresh` unless the issuer says otherwise.
    pub(super) fn new(refresh: Duration, now: Instant) -> Self {
        Self {
            refresh,
            failures: 0,
            due: now,
            asked: HashMap::new(),
            last_asked: None,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// A fetch succeeded. `jitter` is from 0 to 1, and takes up to a tenth off, so that many followers do not march in step.
    pub(super) fn succeeded(&mut self, max_age: Option<Duration>, now: Instant, jitter: f64) {
        self.failures = 0;
        let (least, most) = MAX_AGE_BOUNDS;
        let interval = max_age.map_or(self.refresh, |age| age.clamp(least, most));
        self.due = now + interval.mul_f64(1.0 - 0.1 * jitter.clamp(0.0, 1.0));
    }

    /// A fetch failed: the wait doubles up to the refresh interval, and up to half of it is jitter.
    pub(super) fn failed(&mut self, now: Instant, jitter: f64) {
        let wait = FIRST_RETRY
            .saturating_mul(1_u32 << self.failures.min(16))
            .min(self.refresh);
        self.failures = self.failures.saturating_add(1);
        self.due = now + wait.mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
    }

    /// A token named `key_id`, which the set does not have. Returns whether a fetch will be made for it; it is then due.
    pub(super) fn ask(&mut self, key_id: &str, now: Instant) -> bool {
        if key_id.len() > MAX_KEY_ID_BYTES {
            return false;
        }
        let refresh = self.refresh;
        self.asked
            .retain(|_, at| now.saturating_duration_since(*at) < refresh);
        if self.asked.contains_key(key_id) {
            return false;
        }
        let earliest = self
            .last_asked
            .map_or(now, |last| last + MIN_SPACING)
            .max(now);
        if self.last_asked.is_some_and(|last| last > now) {
            // One is already waiting for its turn, and will serve this key too.
            return true;
        }
        self.asked.insert(key_id.to_owned(), earliest);
        self.last_asked = Some(earliest);
        self.due = self.due.min(earliest);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REFRESH: Duration = Duration::from_mins(5);

    fn after_success(max_age: Option<Duration>, jitter: f64) -> Duration {
        let now = Instant::now();
        let mut schedule = Schedule::new(REFRESH, now);
        assert_eq!(schedule.due(), now);
        schedule.succeeded(max_age, now, jitter);
        schedule.due() - now
    }

    #[test]
    fn max_age_is_honoured_within_bounds() {
        assert_eq!(after_success(None, 0.0), REFRESH);
        assert_eq!(after_success(None, 1.0), REFRESH.mul_f64(0.9));
        assert_eq!(
            after_success(Some(Duration::from_mins(10)), 0.0),
            Duration::from_mins(10)
        );
        assert_eq!(
            after_success(Some(Duration::ZERO), 0.0),
            Duration::from_mins(1)
        );
        assert_eq!(
            after_success(Some(Duration::MAX), 0.0),
            Duration::from_mins(60)
        );
    }

    #[test]
    fn failures_back_off_up_to_the_interval_and_success_resets() {
        let now = Instant::now();
        let mut schedule = Schedule::new(REFRESH, now);
        let mut waits = Vec::new();
        for _ in 0..40 {
            schedule.failed(now, 0.0);
            waits.push((schedule.due() - now).as_secs());
        }
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(waits[10..].iter().all(|wait| *wait == 300));
        schedule.succeeded(None, now, 0.0);
        schedule.failed(now, 0.0);
        assert_eq!(schedule.due() - now, Duration::from_secs(1));
    }

    #[test]
    fn an_unknown_key_is_fetched_for_once_per_interval() {
        let start = Instant::now();
        let mut schedule = Schedule::new(REFRESH, start);
        schedule.succeeded(None, start, 0.0);
        assert!(schedule.ask("new", start));
        assert_eq!(schedule.due(), start);
        schedule.succeeded(None, start, 0.0);
        assert!(!schedule.ask("new", start + Duration::from_secs(299)));
        assert_eq!(schedule.due(), start + REFRESH);
        assert!(schedule.ask("new", start + REFRESH));
    }

    #[test]
    fn other_keys_wait_their_turn_and_share_it() {
        let start = Instant::now();
        let mut schedule = Schedule::new(REFRESH, start);
        schedule.succeeded(None, start, 0.0);
        assert!(schedule.ask("a", start));
        schedule.succeeded(None, start, 0.0);
        let soon = start + Duration::from_secs(1);
        assert!(schedule.ask("b", soon));
        assert_eq!(schedule.due(), start + MIN_SPACING);
        assert!(schedule.ask("c", soon));
        assert_eq!(schedule.due(), start + MIN_SPACING);
        assert!(!schedule.ask(&"x".repeat(257), soon));
    }

    proptest! {
        /// Whatever strangers send, fetches for unknown keys are spaced, and what is remembered is bounded.
        #[test]
        fn strangers_cannot_cause_a_flood(
            asks in prop::collection::vec((any::<u8>(), 0_u64..5_000), 1..400)
        ) {
            let start = Instant::now();
            let mut schedule = Schedule::new(REFRESH, start);
            schedule.succeeded(None, start, 0.0);
            let (mut now, mut fetches) = (start, Vec::new());
            for (key, wait) in asks {
                now += Duration::from_millis(wait);
                while schedule.due() <= now {
                    let due = schedule.due();
                    fetches.push(due);
                    schedule.succeeded(None, due, 0.0);
                }
                schedule.ask(&key.to_string(), now);
                prop_assert!(schedule.asked.len() <= 31);
            }
            let spaced = fetches.windows(2).all(|pair| pair[1] - pair[0] >= MIN_SPACING || pair[1] - pair[0] == REFRESH);
            prop_assert!(spaced, "{:?}", fetches);
        }
    }
}
