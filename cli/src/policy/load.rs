//! Policy in its compiled form, for the subcommands that ask it.

use std::path::PathBuf;

use countersign_identity::TrustDomain;
use countersign_policy::{Diagnostics, Policy};

use super::sources::{self, SourceError};

/// Why there is no policy to ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the policy has mistakes:\n{0}")]
    Mistakes(Diagnostics),
    #[error(
        "there is no policy in {}: expected files that end in .yaml or .yml",
        sources::named(paths)
    )]
    Empty { paths: Vec<PathBuf> },
}

/// Reads and compiles the policy of some paths.
///
/// # Errors
/// Why it cannot be read, or every mistake in it.
pub(crate) fn policy(paths: &[PathBuf], trust_domain: &TrustDomain) -> Result<Policy, LoadError> {
    let files = sources::read(paths)?;
    if files.files.is_empty() && files.mistakes.is_empty() {
        return Err(LoadError::Empty {
            paths: paths.to_vec(),
        });
    }
    Policy::from_files("", trust_domain, files).map_err(LoadError::Mistakes)
}
