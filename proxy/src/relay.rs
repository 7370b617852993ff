//! Two byte streams joined end to end: opaque TCP, and HTTP/1.1 after an upgrade.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Which side broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// Towards the one who opened the connection.
    #[error("the caller's side failed: {0}")]
    Caller(io::Error),
    /// Towards the one who accepted it.
    #[error("the callee's side failed: {0}")]
    Callee(io::Error),
}

/// Carries bytes both ways until both sides have ended. An end is passed on as an end (half-close), an error ends both.
pub(crate) async fn relay<CR, CW, SR, SW>(
    caller: (CR, CW),
    callee: (SR, SW),
) -> Result<(), RelayError>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
{
    let (mut from_caller, mut to_caller) = caller;
    let (mut from_callee, mut to_callee) = callee;
    tokio::try_join!(
        carry(
            &mut from_caller,
            &mut to_callee,
            RelayError::Caller,
            RelayError::Callee
        ),
        carry(
            &mut from_callee,
            &mut to_caller,
            RelayError::Callee,
            RelayError::Caller
        ),
    )?;
    Ok(())
}

/// One direction. Reads into one buffer and writes what it holds, so that memory stays at one buffer however slow the
/// receiver is.
async fn carry<R, W>(
    from: &mut R,
    to: &mut W,
    reading: fn(io::Error) -> RelayError,
    writing: fn(io::Error) -> RelayError,
) -> Result<(), RelayError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    use tokio::io::AsyncReadExt;

    let mut buffer = bytes::BytesMut::with_capacity(16 * 1024);
    loop {
        buffer.clear();
        if from.read_buf(&mut buffer).await.map_err(reading)? == 0 {
            // The other side may have gone already; then there is no one to tell of the end.
            return match to.shutdown().await {
                Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(writing(error)),
                _ => Ok(()),
            };
        }
        to.write_all(&buffer).await.map_err(writing)?;
        to.flush().await.map_err(writing)?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex, split};

    use super::*;

    #[tokio::test]
    async fn an_end_is_passed_on_and_the_other_direction_goes_on() {
        let (caller, near_caller) = duplex(16);
        let (callee, near_callee) = duplex(16);
        let relaying = tokio::spawn(relay(split(near_caller), split(near_callee)));
        let (mut caller_reads, mut caller_writes) = split(caller);
        let (mut callee_reads, mut callee_writes) = split(callee);

        caller_writes.write_all(b"question").await.unwrap();
        caller_writes.shutdown().await.unwrap();
        let mut question = String::new();
        callee_reads.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");

        callee_writes
            .write_all(b"an answer after the end")
            .await
            .unwrap();
        callee_writes.shutdown().await.unwrap();
        let mut answer = String::new();
        caller_reads.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "an answer after the end");
        relaying.await.unwrap().unwrap();
    }
}
