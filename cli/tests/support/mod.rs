//! A directory with policy, and the command that is asked about it.

// Every test program uses a part of it.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A policy with two rules, and an issuer.
pub(crate) const ORDERS: &str = r#"apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - name: web takes orders
    action: allow
    from: [{workload: shop/web}]
    to: [{ports: [8080], methods: [POST], paths: [/orders]}]
  - name: nobody deletes
    action: deny
    to: [{methods: [DELETE]}]
---
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.example, audiences: [shop]}
"#;

/// A call that ORDERS allows.
pub(crate) const ORDER: &str = r#"{"peer":"shop/web","destination":{"namespace":"shop","workload":"orders","port":8080},"request":{"method":"POST","path":"/orders"}}"#;

/// Some files, in a directory in which the command runs.
pub(crate) struct Place(TempDir);

/// What the command did.
pub(crate) struct Done {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// Runs `countersign policy …`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, "")
    }

    /// Runs `countersign policy …` with a text on standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Done {
        let mut child = command(self.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        // By a thread of its own: neither side may wait for the other with a full pipe.
        let writer = std::thread::spawn(move || {
            // Who does not read it all closes the pipe.
            let _ = stdin.write_all(input.as_bytes());
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Done {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// `countersign policy`, with nothing of the environment that could change its answer.
pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .arg("policy")
        .current_dir(directory)
        .env_remove("COUNTERSIGN_TRUST_DOMAIN");
    command
}

impl Done {
    /// Standard output, of a command that ended with `status`.
    pub(crate) fn with_status(&self, status: i32) -> &str {
        assert_eq!(self.status, status, "{}\n{}", self.stdout, self.stderr);
        &self.stdout
    }

    /// Standard output as JSON, of a command that ended with `status`.
    pub(crate) fn json(&self, status: i32) -> serde_json::Value {
        serde_json::from_str(self.with_status(status)).unwrap()
    }
}
