//! Runs the `git` program so that nothing in a repository can run anything else: no hooks, no helpers of the
//! repository's choosing, no prompts, within limits of time and output.

mod names;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Command;

use crate::subprocess::{self, Failure, Finished, Limits};

pub(crate) use names::{Branch, CommitId, Repository};

/// How long a command may take that only reads this machine's disk.
pub(crate) const LOCAL_TIME: Duration = Duration::from_secs(20);
/// How long a command may take that talks to another machine.
pub(crate) const REMOTE_TIME: Duration = Duration::from_secs(120);

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
        let finished = self.finish(call).await?;
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

    /// Runs one command whose exit status is an answer.
    pub(crate) async fn finish(&self, call: Call) -> Result<Finished, GitError> {
        let command = || call.name.to_owned();
        let limits = call.limits;
        let finished = subprocess::run(self.command(&call), &call.input, limits).await;
        finished.map_err(|failure| match failure {
            Failure::Missing => GitError::Missing {
                program: self.program.clone(),
            },
            Failure::Run(source) => GitError::Run {
                command: command(),
                source,
            },
            Failure::TimedOut => GitError::TimedOut {
                command: command(),
                limit: limits.time,
            },
            Failure::TooMuch => GitError::TooMuch {
                command: command(),
                limit: limits.output,
            },
        })
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
        for setting in &call.settings {
            command.arg("-c").arg(setting);
        }
        command.envs(call.variables.iter().map(|(name, value)| (name, value)));
        command.arg(call.name).args(&call.arguments);
        command
    }
}

/// One command of git.
pub(crate) struct Call {
    name: &'static str,
    directory: Option<PathBuf>,
    settings: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    arguments: Vec<OsString>,
    input: Vec<u8>,
    limits: Limits,
}

impl Call {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            directory: None,
            settings: Vec::new(),
            variables: Vec::new(),
            arguments: Vec::new(),
            input: Vec::new(),
            limits: Limits {
                time: LOCAL_TIME,
                output: 1 << 20,
            },
        }
    }

    /// Runs in this directory.
    pub(crate) fn at(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// A setting that outranks every configuration file, for this command.
    pub(crate) fn setting(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        self.settings.push(setting);
        self
    }

    /// A variable of this command's environment.
    pub(crate) fn variable(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name, value.as_ref().to_owned()));
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
        self.limits.time = limit;
        self
    }

    pub(crate) fn output_limit(mut self, bytes: u64) -> Self {
        self.limits.output = bytes;
        self
    }
}

/// Makes a bare repository of the control plane's own, unless it is there.
pub(crate) async fn make_bare(git: &Git, path: &Path, object_format: &str) -> Result<(), GitError> {
    let failed = |source: io::Error| GitError::Mirror {
        path: path.to_owned(),
        source,
    };
    if fs::exists(path.join("HEAD")).map_err(failed)? {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed)?;
    // No template: a template could hold hooks. `init` on a half that an earlier one left makes it whole.
    let call = Call::new("init").at(path);
    let call = call
        .args(["--quiet", "--bare", "--template="])
        .arg(format!("--object-format={object_format}"));
    git.run(call).await?;
    Ok(())
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
