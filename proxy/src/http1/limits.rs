//! What one message may cost.

use std::time::Duration;

/// Bounds on one message: bytes, fields and time.
///
/// A time of [`Duration::MAX`] means that there is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, from its first line to the empty line; also of a trailer section.
    pub head_bytes: usize,
    /// Header lines of a head; also of a trailer section. At most [`Limits::MAX_HEADERS`] count.
    pub headers: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// How long a connection may be quiet before the next request begins.
    pub idle_timeout: Duration,
    /// How long the first byte of a response may take.
    pub response_timeout: Duration,
    /// How long a body may make no progress, be it that no byte comes or that none is taken.
    pub body_timeout: Duration,
}

impl Limits {
    /// The most header lines that [`Limits::headers`] can allow.
    pub const MAX_HEADERS: usize = 256;
}

impl Default for Limits {
    /// 64 KiB and 100 lines for a head within 15 s, a minute of quiet, no bound on how long the
    /// application thinks.
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            headers: 100,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            response_timeout: Duration::MAX,
            body_timeout: Duration::from_secs(60),
        }
    }
}
