//! Why the authorities cannot be used, and what their operator can do about it.

use std::path::PathBuf;

use countersign_identity::BundleError;
use countersign_identity::jwt::KeySetError;
use countersign_identity::jwt::jwk::JwkError;

use super::ceremony::InstallError;
use super::certificate::CertificateError;
use super::keys::KeyError;
use super::profile::ProfileError;
use super::state::BadState;
use super::step::StepError;
use crate::files::FileError;
use crate::store::StoreError;

/// Why the authorities cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file or directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The state is damaged, or another's.
    #[error(
        "{place}: {error}. Restore it from a backup; if there is none, move the data directory away and start anew (every \
         workload then needs the new bundle)"
    )]
    State {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        error: BadState,
    },
    /// The data directory is of a version of which none was ever released.
    #[error(
        "{} is of an earlier version of this program, which kept its authorities otherwise: move the data directory away \
         and start anew (every workload then needs the new bundle)", path.display()
    )]
    Predecessor {
        /// What shows it.
        path: PathBuf,
    },
    /// The state is gone.
    #[error(
        "{missing} is missing, but {} is there: this is not a first start. Restore it from a backup", present.display()
    )]
    Incomplete {
        /// The state.
        missing: String,
        /// What shows that there was one.
        present: PathBuf,
    },
    /// A key that is not its certificate's.
    #[error(
        "the private key {key} is not that of the certificate {certificate}: they are of different authorities. Restore \
         the key that was replaced"
    )]
    Mismatch {
        /// Where the key is.
        key: String,
        /// Whose it should be.
        certificate: String,
    },
    /// A token key that is not the one of its record.
    #[error("the private key {key} is not the token key {kid}. Restore the key that was replaced")]
    OtherTokenKey {
        /// Where the key is.
        key: String,
        /// Whose it should be.
        kid: String,
    },
    /// The state in the database is not vouched for by a key of ours.
    #[error(
        "the private key {key} is not there, by which the state of the authorities in the database is signed. Replicas have \
         their keys in common: set `authority.keys` to where all of them find the same ones (a PKCS#11 token, a Kubernetes \
         Secret, a directory that they share). If it is the right place, restore the key from a backup"
    )]
    NotShared {
        /// Where it should be.
        key: String,
    },
    /// The database.
    #[error("the state of the authorities: {0}")]
    Store(#[from] StoreError),
    /// A certificate is out of its time.
    #[error("the certificate of {whose}: {error}")]
    Certificate {
        /// Whose.
        whose: String,
        /// What is wrong.
        error: CertificateError,
    },
    /// A new intermediate is due, and the root's key is elsewhere.
    #[error(
        "a new intermediate is needed, and the private key of the root {root} is not there to sign it ({place}). Put it \
         back, or have the root sign a request: `countersign-ca csr`, then `countersign-ca install`"
    )]
    NoRootKey {
        /// The root.
        root: String,
        /// Where its key should be.
        place: String,
    },
    /// No intermediate yet, or none any more, and the root is elsewhere.
    #[error(
        "there is no intermediate that is valid, and its root is an external one: make a request with `countersign-ca \
         csr`, have the root sign it, and install what it signed with `countersign-ca install`"
    )]
    NotInstalled,
    /// A step of a rotation is refused.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A certificate is not installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// A certificate cannot be made.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A root or a token key cannot be in a bundle.
    #[error("the bundle: {0}")]
    Bundle(#[from] BundleError),
    /// A token key cannot be published.
    #[error("a token key: {0}")]
    TokenKey(#[from] JwkError),
    /// The public token keys are no keys.
    #[error("the token keys: {0}")]
    TokenKeys(KeySetError),
    /// The runtime is shutting down.
    #[error("the program is stopping")]
    Stopping,
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Profile(error.into())
    }
}
