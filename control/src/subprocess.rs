//! Runs another program within limits of time and output, and stops it with everything that it started.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How much of a program's error output is kept.
const STDERR_LIMIT: u64 = 64 << 10;

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From its start to its end.
    pub(crate) time: Duration,
    /// How much it may write to its standard output, in bytes.
    pub(crate) output: u64,
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The first part of it, should it be long.
    pub(crate) stderr: Vec<u8>,
}

/// Why a program did not finish.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There is no such program.
    Missing,
    Run(io::Error),
    /// It was stopped at its limit.
    TimedOut,
    TooMuch,
}

/// Runs a program. Dropping the future stops the program and all that it started.
pub(crate) async fn run(
    mut command: Command,
    input: &[u8],
    limits: Limits,
) -> Result<Finished, Failure> {
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    // A group of its own, so that what it starts (ssh, remote helpers) is stopped with it.
    command.process_group(0).kill_on_drop(true);
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Failure::Missing,
        _ => Failure::Run(source),
    })?;
    let mut group = Group::of(child);
    let finished = tokio::time::timeout(limits.time, group.finish(input, limits.output)).await;
    let finished = finished
        .map_err(|_| Failure::TimedOut)?
        .map_err(Failure::Run)?;
    if finished.stdout.len() as u64 > limits.output {
        return Err(Failure::TooMuch);
    }
    Ok(finished)
}

/// A running program with everything it started; stopped when dropped before it ended.
struct Group {
    child: Child,
    running: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let running = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Self { child, running }
    }

    /// Feeds and reads the program until it ends, or has written more than `limit` bytes.
    async fn finish(&mut self, input: &[u8], limit: u64) -> io::Result<Finished> {
        let stdin = self.child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program that ends without reading everything is judged by its status.
                let _ = stdin.write_all(input).await;
            }
        };
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let ((), stdout, stderr) = tokio::join!(
            feed,
            read_to(stdout, limit + 1),
            read_to(stderr, STDERR_LIMIT)
        );
        let (stdout, stderr) = (stdout?, stderr?);
        let status = self.child.wait().await?;
        self.running = None;
        Ok(Finished {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.running {
            // Not reaped yet, so the number is still this group's.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

/// Reads up to `limit` bytes, then closes the pipe, so that a program that writes on is ended by it.
async fn read_to(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
