//! Policy in its compiled form, for the subcommands that ask it.

use std::path::PathBuf;

use countersign_identity::TrustDomain;
use countersign_policy::document::API_VERSION;
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
        "there is no policy in {}: expected documents of {API_VERSION} in files that end in .yaml or .yml",
        sources::named(paths)
    )]
    Empty { paths: Vec<PathBuf> },
}

/// Reads and compiles the policy of some paths.
///
/// # Errors
/// Why it cannot be read, or every mistake in it, or that there is none.
pub(crate) fn policy(paths: &[PathBuf], trust_domain: &TrustDomain) -> Result<Policy, LoadError> {
    let files = sources::read(paths)?;
    let policy = Policy::from_files("", trust_domain, files).map_err(LoadError::Mistakes)?;
    match policy.is_empty() {
        true => Err(LoadError::Empty {
            paths: paths.to_vec(),
        }),
        false => Ok(policy),
    }
}
