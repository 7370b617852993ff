//! `countersign guard -- COMMAND…`: runs one command, and lets nothing of it outlive `countersign up`.
//!
//! Three processes stand in a row: `up` → guard → command. The guard's standard input is a pipe whose
//! other end only `up` holds, so its end of file means, however `up` died, that `up` is gone. The guard
//! is a child subreaper: whatever the command starts stays among the guard's descendants, even what
//! daemonises itself, and can be found and killed. Should the guard itself be killed, the kernel kills
//! the command (`PR_SET_PDEATHSIG`); that setting must be made between fork and exec, which needs no
//! `unsafe` if the process in between is this very program (`guard --become`).

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid, setsid};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::GuardArguments;

/// The shell's word for "found, but cannot be run" and "not found".
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Runs the guard, or becomes the guarded command.
pub(crate) fn run(arguments: &GuardArguments) -> ExitCode {
    let Some((program, rest)) = arguments.command.split_first() else {
        return complain("a guard needs a command", CANNOT_RUN);
    };
    match arguments.r#become {
        Some(guard) => become_command(Pid::from_raw(guard), program, rest),
        None => match watch(program, rest) {
            Ok(code) => code,
            Err(error) => complain(
                &format!("cannot guard {}: {error}", show(program)),
                CANNOT_RUN,
            ),
        },
    }
}

/// This program, to be run again; also if it was replaced on disk since it was started.
pub(crate) fn itself() -> PathBuf {
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

/// Turns this process into the command: tied to its guard's life, leader of a session of its own.
fn become_command(guard: Pid, program: &OsString, arguments: &[OsString]) -> ExitCode {
    let tied = prctl::set_pdeathsig(Signal::SIGKILL).and_then(|()| {
        // The guard may have died before the tie was made.
        if getppid() == guard {
            setsid().map(drop)
        } else {
            Err(Errno::ESRCH)
        }
    });
    if let Err(error) = tied {
        return complain(
            &format!("cannot tie {} to its guard: {error}", show(program)),
            CANNOT_RUN,
        );
    }
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        CANNOT_RUN
    };
    complain(&format!("cannot run {}: {error}", show(program)), code)
}

/// Starts the command and stays until it and all its descendants are gone.
fn watch(program: &OsString, arguments: &[OsString]) -> io::Result<ExitCode> {
    prctl::set_child_subreaper(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ending = runtime.block_on(async {
        let mut children = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let lifeline = io::stdin().as_fd().try_clone_to_owned()?;
        let mut lifeline = pipe::Receiver::from_owned_fd(lifeline)?;

        let command = start(program, arguments)?;
        let mut ignored = [0_u8; 64];
        loop {
            tokio::select! {
                _ = children.recv() => {
                    if let Some(status) = reap(command)? {
                        return Ok(status);
                    }
                }
                _ = terminate.recv() => send(command, Signal::SIGTERM),
                _ = interrupt.recv() => send(command, Signal::SIGINT),
                read = lifeline.read(&mut ignored) => {
                    if !matches!(read, Ok(1..)) {
                        return Ok(ExitStatus::from_raw(Signal::SIGKILL as i32));
                    }
                }
            }
        }
    });
    // Whatever happened, and even if the guard failed half-way: nothing stays behind.
    kill_descendants()?;
    ending.map(exit_code)
}

/// Starts the command, by way of [`become_command`].
fn start(program: &OsString, arguments: &[OsString]) -> io::Result<Pid> {
    let child = Command::new(itself())
        .args(["guard", "--become", &getpid().to_string(), "--"])
        .arg(program)
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()?;
    i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(io::Error::other)
}

/// Signals the command's process group; before the command has made it, the command alone.
fn send(command: Pid, signal: Signal) {
    // Not found is no failure: the command has just ended, and SIGCHLD says so next.
    if killpg(command, signal).is_err() {
        let _ = kill(command, signal);
    }
}

/// Collects every child that has ended, the command's orphans too; gives the command's own status.
fn reap(command: Pid) -> io::Result<Option<ExitStatus>> {
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::from_raw(code << 8)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::from_raw(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        if pid == command {
            return Ok(Some(status));
        }
    }
}

/// Kills descendants until none is left. Killing a parent makes its children ours, so every round
/// reaches one generation deeper, and ends only when the kernel knows of no child any more.
fn kill_descendants() -> io::Result<()> {
    loop {
        for child in children_of(getpid())? {
            send(child, Signal::SIGKILL);
        }
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The direct children of a process, as `/proc` tells.
fn children_of(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end while we look.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if parent_in(&stat) == Some(parent) {
            children.push(Pid::from_raw(pid));
        }
    }
    Ok(children)
}

/// The parent's process ID in a line of `/proc/PID/stat` (proc(5)): `pid (name) state ppid …`.
/// The name may hold anything, parentheses and spaces included; the last `)` ends it.
fn parent_in(stat: &str) -> Option<Pid> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
        .map(Pid::from_raw)
}

/// The shell's convention: the exit code, or 128 and the number of the signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(u8::MAX),
    )
}

fn show(program: &OsString) -> std::path::Display<'_> {
    Path::new(program).display()
}

/// The guard's stderr is the command's, so that `up` finds the complaint among its last lines.
fn complain(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "{message}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_is_found_behind_a_name_with_parentheses() {
        assert_eq!(
            parent_in("42 (a) R 1 (x) S 7 42 42 0"),
            Some(Pid::from_raw(7))
        );
        assert_eq!(parent_in("42 (sh) S 41 42 42 0"), Some(Pid::from_raw(41)));
        assert_eq!(parent_in("garbage"), None);
    }

    #[test]
    fn own_parent_knows_this_process() {
        assert!(children_of(getppid()).unwrap().contains(&getpid()));
    }
}
