//! What the HTTP/1.1 engine costs a call, without sockets, TLS and policy: `cargo bench -p countersign-proxy`.

use std::{
    hint::black_box,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use countersign_proxy::http1::{AddedHeaders, HeaderEdits, Limits, MessageReader};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a browser or a client library sends, and what wrk does.
const REQUESTS: [(&str, &str); 2] = [
    (
        "wrk",
        "GET /orders HTTP/1.1\r\nHost: orders.shop:8080\r\n\r\n",
    ),
    (
        "client",
        "GET /orders/1234?expand=items HTTP/1.1\r\nHost: orders.shop:8080\r\n\
         User-Agent: shop-web/1.4\r\nAccept: application/json\r\nAccept-Encoding: gzip, br\r\n\
         Accept-Language: en-GB,en;q=0.9\r\nConnection: keep-alive\r\n\
         Authorization: Bearer eyJhbGciOiJFUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwczovL2xvZ2luIn0.c2ln\r\n\
         Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         X-Request-Id: 7b1e9f52-2f0c-4c7e-9d4d-1f4a0c6f1a11\r\nX-Tenant: acme\r\n\r\n",
    ),
];

/// How long each measurement lasts.
const TIME: Duration = Duration::from_millis(500);

/// Gives the same message for each read.
struct Repeated(Vec<u8>);

impl AsyncRead for Repeated {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(&self.0);
        Poll::Ready(Ok(()))
    }
}

/// Takes everything.
struct Taken;

impl AsyncWrite for Taken {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(black_box(bytes).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn response(framing: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
         Content-Type: application/json\r\n{framing}\r\nConnection: keep-alive\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Passes requests and responses on for [`TIME`]; nanoseconds for each exchange.
async fn exchanges(request: &str, response: &[u8], edits: &HeaderEdits<'_>) -> io::Result<u128> {
    let limits = Limits::default();
    let mut caller = MessageReader::new(Repeated(request.as_bytes().to_vec()));
    let mut callee = MessageReader::new(Repeated(response.to_vec()));
    let mut out = BytesMut::with_capacity(4096);
    let (mut count, start) = (0_u128, Instant::now());
    while start.elapsed() < TIME {
        for _ in 0..100 {
            let head = caller
                .request_head(&limits)
                .await
                .map_err(io::Error::other)?;
            let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
            head.write_to(&mut out, edits);
            caller
                .copy_body(&mut out, &mut Taken, &limits)
                .await
                .map_err(io::Error::other)?;
            let summary = head.summary();
            drop(head);
            let head = callee
                .response_head(&summary, &limits)
                .await
                .map_err(io::Error::other)?;
            head.write_to(&mut out, &HeaderEdits::default());
            drop(head);
            callee
                .copy_body(&mut out, &mut Taken, &limits)
                .await
                .map_err(io::Error::other)?;
        }
        count += 100;
    }
    Ok(start.elapsed().as_nanos() / count.max(1))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut added = AddedHeaders::new();
    added
        .push(
            "countersign-peer",
            b"spiffe://shop.example/ns/shop/sa/checkout",
        )
        .map_err(io::Error::other)?;
    let edits = HeaderEdits {
        remove: &[
            "x-forwarded-client-cert",
            "countersign-peer",
            "countersign-subject",
        ],
        remove_prefixes: &["countersign-"],
        add: Some(&added),
        ..HeaderEdits::default()
    };
    let kilobyte = "a".repeat(1024);
    let responses = [
        ("1 kB", response("Content-Length: 1024", &kilobyte)),
        (
            "1 kB chunked",
            response(
                "Transfer-Encoding: chunked",
                &format!("400\r\n{kilobyte}\r\n0\r\n\r\n"),
            ),
        ),
        ("empty", response("Content-Length: 0", "")),
    ];
    let mut out = io::stdout().lock();
    for (name, request) in REQUESTS {
        for (size, response) in &responses {
            let nanoseconds = exchanges(request, response, &edits).await?;
            writeln!(
                out,
                "{name:>8} request, {size:<12} response: {nanoseconds:>6} ns"
            )?;
        }
    }
    Ok(())
}
