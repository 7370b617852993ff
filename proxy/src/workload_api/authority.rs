//! Makes requests of gRPC's C core readable, which Python, C++, Ruby and PHP use: on a UNIX socket it sends the socket's path,
//! percent-encoded, as `:authority`. RFC 3986 §3.2.2 allows that, but `http` refuses a `%` there, and with it `h2` every such
//! request, and no setting changes that. Here each `%` of an `:authority` becomes a `-` before `h2` reads it: nothing is asked
//! of the value, and its length, by which both ends keep the same table of headers (RFC 7541 §4.1), stays.
//!
//! One byte after the other, nothing kept: the reader follows the frames (RFC 9113 §4.1) and in them the header blocks
//! (RFC 7541 §6). Values in Huffman code, which the C core does not use for text, are left as they are. A client that sends
//! nonsense confuses nobody but itself: what is passed on is still `h2`'s to judge.

/// RFC 9113 §3.4.
const PREFACE_BYTES: usize = 24;
const FRAME_HEADER_BYTES: usize = 9;
const TYPE_HEADERS: u8 = 0x1;
const TYPE_CONTINUATION: u8 = 0x9;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;
/// The name, and where it is in the static table (RFC 7541 appendix A); the C core writes it out all the same.
const AUTHORITY: &[u8] = b":authority";
const INDEX_AUTHORITY: u8 = 1;

/// Where in the connection we are.
#[derive(Debug)]
pub(super) struct AuthorityReader {
    at: At,
    block: Block,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// Bytes that do not matter, before the next frame.
    Skip(usize),
    /// A frame's header: how many bytes of it have come, its length, type and flags.
    Header {
        come: usize,
        length: usize,
        kind: u8,
        flags: u8,
    },
    /// The length of the padding of a HEADERS frame; what follows it.
    Padding { length: usize, priority: bool },
    /// The priority of a HEADERS frame: how much of it is left, then of the block, then of the padding.
    Priority {
        left: usize,
        block: usize,
        padding: usize,
    },
    /// A header block, or a part of one.
    Block { left: usize, padding: usize },
}

const NEXT_FRAME: At = At::Header {
    come: 0,
    length: 0,
    kind: 0,
    flags: 0,
};

/// Where in a header block we are. It goes on in CONTINUATION frames.
#[derive(Clone, Copy, Debug)]
enum Block {
    /// At the start of a representation.
    Start,
    /// In an integer's further bytes (RFC 7541 §5.1), before so many strings.
    Integer(Strings),
    /// At a string's length.
    Length(Strings),
    /// In the further bytes of a string's length: the value so far, and the next byte's shift.
    LongLength {
        length: usize,
        shift: u32,
        huffman: bool,
        of: Strings,
    },
    /// In a string.
    Text {
        left: usize,
        huffman: bool,
        of: Strings,
    },
}

/// What strings follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strings {
    None,
    /// A name, which has been `:authority` so far or not, and its value.
    Name {
        is_authority: bool,
    },
    Value,
    Authority,
}

impl AuthorityReader {
    /// At the start of a connection.
    pub(super) fn new() -> Self {
        Self {
            at: At::Skip(PREFACE_BYTES),
            block: Block::Start,
        }
    }

    /// Goes over what has come.
    pub(super) fn read(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.next(byte);
        }
    }

    fn next(&mut self, byte: &mut u8) {
        self.at = match self.at {
            At::Skip(left) => skip(left.saturating_sub(1)),
            At::Header {
                come,
                mut length,
                mut kind,
                mut flags,
            } => {
                match come {
                    0..=2 => length = length << 8 | usize::from(*byte),
                    3 => kind = *byte,
                    4 => flags = *byte,
                    _ => {}
                }
                if come + 1 < FRAME_HEADER_BYTES {
                    At::Header {
                        come: come + 1,
                        length,
                        kind,
                        flags,
                    }
                } else {
                    self.payload(length, kind, flags)
                }
            }
            At::Padding { length, priority } => {
                let padding = usize::from(*byte);
                let rest = length.saturating_sub(padding);
                after_padding(rest, padding, priority)
            }
            At::Priority {
                left,
                block,
                padding,
            } if left > 1 => At::Priority {
                left: left - 1,
                block,
                padding,
            },
            At::Priority { block, padding, .. } => in_block(block, padding),
            At::Block { left, padding } => {
                self.block = self.block.next(byte);
                in_block(left.saturating_sub(1), padding)
            }
        };
    }

    fn payload(&mut self, length: usize, kind: u8, flags: u8) -> At {
        match kind {
            TYPE_HEADERS => {
                self.block = Block::Start;
                let priority = flags & FLAG_PRIORITY != 0;
                if flags & FLAG_PADDED != 0 && length > 0 {
                    let length = length - 1;
                    At::Padding { length, priority }
                } else {
                    after_padding(length, 0, priority)
                }
            }
            TYPE_CONTINUATION => in_block(length, 0),
            _ => skip(length),
        }
    }
}

fn skip(left: usize) -> At {
    if left == 0 {
        NEXT_FRAME
    } else {
        At::Skip(left)
    }
}

fn after_padding(rest: usize, padding: usize, priority: bool) -> At {
    if priority && rest >= PRIORITY_BYTES {
        At::Priority {
            left: PRIORITY_BYTES,
            block: rest - PRIORITY_BYTES,
            padding,
        }
    } else {
        in_block(rest, padding)
    }
}

fn in_block(left: usize, padding: usize) -> At {
    if left == 0 {
        skip(padding)
    } else {
        At::Block { left, padding }
    }
}

impl Block {
    fn next(self, byte: &mut u8) -> Self {
        match self {
            Self::Start => Self::representation(*byte),
            Self::Integer(then) if *byte & 0x80 != 0 => Self::Integer(then),
            Self::Integer(then) => Self::before(then),
            Self::Length(of) => {
                let (huffman, length) = (*byte & 0x80 != 0, *byte & 0x7f);
                if length == 0x7f {
                    Self::LongLength {
                        length: usize::from(length),
                        shift: 0,
                        huffman,
                        of,
                    }
                } else {
                    Self::text(usize::from(length), huffman, of)
                }
            }
            Self::LongLength {
                length,
                shift,
                huffman,
                of,
            } => {
                let more = usize::from(*byte & 0x7f).checked_shl(shift).unwrap_or(0);
                let length = length.saturating_add(more);
                if *byte & 0x80 == 0 {
                    Self::text(length, huffman, of)
                } else {
                    Self::LongLength {
                        length,
                        shift: shift.saturating_add(7),
                        huffman,
                        of,
                    }
                }
            }
            Self::Text { left, huffman, of } => {
                let of = match of {
                    Strings::Authority if !huffman && *byte == b'%' => {
                        *byte = b'-';
                        of
                    }
                    Strings::Name { is_authority } => {
                        let at = AUTHORITY.len().checked_sub(left);
                        let expected = at.and_then(|at| AUTHORITY.get(at));
                        Strings::Name {
                            is_authority: is_authority && !huffman && expected == Some(byte),
                        }
                    }
                    _ => of,
                };
                Self::text(left.saturating_sub(1), huffman, of)
            }
        }
    }

    /// RFC 7541 §6: the first byte says what it is, and how many bits of it are of an index.
    fn representation(byte: u8) -> Self {
        let (bits, literal) = match byte {
            0x80.. => (7, false),
            0x40..=0x7f => (6, true),
            0x20..=0x3f => (5, false),
            _ => (4, true),
        };
        let largest = (1_u8 << bits) - 1;
        let index = byte & largest;
        let then = match (literal, index) {
            (false, _) => Strings::None,
            (true, 0) => Strings::Name { is_authority: true },
            (true, INDEX_AUTHORITY) => Strings::Authority,
            (true, _) => Strings::Value,
        };
        if index == largest {
            Self::Integer(then)
        } else {
            Self::before(then)
        }
    }

    fn before(strings: Strings) -> Self {
        match strings {
            Strings::None => Self::Start,
            of => Self::Length(of),
        }
    }

    /// In a string with so much left; at its end, what comes after it.
    fn text(left: usize, huffman: bool, of: Strings) -> Self {
        match (left, of) {
            (0, Strings::Name { is_authority: true }) => Self::Length(Strings::Authority),
            (0, Strings::Name { .. }) => Self::Length(Strings::Value),
            (0, _) => Self::Start,
            _ => Self::Text { left, huffman, of },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        [&head, payload].concat()
    }

    fn string(text: &str) -> Vec<u8> {
        let mut encoded = Vec::new();
        if text.len() < 127 {
            encoded.push(u8::try_from(text.len()).unwrap());
        } else {
            let rest = text.len() - 127;
            encoded.extend([0x7f, u8::try_from(rest % 128).unwrap() | 0x80]);
            encoded.push(u8::try_from(rest / 128).unwrap());
        }
        encoded.extend(text.bytes());
        encoded
    }

    /// `:method: POST`, new names with a `%` in name or value, then the authority, then a path of a known name.
    fn block(authority: &str, name_is_written_out: bool) -> Vec<u8> {
        let mut block = vec![0x83, 0x3f, 0xe1, 0x1f, 0x40];
        block.extend([string("x-%"), string("50%")].concat());
        block.push(0x40);
        block.extend([string(":authoritx"), string("50%")].concat());
        block.push(0x40);
        block.extend([string("x:authority"), string("50%")].concat());
        if name_is_written_out {
            block.push(0x40);
            block.extend(string(":authority"));
        } else {
            block.push(0x41);
        }
        block.extend(string(authority));
        block.push(0x44);
        block.extend(string("/SpiffeWorkloadAPI/%"));
        block
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        [preface, frames.concat()].concat()
    }

    fn read(bytes: &[u8], chunk: usize) -> Vec<u8> {
        let mut reader = AuthorityReader::new();
        let mut bytes = bytes.to_vec();
        bytes.chunks_mut(chunk).for_each(|chunk| reader.read(chunk));
        bytes
    }

    /// The ways in which one block may come.
    fn ways(block: &[u8]) -> Vec<Vec<u8>> {
        let data = frame(0x0, 0x1, b"100%");
        let padded = [&[3], block, b"%%%"].concat();
        let both = [&[3], &[b'%'; 5][..], block, b"%%%"].concat();
        let (first, second) = block.split_at(block.len() / 2);
        [
            vec![frame(0x4, 0, &[]), frame(0x1, 0x4, block), data.clone()],
            vec![frame(0x1, 0xc, &padded), data.clone()],
            vec![frame(0x1, 0x2c, &both), data.clone()],
            vec![frame(0x1, 0, first), frame(0x9, 0x4, second), data.clone()],
            vec![
                frame(0x1, 0x4, block),
                data.clone(),
                frame(0x1, 0x4, block),
                data,
            ],
        ]
        .map(|frames| connection(&frames))
        .to_vec()
    }

    #[test]
    fn of_an_authority_and_of_nothing_else_percent_signs_are_replaced() {
        let long = "run%2F".repeat(60);
        for authority in ["tmp%2Fworkload.sock", "localhost", "", &long] {
            let plain = authority.replace('%', "-");
            for written_out in [false, true] {
                let [sent, expected] =
                    [authority, &plain].map(|value| ways(&block(value, written_out)));
                for (sent, expected) in sent.iter().zip(&expected) {
                    for chunk in [1, 2, 7, sent.len()] {
                        assert_eq!(&read(sent, chunk), expected);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nonsense_never_panics_and_keeps_its_length(
            bytes in prop::collection::vec(any::<u8>(), 0..512),
            chunk in 1..64_usize,
        ) {
            let read = read(&connection(std::slice::from_ref(&bytes)), chunk);
            prop_assert_eq!(read.len(), PREFACE_BYTES + bytes.len());
        }
    }
}
