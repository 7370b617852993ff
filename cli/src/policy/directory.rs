//! The workloads of a directory file or a mesh file, for commands that ask for no more.

use std::path::Path;

use countersign_policy::{Diagnostics, Workload, directory};

/// Reads the workloads; addresses, ports and services are for others.
///
/// # Errors
/// Every mistake in what is read.
pub(crate) fn workloads(path: &Path) -> Result<Vec<Workload>, Diagnostics> {
    let known = directory::read_file(path)?.workloads;
    Ok(known.into_iter().map(|known| known.workload).collect())
}
