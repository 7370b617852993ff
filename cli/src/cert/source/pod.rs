//! A pod's sidecar, found by `kubectl`: whatever reaches the cluster for the user reaches it for us.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::super::text::shown_up_to;
use super::found::{Found, Group, Kind, Remark};
use super::handshake::{self, Client, HandshakeError};

/// The sidecar's mutual-TLS port.
const WIRE_PORT: u16 = 15008;
/// How long to try the pod's own address. Most who type this are outside of the cluster's network.
const DIRECT_PATIENCE: Duration = Duration::from_secs(2);
const FORWARDED_PATIENCE: Duration = Duration::from_secs(10);

/// Why a pod's certificate cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    #[error(
        "{0}: no such file; for the pod of that name `kubectl` is needed, with access to the cluster, and there is none in the PATH"
    )]
    NoKubectl(String),
    #[error("cannot run kubectl")]
    Run(#[source] io::Error),
    #[error("{target}: no such file; and as a pod, kubectl does not find it: {reason}")]
    NotFound { target: String, reason: String },
    #[error("{target}: kubectl's answer is not a pod: {source}")]
    Answer {
        target: String,
        source: serde_json::Error,
    },
    #[error("pod {target} has no address: it is {phase}")]
    NoAddress { target: String, phase: String },
    #[error(
        "pod {target}: neither {address} nor `kubectl port-forward` leads to its sidecar on port {WIRE_PORT} ({direct}; {reason}); has the pod a sidecar?"
    )]
    Unreachable {
        target: String,
        address: String,
        direct: String,
        reason: String,
    },
    #[error("pod {target}: {source}")]
    Handshake {
        target: String,
        source: HandshakeError,
    },
}

/// Whether a target can be `namespace/pod`: two names of Kubernetes (RFC 1123).
pub(super) fn names(target: &str) -> Option<(&str, &str)> {
    let (namespace, pod) = target.split_once('/')?;
    let is_name = |name: &str| {
        !name.is_empty()
            && name.len() <= 253
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
    };
    (is_name(namespace) && is_name(pod)).then_some((namespace, pod))
}

/// Gets the certificates that a pod's sidecar presents: by the pod's own address if it can be reached
/// from here, else through the API server.
pub(super) fn present(namespace: &str, pod: &str, client: &Client) -> Result<Found, PodError> {
    let target = format!("{namespace}/{pod}");
    let address = address(&target, namespace, pod)?;
    let (direct, remark) = match handshake::present(&address, WIRE_PORT, client, DIRECT_PATIENCE) {
        Ok(presented) => (Ok(presented), None),
        Err(HandshakeError::Connect { source, .. }) => {
            let forward =
                Forward::start(namespace, pod).map_err(|reason| PodError::Unreachable {
                    target: target.clone(),
                    address: address.clone(),
                    direct: source.to_string(),
                    reason,
                })?;
            let presented =
                handshake::present("127.0.0.1", forward.port, client, FORWARDED_PATIENCE);
            let remark = "reached through `kubectl port-forward`".to_owned();
            (presented, Some(Remark::Note(remark)))
        }
        Err(other) => (Err(other), None),
    };
    let (certificates, connection) = direct.map_err(|source| PodError::Handshake {
        target: target.clone(),
        source,
    })?;
    Ok(Found {
        origin: format!("pod {target}"),
        form: "TLS handshake",
        groups: vec![Group::new(None, Kind::Chain, certificates)],
        connection: Some(connection),
        remarks: remark.into_iter().collect(),
        exposed_mode: None,
    })
}

fn address(target: &str, namespace: &str, pod: &str) -> Result<String, PodError> {
    let output = kubectl(&[
        "get",
        "pod",
        "--namespace",
        namespace,
        "-o",
        "json",
        "--",
        pod,
    ])
    .output()
    .map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PodError::NoKubectl(target.to_owned()),
        _ => PodError::Run(error),
    })?;
    if !output.status.success() {
        return Err(PodError::NotFound {
            target: target.to_owned(),
            reason: complaint(&output),
        });
    }
    let answer: Value =
        serde_json::from_slice(&output.stdout).map_err(|source| PodError::Answer {
            target: target.to_owned(),
            source,
        })?;
    let status = |field: &str| answer.pointer(field).and_then(Value::as_str);
    match status("/status/podIP") {
        Some(address) => Ok(address.to_owned()),
        None => Err(PodError::NoAddress {
            target: target.to_owned(),
            phase: shown_up_to(status("/status/phase").unwrap_or("unknown"), 40),
        }),
    }
}

fn kubectl(arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .arg("--request-timeout=10s")
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn complaint(output: &Output) -> String {
    // What kubectl says to people comes last, after what it says to itself.
    let text = String::from_utf8_lossy(&output.stderr);
    shown_up_to(text.trim().lines().last().unwrap_or_default(), 300)
}

/// A running `kubectl port-forward`; it ends with this.
struct Forward {
    child: Child,
    port: u16,
}

impl Forward {
    fn start(namespace: &str, pod: &str) -> Result<Self, String> {
        let mut child = Command::new("kubectl")
            .args(["port-forward", "--namespace", namespace])
            .arg(format!("pod/{pod}"))
            .arg(format!(":{WIRE_PORT}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("kubectl port-forward does not start: {error}"))?;
        let stdout = child.stdout.take();
        let mut forward = Self { child, port: 0 };
        // "Forwarding from 127.0.0.1:40321 -> 15008", or the end of the output.
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let port = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|port| port.parse().ok());
        match port {
            Some(port) => {
                forward.port = port;
                Ok(forward)
            }
            None => {
                let _ = forward.child.kill();
                let mut complaint = Vec::new();
                if let Some(stderr) = forward.child.stderr.take() {
                    let _ = stderr.take(4096).read_to_end(&mut complaint);
                }
                let text = String::from_utf8_lossy(&complaint);
                Err(shown_up_to(text.trim(), 300))
            }
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn only_names_of_kubernetes_are_pods() {
        assert_eq!(names("shop/orders-0"), Some(("shop", "orders-0")));
        for other in [
            "orders",
            "/orders",
            "shop/",
            "shop/-A",
            "--all/x",
            "./orders",
            "../x",
            "no/such/file",
            "Shop/orders",
            "shop/orders pem",
        ] {
            assert_eq!(names(other), None, "{other}");
        }
    }
}
