//! One child process of `up`, behind its guard: start, output, end.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::guard;
use crate::output::printable;

/// How many of a child's last lines are kept for the case that it dies.
const KEPT_LINES: usize = 12;

/// The longest part of a line that is kept, in characters.
const KEPT_LINE_LENGTH: usize = 400;

/// A longer line of a child is cut into several, so that it cannot fill the memory. Bytes.
const LONGEST_LINE: u64 = 64 << 10;

/// How long a guard may take to kill everything after its lifeline was cut.
const KILL_TIME: Duration = Duration::from_secs(5);

/// How to start a child.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) directory: PathBuf,
    /// What it prints goes here.
    pub(crate) log: PathBuf,
}

/// A child that has been started. Dropping it kills it and all it has started.
pub(crate) struct Process {
    guard: Child,
    /// While this is open, the guard knows that `up` is alive.
    lifeline: Option<ChildStdin>,
    tail: Tail,
    readers: Vec<JoinHandle<()>>,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// "exit status 2", "killed by SIGKILL".
    pub(crate) how: String,
    /// Its last lines, oldest first.
    pub(crate) last_lines: Vec<String>,
}

impl Launch {
    /// Starts the child. Lines of its standard output that `lines` takes are kept out of the log.
    pub(crate) fn start(
        &self,
        lines: Option<mpsc::UnboundedSender<String>>,
    ) -> io::Result<Process> {
        let log = Arc::new(File::options().create(true).append(true).open(&self.log)?);
        let mut guard = Command::new(guard::itself())
            .args(["guard", "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .envs(&self.environment)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C on the terminal is for `up` alone, which then stops its children in order.
            .process_group(0)
            .spawn()?;
        let tail = Tail::default();
        let mut readers = Vec::new();
        if let Some(stderr) = guard.stderr.take() {
            let sink = Sink {
                log: Arc::clone(&log),
                tail: tail.clone(),
                lines: None,
            };
            readers.push(tokio::spawn(sink.follow(stderr)));
        }
        if let Some(stdout) = guard.stdout.take() {
            let sink = Sink {
                log,
                tail: tail.clone(),
                lines,
            };
            readers.push(tokio::spawn(sink.follow(stdout)));
        }
        let lifeline = guard.stdin.take();
        Ok(Process {
            guard,
            lifeline,
            tail,
            readers,
        })
    }
}

impl Process {
    /// Waits until the child and everything it has started is gone.
    pub(crate) async fn ended(&mut self) -> Ending {
        let status = self.guard.wait().await;
        // All writers are gone, so the readers come to their end. Each is given up only when it has, so
        // that whoever stops waiting here can wait again.
        while let Some(reader) = self.readers.last_mut() {
            let _ = reader.await;
            self.readers.pop();
        }
        Ending {
            how: status.map_or_else(
                |error| error.to_string(),
                |status| Status(status).to_string(),
            ),
            last_lines: self.tail.lines(),
        }
    }

    /// Asks the child to end, gives it `grace`, then kills it and everything it has started.
    pub(crate) async fn stop(&mut self, grace: Duration) -> Ending {
        self.signal(Signal::SIGTERM);
        if let Ok(ending) = tokio::time::timeout(grace, self.ended()).await {
            return ending;
        }
        self.lifeline = None;
        if let Ok(ending) = tokio::time::timeout(KILL_TIME, self.ended()).await {
            return ending;
        }
        self.signal(Signal::SIGKILL);
        self.ended().await
    }

    /// The last lines it has printed so far.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.tail.lines()
    }

    fn signal(&self, signal: Signal) {
        // Without an ID it has ended already, and has been waited for.
        if let Some(pid) = self.guard.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// An exit status as people say it. A guard passes on its command's end as shells do.
struct Status(ExitStatus);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code() {
            Some(code) => match Signal::try_from(code.saturating_sub(128)) {
                Ok(signal) if code > 128 => write!(f, "killed by {signal}"),
                _ => write!(f, "exit status {code}"),
            },
            None => write!(f, "its guard was killed ({})", self.0),
        }
    }
}

/// The last lines of a child.
#[derive(Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(printable(line).chars().take(KEPT_LINE_LENGTH).collect());
    }

    fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

/// Where a stream of lines goes.
struct Sink {
    log: Arc<File>,
    tail: Tail,
    lines: Option<mpsc::UnboundedSender<String>>,
}

impl Sink {
    async fn follow(self, stream: impl AsyncRead + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        // A stream that cannot be read any more is at its end.
        while matches!(
            (&mut stream)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .await,
            Ok(1..)
        ) {
            // A full disk must not stop the child: the line is still shown.
            let _ = (&*self.log).write_all(&line);
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            match &self.lines {
                Some(lines) if text.starts_with('{') => {
                    // Nobody listens any more when `up` is on its way out.
                    let _ = lines.send(text.to_owned());
                }
                _ => self.tail.push(text),
            }
            line.clear();
        }
    }
}
