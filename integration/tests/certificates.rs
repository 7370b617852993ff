//! `countersign cert` with the real CA, real sidecars, and real parties that vouch for people, jobs, machines and pods.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails should fail where it stands"
)]

#[path = "certificates/issue.rs"]
mod issue;
#[path = "certificates/machine.rs"]
mod machine;
#[path = "certificates/sidecar.rs"]
mod sidecar;

use std::process::{Command, Stdio};

use countersign_integration::mesh::Mesh;
use countersign_integration::programs::program;
use serde_json::Value;

/// What a command did.
struct Done {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}", self.stderr))
    }
}

/// `countersign`, with nothing of the environment that could change its answer.
fn command(mesh: &Mesh, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("countersign").unwrap());
    command
        .args(arguments)
        .current_dir(mesh.path(""))
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_URL")
        .env_remove("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
        .env_remove("COUNTERSIGN_PASSWORD")
        .stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Done {
    let output = command.output().unwrap();
    Done {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The arguments of `cert issue` at the mesh's CA, with what proves who asks.
fn issue_arguments<'a>(ca: &'a str, proof: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["cert", "issue", "--ca", ca, "--bundle", "ca/bundle.pem"];
    arguments.extend(proof);
    arguments
}

/// `countersign cert issue` at the mesh's CA.
fn issue(mesh: &Mesh, proof: &[&str], environment: &[(&str, &str)]) -> Done {
    let ca = mesh.ca().to_string();
    let mut command = command(mesh, &issue_arguments(&ca, proof));
    command.envs(environment.iter().copied());
    run(command)
}

/// The kind of the last attestation in the issuance log, its detail, and the ID.
fn last_issued(mesh: &Mesh) -> (String, String, String) {
    let log = mesh.issuance_log().unwrap();
    let record = log.last().unwrap();
    let text = |pointer: &str| {
        record
            .pointer(pointer)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    (
        text("/attestation/kind"),
        text("/attestation/detail"),
        text("/spiffe_id"),
    )
}
