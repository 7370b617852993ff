//! The `traceparent` header (W3C Trace Context): read strictly, written in version 00.

use std::fmt;

use super::ids::{Ids, SpanId, TraceId};

/// Length of a version 00 header value.
const LENGTH: usize = 55;

/// A `traceparent` value that can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace.
    pub trace_id: TraceId,
    /// The hop that sent this value.
    pub parent_id: SpanId,
    /// The caller may have recorded the trace.
    pub sampled: bool,
}

/// Why a value is not a `traceparent`. The receiver acts as if it had not come (section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceParentError {
    /// Shorter or longer than its version allows.
    #[error("a version 00 traceparent has 55 characters; {0} came")]
    Length(usize),
    /// A dash is missing.
    #[error("no '-' at offset {0} of traceparent")]
    Separator(usize),
    /// Not a lower-case hexadecimal digit.
    #[error("{0} of traceparent is not lower-case hexadecimal")]
    Digit(&'static str),
    /// Version `ff` is forbidden.
    #[error("traceparent version ff is forbidden")]
    Version,
    /// An all-zero id.
    #[error("{0} of traceparent is all zeros")]
    Zero(&'static str),
}

impl TraceParent {
    /// The header's name.
    pub const HEADER: &'static str = "traceparent";

    /// A new trace that begins here.
    #[must_use]
    pub fn start(ids: &Ids) -> Self {
        Self {
            trace_id: ids.trace_id(),
            parent_id: ids.span_id(),
            sampled: false,
        }
    }

    /// Reads a header value, W3C Trace Context section 3.2. Of a version after 00, the known first part is read.
    ///
    /// # Errors
    /// [`TraceParentError`] names the part that is wrong.
    pub fn parse(value: &[u8]) -> Result<Self, TraceParentError> {
        let (head, rest) = value
            .split_first_chunk::<LENGTH>()
            .ok_or(TraceParentError::Length(value.len()))?;
        let mut fields = Fields {
            rest: head,
            offset: 0,
        };
        let [version] = fields.hex("the version")?;
        fields.dash()?;
        let trace_id = fields.hex("the trace id")?;
        fields.dash()?;
        let parent_id = fields.hex("the parent id")?;
        fields.dash()?;
        let [flags] = fields.hex("the flags")?;

        match version {
            0xff => return Err(TraceParentError::Version),
            0 if !rest.is_empty() => return Err(TraceParentError::Length(value.len())),
            // A later version may say more, but only after another dash (section 4.3, "Versioning of traceparent").
            _ if rest.first().is_some_and(|byte| *byte != b'-') => {
                return Err(TraceParentError::Separator(LENGTH));
            }
            _ => {}
        }
        Ok(Self {
            trace_id: TraceId::from_bytes(trace_id)
                .ok_or(TraceParentError::Zero("the trace id"))?,
            parent_id: SpanId::from_bytes(parent_id)
                .ok_or(TraceParentError::Zero("the parent id"))?,
            sampled: flags & 1 == 1,
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{}-{}-{:02x}",
            self.trace_id,
            self.parent_id,
            u8::from(self.sampled)
        )
    }
}

/// The fixed columns of the header, taken one after another.
struct Fields<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl Fields<'_> {
    fn hex<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], TraceParentError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            let digits = self.digit().zip(self.digit());
            let (high, low) = digits.ok_or(TraceParentError::Digit(field))?;
            *byte = high << 4 | low;
        }
        Ok(bytes)
    }

    fn dash(&mut self) -> Result<(), TraceParentError> {
        let offset = self.offset;
        match self.next() {
            Some(b'-') => Ok(()),
            _ => Err(TraceParentError::Separator(offset)),
        }
    }

    fn digit(&mut self) -> Option<u8> {
        match self.next()? {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.offset += 1;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_and_writes_the_example_of_the_standard() {
        let parent = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(
            parent.trace_id.to_string(),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
        assert_eq!(parent.parent_id.to_string(), "00f067aa0ba902b7");
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), VALID);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for suffix in ["", "-", "-what-the-future-brings"] {
            let value = VALID.replacen("00", "cc", 1) + suffix;
            assert_eq!(
                TraceParent::parse(value.as_bytes()).unwrap().to_string(),
                VALID,
                "{value}"
            );
        }
        let glued = VALID.replacen("00", "cc", 1) + "x";
        assert_eq!(
            TraceParent::parse(glued.as_bytes()),
            Err(TraceParentError::Separator(55))
        );
    }

    #[test]
    fn refuses_what_the_standard_forbids() {
        use TraceParentError::*;
        for (value, error) in [
            ("", Length(0)),
            (&VALID[..54], Length(54)),
            (&format!("{VALID}-"), Length(56)),
            (&format!("{VALID} "), Length(56)),
            (&VALID.replacen("00", "ff", 1), Version),
            (&VALID.replacen("00", "0x", 1), Digit("the version")),
            (&VALID.to_uppercase(), Digit("the trace id")),
            (
                &VALID.replace("4bf92f35", "4bf92g35"),
                Digit("the trace id"),
            ),
            (&VALID.replace("b7-01", "b7_01"), Separator(52)),
            (&VALID.replace("b7-01", "b7-0 "), Digit("the flags")),
            (
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                Zero("the trace id"),
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                Zero("the parent id"),
            ),
        ] {
            assert_eq!(
                TraceParent::parse(value.as_bytes()),
                Err(error),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_trace_that_starts_here_reads_back() {
        let started = TraceParent::start(&Ids::new());
        assert_eq!(
            TraceParent::parse(started.to_string().as_bytes()),
            Ok(started)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_what_is_accepted_reads_back(value in "[0-9a-f-]{50,60}") {
            if let Ok(parent) = TraceParent::parse(value.as_bytes()) {
                prop_assert_eq!(TraceParent::parse(parent.to_string().as_bytes()), Ok(parent));
            }
        }

        #[test]
        fn every_pair_of_ids_reads_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let parent = TraceParent {
                trace_id: TraceId::from_bytes(trace).unwrap(),
                parent_id: SpanId::from_bytes(span).unwrap(),
                sampled,
            };
            prop_assert_eq!(TraceParent::parse(parent.to_string().as_bytes()), Ok(parent));
        }
    }
}
