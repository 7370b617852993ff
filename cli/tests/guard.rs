//! The guard as a real process: nothing of what it runs outlives it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A command that starts a child in its own group and one that daemonises itself into a session of its
/// own, tells all three process IDs, and waits.
const FAMILY: &str = "sleep 1000 & a=$!; setsid sleep 1000 & b=$!; echo $$ $a $b; wait";

/// A guard and its lifeline, which `Child::wait` would close.
fn guard(script: &str) -> (Child, ChildStdin) {
    let mut guard = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["guard", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lifeline = guard.stdin.take().unwrap();
    (guard, lifeline)
}

/// The process IDs that the family tells.
fn family(guard: &mut Child) -> Vec<i32> {
    let mut line = String::new();
    BufReader::new(guard.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pids: Vec<i32> = line
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3, "{line}");
    assert!(pids.iter().all(|pid| alive(*pid)), "{line}");
    pids
}

/// Whether a process is there, and not merely waiting to be collected by a parent of no concern.
fn alive(pid: i32) -> bool {
    std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).is_ok_and(
        |stat| {
            !stat
                .rsplit(')')
                .next()
                .unwrap()
                .trim_start()
                .starts_with('Z')
        },
    )
}

fn wait_until_gone(pids: &[i32]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while pids.iter().any(|pid| alive(*pid)) {
        assert!(Instant::now() < deadline, "still alive: {pids:?}");
        std::thread::yield_now();
    }
}

fn signal(guard: &Child, signal: Signal) {
    kill(Pid::from_raw(guard.id().try_into().unwrap()), signal).unwrap();
}

#[test]
fn the_exit_status_is_passed_on() {
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 128 + 9)] {
        let (mut guard, _lifeline) = guard(script);
        assert_eq!(guard.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn what_cannot_be_run_is_told() {
    let mut guard = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["guard", "--", "/no/such/program"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut complaint = String::new();
    guard
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complaint)
        .unwrap();
    assert_eq!(guard.wait().unwrap().code(), Some(127));
    assert!(
        complaint.starts_with("cannot run /no/such/program: "),
        "{complaint}"
    );
}

#[test]
fn the_end_of_the_lifeline_kills_the_whole_family() {
    let (mut guard, lifeline) = guard(FAMILY);
    let pids = family(&mut guard);
    drop(lifeline);
    assert_eq!(guard.wait().unwrap().code(), Some(128 + 9));
    // The guard leaves last: when it is gone, so is everyone.
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}

#[test]
fn a_family_whose_head_has_ended_is_ended_too() {
    let (mut guard, _lifeline) = guard(&FAMILY.replace("wait", "read _ < /dev/null; exit 3"));
    let mut line = String::new();
    BufReader::new(guard.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pids: Vec<i32> = line
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(guard.wait().unwrap().code(), Some(3));
    assert!(pids.iter().all(|pid| !alive(*pid)), "{pids:?}");
}

#[test]
fn a_request_to_end_reaches_the_command() {
    let script = "trap 'echo asked; exit 5' TERM; echo $$ $$ $$; while :; do sleep 0.02; done";
    let (mut guard, _lifeline) = guard(script);
    let mut output = BufReader::new(guard.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    signal(&guard, Signal::SIGTERM);
    line.clear();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "asked\n");
    assert_eq!(guard.wait().unwrap().code(), Some(5));
}

#[test]
fn a_guard_that_is_killed_takes_its_command_along() {
    let (mut guard, _lifeline) = guard("echo $$ $$ $$; exec sleep 1000");
    let pids = family(&mut guard);
    signal(&guard, Signal::SIGKILL);
    assert_eq!(guard.wait().unwrap().signal(), Some(9));
    wait_until_gone(&pids);
}
