//! `countersign cert inspect`: what a certificate says, and what of it verifies.

mod describe;
mod examine;
mod handshake;
mod read;
mod render;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(crate) use self::read::ReadError;

use self::examine::Roots;
use crate::args::CertInspectArguments;
use crate::mesh_state::{MeshState, MeshStateError};
use crate::output::{Answer, Format, Output};

/// Why certificates could not be inspected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    MeshState(#[from] MeshStateError),
    #[error("cannot read the trusted roots in {}", path.display())]
    Bundle { path: PathBuf, source: io::Error },
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Prints the certificates of a target and a verdict on them; the answer is no if a check fails.
pub(crate) fn inspect(
    arguments: &CertInspectArguments,
    output: &Output,
) -> Result<Answer, CertError> {
    let presented = read::target(&arguments.target)?;
    let roots = roots(arguments)?;
    let report = examine::examine(presented, roots.as_ref(), SystemTime::now());
    match output.format {
        Format::Text => output.write(&render::text(&report, output.palette))?,
        Format::Json => output.write_json(&report)?,
    }
    Ok(if report.holds() {
        Answer::Yes
    } else {
        Answer::No
    })
}

/// The roots to verify against: those asked for, else those of the mesh whose state is at hand.
fn roots(arguments: &CertInspectArguments) -> Result<Option<Roots>, CertError> {
    let path = match (&arguments.bundle, &arguments.state) {
        (Some(bundle), _) => bundle.clone(),
        (None, Some(state)) => MeshState::read(state)?.bundle,
        (None, None) => match MeshState::read(Path::new(crate::mesh_state::DEFAULT_DIRECTORY)) {
            Ok(state) => state.bundle,
            // No mesh here, and none was asked for: inspect without verifying the chain.
            Err(_) => return Ok(None),
        },
    };
    match std::fs::read_to_string(&path) {
        Ok(pem) => Ok(Some(Roots {
            origin: path.display().to_string(),
            pem,
        })),
        Err(source) => Err(CertError::Bundle { path, source }),
    }
}
