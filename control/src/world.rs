//! What the control plane knows now. Each part is kept up to date by its own task, and read by all.

use std::sync::Arc;

use countersign_identity::Bundle;
use tokio::sync::watch;

use crate::directory::Directory;
use crate::federation::FederationTable;
use crate::issuers::KeyTable;
use crate::policy::PolicyState;

/// Everything that sidecars are told is made from this. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct World {
    /// Kept by [`crate::policy`].
    pub(crate) policy: PolicyState,
    /// Kept by [`crate::directory_file`].
    pub(crate) directory: DirectoryState,
    /// Kept by [`crate::issuers`].
    pub(crate) keys: Arc<KeyTable>,
    /// Kept by [`crate::federation`].
    pub(crate) federation: Arc<FederationTable>,
    /// Kept by [`crate::identity`].
    pub(crate) bundle: Option<Arc<Bundle>>,
}

/// The directory, and what is wrong with the newest state of its file.
#[derive(Clone, Default)]
pub(crate) struct DirectoryState {
    /// The last good one.
    pub(crate) in_force: Option<Arc<Directory>>,
    /// Empty when the file as it is now is in force.
    pub(crate) mistakes: Arc<[String]>,
}

/// Where the parts report what has changed. Readers that are slow see the latest world, not every one.
pub(crate) type WorldSender = watch::Sender<World>;
/// Where the world is seen.
pub(crate) type WorldReceiver = watch::Receiver<World>;
