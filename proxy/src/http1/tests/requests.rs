//! Requests that are accepted, and what they say.

use super::*;
use crate::http1::{Framing, Version};

#[test]
fn a_request_says_what_it_is_for() {
    let head = request(
        b"\r\nPATCH /orders/1?x=%2e HTTP/1.1\r\nhOST: orders.shop:8080\r\nX-A: 1\r\nx-a:  2 \r\n\
          Content-Length: 3\r\nAuthorization: Bearer secret\r\n\r\n",
    )
    .unwrap();
    assert_eq!(head.method(), "PATCH");
    assert_eq!(head.target(), "/orders/1?x=%2e");
    assert_eq!(head.path_and_query(), "/orders/1?x=%2e");
    assert_eq!(head.host(), "orders.shop:8080");
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.framing(), Framing::Length(3));
    assert_eq!(head.header("x-A"), Some(&b"1"[..]));
    assert_eq!(head.header("x-b"), None);
    let headers: Vec<_> = head
        .headers()
        .map(|(name, value)| (name, value.len()))
        .collect();
    assert_eq!(
        headers,
        [
            ("hOST", 16),
            ("X-A", 1),
            ("x-a", 1),
            ("Content-Length", 1),
            ("Authorization", 13)
        ]
    );
    assert!(!head.wants_close() && !head.expects_continue() && head.upgrade().is_none());
    let shown = format!("{head:?}");
    assert!(!shown.contains("secret") && !shown.contains("x=") && shown.contains("/orders/1"));
}

#[test]
fn targets_name_path_and_host() {
    for (line, path, host) in [
        (
            "GET http://orders.shop:80/a?b HTTP/1.1\r\nHost: Orders.Shop:80",
            "/a?b",
            "Orders.Shop:80",
        ),
        (
            "GET http://orders.shop HTTP/1.1\r\nHost: orders.shop",
            "/",
            "orders.shop",
        ),
        ("GET https://[::1]:1/ HTTP/1.0", "/", "[::1]:1"),
        ("GET /a HTTP/1.0", "/a", ""),
        ("GET /a HTTP/1.0\r\nHost: a", "/a", "a"),
        ("OPTIONS * HTTP/1.1\r\nHost: a", "*", "a"),
        ("GET //a//b/../c HTTP/1.1\r\nHost: a", "//a//b/../c", "a"),
        (
            "GET /?a=http://b/c HTTP/1.1\r\nHost: a",
            "/?a=http://b/c",
            "a",
        ),
    ] {
        let head = request(format!("{line}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!((head.path_and_query(), head.host()), (path, host), "{line}");
    }
}

#[test]
fn framing_is_by_length_or_chunks_or_there_is_no_body() {
    for (headers, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("Content-Length:7\r\n", Framing::Length(7)),
        (
            "CONTENT-LENGTH: 18446744073709551615\r\n",
            Framing::Length(u64::MAX),
        ),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
    ] {
        let head =
            request(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes()).unwrap();
        assert_eq!(head.framing(), framing, "{headers}");
    }
}

#[test]
fn persistence_is_the_default_of_http_1_1_only() {
    for (head, close) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
            false,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n",
            true,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n\r\n",
            true,
        ),
        ("GET / HTTP/1.0\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        assert_eq!(
            request(head.as_bytes()).unwrap().wants_close(),
            close,
            "{head:?}"
        );
    }
}

#[test]
fn an_expectation_means_something_in_http_1_1() {
    for (head, expects) in [
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n",
            true,
        ),
        (
            "PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
            false,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
            false,
        ),
    ] {
        assert_eq!(
            request(head.as_bytes()).unwrap().expects_continue(),
            expects,
            "{head:?}"
        );
    }
}

#[test]
fn a_connection_is_upgraded_to_web_sockets_and_nothing_else() {
    for (headers, upgrade) in [
        (
            "Connection: Upgrade\r\nUpgrade: WebSocket\r\n",
            Some("WebSocket"),
        ),
        (
            "Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n",
            Some("websocket"),
        ),
        ("Upgrade: websocket\r\n", None),
        ("Connection: upgrade\r\n", None),
        (
            "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
            None,
        ),
        ("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n", None),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
            None,
        ),
        ("Connection: upgrade\r\nUpgrade: TLS/1.0\r\n", None),
        (
            "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
            None,
        ),
    ] {
        let head =
            request(format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").as_bytes()).unwrap();
        assert_eq!(head.upgrade(), upgrade, "{headers}");
        assert_eq!(head.summary().upgrade, upgrade.is_some());
        let passed_on = passed_on(&head, &HeaderEdits::default()).to_ascii_lowercase();
        let expected = upgrade.map_or("", |_| "upgrade: websocket\r\nconnection: upgrade\r\n");
        assert_eq!(
            passed_on,
            format!(
                "get / http/1.1\r\nhost: a\r\n{}\r\n",
                match upgrade {
                    None if headers.contains("Content-Length") => "content-length: 1\r\n",
                    _ => expected,
                }
            )
        );
    }
    let old = request(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(old.unwrap().upgrade(), None);
}

#[test]
fn a_stream_may_end_between_messages_only() {
    let limits = Limits::default();
    for (stream, messages, clean) in [
        (&b""[..], 0, true),
        (b"\r\n", 0, true),
        (b"GET / HTTP/1.0\r\n\r\n", 1, true),
        (b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n\r\n", 2, true),
        (b"GET / HTTP/1.0\r\n\r\n\r", 1, false),
        (b"GET / HTTP/1.0\r\n", 0, false),
    ] {
        let mut reader = MessageReader::new(stream);
        for _ in 0..messages {
            assert!(
                reader
                    .request_head(&limits)
                    .now_or_never()
                    .unwrap()
                    .unwrap()
                    .is_some()
            );
        }
        let end = reader.request_head(&limits).now_or_never().unwrap();
        match end {
            Ok(None) => assert!(clean, "{stream:?}"),
            Err(ReadError::Truncated) => assert!(!clean, "{stream:?}"),
            other => panic!("{stream:?}: {other:?}"),
        }
    }
}

#[test]
fn what_was_read_before_belongs_to_the_first_message() {
    let buffered = BytesMut::from(&b"GET /a HT"[..]);
    let mut reader = MessageReader::with_buffered(&b"TP/1.0\r\n\r\n\x81\x05hello"[..], buffered);
    let head = reader
        .request_head(&Limits::default())
        .now_or_never()
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(head.as_bytes(), b"GET /a HTTP/1.0\r\n\r\n");
    assert!(reader.is_body_finished() && reader.has_buffered());
    assert_eq!(reader.buffer, &b"\x81\x05hello"[..]);
}
