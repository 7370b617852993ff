//! Times, as they are told.

use std::time::Duration;

/// Times in milliseconds, the shortest first.
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn new(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<f64> = times
            .into_iter()
            .map(|time| time.as_secs_f64() * 1000.0)
            .collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// The time within which this part of them is; 0 of none.
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of a length is a length"
    )]
    pub(crate) fn at(&self, part: f64) -> f64 {
        let index = (self.0.len().saturating_sub(1) as f64 * part) as usize;
        self.0.get(index).copied().unwrap_or_default()
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        format!(
            "p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            self.at(0.5),
            self.at(0.99),
            self.at(1.0)
        )
    }
}

/// Whether a goal is met, in words.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "not met" }
}
