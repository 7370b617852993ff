//! Bodies that are passed on.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::http1::{
    BodyError, Framing,
    check::{Parts, Taking, Transcript, requests},
};

fn post(headers: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes()
}

/// How a stream of one request and nothing else is passed on.
fn pass(stream: &[u8], cuts: &[usize], taking: Taking) -> Transcript {
    requests(Parts::cut(stream, cuts), taking, &Limits::default())
}

/// A chunk with some of the liberties that the grammar leaves (RFC 9112 §7.1).
#[derive(Debug, Clone)]
struct Chunk {
    data: Vec<u8>,
    upper_case: bool,
    zeros: usize,
    extension: String,
}

impl Chunk {
    fn write_to(&self, out: &mut Vec<u8>, with_extension: bool) {
        let digits = match self.upper_case {
            true => format!("{:X}", self.data.len()),
            false => format!("{:x}", self.data.len()),
        };
        out.extend(std::iter::repeat_n(b'0', self.zeros));
        out.extend(digits.as_bytes());
        if with_extension {
            out.extend(self.extension.as_bytes());
        }
        out.extend(b"\r\n");
        if !self.data.is_empty() {
            out.extend(&self.data);
            out.extend(b"\r\n");
        }
    }
}

fn chunk(data: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Chunk> {
    let extension = prop_oneof![Just(String::new()), ";[a-z \t]{0,4}(=\"[a-zé;]{0,8}\")?"];
    (data, any::<bool>(), 0_usize..4, extension).prop_map(|(data, upper_case, zeros, extension)| {
        Chunk {
            data,
            upper_case,
            zeros,
            extension,
        }
    })
}

fn chunked_body() -> impl Strategy<Value = (Vec<Chunk>, String)> {
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..40),
        (1_usize..40_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    let trailers = prop_oneof![Just(String::new()), "(x-[a-z]{1,8}:[ -~]{0,20}\r\n){1,4}"];
    let last = chunk(Just(Vec::new()));
    (proptest::collection::vec(chunk(data), 0..6), last, trailers).prop_map(
        |(mut chunks, last, trailers)| {
            chunks.push(last);
            (chunks, trailers)
        },
    )
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(prop_oneof![1_usize..8, 1_usize..20_000], 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_arrive_as_they_were_sent_without_extensions((chunks, trailers) in chunked_body(), cuts in cuts()) {
        let mut sent = post("Transfer-Encoding: chunked\r\n");
        let mut expected = sent.clone();
        for chunk in &chunks {
            chunk.write_to(&mut sent, true);
            chunk.write_to(&mut expected, false);
        }
        for stream in [&mut sent, &mut expected] {
            stream.extend(trailers.as_bytes());
            stream.extend(b"\r\n");
        }
        let next = post("");
        sent.extend(&next);
        let expected = Transcript { passed_on: vec![expected, next], refused: None };
        for taking in [Taking::Copy, Taking::Pieces, Taking::Buffered] {
            prop_assert_eq!(&pass(&sent, &cuts, taking), &expected);
        }
    }

    #[test]
    fn a_body_with_a_length_arrives_as_it_was_sent(length in 0_usize..100_000, cuts in cuts()) {
        let mut message = post(&format!("Content-Length: {length}\r\n"));
        message.extend((0..length).map(|index| (index % 251) as u8));
        let sent = [&message[..], &message].concat();
        let expected = Transcript { passed_on: vec![message.clone(), message], refused: None };
        for taking in [Taking::Copy, Taking::Pieces, Taking::Buffered] {
            prop_assert_eq!(&pass(&sent, &cuts, taking), &expected);
        }
    }

    #[test]
    fn a_body_that_breaks_off_is_never_complete((chunks, trailers) in chunked_body(), keep in 0.0..1.0) {
        let mut body = Vec::new();
        chunks.iter().for_each(|chunk| chunk.write_to(&mut body, true));
        body.extend(trailers.as_bytes());
        body.extend(b"\r\n");
        body.truncate((body.len() as f64 * keep) as usize);
        let sent = [post("Transfer-Encoding: chunked\r\n"), body].concat();
        let broken_off = pass(&sent, &[1000], Taking::Copy);
        prop_assert_eq!(broken_off.refused, Some(BodyError::Truncated.to_string()));
        prop_assert!(broken_off.passed_on.is_empty());
    }
}

#[test]
fn a_body_until_the_end_of_the_connection_ends_with_it() {
    let stream = b"HTTP/1.1 200 OK\r\n\r\nhello\r\n0\r\n\r\n";
    let mut reader = MessageReader::new(&stream[..]);
    let limits = Limits::default();
    let head = reader
        .response_head(&TO_GET, &limits)
        .now_or_never()
        .unwrap()
        .unwrap();
    assert_eq!(head.framing(), Framing::UntilClose);
    let (mut out, mut received) = (BytesMut::new(), Vec::new());
    let copied = reader
        .copy_body(&mut out, &mut received, &limits)
        .now_or_never()
        .unwrap();
    assert_eq!(
        (copied.unwrap(), &received[..]),
        (12, &b"hello\r\n0\r\n\r\n"[..])
    );
    assert!(reader.is_body_finished());
}

#[test]
fn head_and_body_that_are_there_are_one_write() {
    let stream = [post("Content-Length: 5\r\n"), b"hello".to_vec()].concat();
    let mut reader = MessageReader::new(&stream[..]);
    let limits = Limits::default();
    let head = reader
        .request_head(&limits)
        .now_or_never()
        .unwrap()
        .unwrap()
        .unwrap();
    let mut out = BytesMut::new();
    head.write_to(&mut out, &HeaderEdits::default());
    let mut to = writes::Writes::default();
    reader
        .copy_body(&mut out, &mut to, &limits)
        .now_or_never()
        .unwrap()
        .unwrap();
    assert_eq!(to.0, [stream]);
}

/// A writer that keeps each write apart.
mod writes {
    use std::{
        io,
        pin::Pin,
        task::{Context, Poll},
    };

    #[derive(Default)]
    pub(super) struct Writes(pub(super) Vec<Vec<u8>>);

    impl tokio::io::AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

#[tokio::test]
async fn each_part_is_flushed_before_the_next_is_waited_for() {
    let (mut sender, from) = tokio::io::duplex(1024);
    let (to, mut receiver) = tokio::io::duplex(1024);
    let copying = tokio::spawn(async move {
        // A buffered writer holds everything back until it is flushed.
        let mut to = tokio::io::BufWriter::new(to);
        let mut reader = MessageReader::new(from);
        let limits = Limits::default();
        reader.response_head(&TO_GET, &limits).await.unwrap();
        reader
            .copy_body(&mut BytesMut::new(), &mut to, &limits)
            .await
            .unwrap();
    });
    sender
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    for part in ["1\r\na\r\n", "2\r\nbc\r", "\n1"] {
        sender.write_all(part.as_bytes()).await.unwrap();
        let mut received = vec![0; part.len()];
        receiver.read_exact(&mut received).await.unwrap();
        assert_eq!(received, part.as_bytes());
    }
    sender.write_all(b"\r\nd\r\n0\r\n\r\n").await.unwrap();
    copying.await.unwrap();
}

#[test]
fn a_body_nobody_wants_is_skipped_if_it_is_short() {
    let limits = Limits::default();
    let skip = |headers: &str, body: &str, at_most| {
        let stream = [post(headers), body.as_bytes().to_vec(), post("")].concat();
        let mut reader = MessageReader::new(&stream[..]);
        reader
            .request_head(&limits)
            .now_or_never()
            .unwrap()
            .unwrap();
        let skipped = reader
            .skip_body(at_most, &limits)
            .now_or_never()
            .unwrap()
            .unwrap();
        let next = reader.request_head(&limits).now_or_never().unwrap();
        assert_eq!(matches!(next, Ok(Some(_))), skipped, "{headers}");
        skipped
    };
    assert!(skip("", "", 0));
    assert!(skip("Content-Length: 5\r\n", "hello", 5));
    assert!(!skip("Content-Length: 5\r\n", "hello", 4));
    assert!(skip(
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        15
    ));
    assert!(!skip(
        "Content-Length: 18446744073709551615\r\n",
        "hello",
        u64::MAX - 1
    ));
}

#[test]
fn a_receiver_that_is_gone_is_an_error_of_writing() {
    let stream = [post("Content-Length: 5\r\n"), b"hello".to_vec()].concat();
    let mut reader = MessageReader::new(&stream[..]);
    let limits = Limits::default();
    reader
        .request_head(&limits)
        .now_or_never()
        .unwrap()
        .unwrap();
    let mut room = [0; 3];
    let mut full = std::io::Cursor::new(&mut room[..]);
    let mut out = BytesMut::new();
    let copied = reader.copy_body(&mut out, &mut full, &limits);
    let error = copied.now_or_never().unwrap().unwrap_err();
    assert!(matches!(error, BodyError::Write(_)), "{error}");
    assert_eq!(error.status(), Some(502));
}

#[test]
fn a_transport_that_fails_ends_the_connection() {
    /// Fails once the bytes are read.
    struct Failing<'a>(&'a [u8]);

    impl tokio::io::AsyncRead for Failing<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let bytes = std::mem::take(&mut self.0);
            buffer.put_slice(bytes);
            let reset = std::io::ErrorKind::ConnectionReset.into();
            std::task::Poll::Ready(if bytes.is_empty() { Err(reset) } else { Ok(()) })
        }
    }

    let limits = Limits::default();
    let mut reader = MessageReader::new(Failing(b"GET / HT"));
    let error = reader
        .request_head(&limits)
        .now_or_never()
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(error, ReadError::Io(_)) && error.status().is_none(),
        "{error}"
    );
    assert_eq!(error.gateway_status(), 502);

    let stream = [post("Content-Length: 5\r\n"), b"hell".to_vec()].concat();
    let mut reader = MessageReader::new(Failing(&stream));
    reader
        .request_head(&limits)
        .now_or_never()
        .unwrap()
        .unwrap();
    let mut out = BytesMut::new();
    let copied = reader
        .copy_body(&mut out, &mut Vec::new(), &limits)
        .now_or_never()
        .unwrap();
    let error = copied.unwrap_err();
    assert!(
        matches!(error, BodyError::Read(_)) && error.status().is_none(),
        "{error}"
    );
    let next = reader.request_head(&limits).now_or_never().unwrap();
    assert!(matches!(next, Err(ReadError::OutOfStep)));
}
