//! Policy in its compiled form, for the subcommands that ask it.

use std::path::PathBuf;

use countersign_identity::TrustDomain;
use countersign_policy::files::PolicyFiles;
use countersign_policy::{Diagnostics, Policy, document};

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
        named(paths)
    )]
    Empty { paths: Vec<PathBuf> },
}

fn named(paths: &[PathBuf]) -> String {
    let named: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    named.join(" and ")
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
    compile(files, trust_domain).map_err(LoadError::Mistakes)
}

/// Compiles files that were read.
///
/// # Errors
/// Every mistake in them.
pub(crate) fn compile(
    files: PolicyFiles,
    trust_domain: &TrustDomain,
) -> Result<Policy, Diagnostics> {
    let parsed = document::parse(files.files);
    let mut mistakes = files.mistakes;
    match parsed {
        Ok(documents) if mistakes.is_empty() => Policy::compile("", trust_domain, documents),
        Ok(_) => Err(Diagnostics::new(mistakes)),
        Err(more) => {
            mistakes.extend(more);
            Err(Diagnostics::new(mistakes))
        }
    }
}
