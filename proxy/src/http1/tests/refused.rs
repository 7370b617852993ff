//! Messages that two readers could understand in two ways: each is refused, with the rule it breaks.

use bytes::BytesMut;
use futures_util::FutureExt;

use super::{super::HeadError::*, *};
use crate::http1::{BodyError, BodySyntaxError, HeadError};

/// Request heads, the rule that each breaks, and what its sender is answered.
#[rustfmt::skip] // a line for each
const HEADS: &[(&str, HeadError, u16)] = &[
    // Line ends.
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", BareLineFeed, 400),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", BareLineFeed, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", BareLineFeed, 400),
    ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", BareLineFeed, 400),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BareLineFeed, 400),
    ("GET / HTTP/1.1\rHost: a\r\n\r\n", BareCarriageReturn, 400),
    ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", BareCarriageReturn, 400),
    ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", BareCarriageReturn, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", BareCarriageReturn, 400),
    ("GET / HTTP/1.1\r\n\rHost: a\r\n\r\n", BareCarriageReturn, 400),
    ("GET / HTTP/1.1\r\nHo\rst: a\r\n\r\n", BareCarriageReturn, 400),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", EmptyLines, 400),
    // Request line.
    ("GET /\r\n\r\n", RequestLine, 400),
    ("GET\r\n\r\n", RequestLine, 400),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET / a HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET / ICY/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET / \r\nHost: a\r\n\r\n", RequestLine, 400),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", Method, 400),
    ("G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Method, 400),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Connect, 501),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version, 505),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Version, 505),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", Version, 505),
    ("PRI * HTTP/2.0\r\n\r\n", Version, 505),
    // Target.
    ("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", TargetByte, 400),
    ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", TargetByte, 400),
    ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", TargetByte, 400),
    ("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n", TargetByte, 400),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", TargetFragment, 400),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm, 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm, 400),
    ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", TargetForm, 400),
    ("GET http://a b/ HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine, 400),
    // Header lines.
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", SpaceBeforeColon, 400),
    ("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", SpaceBeforeColon, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", ObsoleteFolding, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\tb\r\n\r\n", ObsoleteFolding, 400),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", ObsoleteFolding, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", FieldValue, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\x0bc\r\n\r\n", FieldValue, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: b\x7f\r\n\r\n", FieldValue, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", FieldName, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", FieldName, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", FieldName, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", FieldName, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nXä: b\r\n\r\n", FieldName, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n\"X\": b\r\n\r\n", FieldName, 400),
    // Host.
    ("GET / HTTP/1.1\r\n\r\n", HostMissing, 400),
    ("GET http://a/ HTTP/1.1\r\n\r\n", HostMissing, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HostRepeated, 400),
    ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", HostRepeated, 400),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", HostInvalid, 400),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HostInvalid, 400),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HostInvalid, 400),
    ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", HostInvalid, 400),
    ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", HostInvalid, 400),
    ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", HostDisagrees, 400),
    ("GET http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n", HostDisagrees, 400),
    // Framing.
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", LengthRepeated, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n", LengthRepeated, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", LengthInvalid, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", LengthInvalid, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", LengthInvalid, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", LengthInvalid, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", LengthInvalid, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", LengthInvalid, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 0\r\n\r\n", LengthInvalid, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n", LengthTooLarge, 413),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 \r\n\r\n", PaddedValue, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t1\r\n\r\n", PaddedValue, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  chunked\r\n\r\n", PaddedValue, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n", PaddedValue, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAndTransferEncoding, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", LengthAndTransferEncoding, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\nContent-Length: 0\r\n\r\n", LengthAndTransferEncoding, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncodingRepeated, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n", TransferEncodingRepeated, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", TransferEncodingUnsupported, 501),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", FieldValue, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", SpaceBeforeColon, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\r\n : chunked\r\n\r\n", FieldName, 400),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncodingInHttp10, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n", ImitatedName, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 1\r\n\r\n", ImitatedName, 400),
    // Connection and Expect.
    ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close, Host\r\n\r\n", ConnectionNamesFraming, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\n", ConnectionNamesFraming, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nConnection: Transfer_Encoding\r\n\r\n", ConnectionNamesFraming, 400),
    ("POST / HTTP/1.1\r\nHost: a\r\nConnection: expect\r\n\r\n", ConnectionNamesFraming, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: a b\r\n\r\n", ConnectionOption, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nConnection: \"close\"\r\n\r\n", ConnectionOption, 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", Expectation, 417),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: 100-continue\r\n\r\n", Expectation, 417),
];

#[test]
fn every_rule_is_kept_and_named() {
    for (head, rule, status) in HEADS {
        let error = request(head.as_bytes()).expect_err(head);
        let ReadError::Malformed(broken) = &error else {
            panic!("{head:?}: {error}")
        };
        assert_eq!((broken, error.status()), (rule, Some(*status)), "{head:?}");
    }
}

#[test]
fn limits_are_exact() {
    let limits = Limits {
        head_bytes: 64,
        headers: 3,
        ..Limits::default()
    };
    let read = |head: &str| {
        let mut reader = MessageReader::new(head.as_bytes());
        let result = reader.request_head(&limits).now_or_never().unwrap();
        result
            .map(|head| head.is_some())
            .map_err(|error| error.status())
    };
    let with_path = |length| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length));
    assert_eq!(read(&with_path(64 - 27)), Ok(true));
    assert_eq!(read(&with_path(64 - 26)), Err(Some(431)));
    assert_eq!(read(&with_path(64)), Err(Some(414)));
    let three = "GET / HTTP/1.1\r\nHost: a\r\nB: b\r\nC: c\r\n\r\n";
    assert_eq!(read(three), Ok(true));
    assert_eq!(read(&three.replace("C: c", "C: c\r\nD: d")), Err(Some(431)));
    assert_eq!(
        read(&three.replace("C: c", &"c".repeat(100))),
        Err(Some(431))
    );
}

#[test]
fn a_crowd_of_connection_options_is_refused() {
    let options = |count| {
        let list = vec!["x"; count].join(",");
        request(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {list}\r\n\r\n").as_bytes())
    };
    assert!(options(16).is_ok());
    assert!(matches!(
        options(17),
        Err(ReadError::Malformed(ConnectionOption))
    ));
}

/// Response heads, and the rule that each breaks.
#[rustfmt::skip] // a line for each
const RESPONSES: &[(&str, HeadError)] = &[
    ("HTTP/1.1 200 OK\n\r\n", BareLineFeed),
    ("HTTP/1.1 200 OK\r\nA: b\n\r\n", BareLineFeed),
    ("HTTP/1.1 200 O\rK\r\n\r\n", BareCarriageReturn),
    ("HTTP/1.1 200 OK\r\n\rA: b\r\n\r\n", BareCarriageReturn),
    ("\r\nHTTP/1.1 200 OK\r\n\r\n", StatusLine),
    ("HTTP/1.1  200 OK\r\n\r\n", StatusLine),
    ("HTTP/1.1 20 OK\r\n\r\n", StatusLine),
    ("HTTP/1.1 2000 OK\r\n\r\n", StatusLine),
    ("HTTP/1.1 2x0 OK\r\n\r\n", StatusLine),
    ("HTTP/1.1 200 O\0K\r\n\r\n", StatusLine),
    ("ICY 200 OK\r\n\r\n", StatusLine),
    ("HTTP/1.1 099 OK\r\n\r\n", StatusCode),
    ("HTTP/2.0 200 OK\r\n\r\n", Version),
    ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", SpaceBeforeColon),
    ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", ObsoleteFolding),
    ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", FieldValue),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", LengthRepeated),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAndTransferEncoding),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", TransferEncodingUnsupported),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncodingInHttp10),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\n", BodyNotAllowed),
    ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", BodyNotAllowed),
    ("HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n", BodyNotAllowed),
    ("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", UpgradeUnasked),
    ("HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\n", ConnectionNamesFraming),
];

#[test]
fn responses_are_read_as_strictly() {
    for (head, rule) in RESPONSES {
        let error = response(head.as_bytes(), TO_GET).expect_err(head);
        let ReadError::Malformed(broken) = &error else {
            panic!("{head:?}: {error}")
        };
        assert_eq!((broken, error.gateway_status()), (rule, 502), "{head:?}");
    }
}

/// Chunked bodies, and the rule that each breaks.
#[rustfmt::skip] // a line for each
const BODIES: &[(&str, BodySyntaxError)] = &[
    ("\r\n", BodySyntaxError::ChunkSize),
    (";a\r\n", BodySyntaxError::ChunkSize),
    (" 1\r\na\r\n", BodySyntaxError::ChunkSize),
    ("1 \r\na\r\n", BodySyntaxError::ChunkSize),
    ("1 ;a\r\na\r\n", BodySyntaxError::ChunkSize),
    ("1\t\r\na\r\n", BodySyntaxError::ChunkSize),
    ("+1\r\na\r\n", BodySyntaxError::ChunkSize),
    ("-1\r\na\r\n", BodySyntaxError::ChunkSize),
    ("0x1\r\na\r\n", BodySyntaxError::ChunkSize),
    ("1_0\r\na\r\n", BodySyntaxError::ChunkSize),
    ("g\r\n", BodySyntaxError::ChunkSize),
    ("1\na\r\n", BodySyntaxError::ChunkSize),
    ("0\n\n", BodySyntaxError::ChunkSize),
    ("00000000000000001\r\na", BodySyntaxError::ChunkSizeTooLong),
    ("1\ra\r\n", BodySyntaxError::ChunkSizeEnd),
    ("1\r\r\na\r\n", BodySyntaxError::ChunkSizeEnd),
    ("1;a\nb\r\n", BodySyntaxError::ChunkExtension),
    ("1;a\0\r\nb\r\n", BodySyntaxError::ChunkExtension),
    ("1;\n\r\nb\r\n", BodySyntaxError::ChunkExtension),
    ("1;a\rb\r\n", BodySyntaxError::ChunkSizeEnd),
    ("1\r\nab\r\n", BodySyntaxError::ChunkEnd),
    ("1\r\na\n", BodySyntaxError::ChunkEnd),
    ("1\r\na\rb", BodySyntaxError::ChunkEnd),
    ("1\r\na0\r\n\r\n", BodySyntaxError::ChunkEnd),
    ("0\r\n\n", BodySyntaxError::Trailers(BareLineFeed)),
    ("0\r\nA: b\n\r\n", BodySyntaxError::Trailers(BareLineFeed)),
    ("0\r\n\rA: b\r\n\r\n", BodySyntaxError::Trailers(BareCarriageReturn)),
    ("0\r\nA : b\r\n\r\n", BodySyntaxError::Trailers(SpaceBeforeColon)),
    ("0\r\n A: b\r\n\r\n", BodySyntaxError::Trailers(ObsoleteFolding)),
    ("0\r\nGET / HTTP/1.1\r\n\r\n", BodySyntaxError::Trailers(FieldName)),
    ("0\r\nContent-Length: 1\r\n\r\n", BodySyntaxError::TrailerForbidden),
    ("0\r\nHost: b\r\n\r\n", BodySyntaxError::TrailerForbidden),
    ("0\r\nCountersign-Peer: b\r\n\r\n", BodySyntaxError::TrailerForbidden),
];

fn copied(chunks: &str) -> Result<u64, BodyError> {
    let stream =
        format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    let mut reader = MessageReader::new(stream.as_bytes());
    let limits = Limits::default();
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
    if copied.is_err() {
        let next = reader.request_head(&limits).now_or_never().unwrap();
        assert!(
            matches!(next, Err(ReadError::OutOfStep)),
            "nothing is read after a mistake"
        );
    }
    copied
}

#[test]
fn chunks_are_read_strictly() {
    for (chunks, rule) in BODIES {
        let error = copied(chunks).expect_err(chunks);
        let BodyError::Malformed(broken) = &error else {
            panic!("{chunks:?}: {error}")
        };
        assert_eq!((broken, error.status()), (rule, Some(400)), "{chunks:?}");
    }
}

#[test]
fn long_extensions_and_trailers_are_refused() {
    let extension = |length| copied(&format!("0;{}\r\n\r\n", "a".repeat(length)));
    assert!(extension(255).is_ok());
    let error = extension(256).unwrap_err();
    assert!(matches!(
        error,
        BodyError::Malformed(BodySyntaxError::ChunkExtensionTooLong)
    ));

    let error = copied(&format!("0\r\nA: {}\r\n\r\n", "b".repeat(65 * 1024))).unwrap_err();
    assert_eq!(error.status(), Some(431));
}

#[test]
fn nothing_is_read_after_a_refused_head() {
    let stream = b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut reader = MessageReader::new(&stream[..]);
    let limits = Limits::default();
    let first = reader.request_head(&limits).now_or_never().unwrap();
    assert!(matches!(first, Err(ReadError::Malformed(TargetByte))));
    let second = reader.request_head(&limits).now_or_never().unwrap();
    assert!(matches!(second, Err(ReadError::OutOfStep)));
}

#[test]
fn a_body_that_was_left_is_not_taken_for_a_request() {
    let stream = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\n\r\n\
        GET /admin HTTP/1.1\r\nHost: a\r\n\r\nx";
    let mut reader = MessageReader::new(&stream[..]);
    let limits = Limits::default();
    reader
        .request_head(&limits)
        .now_or_never()
        .unwrap()
        .unwrap();
    let next = reader.request_head(&limits).now_or_never().unwrap();
    assert!(matches!(next, Err(ReadError::OutOfStep)));
}
