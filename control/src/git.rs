//! Runs the `git` program so that nothing in a repository can run anything else: no hooks, no helpers of the
//! repository's choosing, no prompts, within limits of time and output.

mod names;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

pub(crate) use names::{Branch, CommitId, Repository};

/// How long a command may take that only reads this machine's disk.
pub(crate) const LOCAL_TIME: Duration = Duration::from_secs(20);
/// How long a command may take that talks to another machine.
pub(crate) const REMOTE_TIME: Duration = Duration::from_secs(120);
/// How much of a command's error output is kept.
const STDERR_LIMIT: u64 = 64 << 10;

/// Settings that outrank every configuration file, the repository's own included.
const SETTINGS: [&str; 7] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "protocol.ext.allow=never",
    "submodule.recurse=false",
    "fetch.fsckObjects=true",
    // What outlives the command would outlive its time limit, too.
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
];

/// Variables that steer git and are the operator's to set. All others named `GIT_…` are withheld: they would point git
/// at another repository when the control plane is started from a hook.
const KEPT_VARIABLES: [&str; 6] = [
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
];

/// A command of git that did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error(
        "the program {program:?} was not found; policy is followed with git, so install it (Debian, Ubuntu: apt install git; \
         Fedora: dnf install git; Alpine: apk add git), or let policy.repository name a plain directory"
    )]
    Missing { program: OsString },
    #[error("cannot run git {command}: {source}")]
    Run { command: String, source: io::Error },
    #[error("git {command} was not done after {} s and was stopped", limit.as_secs())]
    TimedOut { command: String, limit: Duration },
    #[error("git {command} wrote more than the {limit} bytes that are read of it")]
    TooMuch { command: String, limit: u64 },
    #[error("git {command} failed ({status}): {stderr}")]
    Failed {
        command: String,
        status: ExitStatus,
        stderr: String,
    },
    #[error("git {command} answered what was not expected: {detail}")]
    Answer { command: String, detail: String },
    #[error("{repository} has no branch {branch}, or the branch has no commit yet")]
    NoBranch {
        repository: Repository,
        branch: Branch,
    },
    #[error("{} of the policy mirror: {source}", path.display())]
    Mirror { path: PathBuf, source: io::Error },
}

/// The `git` program.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    program: OsString,
}

impl Default for Git {
    fn default() -> Self {
        Self {
            program: OsString::from("git"),
        }
    }
}

impl Git {
    /// Another program in git's place.
    #[cfg(test)]
    pub(crate) fn at(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
        }
    }

    /// The commit at the tip of a branch; for a remote by asking it, without fetching.
    pub(crate) async fn tip(
        &self,
        repository: &Repository,
        branch: &Branch,
    ) -> Result<CommitId, GitError> {
        let reference = branch.reference();
        let mut call = Call::new("ls-remote")
            .args(["--quiet", "--"])
            .arg(repository.as_argument());
        call = call.arg(&reference).limit(repository.time_limit());
        let output = self
            .run(call)
            .await
            .map_err(|error| repository.redact(error))?;
        let text = String::from_utf8_lossy(&output);
        // The pattern also matches references that end with it, such as refs/remotes/origin/refs/heads/main.
        let line = text.lines().find_map(|line| {
            let (id, name) = line.split_once('\t')?;
            (name == reference).then_some(id)
        });
        match line {
            Some(id) => {
                CommitId::parse(id).ok_or_else(|| answer("ls-remote", "expected a commit ID", id))
            }
            None => Err(GitError::NoBranch {
                repository: repository.clone(),
                branch: branch.clone(),
            }),
        }
    }

    /// The directory where a repository of this machine keeps its branches: the common one, if `work_tree` is one
    /// of several.
    pub(crate) async fn common_directory(&self, work_tree: &Path) -> Result<PathBuf, GitError> {
        let call = Call::new("rev-parse")
            .at(work_tree)
            .args(["--git-common-dir"]);
        let output = self.run(call).await?;
        let path = String::from_utf8(output)
            .map_err(|_| answer("rev-parse", "expected a UTF-8 path", ""))?;
        Ok(work_tree.join(path.trim_end_matches('\n')))
    }

    /// Runs one command and returns what it wrote. Dropping the future stops the command and all that it started.
    pub(crate) async fn run(&self, call: Call) -> Result<Vec<u8>, GitError> {
        let name = call.name;
        let failed = |source| GitError::Run {
            command: name.to_owned(),
            source,
        };
        let child = self
            .command(&call)
            .spawn()
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => GitError::Missing {
                    program: self.program.clone(),
                },
                _ => failed(source),
            })?;
        let mut group = Group::of(child);
        let finished =
            tokio::time::timeout(call.limit, group.finish(call.input, call.output_limit)).await;
        let Ok(finished) = finished else {
            return Err(GitError::TimedOut {
                command: name.to_owned(),
                limit: call.limit,
            });
        };
        let finished = finished.map_err(failed)?;
        if finished.too_much {
            return Err(GitError::TooMuch {
                command: name.to_owned(),
                limit: call.output_limit,
            });
        }
        if !finished.status.success() {
            let stderr = String::from_utf8_lossy(&finished.stderr).trim().to_owned();
            return Err(GitError::Failed {
                command: name.to_owned(),
                status: finished.status,
                stderr,
            });
        }
        Ok(finished.stdout)
    }

    fn command(&self, call: &Call) -> Command {
        let mut command = Command::new(&self.program);
        for (variable, _) in std::env::vars_os() {
            let steers_git = variable
                .to_str()
                .is_some_and(|name| name.starts_with("GIT_"));
            let kept = KEPT_VARIABLES.iter().any(|kept| variable == *kept);
            if steers_git && !kept {
                command.env_remove(variable);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("GIT_ALLOW_PROTOCOL", "file:https:ssh")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0");
        if let Some(directory) = &call.directory {
            command.arg("-C").arg(directory);
        }
        for setting in SETTINGS {
            command.arg("-c").arg(setting);
        }
        command.arg(call.name).args(&call.arguments);
        // A group of its own, so that what git starts (ssh, remote helpers) is stopped with it.
        command.process_group(0).kill_on_drop(true);
        let stdin = if call.input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        };
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// One command of git.
pub(crate) struct Call {
    name: &'static str,
    directory: Option<PathBuf>,
    arguments: Vec<OsString>,
    input: Vec<u8>,
    limit: Duration,
    output_limit: u64,
}

impl Call {
    pub(crate) fn new(name: &'static str) -> Self {
        let (directory, arguments, input) = (None, Vec::new(), Vec::new());
        Self {
            name,
            directory,
            arguments,
            input,
            limit: LOCAL_TIME,
            output_limit: 1 << 20,
        }
    }

    /// Runs in this directory.
    pub(crate) fn at(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = A>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// What the command reads on its standard input.
    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn output_limit(mut self, bytes: u64) -> Self {
        self.output_limit = bytes;
        self
    }
}

/// A running command with everything it started; stopped when dropped before it ended.
struct Group {
    child: Child,
    running: Option<Pid>,
}

struct Finished {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    too_much: bool,
}

impl Group {
    fn of(child: Child) -> Self {
        let running = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Self { child, running }
    }

    /// Feeds and reads the command until it ends, or writes more than `limit` bytes.
    async fn finish(&mut self, input: Vec<u8>, limit: u64) -> io::Result<Finished> {
        let stdin = self.child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A command that ends without reading everything is judged by its status.
                let _ = stdin.write_all(&input).await;
            }
        };
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let ((), stdout, stderr) = tokio::join!(
            feed,
            read_to(stdout, limit + 1),
            read_to(stderr, STDERR_LIMIT)
        );
        let (stdout, stderr) = (stdout?, stderr?);
        let too_much = stdout.len() as u64 > limit;
        let status = self.child.wait().await?;
        self.running = None;
        Ok(Finished {
            status,
            stdout,
            stderr,
            too_much,
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

/// Reads up to `limit` bytes, then closes the pipe, so that a command that writes on is ended by it.
async fn read_to(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// The answer of a command that cannot be read; at most a little of it is repeated.
pub(crate) fn answer(command: &str, expected: &str, got: &str) -> GitError {
    let got: String = got.chars().take(80).collect();
    GitError::Answer {
        command: command.to_owned(),
        detail: format!("{expected}, got {got:?}"),
    }
}

#[cfg(test)]
mod tests;
