//! The mesh file: what it says, read with positions, all mistakes at once.

mod check;
mod read;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use countersign_identity::TrustDomain;
use countersign_policy::yaml::{self, Diagnostics};

pub(crate) use self::read::mesh as from_yaml;
pub(crate) use self::template::{Template, UnknownPlaceholder};

use super::issuer::User;

/// A mesh, as its file describes it.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) policy: PolicySource,
    pub(crate) issuers: Vec<Issuer>,
    pub(crate) workloads: Vec<Workload>,
}

/// Where policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicySource {
    pub(crate) repository: Repository,
    pub(crate) branch: String,
}

/// A repository or directory of this machine, or one elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repository {
    /// Absolute.
    Local(PathBuf),
    /// Whatever git can reach.
    Remote(String),
}

impl Repository {
    /// As git and the control plane take it.
    pub(crate) fn location(&self) -> String {
        match self {
            Self::Local(path) => path.display().to_string(),
            Self::Remote(url) => url.clone(),
        }
    }
}

/// A development issuer.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    pub(crate) name: String,
    /// The `iss` that policy names.
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) users: Vec<User>,
}

/// A program that runs in the mesh, once or several times.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<Template>,
    pub(crate) env: BTreeMap<String, Template>,
    pub(crate) ports: Vec<Port>,
    /// The services it calls: `<workload>.<namespace>:<port>`.
    pub(crate) calls: Vec<String>,
    pub(crate) replicas: usize,
}

/// A port that a workload listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) port: u16,
    /// Declared, or else detected by the sidecar.
    pub(crate) protocol: Option<&'static str>,
}

impl Workload {
    /// The service that a port of this workload makes.
    pub(crate) fn service(&self, port: Port) -> String {
        format!("{}.{}:{}", self.name, self.namespace, port.port)
    }

    /// The names of its instances: its own, numbered if there are several.
    pub(crate) fn instances(&self) -> impl Iterator<Item = String> {
        (1..=self.replicas).map(|number| match self.replicas {
            1 => self.name.clone(),
            _ => format!("{}-{number}", self.name),
        })
    }
}

impl Mesh {
    /// Reads a mesh file. Relative paths in it are meant from where the file is.
    ///
    /// # Errors
    /// Every mistake in it, with its position.
    pub(crate) fn read(path: &Path) -> Result<Self, Diagnostics> {
        let base = directory_of(path);
        yaml::read_file(path, |value| from_yaml(value, &base))
    }
}

/// The directory that a mesh file is in, absolute if that can be found out.
pub(crate) fn directory_of(file: &Path) -> PathBuf {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned())
}
