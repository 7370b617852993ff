//! Responses that are accepted, and where they end.

use super::*;
use crate::http1::{Framing, Version};

const TO_HEAD: RequestSummary = RequestSummary {
    head: true,
    upgrade: false,
};
const TO_UPGRADE: RequestSummary = RequestSummary {
    head: false,
    upgrade: true,
};

#[test]
fn the_end_of_a_response_depends_on_status_and_request() {
    for (head, to, framing) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5",
            TO_GET,
            Framing::Length(5),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5",
            TO_HEAD,
            Framing::None,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
            TO_GET,
            Framing::Chunked,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",
            TO_HEAD,
            Framing::None,
        ),
        ("HTTP/1.1 200 OK\r\nA: b", TO_GET, Framing::UntilClose),
        ("HTTP/1.0 200 OK\r\nA: b", TO_GET, Framing::UntilClose),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5",
            TO_GET,
            Framing::None,
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 0",
            TO_GET,
            Framing::None,
        ),
        ("HTTP/1.1 204 No Content\r\nA: b", TO_GET, Framing::None),
        ("HTTP/1.1 103 Early Hints\r\nLink: b", TO_GET, Framing::None),
        (
            "HTTP/1.1 500 \r\nContent-Length: 0",
            TO_GET,
            Framing::Length(0),
        ),
    ] {
        let head = response(format!("{head}\r\n\r\n").as_bytes(), to).unwrap();
        assert_eq!(head.framing(), framing, "{head:?} {to:?}");
    }
}

#[test]
fn the_end_of_a_connection_is_announced_or_implied() {
    for (head, close) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5", false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close",
            true,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5", true),
        ("HTTP/1.1 200 OK\r\nA: b", true),
    ] {
        let head = response(format!("{head}\r\n\r\n").as_bytes(), TO_GET).unwrap();
        assert_eq!(head.wants_close(), close, "{head:?}");
    }
}

#[test]
fn a_response_says_what_it_is() {
    let head = response(
        b"HTTP/1.0 404 Nicht gefund\xe9n\r\nSet-Cookie: secret\r\n\r\n",
        TO_GET,
    )
    .unwrap();
    assert_eq!((head.status(), head.version()), (404, Version::Http10));
    assert!(!head.is_interim() && !head.is_upgrade());
    assert_eq!(head.header("set-cookie"), Some(&b"secret"[..]));
    assert!(!format!("{head:?}").contains("secret"));
}

#[test]
fn interim_responses_come_one_by_one() {
    let stream = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut reader = MessageReader::new(&stream[..]);
    let limits = Limits::default();
    let mut next = || {
        reader
            .response_head(&TO_GET, &limits)
            .now_or_never()
            .unwrap()
    };
    for (status, interim) in [(100, true), (103, true), (200, false)] {
        let head = next().unwrap();
        assert_eq!((head.status(), head.is_interim()), (status, interim));
    }
    assert!(matches!(next(), Err(ReadError::Closed)));
}

#[test]
fn an_upgrade_that_was_asked_for_is_passed_on() {
    let stream =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: a\r\n\r\n\x81\x00";
    let mut reader = MessageReader::new(&stream[..]);
    let head = reader
        .response_head(&TO_UPGRADE, &Limits::default())
        .now_or_never()
        .unwrap()
        .unwrap();
    assert!(head.is_upgrade() && !head.is_interim());
    let mut out = BytesMut::new();
    head.write_to(&mut out, &HeaderEdits::default());
    assert_eq!(
        out,
        &b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\
           connection: upgrade\r\n\r\n"[..]
    );
    assert_eq!(reader.buffer, &b"\x81\x00"[..]);

    for other in [
        &b"Upgrade: h2c\r\nConnection: upgrade\r\n"[..],
        b"Upgrade: websocket\r\n",
        b"",
    ] {
        let head = [b"HTTP/1.1 101 Switching Protocols\r\n", other, b"\r\n"].concat();
        assert!(response(&head, TO_UPGRADE).is_err(), "{other:?}");
    }
}

#[test]
fn a_response_that_does_not_come_is_told_from_one_that_breaks_off() {
    assert!(matches!(response(b"", TO_GET), Err(ReadError::Closed)));
    let broken_off = response(b"HTTP/1.1 200 OK\r\n", TO_GET).unwrap_err();
    assert!(matches!(broken_off, ReadError::Truncated));
    assert_eq!(broken_off.gateway_status(), 502);
}
