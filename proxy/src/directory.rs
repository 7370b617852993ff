//! The directory: the sidecar's own workload, and who is behind the services that it calls.

mod from_proto;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use countersign_identity::SpiffeId;
use countersign_policy::Workload;

pub use from_proto::DirectoryError;

/// What the control plane says of the mesh, as far as it concerns this sidecar. Replaced as a whole.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The workload beside this sidecar.
    pub own: OwnWorkload,
    /// The services that were subscribed and exist, by name (`host:port`).
    pub services: HashMap<String, Arc<Service>>,
}

/// The workload beside this sidecar.
#[derive(Clone, Debug)]
pub struct OwnWorkload {
    /// Its name in the directory.
    pub name: String,
    /// Its names and labels, as policy sees them.
    pub workload: Workload,
    /// `namespace/service-account`, as logs name it.
    pub log_name: String,
    /// Where its application listens.
    pub ports: Vec<OwnPort>,
}

/// One port of the own workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPort {
    /// The port that callers name and policy judges.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: DeclaredProtocol,
    /// The original destination that callers name on the wire.
    pub destination: SocketAddr,
    /// Where the application really listens.
    pub application: SocketAddr,
}

/// A service that the workload may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `host:port`, as subscribed.
    pub name: String,
    /// What is spoken.
    pub protocol: DeclaredProtocol,
    /// Who serves it. An endpoint that did not change keeps its `Arc` from one directory to the next, so that what is
    /// known of it (its connections, its latency) can stay.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One workload behind a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where its sidecar accepts the wire.
    pub wire_address: SocketAddr,
    /// The SPIFFE ID that it must present, and no other.
    pub spiffe_id: SpiffeId,
    /// The original destination: the CONNECT authority on the wire.
    pub destination: SocketAddr,
}

/// What a port or a service is declared to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeclaredProtocol {
    /// Nothing is declared: it is found out from the first bytes.
    #[default]
    Detect,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, which gRPC is part of.
    Http2,
    /// Anything else; opaque.
    Tcp,
}

impl fmt::Display for DeclaredProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Detect => "detect",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
        })
    }
}

impl Directory {
    /// The own port that a caller on the wire names by its original destination.
    #[must_use]
    pub fn own_port(&self, destination: SocketAddr) -> Option<&OwnPort> {
        self.own
            .ports
            .iter()
            .find(|port| port.destination == destination)
    }

    /// A service by its name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }
}
