//! What a mesh that is up tells other commands: `mesh.json` in its state directory.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where `up` keeps its state unless told otherwise, beside the mesh file.
pub(crate) const DEFAULT_DIRECTORY: &str = ".countersign";

/// The file's name in the state directory.
pub(crate) const FILE_NAME: &str = "mesh.json";

/// The addresses and names of a mesh. Stable: scripts read it too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MeshState {
    /// The process ID of `countersign up`.
    pub(crate) pid: u32,
    /// The mesh file it was started with.
    pub(crate) mesh_file: PathBuf,
    pub(crate) trust_domain: String,
    /// The trusted roots, PEM.
    pub(crate) bundle: PathBuf,
    pub(crate) ca: ProgramAddresses,
    pub(crate) control: ProgramAddresses,
    pub(crate) issuers: Vec<IssuerState>,
    pub(crate) workloads: Vec<WorkloadState>,
}

/// Where the CA or the control plane listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramAddresses {
    /// gRPC over TLS.
    pub(crate) listen: SocketAddr,
    /// The operator's HTTP endpoint: `/metrics`, `/ready`, `/live`, `/status`.
    pub(crate) ops: SocketAddr,
}

/// A development issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IssuerState {
    /// Its name in the mesh file.
    pub(crate) name: String,
    /// Its `iss`.
    pub(crate) issuer: String,
    pub(crate) discovery_url: String,
    pub(crate) token_endpoint: String,
    /// The default audience of its tokens.
    pub(crate) audiences: Vec<String>,
    /// Whom it has tokens for.
    pub(crate) users: Vec<String>,
}

/// A workload, one entry per replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkloadState {
    /// Its name in the mesh, with the number of the replica if there are several.
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) spiffe_id: String,
    /// The address of this workload and its sidecar.
    pub(crate) ip: Ipv4Addr,
    /// The ports that the workload itself listens on.
    pub(crate) ports: Vec<u16>,
    /// Its sidecar's mutual-TLS port.
    pub(crate) wire: SocketAddr,
    /// Its sidecar's operator endpoint.
    pub(crate) sidecar_ops: SocketAddr,
    pub(crate) outbound: Vec<OutboundState>,
}

/// Where a workload reaches a service that it calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutboundState {
    pub(crate) service: String,
    pub(crate) listen: SocketAddr,
}

/// Why the state of a mesh cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshStateError {
    #[error(
        "no mesh has been up in {}; start one with `countersign up`, or name its state directory with --state",
        directory.display()
    )]
    Absent { directory: PathBuf },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged; `countersign up` writes it anew", path.display())]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
}

impl MeshState {
    /// Reads the state of the mesh in a state directory.
    pub(crate) fn read(directory: &Path) -> Result<Self, MeshStateError> {
        let path = directory.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MeshStateError::Absent {
                    directory: directory.to_owned(),
                });
            }
            Err(source) => return Err(MeshStateError::Read { path, source }),
        };
        serde_json::from_str(&text).map_err(|source| MeshStateError::Damaged { path, source })
    }
}
