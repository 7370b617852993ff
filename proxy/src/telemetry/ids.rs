//! Ids that join a denial, a log line and a trace.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes ids that are unique among all sidecars.
///
/// The ids are names, not secrets: nothing is allowed because somebody knows one. So there is no need for a
/// cryptographic generator on the path of every call, and none for another crate: a counter, put through the standard
/// library's keyed hash, is a pseudo-random function of the counter under 128 bits that the operating system chose when
/// the process began. It never blocks, never fails and costs a few nanoseconds.
#[derive(Debug, Default)]
pub struct Ids {
    key: RandomState,
    next: AtomicU64,
}

impl Ids {
    /// A new source, with a key of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of one decision: what a denied caller is told, and what finds the log line.
    pub fn decision_id(&self) -> DecisionId {
        DecisionId(self.bytes())
    }

    /// The id of a new trace.
    pub fn trace_id(&self) -> TraceId {
        loop {
            // All zeros means "no trace" (W3C Trace Context, section 3.2.2.3).
            if let Some(id) = TraceId::from_bytes(self.bytes()) {
                return id;
            }
        }
    }

    /// The id of a new span.
    pub fn span_id(&self) -> SpanId {
        loop {
            if let Some(id) = SpanId::from_bytes(self.bytes()) {
                return id;
            }
        }
    }

    fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(size_of::<u64>()) {
            let count = self.next.fetch_add(1, Ordering::Relaxed);
            let word = self.key.hash_one(count).to_ne_bytes();
            for (byte, random) in chunk.iter_mut().zip(word) {
                *byte = random;
            }
        }
        bytes
    }
}

/// Names one decision.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionId([u8; 12]);

/// Names one trace (W3C Trace Context, section 3.2.2.3). Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Names one hop of a trace, `parent-id` in W3C Trace Context, section 3.2.2.4. Never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// `None` if all bytes are zero.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }
}

impl SpanId {
    /// `None` if all bytes are zero.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }
}

/// Text forms: lower-case hexadecimal, in `Display`, `Debug`, JSON, and in a buffer on the stack.
macro_rules! hexadecimal {
    ($id:ident, $digits:literal) => {
        impl $id {
            /// Writes the id as lower-case hexadecimal into `buffer` and gives it back as text, without allocating.
            pub fn encode<'b>(&self, buffer: &'b mut [u8; $digits]) -> &'b str {
                // Cannot fail: the digits are ASCII and the buffer's length is checked by its type.
                match hex::encode_to_slice(self.0, buffer) {
                    Ok(()) => std::str::from_utf8(buffer).unwrap_or_default(),
                    Err(_) => "",
                }
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.encode(&mut [0; $digits]))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.encode(&mut [0; $digits]))
            }
        }
    };
}

hexadecimal!(DecisionId, 24);
hexadecimal!(TraceId, 32);
hexadecimal!(SpanId, 16);

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_do_not_repeat_within_or_between_sources() {
        let sources = [Ids::new(), Ids::new()];
        let mut seen = HashSet::new();
        for ids in &sources {
            for _ in 0..10_000 {
                assert!(seen.insert(ids.decision_id()));
            }
        }
    }

    #[test]
    fn text_is_lower_case_hexadecimal_of_full_length() {
        let id = TraceId::from_bytes([
            0, 1, 2, 3, 0xab, 0xcd, 0xef, 7, 8, 9, 10, 11, 12, 13, 14, 15,
        ])
        .unwrap();
        assert_eq!(id.to_string(), "00010203abcdef0708090a0b0c0d0e0f");
        assert_eq!(format!("{id:?}"), id.to_string());
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
        assert_eq!(Ids::new().decision_id().to_string().len(), 24);
        assert_eq!(Ids::new().span_id().to_string().len(), 16);
    }

    #[test]
    fn all_zeros_is_no_id() {
        assert_eq!(TraceId::from_bytes([0; 16]), None);
        assert_eq!(SpanId::from_bytes([0; 8]), None);
    }
}
