//! What the sidecar knows, shared by everything that needs it and replaced while calls go on.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use countersign_identity::jwt::KeySet;
use countersign_policy::WorkloadPolicy;
use tokio::sync::watch;

use crate::directory::Directory;

/// The verification keys of each TokenIssuer, by its `namespace/name`. An issuer whose keys were never fetched is not in it:
/// its tokens cannot be verified.
pub type IssuerKeys = HashMap<String, Arc<KeySet>>;

/// The last known good policy, directory and issuer keys. Reading is a few nanoseconds and never waits.
#[derive(Debug, Default)]
pub struct State {
    policy: ArcSwapOption<WorkloadPolicy>,
    directory: ArcSwapOption<Directory>,
    issuer_keys: ArcSwap<IssuerKeys>,
    changes: watch::Sender<u64>,
}

impl State {
    /// Nothing is known yet: every call is denied.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The policy in force; `None` before the first, when nothing is allowed.
    #[must_use]
    pub fn policy(&self) -> Option<Arc<WorkloadPolicy>> {
        self.policy.load_full()
    }

    /// The directory; `None` before the first.
    #[must_use]
    pub fn directory(&self) -> Option<Arc<Directory>> {
        self.directory.load_full()
    }

    /// The token issuers' keys.
    #[must_use]
    pub fn issuer_keys(&self) -> Arc<IssuerKeys> {
        self.issuer_keys.load_full()
    }

    /// Counts the replacements; wakes on each, after it can be read.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Puts a policy in force.
    pub fn set_policy(&self, policy: WorkloadPolicy) {
        self.policy.store(Some(Arc::new(policy)));
        self.announce();
    }

    /// Replaces the directory.
    pub fn set_directory(&self, directory: Directory) {
        self.directory.store(Some(Arc::new(directory)));
        self.announce();
    }

    /// Replaces the token issuers' keys.
    pub fn set_issuer_keys(&self, keys: IssuerKeys) {
        self.issuer_keys.store(Arc::new(keys));
        self.announce();
    }

    fn announce(&self) {
        self.changes.send_modify(|generation| *generation += 1);
    }
}
