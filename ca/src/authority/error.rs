//! Why the authorities cannot be used, and what their operator can do about it.

use std::path::PathBuf;

use countersign_identity::jwt::jwk::JwkError;
use countersign_identity::{BundleError, TrustDomain};

use super::files::FileError;
use super::profile::ProfileError;

/// Why the authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file or directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error(
        "{} is damaged: expected {expected}, found {found}. Restore it from a backup; if there is none, move the data \
         directory away and start anew (every workload then needs the new bundle)", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// A key that is not its certificate's.
    #[error(
        "the private key in {} is not that of the certificate in {}: the files are of different authorities. Restore the \
         one that was replaced", key.display(), certificate.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The intermediate is of another root.
    #[error(
        "the certificate in {} is not signed by the root in {}: the files are of different authorities. Restore the one \
         that was replaced", intermediate.display(), root.display()
    )]
    OtherRoot {
        /// The intermediate's file.
        intermediate: PathBuf,
        /// The root's file.
        root: PathBuf,
    },
    /// The data directory is of another trust domain.
    #[error(
        "{} is of the trust domain {found}; the configuration says {expected}. Correct `trustDomain`, or use another \
         `dataDirectory`", path.display()
    )]
    OtherTrustDomain {
        /// The file.
        path: PathBuf,
        /// What it names.
        found: String,
        /// What is configured.
        expected: TrustDomain,
    },
    /// A certificate is out of its time.
    #[error("the certificate in {} {problem}; check this machine's clock", path.display())]
    OutOfTime {
        /// The file.
        path: PathBuf,
        /// Expired, or not valid yet.
        problem: &'static str,
    },
    /// A new intermediate is due, and the root's key is elsewhere.
    #[error(
        "a new intermediate is needed, and {} is not there to sign it. Put the root's key back (mode 0600) and start again",
        path.display()
    )]
    NoRootKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// Only some files of a root are there.
    #[error(
        "{missing} is missing, but {present} is there: this is not a first start. Restore the missing file from a backup",
        missing = missing.display(), present = present.display()
    )]
    Incomplete {
        /// The missing file.
        missing: PathBuf,
        /// The one that shows that this is not a first start.
        present: PathBuf,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The root or a token key cannot be in a bundle.
    #[error("the bundle: {0}")]
    Bundle(#[from] BundleError),
    /// A token key cannot be published.
    #[error("a token key: {0}")]
    TokenKey(#[from] JwkError),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Profile(error.into())
    }
}
