//! The mesh of the demo: `countersign up` as a child, in a directory of its own.

use std::{
    env,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use countersign_identity::{SpiffeId, TrustDomain};
use hyper::Method;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    git::{GitError, Repository},
    http::{Ask, ask},
    wait,
};

/// Five sidecars on a busy machine take a while to have their first certificate.
const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// A mesh that is up. Dropping it kills it; [`Mesh::stop`] is the polite way.
pub(crate) struct Mesh {
    pub(crate) addresses: Addresses,
    pub(crate) policy: Repository,
    pub(crate) state: PathBuf,
    place: TempDir,
    countersign: PathBuf,
    up: Child,
}

/// What the demo needs of `mesh.json`.
#[derive(Deserialize)]
pub(crate) struct Addresses {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) bundle: PathBuf,
    control: Control,
    workloads: Vec<Workload>,
}

#[derive(Deserialize)]
struct Control {
    ops: SocketAddr,
}

/// A workload and its sidecar.
#[derive(Deserialize)]
pub(crate) struct Workload {
    name: String,
    pub(crate) spiffe_id: SpiffeId,
    ip: Ipv4Addr,
    ports: Vec<u16>,
    /// Where its sidecar takes mutual TLS.
    pub(crate) wire: SocketAddr,
    sidecar_ops: SocketAddr,
    outbound: Vec<Outbound>,
}

#[derive(Deserialize)]
struct Outbound {
    service: String,
    listen: SocketAddr,
}

/// Why there is no mesh to demonstrate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshError {
    #[error("the directory of this program is not known")]
    Executable(#[source] io::Error),
    #[error("{}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("{} cannot be run; build it with `cargo build --workspace`", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error("`countersign up` ended before the mesh was ready; it said:\n{said}")]
    Ended { said: String },
    #[error("the mesh was not ready after {} s; `countersign up` said:\n{said}", START_PATIENCE.as_secs())]
    Slow { said: String },
    #[error("mesh.json is not as expected")]
    Addresses(#[source] serde_json::Error),
    #[error("the mesh has no {0}")]
    Absent(String),
    #[error("`countersign token mint` failed: {0}")]
    Mint(String),
    #[error("`countersign up` did not stop by itself within {} s", STOP_PATIENCE.as_secs())]
    Stop,
}

impl Mesh {
    /// Copies the example to a directory of its own, makes its policy a git repository, and starts it.
    pub(crate) async fn start(example: &Path) -> Result<Self, MeshError> {
        let failed = |path: &Path, source| MeshError::File {
            path: path.to_owned(),
            source,
        };
        let here = env::current_exe().map_err(MeshError::Executable)?;
        let countersign = here.with_file_name("countersign");
        let place = tempfile::Builder::new()
            .prefix("countersign-demo-")
            .tempdir()
            .map_err(|error| failed(&env::temp_dir(), error))?;

        let policy =
            Repository::with_copy_of(&example.join("policy"), &place.path().join("policy"))?;
        let mesh_file = place.path().join("mesh.yaml");
        let original = example.join("mesh.yaml");
        fs::copy(&original, &mesh_file).map_err(|error| failed(&original, error))?;
        let said = place.path().join("up.log");
        let log = File::create(&said).map_err(|error| failed(&said, error))?;
        let log_too = log.try_clone().map_err(|error| failed(&said, error))?;

        let state = place.path().join("state");
        // The guard ends the mesh when its standard input does, which is when this process does, however that comes.
        let up = Command::new(&countersign)
            .args(["guard", "--"])
            .arg(&countersign)
            .arg("up")
            .arg(&mesh_file)
            .arg("--state")
            .arg(&state)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_too)
            // Ctrl-C is for this program, which then stops the mesh.
            .process_group(0)
            .spawn()
            .map_err(|source| MeshError::Run {
                program: countersign.clone(),
                source,
            })?;
        let mut starting = Starting {
            up,
            state: &state,
            said: &said,
        };
        let addresses = starting.ready().await?;
        let up = starting.up;
        Ok(Self {
            addresses,
            policy,
            state,
            place,
            countersign,
            up,
        })
    }

    /// A token of the development issuer, made by the command that people use.
    pub(crate) async fn token(&self, arguments: &[&str]) -> Result<String, MeshError> {
        let output = Command::new(&self.countersign)
            .args(["token", "mint"])
            .args(arguments)
            .arg("--state")
            .arg(&self.state)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|source| MeshError::Run {
                program: self.countersign.clone(),
                source,
            })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(MeshError::Mint(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }

    /// The control plane's status.
    pub(crate) async fn status(&self) -> Option<serde_json::Value> {
        let status = Ask {
            method: Method::GET,
            path: "/status",
            token: None,
            body: "",
        };
        ask(self.addresses.control.ops, status)
            .await
            .ok()
            .map(|answer| answer.json())
    }

    /// Stops everything, and waits until it is gone.
    pub(crate) async fn stop(mut self) -> Result<(), MeshError> {
        if let Some(pid) = self.up.id().and_then(|pid| i32::try_from(pid).ok()) {
            // Not there any more is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        match tokio::time::timeout(STOP_PATIENCE, self.up.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(MeshError::Stop),
        }
    }

    /// Leaves the directory, with every log in it, for somebody to look at.
    pub(crate) fn keep(&mut self) -> &Path {
        self.place.disable_cleanup(true);
        self.place.path()
    }
}

impl Addresses {
    /// A workload by its name.
    pub(crate) fn workload(&self, name: &str) -> Result<&Workload, MeshError> {
        let found = self.workloads.iter().find(|workload| workload.name == name);
        found.ok_or_else(|| MeshError::Absent(format!("workload {name}")))
    }
}

impl Workload {
    /// Where the workload itself listens.
    pub(crate) fn address(&self) -> Result<SocketAddr, MeshError> {
        let port = self.ports.first();
        port.map(|port| SocketAddr::from((self.ip, *port)))
            .ok_or_else(|| MeshError::Absent(format!("port of {}", self.name)))
    }

    /// Where the workload reaches a service through its sidecar.
    pub(crate) fn outbound(&self, service: &str) -> Result<SocketAddr, MeshError> {
        let found = self
            .outbound
            .iter()
            .find(|outbound| outbound.service == service);
        found
            .map(|outbound| outbound.listen)
            .ok_or_else(|| MeshError::Absent(format!("way from {} to {service}", self.name)))
    }
}

struct Starting<'a> {
    up: Child,
    state: &'a Path,
    said: &'a Path,
}

impl Starting<'_> {
    /// Waits until the mesh says where it is, every sidecar says that it is ready, and every service listens.
    async fn ready(&mut self) -> Result<Addresses, MeshError> {
        let state = self.state;
        let up = &mut self.up;
        let waited = wait::until(START_PATIENCE, async || {
            if !matches!(up.try_wait(), Ok(None)) {
                return Some(None);
            }
            let text = fs::read(state.join("mesh.json")).ok()?;
            let addresses = match serde_json::from_slice::<Addresses>(&text) {
                Ok(addresses) => addresses,
                Err(error) => return Some(Some(Err(MeshError::Addresses(error)))),
            };
            for workload in &addresses.workloads {
                let ready = Ask {
                    method: Method::GET,
                    path: "/ready",
                    token: None,
                    body: "",
                };
                let answer = ask(workload.sidecar_ops, ready).await.ok()?;
                if !answer.status.is_success() {
                    return None;
                }
                if let Ok(address) = workload.address() {
                    tokio::net::TcpStream::connect(address).await.ok()?;
                }
            }
            Some(Some(Ok(addresses)))
        })
        .await;
        match waited {
            Ok(Some(addresses)) => addresses,
            Ok(None) => Err(MeshError::Ended { said: self.said() }),
            Err(_) => Err(MeshError::Slow { said: self.said() }),
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.said).unwrap_or_default()
    }
}
