//! The sidecars that are connected, and what each has said of the policy that it was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_identity::SpiffeId;

/// Every connected sidecar. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Sidecars {
    connected: Arc<Mutex<Connected>>,
}

#[derive(Default)]
struct Connected {
    next: u64,
    sidecars: BTreeMap<u64, Sidecar>,
}

/// One connected sidecar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sidecar {
    /// The workload's name in the directory.
    pub(crate) workload: String,
    pub(crate) spiffe_id: SpiffeId,
    /// As it says.
    pub(crate) version: String,
    pub(crate) address: SocketAddr,
    /// What it last said of a policy.
    pub(crate) status: Option<ReportedStatus>,
}

/// What came of a policy at the sidecar.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReportedStatus {
    pub(crate) revision: String,
    /// Why it refused the revision; none if it is in force.
    pub(crate) error: Option<String>,
}

impl Sidecars {
    /// Lists a sidecar until the entry is dropped.
    pub(crate) fn enter(&self, sidecar: Sidecar) -> Entry {
        let number = self.with(|connected| {
            let number = connected.next;
            connected.next += 1;
            connected.sidecars.insert(number, sidecar);
            number
        });
        Entry {
            sidecars: self.clone(),
            number,
        }
    }

    /// All of them, by workload.
    pub(crate) fn list(&self) -> Vec<Sidecar> {
        let mut list: Vec<_> =
            self.with(|connected| connected.sidecars.values().cloned().collect());
        list.sort_by(|one, other| one.workload.cmp(&other.workload));
        list
    }

    fn with<T>(&self, act: impl FnOnce(&mut Connected) -> T) -> T {
        act(&mut self
            .connected
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

/// A sidecar's place in the list.
pub(crate) struct Entry {
    sidecars: Sidecars,
    number: u64,
}

impl Entry {
    /// Notes what the sidecar says of a policy.
    pub(crate) fn report(&self, status: ReportedStatus) {
        self.sidecars.with(|connected| {
            if let Some(sidecar) = connected.sidecars.get_mut(&self.number) {
                sidecar.status = Some(status);
            }
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sidecars
            .with(|connected| connected.sidecars.remove(&self.number));
    }
}
