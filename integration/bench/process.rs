//! A measured process: what it has cost, and how large it is.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A child that is stopped when it is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
}

/// A process that could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The program could not be run at all.
    #[error("{program} could not be started: {source}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// What it said is in its log.
    #[error("{what} is not ready after {} s; its log says:\n{log}", after.as_secs())]
    NotReady {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// The end of the process's log.
        log: String,
    },
    /// A file of the benchmark's directory, or of /proc.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Memory of a process, in KiB, from `/proc/PID/smaps_rollup`.
#[derive(Clone, Copy, serde::Serialize)]
pub(crate) struct Memory {
    /// Everything resident, the pages shared with other processes included.
    pub(crate) resident_kib: u64,
    /// What only this process has.
    pub(crate) private_kib: u64,
}

impl Process {
    /// Starts a program with its output in `DIRECTORY/NAME.log` (standard output is discarded, as a benchmark has no
    /// use for a log line per request, but it is written).
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        directory: &Path,
    ) -> Result<Self, ProcessError> {
        let path = directory.join(format!("{name}.log"));
        let log = File::create(&path).map_err(|source| file_error(&path, source))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|source| ProcessError::Start {
                program: command.get_program().to_string_lossy().into_owned(),
                source,
            })?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// What the report calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Processor time used so far by all of its threads.
    ///
    /// The scheduler counts nanoseconds (`/proc/PID/task/*/schedstat`), where `/proc/PID/stat` counts hundredths of a second.
    pub(crate) fn cpu(&self) -> Result<Duration, ProcessError> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = Path::new(&tasks);
        let mut total = 0;
        for task in fs::read_dir(tasks).map_err(|source| file_error(tasks, source))? {
            let path = task
                .map_err(|source| file_error(tasks, source))?
                .path()
                .join("schedstat");
            // A thread may end between the listing and the reading.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let nanoseconds = text
                .split(' ')
                .next()
                .and_then(|field| field.parse::<u64>().ok());
            total += nanoseconds.ok_or_else(|| {
                file_error(
                    &path,
                    io::Error::new(io::ErrorKind::InvalidData, text.clone()),
                )
            })?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Its memory now.
    pub(crate) fn memory(&self) -> Result<Memory, ProcessError> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let path = Path::new(&path);
        let text = fs::read_to_string(path).map_err(|source| file_error(path, source))?;
        let field = |name: &str| -> u64 {
            text.lines()
                .filter_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"))
                .filter_map(|number| number.trim().parse::<u64>().ok())
                .sum()
        };
        Ok(Memory {
            resident_kib: field("Rss:"),
            private_kib: field("Private_Clean:") + field("Private_Dirty:"),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let patience = Duration::from_secs(3);
        let child = &mut self.child;
        if !poll(patience, || {
            matches!(child.try_wait(), Ok(Some(_)) | Err(_))
        }) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until `ready` says so, or fails with what the process has logged.
pub(crate) fn wait_until(
    what: &str,
    log: &Path,
    ready: impl FnMut() -> bool,
) -> Result<(), ProcessError> {
    let patience = Duration::from_secs(20);
    if poll(patience, ready) {
        return Ok(());
    }
    let log = fs::read_to_string(log).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(10).collect();
    let log = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(ProcessError::NotReady {
        what: what.to_owned(),
        after: patience,
        log,
    })
}

fn poll(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > patience {
            return false;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the pause between two looks at another process, which cannot call back"
        )]
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// An address that nobody listens on at the moment.
pub(crate) fn free_address() -> Result<SocketAddr, ProcessError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| file_error(Path::new("127.0.0.1:0"), source))
}

/// Writes a file of the benchmark's directory.
pub(crate) fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<(), ProcessError> {
    fs::write(path, contents).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: io::Error) -> ProcessError {
    ProcessError::File {
        path: path.display().to_string(),
        source,
    }
}
