//! What holds for any bytes whatever, as functions: tests call them with examples and with random
//! bytes, the fuzzer with what it finds. Built for these only.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a broken property ends the test"
)]

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, ReadBuf};

use super::{Framing, HeaderEdits, Limits, MessageReader, RequestSummary};

/// A stream in memory that gives one part for each read, and never makes its reader wait.
pub struct Parts(VecDeque<Vec<u8>>);

impl Parts {
    /// The stream that consists of `parts`.
    #[must_use]
    pub fn new(parts: &[&[u8]]) -> Self {
        Self(
            parts
                .iter()
                .filter(|part| !part.is_empty())
                .map(|part| part.to_vec())
                .collect(),
        )
    }

    /// `stream`, cut after so many bytes each time, in turn.
    #[must_use]
    pub fn cut(mut stream: &[u8], lengths: &[usize]) -> Self {
        let mut parts = Vec::new();
        for length in lengths.iter().cycle().map(|length| (*length).max(1)) {
            if stream.len() <= length {
                break;
            }
            let (part, rest) = stream.split_at(length);
            parts.push(part);
            stream = rest;
        }
        parts.push(stream);
        Self::new(&parts)
    }
}

impl AsyncRead for Parts {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut part) = self.0.pop_front() {
            let rest = part.split_off(part.len().min(buffer.remaining()));
            buffer.put_slice(&part);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a stream amounted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Complete messages, as they are passed on.
    pub passed_on: Vec<Vec<u8>>,
    /// Why there are no more; `None`: the stream ended between messages.
    pub refused: Option<String>,
}

/// The ways in which a body can be taken from a reader.
#[derive(Debug, Clone, Copy)]
pub enum Taking {
    /// [`MessageReader::copy_body`].
    Copy,
    /// [`MessageReader::body_piece`].
    Pieces,
    /// [`MessageReader::append_buffered_body`] with little room, then pieces.
    Buffered,
}

/// Reads a stream of requests to its end, or to the first mistake.
#[must_use]
pub fn requests(stream: Parts, taking: Taking, limits: &Limits) -> Transcript {
    let mut reader = MessageReader::new(stream);
    let mut passed_on = Vec::new();
    let refused = loop {
        let head = match now(reader.request_head(limits)) {
            Ok(Some(head)) => head,
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        };
        let mut out = BytesMut::new();
        head.write_to(&mut out, &HeaderEdits::default());
        match take_body(&mut reader, out, taking, limits) {
            Ok(message) => passed_on.push(message),
            Err(error) => break Some(error),
        }
    };
    Transcript { passed_on, refused }
}

/// Reads one response after the other, all to requests like `request`, to the end of the stream or
/// the first mistake.
#[must_use]
pub fn responses(
    stream: Parts,
    request: RequestSummary,
    taking: Taking,
    limits: &Limits,
) -> Transcript {
    let mut reader = MessageReader::new(stream);
    let mut passed_on = Vec::new();
    let refused = loop {
        let head = match now(reader.response_head(&request, limits)) {
            Ok(head) => head,
            Err(super::ReadError::Closed) => break None,
            Err(error) => break Some(error.to_string()),
        };
        let mut out = BytesMut::new();
        head.write_to(&mut out, &HeaderEdits::default());
        match take_body(&mut reader, out, taking, limits) {
            Ok(message) => passed_on.push(message),
            Err(error) => break Some(error),
        }
        if head.framing() == Framing::UntilClose {
            break None;
        }
    };
    Transcript { passed_on, refused }
}

/// `head`, and the body that follows it in `reader`.
fn take_body(
    reader: &mut MessageReader<Parts>,
    mut head: BytesMut,
    taking: Taking,
    limits: &Limits,
) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    let taken = match taking {
        Taking::Copy => now(reader.copy_body(&mut head, &mut message, limits)).map(|_| ()),
        Taking::Pieces => take_pieces(reader, &mut head, limits),
        Taking::Buffered => reader
            .append_buffered_body(&mut head, 7, limits)
            .and_then(|_| take_pieces(reader, &mut head, limits)),
    };
    taken.map_err(|error| error.to_string())?;
    message.extend_from_slice(&head);
    Ok(message)
}

fn take_pieces(
    reader: &mut MessageReader<Parts>,
    out: &mut BytesMut,
    limits: &Limits,
) -> Result<(), super::BodyError> {
    while let Some(piece) = now(reader.body_piece(limits))? {
        out.extend_from_slice(&piece);
    }
    Ok(())
}

/// Checks what must hold for any stream of requests: it reads the same however it arrives and
/// however its bodies are taken; what is passed on leaves no doubt, and reads the same again.
pub fn any_requests(stream: &[u8], cuts: &[usize]) {
    let limits = small_limits();
    let transcript = requests(Parts::new(&[stream]), Taking::Copy, &limits);
    for taking in [Taking::Copy, Taking::Pieces, Taking::Buffered] {
        let cut = requests(Parts::cut(stream, cuts), taking, &limits);
        assert_eq!(cut, transcript, "{taking:?} {cuts:?}");
    }
    transcript
        .passed_on
        .iter()
        .for_each(|message| assert_plain(message));
    let again = requests(
        Parts::new(&[&transcript.passed_on.concat()]),
        Taking::Copy,
        &limits_for_passed_on(limits),
    );
    assert_eq!(
        again,
        Transcript {
            refused: None,
            ..transcript
        }
    );
}

/// Checks what must hold for any stream of responses to requests like `request`; see
/// [`any_requests`].
pub fn any_responses(stream: &[u8], request: RequestSummary, cuts: &[usize]) {
    let limits = small_limits();
    let transcript = responses(Parts::new(&[stream]), request, Taking::Copy, &limits);
    for taking in [Taking::Copy, Taking::Pieces, Taking::Buffered] {
        let cut = responses(Parts::cut(stream, cuts), request, taking, &limits);
        assert_eq!(cut, transcript, "{taking:?} {cuts:?}");
    }
    transcript
        .passed_on
        .iter()
        .for_each(|message| assert_plain(message));
    let again = responses(
        Parts::new(&[&transcript.passed_on.concat()]),
        request,
        Taking::Copy,
        &limits_for_passed_on(limits),
    );
    assert_eq!(
        again,
        Transcript {
            refused: None,
            ..transcript
        }
    );
}

/// Small, so that random input reaches them.
fn small_limits() -> Limits {
    Limits {
        head_bytes: 512,
        headers: 12,
        ..Limits::default()
    }
}

/// A renewed Connection header may be a few bytes more than what came, but no more lines.
fn limits_for_passed_on(limits: Limits) -> Limits {
    Limits {
        head_bytes: limits.head_bytes.saturating_add(16),
        ..limits
    }
}

/// Asserts, with the simplest means, that the head of `message` can be read in one way only.
fn assert_plain(message: &[u8]) {
    let end = message
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("an empty line");
    let head = message.get(..end).expect("a head");
    let head: String = head.iter().copied().map(char::from).collect();
    let mut lines = head.split("\r\n");
    let start = lines.next().expect("a first line");
    assert!(!start.starts_with(char::is_whitespace), "{start:?}");
    let names: Vec<String> = lines
        .map(|line| {
            let (name, value) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("no colon: {line:?}"));
            assert!(
                value
                    .chars()
                    .all(|char| char == '\t' || !char.is_ascii_control()),
                "{line:?}"
            );
            assert!(
                name.chars().all(|char| char.is_ascii_graphic()) && !name.is_empty(),
                "{line:?}"
            );
            name.replace('_', "-").to_ascii_lowercase()
        })
        .collect();
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    assert!(count("host") <= 1);
    assert!(count("content-length").saturating_add(count("transfer-encoding")) <= 1);
    assert!(count("connection") <= 1);
    assert_eq!(
        count("keep-alive").saturating_add(count("proxy-connection")),
        0
    );
}

/// The output of a future that never has to wait.
fn now<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("memory makes nobody wait")
}
