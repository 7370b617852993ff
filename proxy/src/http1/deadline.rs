//! One timer for a connection, armed seldom.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose deadline moves with each wait of a connection.
///
/// Deadlines mostly move into the future while nothing is due. Then the timer is left as it is: when
/// it fires too early, it is armed again for what is due by then. So a busy connection touches the
/// timer wheel once in a timeout and not once for each message.
#[derive(Default)]
pub(super) struct Deadline {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready when it is `due`; never if it is not.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, due: Option<Instant>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(context).is_ready() {
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// When a wait that begins now must end; `None`: never.
pub(super) fn due_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_met_whichever_way_it_moves() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        for seconds in [60, 5, 90, 90, 100] {
            // What is due is polled while something later or earlier is armed.
            let far = due_after(Duration::from_secs(200));
            assert!(
                poll_fn(|context| Poll::Ready(deadline.poll(context, far)))
                    .await
                    .is_pending()
            );
            let due = due_after(Duration::from_secs(seconds));
            let before = Instant::now();
            poll_fn(|context| deadline.poll(context, due)).await;
            assert_eq!((Instant::now() - before).as_secs(), seconds);
        }
        assert_eq!((Instant::now() - start).as_secs(), 60 + 5 + 90 + 90 + 100);
    }

    #[tokio::test(start_paused = true)]
    async fn no_bound_is_no_deadline() {
        let mut deadline = Deadline::default();
        assert_eq!(due_after(Duration::MAX), None);
        assert!(
            poll_fn(|context| Poll::Ready(deadline.poll(context, None)))
                .await
                .is_pending()
        );
    }
}
