//! Times and durations as people read and write them.

use std::fmt;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};

/// A duration in whole seconds that may point into the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignedDuration(i64);

impl SignedDuration {
    /// The seconds, negative for the past.
    pub(crate) fn seconds(self) -> i64 {
        self.0
    }
}

/// Why a duration cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration such as 30s, 5m, 1h or -5m")]
pub(crate) struct InvalidDuration;

/// Reads `30s`, `5m`, `12h`, `7d`, each with an optional leading minus.
pub(crate) fn parse_signed_duration(text: &str) -> Result<SignedDuration, InvalidDuration> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let unit = magnitude.chars().next_back().ok_or(InvalidDuration)?;
    let seconds_per_unit = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(InvalidDuration),
    };
    let digits = magnitude.strip_suffix(unit).ok_or(InvalidDuration)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidDuration);
    }
    let count: i64 = digits.parse().map_err(|_| InvalidDuration)?;
    count
        .checked_mul(seconds_per_unit)
        .map(|seconds| SignedDuration(sign * seconds))
        .ok_or(InvalidDuration)
}

/// `2026-11-23T10:00:00Z`
pub(crate) fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Leap years do not matter where only years are told.
const DAYS_OF_A_YEAR: u64 = 365;

/// Shows a duration by its two largest units: `2d 3h`, `41m 10s`, `7s`; from two years on by years alone.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
        if days >= 2 * DAYS_OF_A_YEAR {
            return write!(f, "{} years", days / DAYS_OF_A_YEAR);
        }
        let (large, small) = match (days, hours, minutes) {
            (0, 0, 0) => return write!(f, "{seconds}s"),
            (0, 0, minutes) => ((minutes, "m"), (seconds % 60, "s")),
            (0, hours, minutes) => ((hours, "h"), (minutes, "m")),
            (days, hours, _) => ((days, "d"), (hours, "h")),
        };
        write!(f, "{}{}", large.0, large.1)?;
        if small.0 > 0 {
            write!(f, " {}{}", small.0, small.1)
        } else {
            Ok(())
        }
    }
}

/// Where a moment stands in a period of validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not valid before a moment that is this far ahead.
    NotYet(Duration),
    /// Valid for this much longer.
    Valid(Duration),
    /// Over since this long.
    Expired(Duration),
}

impl Standing {
    /// Where `now` stands between `not_before` and `not_after` (both inclusive, RFC 5280 §4.1.2.5).
    pub(crate) fn of(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> Self {
        if let Ok(ahead) = not_before.duration_since(now)
            && !ahead.is_zero()
        {
            return Self::NotYet(ahead);
        }
        match not_after.duration_since(now) {
            Ok(left) => Self::Valid(left),
            Err(over) => Self::Expired(over.duration()),
        }
    }

    /// Whether the moment lies within the period.
    pub(crate) fn is_valid(self) -> bool {
        matches!(self, Self::Valid(_))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet(ahead) => write!(f, "not valid for another {}", Span(*ahead)),
            Self::Valid(left) => write!(f, "{} left", Span(*left)),
            Self::Expired(over) => write!(f, "expired {} ago", Span(*over)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_sign_and_unit() {
        for (text, seconds) in [
            ("30s", 30),
            ("5m", 300),
            ("2h", 7_200),
            ("1d", 86_400),
            ("-5m", -300),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_signed_duration(text).unwrap().seconds(),
                seconds,
                "{text}"
            );
        }
        for text in [
            "",
            "-",
            "5",
            "m",
            "5 m",
            "+5m",
            "--5m",
            "5min",
            "9223372036854775807d",
            "５m",
        ] {
            assert_eq!(parse_signed_duration(text), Err(InvalidDuration), "{text}");
        }
    }

    #[test]
    fn spans_show_two_units_at_most() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (2_470, "41m 10s"),
            (3_600, "1h"),
            (3_661, "1h 1m"),
            (86_400, "1d"),
            (97_200, "1d 3h"),
            (729 * 86_400, "729d"),
            (730 * 86_400, "2 years"),
            (36_500 * 86_400, "100 years"),
        ] {
            assert_eq!(Span(Duration::from_secs(seconds)).to_string(), text);
        }
    }

    #[test]
    fn standing_is_told_at_both_ends() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(
            Standing::of(at(100), at(200), at(99)).to_string(),
            "not valid for another 1s"
        );
        assert_eq!(
            Standing::of(at(100), at(200), at(100)).to_string(),
            "1m 40s left"
        );
        assert_eq!(
            Standing::of(at(100), at(200), at(200)).to_string(),
            "0s left"
        );
        assert_eq!(
            Standing::of(at(100), at(200), at(260)).to_string(),
            "expired 1m ago"
        );
    }
}
