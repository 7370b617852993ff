//! Tests of the engine as a whole.

mod bodies;
mod edits;
mod properties;
mod refused;
mod requests;
mod responses;
mod timing;

use bytes::BytesMut;
use futures_util::FutureExt;

use super::{
    HeaderEdits, Limits, MessageReader, ReadError, RequestHead, RequestSummary, ResponseHead,
};

const TO_GET: RequestSummary = RequestSummary {
    head: false,
    upgrade: false,
};

/// The first request of a stream that is all there.
fn request(stream: &[u8]) -> Result<RequestHead, ReadError> {
    let mut reader = MessageReader::new(stream);
    let head = reader
        .request_head(&Limits::default())
        .now_or_never()
        .unwrap()?;
    Ok(head.expect("a request, not the end"))
}

/// The first response of a stream that is all there.
fn response(stream: &[u8], to: RequestSummary) -> Result<ResponseHead, ReadError> {
    MessageReader::new(stream)
        .response_head(&to, &Limits::default())
        .now_or_never()
        .unwrap()
}

/// How a request head is passed on.
fn passed_on(head: &RequestHead, edits: &HeaderEdits<'_>) -> String {
    let mut out = BytesMut::new();
    head.write_to(&mut out, edits);
    String::from_utf8(out.to_vec()).unwrap()
}
