//! When token keys come and go: a pure function of what there is and of the time.
//!
//! ```text
//! key 1  ├─ signs ──────────────────────┤─ published until its last token has ended ─┤
//! key 2            ├─ published only ───┤─ signs ──────────────────────┤─ …
//! ```
//! A key is published for half its life before it signs, so that whoever verifies has it by then. No key stops signing
//! before its successor has been published for so long: a CA that was down at the time goes on with the old one meanwhile.

use std::time::{Duration, SystemTime};

/// How long token keys live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    /// How long a key signs.
    pub(crate) signing: Duration,
    /// How long the tokens that it signs are valid at most.
    pub(crate) longest_token: Duration,
}

/// How far clocks may be apart.
const SKEW: Duration = Duration::from_mins(1);

impl Lifetimes {
    /// How long a key is published before it signs.
    fn preparation(&self) -> Duration {
        self.signing / 2
    }
}

/// The times of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Since when it has been published.
    pub(crate) published: SystemTime,
    /// From when it signs.
    pub(crate) signs_from: SystemTime,
    /// Until when it signs: when its successor begins.
    pub(crate) signs_until: SystemTime,
}

/// What is to be done now. In the order of the keys, which is that in which they sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// How many of the first keys are to be forgotten.
    pub(crate) retire: usize,
    /// The times of a key to be made. The one before it signs until this one begins.
    pub(crate) make: Option<Times>,
}

/// What is due. `keys` are those of one use, in the order in which they sign.
pub(crate) fn due(keys: &[Times], lifetimes: Lifetimes, now: SystemTime) -> Due {
    let until = |from: SystemTime| from + lifetimes.signing;
    let Some((last, before)) = keys.split_last() else {
        // The first: nobody waits for another, nor has anybody anything to verify by.
        let make = Times {
            published: now,
            signs_from: now,
            signs_until: until(now),
        };
        return Due {
            retire: 0,
            make: Some(make),
        };
    };
    let is_over = |key: &&Times| key.signs_until + lifetimes.longest_token + SKEW <= now;
    let retire = before.iter().take_while(is_over).count();
    let make = (last.signs_until <= now + lifetimes.preparation()).then(|| {
        let signs_from = last.signs_until.max(now + lifetimes.preparation());
        Times {
            published: now,
            signs_from,
            signs_until: until(signs_from),
        }
    });
    Due { retire, make }
}

/// Which of the keys signs: the last that has begun, or, by a clock that was set back to before all of them, the first.
pub(crate) fn current(
    keys: impl DoubleEndedIterator<Item = Times> + ExactSizeIterator,
    now: SystemTime,
) -> usize {
    keys.enumerate()
        .rev()
        .find(|(_, key)| key.signs_from <= now)
        .map_or(0, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const LIFETIMES: Lifetimes = Lifetimes {
        signing: DAY,
        longest_token: Duration::from_hours(1),
    };

    fn start() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// Does what is due.
    fn step(keys: &mut Vec<Times>, now: SystemTime) -> Due {
        let due = due(keys, LIFETIMES, now);
        keys.drain(..due.retire);
        if let Some(new) = due.make {
            if let Some(last) = keys.last_mut() {
                last.signs_until = new.signs_from;
            }
            keys.push(new);
        }
        due
    }

    #[test]
    fn a_key_is_published_half_its_life_before_it_signs_and_until_its_last_token_has_ended() {
        let mut keys = Vec::new();
        step(&mut keys, start());
        assert_eq!(current(keys.iter().copied(), start()), 0);
        assert_eq!(
            step(&mut keys, start() + DAY / 2 - Duration::from_secs(1)),
            Due::default()
        );
        step(&mut keys, start() + DAY / 2);
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[1].signs_from, start() + DAY);
        assert_eq!(
            current(keys.iter().copied(), start() + DAY - Duration::from_secs(1)),
            0
        );
        assert_eq!(current(keys.iter().copied(), start() + DAY), 1);
        let last_token_ends = start() + DAY + LIFETIMES.longest_token;
        assert_eq!(step(&mut keys, last_token_ends).retire, 0);
        assert_eq!(step(&mut keys, last_token_ends + SKEW).retire, 1);
    }

    #[test]
    fn after_a_long_sleep_the_old_key_signs_until_the_new_one_is_known() {
        let mut keys = Vec::new();
        step(&mut keys, start());
        let late = start() + DAY * 30;
        let due = step(&mut keys, late);
        assert_eq!((due.retire, keys.len()), (0, 2));
        assert_eq!(current(keys.iter().copied(), late), 0);
        assert_eq!(keys[1].signs_from, late + DAY / 2);
        assert_eq!(keys[0].signs_until, late + DAY / 2);
    }

    #[test]
    fn a_clock_that_was_set_back_leaves_a_key_to_sign_with() {
        let mut keys = Vec::new();
        step(&mut keys, start());
        let back = start() - DAY;
        assert_eq!(step(&mut keys, back), Due::default());
        assert_eq!(current(keys.iter().copied(), back), 0);
    }

    proptest! {
        /// However the CA is stopped, started, and its clock set: there is always one key that signs, it was published
        /// for its time unless it is the very first, and no key goes before its last token.
        #[test]
        fn no_token_is_ever_signed_by_a_key_that_is_not_known(
            hours in prop::collection::vec(-30..80_i32, 1..60),
        ) {
            let (mut keys, mut now) = (Vec::new(), start());
            let mut last_signed: Vec<(Times, SystemTime)> = Vec::new();
            let first = {
                step(&mut keys, now);
                keys[0].published
            };
            for hours in hours {
                let by = Duration::from_hours(hours.unsigned_abs().into());
                now = if hours < 0 { now - by } else { now + by };
                let before = keys.clone();
                step(&mut keys, now);
                let gone = before.iter().filter(|old| !keys.iter().any(|key| key.published == old.published));
                for gone in gone {
                    for (key, signed) in &last_signed {
                        if key.published == gone.published {
                            prop_assert!(*signed + LIFETIMES.longest_token <= now);
                        }
                    }
                }
                let signer = keys[current(keys.iter().copied(), now)];
                prop_assert!(signer.published == first || hours < 0 || signer.published + DAY / 2 <= now.max(signer.signs_from));
                if now >= signer.signs_from {
                    last_signed.push((signer, now));
                }
                prop_assert!(keys.len() <= 4);
            }
        }
    }
}
