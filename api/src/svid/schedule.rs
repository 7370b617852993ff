//! When to renew: a pure function of validity, time and chance.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime};

/// A clock that is kept in step by NTP may go back by less than this.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);
/// Half of an SVID's life, and how much earlier or later it may become, so that processes that
/// started together do not renew together.
const HALF_LIFE: f64 = 0.5;
const SPREAD: f64 = 0.1;
/// Even a CA that issues what has hardly any life left is not asked more often.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// The waits after failures: doubled each time, from the first to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How long to wait before an SVID is renewed: until half its life is over, give or take a tenth
/// of it by `chance`, which is from 0 to 1.
pub(super) fn until_renewal(
    not_before: SystemTime,
    not_after: SystemTime,
    now: SystemTime,
    chance: f64,
) -> Duration {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let share = HALF_LIFE + SPREAD * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
    let due = not_before + life.mul_f64(share);
    due.duration_since(now)
        .unwrap_or_default()
        .max(SHORTEST_WAIT)
}

/// How long to wait after everybody was told to renew, by `chance`, which is from 0 to 1: long enough that they do not all
/// come at once, short enough that it is at once for people.
pub(super) fn soon(chance: f64) -> Duration {
    Duration::from_millis(500) + Duration::from_secs(4).mul_f64(chance.clamp(0.0, 1.0))
}

/// How long to wait after the `failures`-th failure in a row: up to twice as long as before, and by
/// `chance`, which is from 0 to 1, down to half of that.
pub(super) fn until_retry(failures: u32, chance: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = FIRST_RETRY
        .saturating_mul(1 << doublings)
        .min(LONGEST_RETRY);
    longest.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// How long to sleep until the wall clock is looked at again, no longer than `longest`; `None`: it is time.
///
/// It is time when `due` is reached, however that came about: a machine that was suspended, or whose clock was set forward,
/// finds it out after `longest`. It is time also when the clock was set back since `last`: a certificate of the time that
/// is now in the future is not valid, and until `due` it may be long.
pub(super) fn until_next_look(
    due: SystemTime,
    last: SystemTime,
    now: SystemTime,
    longest: Duration,
) -> Option<Duration> {
    let was_set_back = now + CLOCK_TOLERANCE < last;
    let left = due.duration_since(now).ok()?;
    (!left.is_zero() && !was_set_back).then(|| left.min(longest))
}

/// Chance, from 0 to 1. It keeps processes apart, and secrets it keeps none: the standard library's
/// random hash keys will do.
pub(super) fn jitter() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn epoch() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn renewal_is_at_half_life_give_or_take_a_tenth() {
        let wait = |chance| until_renewal(epoch(), epoch() + HOUR, epoch(), chance).as_secs();
        assert_eq!(wait(0.5), 1800);
        assert_eq!(wait(0.0), 1440);
        assert_eq!(wait(1.0), 2160);
    }

    #[test]
    fn time_that_has_passed_is_not_waited_for_again() {
        let now = epoch() + Duration::from_secs(1700);
        assert_eq!(
            until_renewal(epoch(), epoch() + HOUR, now, 0.5).as_secs(),
            100
        );
    }

    #[test]
    fn what_is_overdue_is_renewed_soon_but_not_in_a_busy_loop() {
        let late = epoch() + HOUR * 3;
        assert_eq!(
            until_renewal(epoch(), epoch() + HOUR, late, 0.5),
            SHORTEST_WAIT
        );
        assert_eq!(until_renewal(epoch(), epoch(), epoch(), 0.5), SHORTEST_WAIT);
        // A validity that ends before it starts is no reason to panic.
        assert_eq!(
            until_renewal(epoch() + HOUR, epoch(), epoch() + HOUR, 0.5),
            SHORTEST_WAIT
        );
    }

    #[test]
    fn a_clock_that_jumps_is_noticed_at_the_next_look() {
        let longest = Duration::from_secs(30);
        let due = epoch() + HOUR;
        let look = |last, now| until_next_look(due, last, now, longest);
        let second = Duration::from_secs(1);
        assert_eq!(look(epoch(), epoch()), Some(longest));
        assert_eq!(look(due - second * 31, due - second), Some(second));
        // The machine was suspended, or the clock set forward.
        assert_eq!(look(epoch(), due), None);
        assert_eq!(look(epoch(), epoch() + HOUR * 24), None);
        // The clock was set back: by a little, and by a day.
        assert_eq!(look(epoch(), epoch() - second), Some(longest));
        assert_eq!(look(epoch(), epoch() - HOUR * 24), None);
    }

    #[test]
    fn retries_back_off_to_a_limit() {
        let longest: Vec<_> = (1..=8).map(|n| until_retry(n, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(until_retry(3, 0.0), Duration::from_secs(2));
        assert_eq!(until_retry(u32::MAX, 1.0), LONGEST_RETRY);
    }

    #[test]
    fn chance_stays_in_its_range_and_varies() {
        let draws: Vec<_> = (0..64).map(|_| jitter()).collect();
        assert!(draws.iter().all(|chance| (0.0..=1.0).contains(chance)));
        assert!(draws.iter().any(|&chance| chance != draws[0]));
    }
}
