//! Processes as `/proc` shows them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

/// A process: its ID may be given to another one later, its start time tells them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// The first 15 characters of its program's name.
    pub(crate) name: String,
    parent: i32,
    started: u64,
}

/// All processes that are alive; those that only wait to be collected are not.
fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| process(entry.unwrap().file_name().to_str()?.parse().ok()?))
        .collect()
}

/// proc(5): `pid (name) state ppid …`, the start time being field 22.
fn process(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let state = fields.first()?;
    if *state == "Z" || *state == "X" {
        return None;
    }
    let (parent, started) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
    Some(Process {
        pid,
        name: name.to_owned(),
        parent,
        started,
    })
}

/// The children of a process, their children, and so on.
pub(crate) fn descendants(ancestor: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// Waits until a process has so many descendants.
pub(crate) fn wait_for_descendants(ancestor: i32, count: usize) -> Vec<Process> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let found = descendants(ancestor);
        if found.len() >= count {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{found:?} are fewer than {count}"
        );
        std::thread::yield_now();
    }
}

/// The most bytes of a core dump, soft and hard limit, as proc(5) tells them in `limits`.
pub(crate) fn core_limits(process: &Process) -> [String; 2] {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid)).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"));
    let mut words = line.unwrap().split_whitespace().map(str::to_owned);
    [words.next().unwrap(), words.next().unwrap()]
}

pub(crate) fn kill(process: &Process) {
    send(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
}

fn alive(processes: &[Process]) -> Vec<&Process> {
    let now: HashSet<(i32, u64)> = all().iter().map(|p| (p.pid, p.started)).collect();
    processes
        .iter()
        .filter(|p| now.contains(&(p.pid, p.started)))
        .collect()
}

pub(crate) fn assert_gone(processes: &[Process]) {
    let left = alive(processes);
    assert!(left.is_empty(), "still alive: {left:?}");
}

pub(crate) fn wait_until_gone(processes: &[Process]) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !alive(processes).is_empty() {
        assert!(
            Instant::now() < deadline,
            "still alive: {:?}",
            alive(processes)
        );
        std::thread::yield_now();
    }
}
