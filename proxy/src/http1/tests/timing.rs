//! How long a connection is waited for.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use super::*;
use crate::http1::BodyError;

fn limits() -> Limits {
    Limits {
        head_timeout: Duration::from_secs(15),
        idle_timeout: Duration::from_secs(60),
        response_timeout: Duration::from_secs(30),
        body_timeout: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// A sender, and who reads what it sends.
fn connection() -> (DuplexStream, MessageReader<DuplexStream>) {
    let (sender, receiver) = duplex(1024);
    (sender, MessageReader::new(receiver))
}

/// Sends `text` byte by byte, `pause` apart, and keeps the connection open.
async fn drip(sender: &mut DuplexStream, text: &str, pause: Duration) {
    for byte in text.as_bytes() {
        sender.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(pause).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_left_after_the_idle_time() {
    let (_sender, mut reader) = connection();
    let start = Instant::now();
    let error = reader.request_head(&limits()).await.unwrap_err();
    assert!(matches!(error, ReadError::IdleTimeout) && error.status().is_none());
    assert_eq!(start.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_dripping_head_has_the_time_of_one_head() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\nX: aaaaaaaaa",
        "\r\nGET / HTTP/1.1\r\nHost: aaaaaaa",
    ] {
        let (mut sender, mut reader) = connection();
        let start = Instant::now();
        let (limits, pause) = (limits(), Duration::from_secs(1));
        tokio::select! {
            () = drip(&mut sender, text, pause) => panic!("waited for all of it"),
            read = reader.request_head(&limits) => {
                let error = read.unwrap_err();
                assert!(matches!(error, ReadError::HeadTimeout), "{error}");
                assert_eq!(error.status(), Some(408));
            }
        }
        assert_eq!(start.elapsed(), Duration::from_secs(15));
        let after = reader.request_head(&limits).await;
        assert!(
            matches!(after, Err(ReadError::OutOfStep)),
            "a late head is not read on"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn each_head_has_its_own_time() {
    let (mut sender, mut reader) = connection();
    let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4);
    let limits = limits();
    let reading = async {
        for _ in 0..4 {
            reader.request_head(&limits).await.unwrap().unwrap();
        }
    };
    let ((), ()) = tokio::join!(
        drip(&mut sender, &text, Duration::from_millis(500)),
        reading
    );
}

#[tokio::test(start_paused = true)]
async fn the_application_may_think_as_long_as_it_is_allowed() {
    let (mut sender, mut reader) = connection();
    let start = Instant::now();
    let error = reader.response_head(&TO_GET, &limits()).await.unwrap_err();
    assert!(matches!(error, ReadError::ResponseTimeout));
    assert_eq!(
        (error.gateway_status(), start.elapsed()),
        (504, Duration::from_secs(30))
    );

    let (mut slow, mut reader_of_slow) = connection();
    let unbounded = Limits {
        response_timeout: Duration::MAX,
        ..limits()
    };
    let answering = async {
        tokio::time::sleep(Duration::from_secs(100_000)).await;
        slow.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
    };
    let (head, ()) = tokio::join!(reader_of_slow.response_head(&TO_GET, &unbounded), answering);
    assert_eq!(head.unwrap().status(), 204);
    sender.shutdown().await.unwrap();
    let after = reader.response_head(&TO_GET, &unbounded).await;
    assert!(
        matches!(after, Err(ReadError::OutOfStep)),
        "an answer that comes late is not read"
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_slow_but_not_stall() {
    let (mut sender, mut reader) = connection();
    sender
        .write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        .await
        .unwrap();
    let limits = limits();
    reader.request_head(&limits).await.unwrap().unwrap();
    let start = Instant::now();
    let (mut out, mut received) = (BytesMut::new(), Vec::new());
    let sending = async {
        drip(&mut sender, "slowly", Duration::from_secs(19)).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = sending => {}
        copied = reader.copy_body(&mut out, &mut received, &limits) => {
            let error = copied.unwrap_err();
            assert!(matches!(error, BodyError::Stalled), "{error}");
            assert_eq!(error.status(), Some(408));
        }
    }
    // The last byte came after five pauses, and a body's patience later it is over.
    assert_eq!(start.elapsed(), Duration::from_secs(5 * 19 + 20));
    assert_eq!(received, b"slowly");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_may_be_slow_but_not_stop() {
    let body = vec![b'a'; 100_000];
    let head = format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let stream = [head.as_bytes(), &body].concat();
    let mut reader = MessageReader::new(&stream[..]);
    let limits = limits();
    reader.request_head(&limits).await.unwrap().unwrap();
    let (mut to, mut receiver) = duplex(1000);
    let mut out = BytesMut::new();
    let start = Instant::now();
    let receiving = async {
        let mut part = [0; 1000];
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(19)).await;
            receiver.read_exact(&mut part).await.unwrap();
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = receiving => {}
        copied = reader.copy_body(&mut out, &mut to, &limits) => {
            let error = copied.unwrap_err();
            assert!(matches!(error, BodyError::ReceiverStalled), "{error}");
        }
    }
    assert_eq!(start.elapsed(), Duration::from_secs(10 * 19 + 20));
}

#[tokio::test(start_paused = true)]
async fn reading_can_be_dropped_and_begun_again() {
    let (mut sender, mut reader) = connection();
    let limits = limits();
    let text = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for byte in text.as_bytes() {
        let impatient =
            tokio::time::timeout(Duration::from_millis(1), reader.request_head(&limits));
        assert!(impatient.await.is_err());
        sender.write_all(&[*byte]).await.unwrap();
    }
    reader.request_head(&limits).await.unwrap().unwrap();
    let (mut received, body) = (Vec::new(), "3;a=b\r\nabc\r\n0\r\nx-t: 1\r\n\r\n");
    for byte in body.as_bytes() {
        while let Ok(piece) =
            tokio::time::timeout(Duration::from_millis(1), reader.body_piece(&limits)).await
        {
            received.extend(piece.unwrap().expect("not the end yet"));
        }
        sender.write_all(&[*byte]).await.unwrap();
    }
    while let Some(piece) = reader.body_piece(&limits).await.unwrap() {
        received.extend(piece);
    }
    assert_eq!(received, body.replace(";a=b", "").as_bytes());
}
