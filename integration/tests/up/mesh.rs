//! A mesh for a test: its directory, and `countersign up` on it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use countersign_integration::programs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A policy that allows one call, which nobody makes.
pub(crate) const POLICY: &str = "apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: one, namespace: shop}
spec:
  rules:
  - {name: nobody calls, action: allow, from: [{workload: shop/nobody}]}
";

/// Where the command is, with the programs it starts beside it.
fn program() -> PathBuf {
    for package in ["countersign-ca", "countersign-control", "countersign-proxy"] {
        programs::program(package).unwrap();
    }
    programs::program("countersign").unwrap()
}

/// Runs the command to its end.
pub(crate) fn countersign(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A directory with a mesh file and a policy.
pub(crate) struct Directory {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Directory {
    pub(crate) fn new(mesh: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mesh.yaml"), mesh).unwrap();
        std::fs::create_dir(directory.path().join("policy")).unwrap();
        let directory = Self {
            directory,
            program: program(),
        };
        directory.write_policy(POLICY);
        directory
    }

    pub(crate) fn mesh_file(&self) -> String {
        self.directory
            .path()
            .join("mesh.yaml")
            .display()
            .to_string()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn policy(&self) -> PathBuf {
        self.directory.path().join("policy")
    }

    pub(crate) fn write_policy(&self, text: &str) {
        std::fs::write(self.policy().join("policy.yaml"), text).unwrap();
    }

    /// Commits a policy on branch main; gives the commit.
    pub(crate) fn commit_policy(&self, text: &str) -> String {
        self.write_policy(text);
        let policy = self.policy();
        if !policy.join(".git").exists() {
            git(&policy, &["init", "--quiet", "--initial-branch=main"]);
        }
        git(&policy, &["add", "policy.yaml"]);
        let author = ["-c", "user.name=test", "-c", "user.email=test@up.test"];
        let commit = ["commit", "--quiet", "--no-gpg-sign", "--message=policy"];
        git(&policy, &[author.as_slice(), commit.as_slice()].concat());
        git(&policy, &["rev-parse", "HEAD"])
    }

    pub(crate) fn roots(&self) -> String {
        std::fs::read_to_string(self.state().join("ca/bundle.pem")).unwrap()
    }

    fn up_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["up", &self.mesh_file(), "-o", "json", "--state"])
            .arg(self.state());
        command.stdin(Stdio::null());
        command
    }

    /// Runs `up` where it is to fail at once; gives its exit status and what it says.
    pub(crate) fn up_fails(&self) -> (i32, String) {
        let output = self.up_command().output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A mesh that is up.
pub(crate) struct Up {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    /// How many of them a test has waited for, or past.
    passed: usize,
    state: PathBuf,
}

impl Up {
    /// Starts it and waits until it is up.
    pub(crate) fn start(directory: &Directory) -> Self {
        let mut child = directory
            .up_command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let events = events_of(child.stdout.take().unwrap());
        let mut up = Self {
            child,
            events,
            seen: Vec::new(),
            passed: 0,
            state: directory.state(),
        };
        up.wait_for(|event| event["event"] == "up");
        // What came before is for the test to wait for.
        up.passed = 0;
        up
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// `mesh.json`
    pub(crate) fn state(&self) -> Value {
        let text = std::fs::read(self.state.join("mesh.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Waits for an event after the one that was waited for last.
    pub(crate) fn wait_for(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(event) = self.seen.get(self.passed) {
                self.passed += 1;
                if is_it(event) {
                    return event.clone();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                let _ = self.child.kill();
                let mut stderr = String::new();
                self.child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut stderr)
                    .unwrap();
                panic!(
                    "the event did not come; there were {:#?}\n{stderr}",
                    self.seen
                );
            };
            self.seen.push(event);
        }
    }

    /// Stops it, which must succeed; gives all events there were.
    pub(crate) fn stop(mut self, signal: Signal) -> Vec<Value> {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
        let status = self.child.wait().unwrap();
        self.seen.extend(self.events.iter());
        assert_eq!(status.code(), Some(0), "{:#?}", self.seen);
        std::mem::take(&mut self.seen)
    }

    /// Kills it, so that it can do nothing any more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events that `up` prints, read as they come.
fn events_of(stdout: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(event) = serde_json::from_str(&line) else {
                break;
            };
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    receiver
}
