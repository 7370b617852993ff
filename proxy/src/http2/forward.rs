//! One HTTP/2 call from where it came in to where it goes: both bodies and their trailers, byte for byte, with the flow
//! control of either side holding back the other.

use std::future::poll_fn;
use std::pin::pin;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Response;

/// Why a call ended before its answer was complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Abandoned {
    /// The callee failed before it answered; nothing was sent to the caller yet.
    #[error("no answer: {0}")]
    Unanswered(h2::Error, Box<SendResponse<Bytes>>),
    /// The callee failed in the middle of its answer.
    #[error("the answer broke off: {0}")]
    Callee(h2::Error),
    /// The caller went away or broke its own stream.
    #[error("the caller went away: {0}")]
    Caller(h2::Error),
}

/// Forwards a call that was started at the callee, which will answer with `response`. `upload` is the request's content
/// and where it goes, unless it has none. `edit` changes the response's head.
pub(crate) async fn forward(
    upload: Option<(RecvStream, SendStream<Bytes>)>,
    mut respond: SendResponse<Bytes>,
    response: ResponseFuture,
    edit: impl FnOnce(&mut Response<()>),
) -> Result<(), Abandoned> {
    let mut uploading = pin!(
        async {
            let Some((from, mut to)) = upload else { return };
            if let Err(error) = pump(from, &mut to).await {
                // Need not fail the call: the callee may answer without having read it all.
                to.send_reset(error.reason().unwrap_or(Reason::CANCEL));
            }
        }
        .fuse()
    );

    let answered = {
        let mut cancelled = pin!(poll_fn(|cx| respond.poll_reset(cx)));
        let mut response = pin!(response);
        loop {
            tokio::select! {
                biased;
                answered = &mut response => break answered,
                reset = &mut cancelled => {
                    return Err(Abandoned::Caller(reset.map_or_else(|error| error, h2::Error::from)));
                }
                () = &mut uploading => {}
            }
        }
    };
    let (head, body) = match answered {
        Ok(response) => response.into_parts(),
        Err(error) => return Err(Abandoned::Unanswered(error, Box::new(respond))),
    };
    let mut head = Response::from_parts(head, ());
    edit(&mut head);
    let ended = body.is_end_stream();
    let mut download = respond
        .send_response(head, ended)
        .map_err(Abandoned::Caller)?;
    if ended {
        return Ok(());
    }
    let downloading = pin!(async {
        if let Err(error) = pump(body, &mut download).await {
            download.send_reset(error.reason().unwrap_or(Reason::INTERNAL_ERROR));
            return Err(Abandoned::Callee(error));
        }
        Ok(())
    });
    match select(downloading, uploading).await {
        Either::Left((result, _)) => result,
        Either::Right(((), downloading)) => downloading.await,
    }
}

/// Carries one body and its trailers from `from` to `to`.
async fn pump(mut from: RecvStream, to: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while let Some(chunk) = next_chunk(&mut from, to).await? {
        let length = chunk.len();
        send_chunk(chunk, to).await?;
        from.flow_control().release_capacity(length)?;
    }
    match poll_fn(|cx| from.poll_trailers(cx)).await? {
        Some(trailers) => to.send_trailers(trailers),
        None => to.send_data(Bytes::new(), true),
    }
}

/// The next piece of a body, unless the receiver gives up meanwhile.
async fn next_chunk(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
) -> Result<Option<Bytes>, h2::Error> {
    poll_fn(|cx| {
        if let std::task::Poll::Ready(chunk) = from.poll_data(cx) {
            return std::task::Poll::Ready(chunk.transpose());
        }
        to.poll_reset(cx)
            .map(|reset| Err(reset.map_or_else(|error| error, h2::Error::from)))
    })
    .await
}

/// Sends a piece as the receiver's window allows.
async fn send_chunk(mut chunk: Bytes, to: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while !chunk.is_empty() {
        to.reserve_capacity(chunk.len());
        let mut room = to.capacity();
        while room == 0 {
            room = match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Err(Reason::CANCEL.into()),
            };
        }
        to.send_data(chunk.split_to(room.min(chunk.len())), false)?;
    }
    Ok(())
}
