//! Whether a connection can carry another exchange.

use std::{
    task::{Context, Waker},
    time::Duration,
};

use tokio::io::AsyncRead;

use super::{limits::Limits, reader::MessageReader};

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Whether this connection to a server waits for a request: the last response was read to its
    /// end, nothing followed it, and the server has not closed it.
    ///
    /// Ask before each request on a connection that was used before. Bytes that came unasked would be
    /// taken for the response to that request, and its response for that of the next one, which may be
    /// another caller's (RFC 9112 §9.2).
    pub fn is_quiet(&mut self) -> bool {
        if !self.is_body_finished() || self.has_buffered() {
            return false;
        }
        let no_timer = Limits {
            body_timeout: Duration::MAX,
            ..Limits::default()
        };
        let mut context = Context::from_waker(Waker::noop());
        self.poll_fill_body(&mut context, &mut None, &no_timer)
            .is_pending()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::http1::RequestSummary;

    const TO_GET: RequestSummary = RequestSummary {
        head: false,
        upgrade: false,
    };

    /// A connection on which a server has sent `response` to the only request.
    async fn after(response: &str) -> (DuplexStream, MessageReader<DuplexStream>) {
        let (mut server, client) = duplex(1024);
        let mut reader = MessageReader::new(client);
        server.write_all(response.as_bytes()).await.unwrap();
        reader
            .response_head(&TO_GET, &Limits::default())
            .await
            .unwrap();
        (server, reader)
    }

    #[tokio::test]
    async fn a_connection_waits_once_its_response_is_read() {
        let (mut server, mut reader) = after("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na").await;
        assert!(!reader.is_quiet(), "the body is not finished");
        server.write_all(b"b").await.unwrap();
        assert!(reader.skip_body(2, &Limits::default()).await.unwrap());
        assert!(reader.is_quiet() && reader.is_quiet());

        server
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        reader
            .response_head(&TO_GET, &Limits::default())
            .await
            .unwrap();
        assert!(reader.is_quiet());
    }

    #[tokio::test]
    async fn an_unasked_response_is_noticed() {
        let unasked = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        let (_server, mut reader) = after(unasked).await;
        assert!(!reader.is_quiet(), "it came with the response");

        let (mut server, mut reader) = after("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(reader.is_quiet());
        server.write_all(b"H").await.unwrap();
        assert!(!reader.is_quiet(), "it came later");
        assert!(!reader.is_quiet(), "and is not forgotten");
    }

    #[tokio::test]
    async fn a_closed_connection_is_noticed() {
        let (server, mut reader) = after("HTTP/1.1 204 No Content\r\n\r\n").await;
        drop(server);
        assert!(!reader.is_quiet() && !reader.is_quiet());
    }
}
