//! A program under test, which does not outlive the test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running program. What it writes to stdout and stderr goes to files; when the test fails, stderr is shown.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    directory: PathBuf,
    /// Whether what it has started ends with it.
    leads_group: bool,
}

impl Program {
    /// Starts a program. `name` names its files in `directory`: `name.out` and `name.err`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        path: &Path,
        arguments: impl IntoIterator<Item = A>,
        directory: &Path,
    ) -> io::Result<Self> {
        let mut command = Command::new(path);
        command.args(arguments);
        Self::start_command(name, command, directory)
    }

    /// As [`Program::start`], with an environment and the like of its own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_command(name: &str, mut command: Command, directory: &Path) -> io::Result<Self> {
        let file = |suffix: &str| File::create(directory.join(format!("{name}.{suffix}")));
        let child = command
            .stdin(Stdio::null())
            .stdout(file("out")?)
            .stderr(file("err")?)
            .spawn()?;
        Ok(Self {
            name: name.to_owned(),
            child,
            directory: directory.to_owned(),
            leads_group: false,
        })
    }

    /// As [`Program::start_command`], for a script that starts the program proper: both end with the test. They are a process
    /// group of their own, and so hear nothing of Ctrl-C.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_group(name: &str, mut command: Command, directory: &Path) -> io::Result<Self> {
        command.process_group(0);
        let mut program = Self::start_command(name, command, directory)?;
        program.leads_group = true;
        Ok(program)
    }

    /// What the program has written to stderr so far.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn stderr(&self) -> io::Result<String> {
        std::fs::read_to_string(self.directory.join(format!("{}.err", self.name)))
    }

    /// What the program has written to stdout so far.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn stdout(&self) -> io::Result<String> {
        std::fs::read_to_string(self.directory.join(format!("{}.out", self.name)))
    }

    /// Asks the program to stop (SIGTERM).
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn ask_to_stop(&self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        Ok(kill(Pid::from_raw(pid), Signal::SIGTERM)?)
    }

    /// Asks the program to stop (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it cannot be asked or waited for.
    pub fn terminate(mut self) -> io::Result<ExitStatus> {
        self.ask_to_stop()?;
        self.child.wait()
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let (true, Ok(group)) = (self.leads_group, i32::try_from(self.child.id())) {
            let _ = kill(Pid::from_raw(-group), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Ok(text) = self.stderr()
        {
            let _ = writeln!(io::stderr(), "--- stderr of {}\n{text}", self.name);
        }
    }
}
