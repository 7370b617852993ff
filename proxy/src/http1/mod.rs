//! HTTP/1.1 messages, read strictly and passed on byte for byte (RFC 9110, RFC 9112).
//!
//! The same engine reads what the application sends to the wire and what the wire brings to the
//! application, so that both ends of a call agree on where a message begins and ends. It never
//! repairs: a message that two parsers could read in two ways is refused, and what is forwarded
//! is what was read.
//!
//! | file | its one job |
//! | --- | --- |
//! | `reader` | [`MessageReader`]: buffer, timeouts, heads and bodies in their order |
//! | `copy` | a body from the reader to a writer, with the head in the first write |
//! | `reuse` | whether a connection can carry another exchange |
//! | `scan` | finds the end of a head, incrementally |
//! | `request`, `response` | heads, owned, with their facts |
//! | `fields` | header lines: which travel on, what they say of the connection |
//! | `framing` | how long the body is (RFC 9112 §6) |
//! | `target` | request target and host (RFC 9112 §3) |
//! | `edits` | what is removed from and added to a head on its way |
//! | `body` | chunks and lengths, as a machine without I/O |
//! | `trailers` | trailer sections |
//! | `diagnose` | names the mistake in a head that did not parse |
//! | `deadline` | one timer for a connection, armed seldom |
//! | `check` | what holds for any bytes, for tests and the fuzzer |
//!
//! # Example
//! ```
//! use bytes::BytesMut;
//! use countersign_proxy::http1::{HeaderEdits, Limits, MessageReader};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let wire: &[u8] = b"GET /orders HTTP/1.1\r\nHost: orders.shop\r\nConnection: close\r\n\r\n";
//! let limits = Limits::default();
//! let mut reader = MessageReader::new(wire);
//! let head = reader.request_head(&limits).await.unwrap().unwrap();
//! assert_eq!((head.method(), head.path_and_query()), ("GET", "/orders"));
//! assert!(head.wants_close());
//!
//! let mut out = BytesMut::new();
//! let mut application = Vec::new();
//! head.write_to(&mut out, &HeaderEdits::default());
//! reader.copy_body(&mut out, &mut application, &limits).await.unwrap();
//! assert_eq!(application, b"GET /orders HTTP/1.1\r\nHost: orders.shop\r\n\r\n");
//! # });
//! ```

mod body;
#[cfg(any(test, fuzzing))]
pub mod check;
mod copy;
mod deadline;
mod diagnose;
mod edits;
mod error;
mod fields;
mod framing;
mod limits;
mod name;
mod reader;
mod request;
mod response;
mod reuse;
mod scan;
mod target;
mod trailers;

#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, Piece};
pub use edits::{AddedHeaders, HeaderEdits, InvalidHeader};
pub use error::{BodyError, BodySyntaxError, HeadError, ReadError};
pub use fields::Headers;
pub use framing::{Framing, Version};
pub use limits::Limits;
pub use name::{is_token_byte, same_name};
pub use reader::MessageReader;
pub use request::{RequestHead, RequestSummary};
pub use response::ResponseHead;
