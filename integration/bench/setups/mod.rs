//! What is measured: each setup is a way from the load generator to the same nginx.

pub(crate) mod countersign;
pub(crate) mod envoy;
pub(crate) mod nginx;

use std::{net::SocketAddr, path::Path};

use crate::{
    certificates::PkiError,
    load,
    process::{Process, ProcessError, wait_until},
};

/// A way to the server, with its proxies running.
pub(crate) struct Setup {
    /// What the report calls it.
    pub(crate) name: &'static str,
    /// Where the load goes.
    pub(crate) target: SocketAddr,
    /// The proxies on the way, in order; none when the load goes straight to the server.
    pub(crate) hops: Vec<Process>,
    /// What the proxies need beside them, and no request passes through.
    behind: Vec<Process>,
}

/// A setup that could not be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    /// A process or a file of it.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

impl Setup {
    /// The setup, once a request through all of its hops is answered.
    fn ready(
        name: &'static str,
        target: SocketAddr,
        hops: Vec<Process>,
        directory: &Path,
    ) -> Result<Self, SetupError> {
        let log = hops.first().map_or("", Process::name);
        wait_until(name, &directory.join(format!("{log}.log")), || {
            load::answers(target)
        })?;
        Ok(Self {
            name,
            target,
            hops,
            behind: Vec::new(),
        })
    }
}
