//! HTTP/2 (RFC 9113) on both sides of the sidecar, over the wire and in the clear: one configuration, one way to drive a
//! connection, one way to forward a call.

mod client;
mod forward;
mod server;
mod turn;

pub(crate) use client::Client;
pub(crate) use forward::{Abandoned, forward};
pub(crate) use server::{Calls, answer, is_grpc};

/// Bytes that a stream may have under way before its reader asks for more.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// The most that the header fields of one message may take (RFC 9113 §6.5.2's measure).
const HEADER_LIST_LIMIT: u32 = 64 * 1024;
/// Calls that one peer may have in flight on a connection.
const CONCURRENT_STREAMS: u32 = 4096;
