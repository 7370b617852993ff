//! Stopping without cutting anyone off: no new calls, the ones in flight may end, up to a limit.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long connections may take to hand their last bytes to the system once no call is left.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// The handle that every listener, connection and call shares with the program's end.
///
/// Listeners wait for [`stopping`](Self::stopping) and then accept no more; each call holds a [`CallGuard`] from before
/// it is judged until its last byte, and each connection that carries calls a [`ConnectionGuard`]: the last bytes of a call
/// may still be in a connection's buffer when the call itself has ended. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stopping: CancellationToken,
    cut: CancellationToken,
    calls: TaskTracker,
    connections: TaskTracker,
}

/// Proof that a call is counted as in flight; dropping it ends the call.
#[derive(Debug)]
#[must_use = "the call counts as ended when this is dropped"]
pub struct CallGuard(#[expect(dead_code, reason = "held for its Drop")] TaskTrackerToken);

/// Proof that a connection is counted as open; dropping it says that its last byte is out.
#[derive(Debug)]
#[must_use = "the connection counts as closed when this is dropped"]
pub struct ConnectionGuard(#[expect(dead_code, reason = "held for its Drop")] TaskTrackerToken);

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were still in flight when the time was up, and were cut.
    pub cut: usize,
}

impl Drain {
    /// A handle of a program that runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one call as in flight until the guard is dropped.
    pub fn call(&self) -> CallGuard {
        CallGuard(self.calls.token())
    }

    /// Counts one connection as open until the guard is dropped. It is to end by itself soon after
    /// [`stopping`](Self::stopping), when its calls have.
    pub fn connection(&self) -> ConnectionGuard {
        ConnectionGuard(self.connections.token())
    }

    /// How many calls are in flight.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Whether the program has begun to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Completes when the program begins to stop: accept nothing more, tell peers to go elsewhere, let calls end.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.stopping.clone().cancelled_owned()
    }

    /// Completes when the time for calls in flight is up: end at once, and visibly as broken off.
    pub fn cut(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.cut.clone().cancelled_owned()
    }

    /// Begins to stop, and completes when no call is left and the last bytes are out, or when `limit` has passed.
    pub async fn run(&self, limit: Duration) -> Drained {
        self.stopping.cancel();
        self.calls.close();
        self.connections.close();
        let deadline = Instant::now() + limit;
        if timeout_at(deadline, self.calls.wait()).await.is_err() {
            let cut = self.calls.len();
            self.cut.cancel();
            return Drained { cut };
        }
        // A connection that does not end has no call to lose; a peer that reads nothing must not keep us for long.
        let last_bytes = deadline.min(Instant::now() + LAST_BYTES);
        let _left_open = timeout_at(last_bytes, self.connections.wait()).await;
        Drained { cut: 0 }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_idle_program_drains_at_once() {
        let drain = Drain::new();
        let drained = drain.run(Duration::from_secs(30)).now_or_never();
        assert_eq!(drained, Some(Drained { cut: 0 }));
        assert!(drain.is_stopping());
        assert_eq!(drain.cut().now_or_never(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_last_call_and_no_longer() {
        let drain = Drain::new();
        let (first, second) = (drain.call(), drain.call());
        assert_eq!(drain.calls_in_flight(), 2);
        assert_eq!(drain.stopping().now_or_never(), None);

        let started = Instant::now();
        let draining = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run(Duration::from_secs(30)).await }
        });
        drain.stopping().await;
        drop(first);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!draining.is_finished());
        drop(second);
        assert_eq!(draining.await.unwrap(), Drained { cut: 0 });
        assert_eq!(started.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_begun_while_stopping_is_waited_for_as_well() {
        // A peer's stream may already be in the receive buffer when the program begins to stop.
        let drain = Drain::new();
        let early = drain.call();
        let draining = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run(Duration::from_secs(30)).await }
        });
        drain.stopping().await;
        let late = drain.call();
        drop(early);
        tokio::task::yield_now().await;
        assert!(!draining.is_finished());
        drop(late);
        assert_eq!(draining.await.unwrap(), Drained { cut: 0 });
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_what_is_left_when_the_time_is_up() {
        let drain = Drain::new();
        let (_first, _second) = (drain.call(), drain.call());
        let started = Instant::now();
        assert_eq!(drain.run(Duration::from_secs(30)).await, Drained { cut: 2 });
        assert_eq!(started.elapsed(), Duration::from_secs(30));
        assert_eq!(drain.cut().now_or_never(), Some(()));
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_last_bytes_of_connections_but_not_for_long() {
        let drain = Drain::new();
        let (call, ends, _stays) = (drain.call(), drain.connection(), drain.connection());
        let started = Instant::now();
        let draining = tokio::spawn({
            let drain = drain.clone();
            async move { drain.run(Duration::from_secs(30)).await }
        });
        drain.stopping().await;
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(call);
        tokio::task::yield_now().await;
        drop(ends);
        assert!(!draining.is_finished());
        assert_eq!(draining.await.unwrap(), Drained { cut: 0 });
        assert_eq!(started.elapsed(), Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_that_ends_is_not_waited_for_longer() {
        let drain = Drain::new();
        let connection = drain.connection();
        let started = Instant::now();
        let stopping = drain.stopping();
        tokio::spawn(async move {
            stopping.await;
            drop(connection);
        });
        assert_eq!(drain.run(Duration::from_secs(30)).await, Drained { cut: 0 });
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
