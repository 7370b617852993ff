//! Which protocol a connection speaks, told from its first bytes.
//!
//! Detection only chooses who reads the connection. It never makes it pass: HTTP is then read strictly,
//! and on an opaque connection no rule allows that asks for anything of a request.

mod client_hello;

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::directory::DeclaredProtocol;
use crate::http1::is_token_byte;
pub use client_hello::server_name;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is taken for one.
const METHOD_BYTES: usize = 32;

/// A first line that looks like a request for so long is one; whether it is too long is not for
/// detection to say.
const ENOUGH_BYTES: usize = 8 * 1024;

/// Bytes to read at once.
const ROOM: usize = 4 * 1024;

/// How long a client may take to show what it speaks, if nobody says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// The first line is an HTTP request line, good or bad.
    Http1,
    /// The connection begins with the HTTP/2 preface.
    Http2,
    /// Anything else.
    Opaque(OpaqueReason),
}

/// Why a connection is taken for opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpaqueReason {
    /// It is declared to be.
    Declared,
    /// Its first bytes cannot begin an HTTP message.
    NotHttp,
    /// The client sent nothing in time: perhaps the server speaks first.
    Silent,
    /// The client sent too little in time to tell.
    Undecided,
    /// The client ended the stream before one could tell.
    Ended,
}

/// The outcome of detection.
#[derive(Debug)]
pub struct Detected {
    /// What the connection speaks.
    pub protocol: Protocol,
    /// All that was read, which whoever reads on must begin with.
    pub buffered: BytesMut,
}

/// Reads from `io` until its protocol is certain, for at most `patience`.
///
/// A client that waits for the server to speak is [`OpaqueReason::Silent`] then. Declare such a port,
/// so that nobody waits.
///
/// # Errors
/// If reading fails.
pub async fn detect<R: AsyncRead + Unpin>(io: &mut R, patience: Duration) -> io::Result<Detected> {
    let mut buffered = BytesMut::with_capacity(ROOM);
    let protocol = match timeout(patience, read_until_known(io, &mut buffered)).await {
        Ok(known) => known?,
        Err(_) if buffered.is_empty() => Protocol::Opaque(OpaqueReason::Silent),
        Err(_) => Protocol::Opaque(OpaqueReason::Undecided),
    };
    Ok(Detected { protocol, buffered })
}

/// What `io` speaks: what is declared, or what its first bytes tell.
///
/// # Errors
/// As [`detect`].
pub async fn declared_or_detected<R: AsyncRead + Unpin>(
    declared: DeclaredProtocol,
    io: &mut R,
    patience: Duration,
) -> io::Result<Detected> {
    let protocol = match declared {
        DeclaredProtocol::Detect => return detect(io, patience).await,
        DeclaredProtocol::Http1 => Protocol::Http1,
        DeclaredProtocol::Http2 => Protocol::Http2,
        DeclaredProtocol::Tcp => Protocol::Opaque(OpaqueReason::Declared),
    };
    Ok(Detected {
        protocol,
        buffered: BytesMut::new(),
    })
}

async fn read_until_known<R: AsyncRead + Unpin>(
    io: &mut R,
    buffered: &mut BytesMut,
) -> io::Result<Protocol> {
    loop {
        if let Some(protocol) = recognise(buffered) {
            return Ok(protocol);
        }
        buffered.reserve(1);
        if io.read_buf(buffered).await? == 0 {
            return Ok(Protocol::Opaque(OpaqueReason::Ended));
        }
    }
}

/// What `first` bytes of a connection tell; `None`: not enough.
fn recognise(first: &[u8]) -> Option<Protocol> {
    if first.starts_with(HTTP2_PREFACE) {
        return Some(Protocol::Http2);
    }
    if HTTP2_PREFACE.starts_with(first) {
        return None;
    }
    match is_request_line(first) {
        Some(true) => Some(Protocol::Http1),
        Some(false) => Some(Protocol::Opaque(OpaqueReason::NotHttp)),
        None => None,
    }
}

/// Whether `first` begins with `method SP target SP "HTTP/"`, perhaps after one empty line (RFC 9112
/// §2.2, §3); `None`: so far it does.
fn is_request_line(first: &[u8]) -> Option<bool> {
    let line = match first {
        [b'\r'] => return None,
        [b'\r', b'\n', line @ ..] => line,
        line => line,
    };
    let method = line.iter().take_while(|byte| is_token_byte(**byte)).count();
    match line.get(method) {
        None if method <= METHOD_BYTES => return None,
        Some(b' ') if (1..=METHOD_BYTES).contains(&method) => {}
        _ => return Some(false),
    }
    let rest = line.get(method.saturating_add(1)..).unwrap_or_default();
    let target = rest
        .iter()
        .take_while(|byte| **byte > b' ' && **byte != 0x7f)
        .count();
    match rest.get(target) {
        None => return (target > ENOUGH_BYTES).then_some(true),
        Some(b' ') if target > 0 => {}
        Some(_) => return Some(false),
    }
    let version = rest.get(target.saturating_add(1)..).unwrap_or_default();
    if version.starts_with(b"HTTP/") {
        Some(true)
    } else if b"HTTP/".starts_with(version) {
        None
    } else {
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::{io::AsyncWriteExt, time::Instant};

    use super::*;
    use crate::http1::check::Parts;

    const NOT_HTTP: Protocol = Protocol::Opaque(OpaqueReason::NotHttp);

    /// Connections, and what they speak.
    fn examples() -> Vec<(Vec<u8>, Protocol)> {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(3 * ENOUGH_BYTES));
        let examples: [(&[u8], Protocol); 21] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Protocol::Http1),
            (b"VERSION-CONTROL /a?b HTTP/1.0\r\n", Protocol::Http1),
            (b"\r\nPOST http://a/ HTTP/1.1\r\n", Protocol::Http1),
            (b"CONNECT a:1 HTTP/1.1\r\n", Protocol::Http1),
            (b"GET /\xff HTTP/1.1\r\n", Protocol::Http1),
            (b"GET / HTTP/3.0\r\n", Protocol::Http1),
            (b"PRI * HTTP/1.1\r\n", Protocol::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", Protocol::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Protocol::Http2),
            (b"\x16\x03\x01\x02\x00", NOT_HTTP),
            (b"*1\r\n$4\r\nPING\r\n", NOT_HTTP),
            (b"PING\r\n", NOT_HTTP),
            (b"SET key value\r\n", NOT_HTTP),
            (b"GET /\r\n", NOT_HTTP),
            (b"GET  / HTTP/1.1\r\n", NOT_HTTP),
            (b"GET / http/1.1\r\n", NOT_HTTP),
            (b"GET\t/ HTTP/1.1\r\n", NOT_HTTP),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", NOT_HTTP),
            (b"\nGET / HTTP/1.1\r\n", NOT_HTTP),
            (b" GET / HTTP/1.1\r\n", NOT_HTTP),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", NOT_HTTP),
        ];
        let mut examples: Vec<_> = examples
            .iter()
            .map(|(bytes, protocol)| (bytes.to_vec(), *protocol))
            .collect();
        examples.push((long.into_bytes(), Protocol::Http1));
        examples.push((b"M".repeat(METHOD_BYTES + 1), NOT_HTTP));
        examples
    }

    #[tokio::test]
    async fn protocols_are_told_apart_wherever_the_bytes_are_split() {
        for (bytes, protocol) in examples() {
            let step = (bytes.len() / 64).max(1);
            for split in (0..=bytes.len()).step_by(step) {
                let (head, tail) = bytes.split_at(split);
                let detected = detect(&mut Parts::new(&[head, tail]), DEFAULT_TIMEOUT)
                    .await
                    .unwrap();
                assert_eq!(
                    detected.protocol,
                    protocol,
                    "{:?}",
                    String::from_utf8_lossy(head)
                );
                assert!(bytes.starts_with(&detected.buffered));
            }
        }
    }

    #[tokio::test]
    async fn bytes_one_by_one_tell_the_same_and_no_more_are_read_than_needed() {
        for (bytes, protocol) in examples() {
            let parts: Vec<&[u8]> = bytes.chunks(1).collect();
            let detected = detect(&mut Parts::new(&parts), DEFAULT_TIMEOUT)
                .await
                .unwrap();
            assert_eq!(
                detected.protocol,
                protocol,
                "{:?}",
                String::from_utf8_lossy(&bytes)
            );
            let all_but_last = &detected.buffered[..detected.buffered.len() - 1];
            assert_eq!(recognise(all_but_last), None);
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_is_opaque() {
        for bytes in [&b""[..], b"G", b"GET / HTT", b"PRI * HTTP/2.0\r\n", b"\r"] {
            let detected = detect(&mut Parts::new(&[bytes]), DEFAULT_TIMEOUT)
                .await
                .unwrap();
            assert_eq!(detected.protocol, Protocol::Opaque(OpaqueReason::Ended));
            assert_eq!(detected.buffered, bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_is_waited_for_no_longer_than_patience() {
        let (mut client, mut server) = tokio::io::duplex(64);
        let start = Instant::now();
        let detected = detect(&mut server, DEFAULT_TIMEOUT).await.unwrap();
        assert_eq!(detected.protocol, Protocol::Opaque(OpaqueReason::Silent));
        assert_eq!(start.elapsed(), DEFAULT_TIMEOUT);

        client.write_all(b"GET").await.unwrap();
        let detected = detect(&mut server, DEFAULT_TIMEOUT).await.unwrap();
        assert_eq!(detected.protocol, Protocol::Opaque(OpaqueReason::Undecided));
        assert_eq!(detected.buffered, &b"GET"[..]);
        assert_eq!(start.elapsed(), 2 * DEFAULT_TIMEOUT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_more_of_them_change_no_mind(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            request in "[A-Z ]{0,8}[ /*a-z]{0,8} ?(HTTP/)?.{0,4}",
        ) {
            for bytes in [bytes, request.into_bytes()] {
                let mut known = None;
                for length in 0..=bytes.len() {
                    let now = recognise(&bytes[..length]);
                    if known.is_some() {
                        prop_assert_eq!(now, known);
                    }
                    known = now;
                }
            }
        }
    }
}
