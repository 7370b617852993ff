//! The decision log: one JSON line on standard output for every call, allowed or denied.
//!
//! The path of a call only writes the line into a bounded buffer in memory. One thread, which may block where the calls
//! may not, takes what has gathered and writes it in one piece; it waits a moment for more before it does, because under
//! load a system call for every line would cost more than judging the call. When the reader of standard output is too
//! slow or gone, lines are dropped and counted; nothing else happens to the calls.

mod record;

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio_util::sync::CancellationToken;

pub use record::{DecisionRecord, LoggedSubject};
use record::{Line, TimeText};

/// How long the writer waits for more lines after the first one.
const LINGER: Duration = Duration::from_millis(10);
/// How many bytes end that wait.
const BATCH: usize = 32 << 10;
/// How many bytes may wait for the writer; more lines are dropped. The writer may hold as many again.
const LIMIT: usize = 1 << 20;
/// What an idle buffer may keep of a burst's memory.
const KEPT: usize = 64 << 10;
/// The least time between two warnings about dropped lines.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// How long to wait when standard output was made non-blocking by somebody who shares it, and is full.
const RETRY: Duration = Duration::from_millis(5);
/// A thread that calls `write` in a loop needs no more.
const STACK: usize = 64 << 10;

/// Takes decision records on the path of the calls. Cheap to clone; all clones are one log.
#[derive(Clone, Debug)]
pub struct DecisionLog(Arc<Shared>);

/// The decision log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DecisionLogError {
    /// There is no standard output.
    #[error("the decision log needs standard output, which cannot be used: {0}")]
    Stdout(#[source] io::Error),
    /// No thread to write with.
    #[error("the decision log's writer thread cannot be started: {0}")]
    Thread(#[source] io::Error),
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the writer: the first line is there, or a batch, or the end.
    wake: Condvar,
    dropped: Counter,
    /// Cancelled by the writer when it has ended.
    ended: CancellationToken,
}

/// The lines that wait for the writer.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    lines: u64,
    closed: bool,
    time: TimeText,
    drops: Drops,
}

/// What was dropped, and whether somebody was told lately.
#[derive(Debug, Default)]
struct Drops {
    untold: u64,
    told_at: Option<Instant>,
}

impl DecisionLog {
    /// A log on standard output.
    ///
    /// # Errors
    /// When there is no standard output or no thread to be had.
    pub fn stdout(dropped: Counter) -> Result<Self, DecisionLogError> {
        // A handle of our own goes around the standard library's line buffer, which would take each line apart again.
        let stdout = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(DecisionLogError::Stdout)?;
        Self::new(File::from(stdout), dropped)
    }

    /// A log on any writer, which may block for as long as it likes. `dropped` counts the lines that are lost.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn new(
        writer: impl Write + Send + 'static,
        dropped: Counter,
    ) -> Result<Self, DecisionLogError> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            dropped,
            ended: CancellationToken::new(),
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("decision-log".to_owned())
            .stack_size(STACK)
            .spawn(move || theirs.write_until_closed(writer))
            .map_err(DecisionLogError::Thread)?;
        Ok(Self(shared))
    }

    /// Logs one decision, or drops it and counts that. Never waits for the output.
    pub fn record(&self, record: &DecisionRecord<'_>) {
        let mut queue = self.0.lock();
        if queue.closed || queue.bytes.len() >= LIMIT {
            self.0.drop_lines(queue, 1);
            return;
        }
        let Queue { bytes, time, .. } = &mut *queue;
        let before = bytes.len();
        let line = Line {
            time: time.at(record.time),
            record,
        };
        if serde_json::to_writer(&mut *bytes, &line).is_err() {
            // Only a `Display` that fails gets here; half a line must not stay.
            bytes.truncate(before);
            self.0.drop_lines(queue, 1);
            return;
        }
        bytes.push(b'\n');
        let after = bytes.len();
        queue.lines += 1;
        drop(queue);
        if before == 0 || (before < BATCH && after >= BATCH) {
            self.0.wake.notify_one();
        }
    }

    /// Writes what has been recorded and ends the log. Gives up after `limit`; what was not written then is counted as
    /// dropped. Later records are dropped.
    pub async fn close(&self, limit: Duration) {
        self.0.lock().closed = true;
        self.0.wake.notify_one();
        if tokio::time::timeout(limit, self.0.ended.cancelled())
            .await
            .is_err()
        {
            let mut queue = self.0.lock();
            let left = std::mem::take(&mut queue.lines);
            queue.bytes.clear();
            // The last chance to tell; whether somebody was told lately does not matter.
            queue.drops.told_at = None;
            self.0.drop_lines(queue, left);
        }
    }
}

impl Shared {
    /// The writer thread.
    fn write_until_closed(&self, mut writer: impl Write) {
        let mut batch = Vec::new();
        while let Some(lines) = self.next_batch(&mut batch) {
            let written = write_lines(&mut writer, &batch);
            let lost = lines.saturating_sub(written.complete_lines);
            if let Some(error) = written.error {
                tracing::debug!(%error, lost, "decision log: standard output refused lines");
            }
            if lost > 0 {
                self.drop_lines(self.lock(), lost);
            }
            batch.clear();
            batch.shrink_to(KEPT);
        }
        self.ended.cancel();
    }

    /// Waits for lines, then a moment for more, and takes them; says how many. `None` when the log is closed and empty.
    fn next_batch(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let queue = self.lock();
        let queue = self
            .wake
            .wait_while(queue, |queue| queue.bytes.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let (mut queue, _) = self
            .wake
            .wait_timeout_while(queue, LINGER, |queue| {
                queue.bytes.len() < BATCH && !queue.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        if queue.bytes.is_empty() {
            return None;
        }
        std::mem::swap(&mut queue.bytes, batch);
        Some(std::mem::take(&mut queue.lines))
    }

    /// Counts dropped lines, and warns about them now and then.
    fn drop_lines(&self, mut queue: MutexGuard<'_, Queue>, lines: u64) {
        self.dropped.inc_by(lines);
        let drops = &mut queue.drops;
        drops.untold += lines;
        if drops.untold == 0
            || drops
                .told_at
                .is_some_and(|told| told.elapsed() < WARN_EVERY)
        {
            return;
        }
        drops.told_at = Some(Instant::now());
        let dropped = std::mem::take(&mut drops.untold);
        drop(queue);
        tracing::warn!(
            dropped,
            "decisions are not logged: standard output is too slow or gone; calls go on"
        );
    }

    /// A panic of another thread cannot leave the queue half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("lines", &self.lines)
            .field("bytes", &self.bytes.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

struct Written {
    complete_lines: u64,
    error: Option<io::Error>,
}

/// Writes `bytes`, which end in a line feed; says how many lines went out whole.
fn write_lines(writer: &mut impl Write, bytes: &[u8]) -> Written {
    let mut rest = bytes;
    let mut complete_lines = 0;
    let error = loop {
        if rest.is_empty() {
            break writer.flush().err();
        }
        match writer.write(rest) {
            Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                let (sent, unsent) = rest.split_at(count.min(rest.len()));
                complete_lines += count_lines(sent);
                rest = unsent;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::park_timeout(RETRY);
            }
            Err(error) => break Some(error),
        }
    };
    Written {
        complete_lines,
        error,
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests;
