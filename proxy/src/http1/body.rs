//! Bodies, as a machine without I/O (RFC 9112 §6, §7).
//!
//! The machine is shown bytes and answers how many of them to pass on as they are, and how many to
//! leave out. It can be interrupted after any byte, so that nothing is held back but trailers, which
//! are checked before any of them is passed on.

use super::{
    error::{BodyError, BodySyntaxError, HeadError},
    framing::Framing,
    limits::Limits,
    scan::{Scan, Scanned},
    trailers,
};

/// The longest chunk extension that is skipped. Extensions have no users; long ones are attacks.
pub(super) const EXTENSION_BYTES: u16 = 256;

/// The most digits of a chunk size: 64 bits.
const SIZE_DIGITS: u8 = 16;

/// What to do with the first bytes of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Piece {
    /// So many bytes are passed on as they are,
    pub forward: usize,
    /// and so many after them are left out.
    pub skip: usize,
}

/// The body of one message.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The message is complete.
    Finished,
    /// Bytes that are still to come.
    Length(u64),
    UntilClose,
    /// Within the digits of a chunk size.
    Size {
        size: u64,
        digits: u8,
    },
    /// Within a chunk extension.
    Extension {
        size: u64,
        length: u16,
    },
    /// After the CR of a chunk size line.
    SizeLineFeed {
        size: u64,
    },
    /// Bytes of the chunk that are still to come.
    Data(u64),
    DataCarriageReturn,
    DataLineFeed,
    /// Within the trailer section, of which nothing has been passed on.
    Trailers(Scan),
    /// The message was refused; what follows has no meaning.
    Failed,
}

impl BodyDecoder {
    /// The body of a message with `framing`.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Finished,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether the message is complete.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// How many bytes are surely still to come.
    pub(super) fn expected(&self) -> u64 {
        match self.state {
            State::Length(length) | State::Data(length) => length,
            _ => 0,
        }
    }

    /// Nothing more can be read.
    pub(super) fn fail(&mut self) {
        self.state = State::Failed;
    }

    /// Looks at `input`, which begins where the last [`Piece`] ended. An empty piece asks for more
    /// input, unless the body is finished.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] if the input breaks the framing, and [`BodyError::OutOfStep`] after
    /// that.
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Piece, BodyError> {
        let piece = match &mut self.state {
            State::Finished => Ok(Piece::default()),
            State::Failed => return Err(BodyError::OutOfStep),
            State::UntilClose => Ok(Piece {
                forward: input.len(),
                skip: 0,
            }),
            State::Length(remaining) => {
                let forward = take(remaining, input);
                if *remaining == 0 {
                    self.state = State::Finished;
                }
                Ok(Piece { forward, skip: 0 })
            }
            _ => self.decode_chunks(input, limits),
        };
        if piece.is_err() {
            self.state = State::Failed;
        }
        Ok(piece?)
    }

    /// The input has ended.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] if the body has not.
    pub fn end_of_input(&mut self) -> Result<(), BodyError> {
        match self.state {
            State::Finished => Ok(()),
            State::UntilClose => {
                self.state = State::Finished;
                Ok(())
            }
            State::Failed => Err(BodyError::OutOfStep),
            _ => {
                self.state = State::Failed;
                Err(BodyError::Truncated)
            }
        }
    }

    /// Chunks, as many as there are (RFC 9112 §7.1).
    fn decode_chunks(&mut self, input: &[u8], limits: &Limits) -> Result<Piece, BodySyntaxError> {
        let mut forward = 0;
        loop {
            if let State::Trailers(scan) = &mut self.state {
                let section = input.get(forward..).unwrap_or_default();
                let complete = end_of_trailers(scan, section, limits)?;
                if let Some(length) = complete {
                    trailers::check(section.get(..length).unwrap_or_default(), limits)?;
                    self.state = State::Finished;
                    forward = forward.saturating_add(length);
                }
                return Ok(Piece { forward, skip: 0 });
            }
            let Some(byte) = input.get(forward).copied() else {
                return Ok(Piece { forward, skip: 0 });
            };
            self.state = match self.state {
                State::Size { size, digits } => match (hex_digit(byte), byte) {
                    (Some(_), _) if digits == SIZE_DIGITS => {
                        return Err(BodySyntaxError::ChunkSizeTooLong);
                    }
                    (Some(digit), _) => State::Size {
                        size: size << 4 | u64::from(digit),
                        digits: digits.saturating_add(1),
                    },
                    (None, b'\r') if digits > 0 => State::SizeLineFeed { size },
                    (None, b';') if digits > 0 => {
                        self.state = State::Extension { size, length: 1 };
                        return Ok(Piece { forward, skip: 1 });
                    }
                    _ => return Err(BodySyntaxError::ChunkSize),
                },
                State::Extension { .. } if byte != b'\r' => {
                    let skip = self.skip_extension(input.get(forward..).unwrap_or_default())?;
                    return Ok(Piece { forward, skip });
                }
                State::Extension { size, .. } => State::SizeLineFeed { size },
                State::SizeLineFeed { size } => match (byte, size) {
                    (b'\n', 0) => State::Trailers(Scan::default()),
                    (b'\n', _) => State::Data(size),
                    _ => return Err(BodySyntaxError::ChunkSizeEnd),
                },
                State::Data(mut remaining) => {
                    let data = input.get(forward..).unwrap_or_default();
                    forward = forward.saturating_add(take(&mut remaining, data));
                    self.state = match remaining {
                        0 => State::DataCarriageReturn,
                        _ => State::Data(remaining),
                    };
                    continue;
                }
                State::DataCarriageReturn if byte == b'\r' => State::DataLineFeed,
                State::DataLineFeed if byte == b'\n' => State::Size { size: 0, digits: 0 },
                _ => return Err(BodySyntaxError::ChunkEnd),
            };
            forward = forward.saturating_add(1);
        }
    }

    /// The length of what belongs to the current extension at the beginning of `input`.
    fn skip_extension(&mut self, input: &[u8]) -> Result<usize, BodySyntaxError> {
        let State::Extension { length, .. } = &mut self.state else {
            return Ok(0);
        };
        let end = input
            .iter()
            .position(|byte| *byte == b'\r')
            .unwrap_or(input.len());
        let extension = input.get(..end).unwrap_or_default();
        // A LF here ends the line for some readers and not for others; no control byte is allowed.
        let allowed = usize::from(EXTENSION_BYTES.saturating_sub(*length));
        let looked_at = extension.get(..allowed).unwrap_or(extension);
        if !looked_at.iter().copied().all(super::name::is_value_byte) {
            return Err(BodySyntaxError::ChunkExtension);
        }
        if end > allowed {
            return Err(BodySyntaxError::ChunkExtensionTooLong);
        }
        *length = length.saturating_add(u16::try_from(end).unwrap_or(EXTENSION_BYTES));
        Ok(end)
    }
}

/// Takes as much of `input` as is `remaining`, and says how much that is.
fn take(remaining: &mut u64, input: &[u8]) -> usize {
    let available = input.len();
    let taken = usize::try_from(*remaining).map_or(available, |wanted| wanted.min(available));
    *remaining = remaining.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
    taken
}

/// The length of the trailer section, if it is complete.
fn end_of_trailers(
    scan: &mut Scan,
    section: &[u8],
    limits: &Limits,
) -> Result<Option<usize>, BodySyntaxError> {
    match scan.advance(section, limits.head_bytes) {
        Ok(Scanned::Complete(length)) => Ok(Some(length)),
        Ok(Scanned::Partial) => Ok(None),
        Err(HeadError::TargetTooLong) => Err(BodySyntaxError::Trailers(HeadError::TooLarge)),
        Err(error) => Err(BodySyntaxError::Trailers(error)),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}
