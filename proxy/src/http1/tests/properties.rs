//! Properties of all messages, with random ones.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::http1::{
    check::{Parts, Taking, any_requests, any_responses, requests},
    same_name,
};

/// Bytes that are likely to be an HTTP message, or nearly one.
fn nearly_http(start_lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let fragment = select(
        &[
            "Host: a\r\n",
            "Host:a",
            "Content-Length: 3\r\n",
            "Content-Length: 0\r\n",
            "\r\n",
            "\r\n\r\n",
            "Transfer-Encoding: chunked\r\n",
            "Connection: close\r\n",
            "Connection: x-a, TE\r\n",
            "Connection:upgrade\r\nUpgrade:websocket\r\n",
            "TE:trailers\r\n",
            "X-A: b\r\n",
            "abc",
            "\n",
            "\r",
            " ",
            "\t",
            ":",
            "0\r\n\r\n",
            "3\r\nabc\r\n",
            "3;x=y\r\nabc\r\n",
            "0\r\nx-t: 1\r\n\r\n",
            "Expect: 100-continue\r\n",
            "Host: a\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n",
            "Content-Length: 3\r\n\r\nabc",
            "\0",
            "Keep-Alive: 1\r\n",
            "x_a: 2\r\n",
            ";",
        ][..],
    );
    let piece = prop_oneof![
        4 => select(start_lines).prop_map(|line| line.as_bytes().to_vec()),
        12 => fragment.prop_map(|fragment| fragment.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
        1 => (1_usize..700).prop_map(|length| vec![b'a'; length]),
    ];
    (select(start_lines), proptest::collection::vec(piece, 0..24))
        .prop_map(|(first, rest)| [first.as_bytes(), &rest.concat()].concat())
}

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST http://a/b?c HTTP/1.1\r\nHost: a\r\n",
    "POST /a HTTP/1.0\r\n",
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.0 404 Not Found\r\n",
];

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1_usize..40, 1..4)
}

/// A header line with the liberties that the grammar leaves (RFC 9112 §5).
fn header_line() -> impl Strategy<Value = (String, String)> {
    let name = "[A-Za-z0-9!#$%&'*+.^`|~-]{1,20}"
        .prop_filter("not a name that decides something", |name| {
            !names_that_decide(name)
        });
    (name, "[ \t]{0,2}([!-~é]([ -~\té]{0,30}[!-~])?)?[ \t]{0,2}")
}

fn names_that_decide(name: &str) -> bool {
    [
        "host",
        "te",
        "expect",
        "upgrade",
        "connection",
        "keep-alive",
        "proxy-connection",
    ]
    .iter()
    .chain(&[
        "content-length",
        "transfer-encoding",
        "x-hop",
        "countersign-peer",
    ])
    .any(|known| same_name(name, known))
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cuts in cuts(),
        head in any::<bool>(),
        upgrade in any::<bool>(),
    ) {
        any_requests(&bytes, &cuts);
        any_responses(&bytes, RequestSummary { head, upgrade }, &cuts);
    }

    #[test]
    fn what_resembles_requests_is_read_in_one_way(
        stream in nearly_http(REQUEST_LINES),
        cuts in cuts(),
    ) {
        any_requests(&stream, &cuts);
    }

    #[test]
    fn what_resembles_responses_is_read_in_one_way(
        stream in nearly_http(STATUS_LINES),
        cuts in cuts(),
        head in any::<bool>(),
        upgrade in any::<bool>(),
    ) {
        any_responses(&stream, RequestSummary { head, upgrade }, &cuts);
    }

    #[test]
    fn a_valid_head_arrives_byte_for_byte_without_what_was_removed(
        method in "[A-Z]{1,10}".prop_filter("served", |method| method != "CONNECT"),
        path in "/[!-\"$-~]{0,60}",
        lines in proptest::collection::vec((header_line(), 0_u8..4), 0..20),
        cuts in cuts(),
    ) {
        let mut sent = format!("{method} {path} HTTP/1.1\r\nHost: orders.shop\r\n");
        let mut expected = sent.clone();
        for ((name, value), kind) in &lines {
            let line = format!("{name}:{value}\r\n");
            match kind {
                0 => sent += "Connection: x-hop\r\nX-Hop: a\r\n",
                1 => sent += &format!("Countersign-{line}"),
                _ => {
                    sent += &line;
                    expected += &line;
                }
            }
        }
        sent += "\r\n";
        expected += "\r\n";
        let head = request(sent.as_bytes()).unwrap();
        prop_assert_eq!((head.method(), head.path_and_query()), (&method[..], &path[..]));
        let edits = HeaderEdits { remove_prefixes: &["countersign-"], ..HeaderEdits::default() };
        prop_assert_eq!(passed_on(&head, &edits), expected);

        let kept: Vec<_> = lines.iter().filter(|(_, kind)| *kind > 1).collect();
        for ((name, value), _) in kept {
            prop_assert!(head.headers().any(|(seen, bytes)| {
                seen == name && bytes == value.trim_matches([' ', '\t']).as_bytes()
            }), "{name}");
        }
        let transcript = requests(Parts::cut(sent.as_bytes(), &cuts), Taking::Copy, &Limits::default());
        prop_assert_eq!(transcript.refused, None);
    }
}

proptest! {
    /// As the sidecar of the called workload does it: what the application reads is what was judged.
    #[test]
    fn the_normal_form_that_is_passed_on_reads_as_itself_and_as_nothing_else(
        authority in select(&["", "http://a", "https://a"][..]),
        path in "(/[-a.%2efFcC5/\\\\;~]{0,24}|/[!-\"$->@-~]{0,24})?",
        query in "(\\?[!-\"$-~]{0,24})?",
        version in select(&["1.0", "1.1"][..]),
        host in select(&["Host: a\r\n", "A: b\r\nHost: A\r\n"][..]),
    ) {
        let trust_domain = countersign_identity::TrustDomain::parse("td").unwrap();
        let policy = countersign_policy::Policy::compile("", &trust_domain, Vec::new()).unwrap();
        let policy = policy.for_workload(&countersign_policy::Workload::default());
        let sent = format!("GET {authority}{path}{query} HTTP/{version}\r\n{host}\r\n");
        let Ok(head) = request(sent.as_bytes()) else { return Ok(()) };
        let Ok(judged) = policy.normal_path(head.path_and_query()) else { return Ok(()) };
        let edits = HeaderEdits { target: Some(&judged), ..HeaderEdits::default() };
        let passed = passed_on(&head, &edits);
        let received = request(passed.as_bytes()).unwrap();
        prop_assert_eq!(received.target(), &*judged);
        prop_assert_eq!(received.path_and_query(), &*judged);
        prop_assert_eq!(received.host(), head.host());
        prop_assert_eq!(policy.normal_path(received.target()).unwrap(), &*judged);
        prop_assert!(judged.ends_with(&query));
        prop_assert!(!judged.split('?').next().unwrap().contains("//"));
    }
}

#[test]
fn a_stream_reads_the_same_at_every_split() {
    let stream = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nConnection: x\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;ext=\"a\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nX-T: 1\r\n\r\n\
        PUT http://b/ HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    let whole = requests(Parts::new(&[stream]), Taking::Copy, &Limits::default());
    assert_eq!((whole.passed_on.len(), &whole.refused), (3, &None));
    for split in 0..=stream.len() {
        let (first, second) = stream.split_at(split);
        for taking in [Taking::Copy, Taking::Pieces, Taking::Buffered] {
            let parts = Parts::new(&[first, second]);
            assert_eq!(
                requests(parts, taking, &Limits::default()),
                whole,
                "{split} {taking:?}"
            );
        }
        any_requests(first, &[1]);
    }
}
