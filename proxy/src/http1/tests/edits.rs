//! What becomes of headers on their way.

use super::*;
use crate::http1::AddedHeaders;

#[test]
fn headers_of_the_connection_end_here() {
    let head = request(
        b"GET / HTTP/1.1\r\nConnection: x-hop, close\r\nHost: a\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n\
          x-Kept:\t2 \r\nProxy-Connection: close\r\nTE: gzip\r\nX_Hop: 3\r\nTrailer: digest\r\n\r\n",
    )
    .unwrap();
    let kept: Vec<_> = head.headers().map(|(name, _)| name).collect();
    assert_eq!(kept, ["Host", "x-Kept", "Trailer"]);
    assert_eq!(
        head.header("x-hop"),
        None,
        "what is not passed on is not judged either"
    );
    assert_eq!(
        passed_on(&head, &HeaderEdits::default()),
        "GET / HTTP/1.1\r\nHost: a\r\nx-Kept:\t2 \r\nTrailer: digest\r\n\r\n"
    );
}

#[test]
fn willingness_to_take_trailers_is_renewed() {
    let head =
        request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\nA: b\r\n\r\n");
    assert_eq!(
        passed_on(
            &head.unwrap(),
            &HeaderEdits {
                close: true,
                ..HeaderEdits::default()
            }
        ),
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nA: b\r\nconnection: close, te\r\n\r\n"
    );
}

#[test]
fn te_that_the_connection_does_not_name_ends_here() {
    let head = request(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n").unwrap();
    assert_eq!(
        passed_on(&head, &HeaderEdits::default()),
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    );
}

#[test]
fn named_headers_are_removed_and_others_added() {
    let head = request(
        b"GET / HTTP/1.1\r\nCountersign-Peer: forged\r\nHost: a\r\nCOUNTERSIGN_subject: forged\r\n\
          Countersign: kept\r\nX-Forwarded-Client-Cert: forged\r\nx_forwarded_client_cert: forged\r\n\r\n",
    )
    .unwrap();
    let mut add = AddedHeaders::new();
    add.push("countersign-peer", b"spiffe://td/ns/a/sa/b")
        .unwrap();
    let edits = HeaderEdits {
        remove: &["x-forwarded-client-cert"],
        remove_prefixes: &["countersign-"],
        add: Some(&add),
        ..HeaderEdits::default()
    };
    assert_eq!(
        passed_on(&head, &edits),
        "GET / HTTP/1.1\r\nHost: a\r\nCountersign: kept\r\n\
         countersign-peer: spiffe://td/ns/a/sa/b\r\n\r\n"
    );
}

#[test]
fn without_headers_there_is_still_an_empty_line() {
    let head = request(b"GET / HTTP/1.0\r\nKeep-Alive: 1\r\n\r\n").unwrap();
    assert_eq!(
        passed_on(&head, &HeaderEdits::default()),
        "GET / HTTP/1.0\r\n\r\n"
    );
    let head = request(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(
        passed_on(&head, &HeaderEdits::default()),
        "GET / HTTP/1.0\r\n\r\n"
    );
}

#[test]
fn another_target_takes_the_place_of_the_one_that_was_sent() {
    for (sent, target, passed) in [
        (
            "GET //a HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
            "/a?q",
            "GET /a?q HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
        ),
        (
            "GET http://h/a HTTP/1.1\r\nKeep-Alive: 1\r\nHost: h\r\n\r\n",
            "/a",
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        // What HTTP/1.0 names the host by is the target alone.
        (
            "GET http://h:1/a HTTP/1.0\r\nA: b\r\n\r\n",
            "/a",
            "GET /a HTTP/1.0\r\nhost: h:1\r\nA: b\r\n\r\n",
        ),
        (
            "OPTIONS http://h HTTP/1.0\r\n\r\n",
            "*",
            "OPTIONS * HTTP/1.0\r\nhost: h\r\n\r\n",
        ),
        ("GET /a HTTP/1.0\r\n\r\n", "/", "GET / HTTP/1.0\r\n\r\n"),
    ] {
        let head = request(sent.as_bytes()).unwrap();
        let edits = HeaderEdits {
            target: Some(target),
            ..HeaderEdits::default()
        };
        assert_eq!(passed_on(&head, &edits), passed, "{sent}");
        let again = request(passed.as_bytes()).unwrap();
        assert_eq!(
            (again.path_and_query(), again.host()),
            (target, head.host())
        );
    }
}
