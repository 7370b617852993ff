//! Where the state of the authorities is kept: in the file `authority.json` of the data directory ([`file`]), or, where
//! several replicas are one CA, in the database that they share ([`shared`]). Whoever changes it holds a lock meanwhile, and
//! reads it under the lock first: commands and servers change it beside one another.

mod file;
mod shared;

use std::path::Path;
use std::sync::Arc;

use countersign_identity::TrustDomain;

use super::AuthorityError;
use super::keys::Keys;
use super::state::{BadState, State};
use crate::store::Store;
use file::{FileLedger, FileLock};
use shared::{SharedLedger, SharedLock};

/// The place of the state. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Ledger {
    /// A file, of one server.
    File(FileLedger),
    /// The database, of all replicas.
    Shared(Arc<SharedLedger>),
}

/// The right to change the state, once.
pub(crate) struct Locked {
    /// What the state is; none before the first start.
    pub(crate) state: Option<State>,
    held: Held,
}

enum Held {
    File(FileLock),
    Shared(SharedLock),
}

impl Ledger {
    /// The state in this data directory.
    pub(crate) fn file(directory: &Path, trust_domain: &TrustDomain) -> Self {
        Self::File(FileLedger::new(directory, trust_domain))
    }

    /// The state in this database, which is vouched for by the intermediate's key among `keys`.
    pub(crate) fn shared(store: Store, keys: Keys, trust_domain: &TrustDomain) -> Self {
        Self::Shared(Arc::new(SharedLedger::new(store, keys, trust_domain)))
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::File(file) => file.path().display().to_string(),
            Self::Shared(_) => "the state of the authorities in the database".to_owned(),
        }
    }

    /// The database of the replicas, if there are any.
    pub(crate) fn store(&self) -> Option<&Store> {
        match self {
            Self::File(_) => None,
            Self::Shared(shared) => Some(shared.store()),
        }
    }

    /// Reads the state; none before the first start.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or not vouched for.
    pub(crate) async fn read(&self) -> Result<Option<State>, AuthorityError> {
        match self {
            Self::File(file) => file.read(),
            Self::Shared(shared) => shared.read().await,
        }
    }

    /// Waits for the lock, and reads the state.
    ///
    /// # Errors
    /// As [`Ledger::read`].
    pub(crate) async fn lock(&self) -> Result<Locked, AuthorityError> {
        match self {
            Self::File(file) => {
                let (lock, state) = file.lock().await?;
                let held = Held::File(lock);
                Ok(Locked { state, held })
            }
            Self::Shared(shared) => {
                let (lock, state) = SharedLock::take(shared).await?;
                let held = Held::Shared(lock);
                Ok(Locked { state, held })
            }
        }
    }

    /// The error for a state that is none.
    pub(crate) fn bad(&self, error: BadState) -> AuthorityError {
        AuthorityError::State {
            place: self.place(),
            error,
        }
    }
}

impl Locked {
    /// Puts a new state in the place of the old one: when this returns, it is on the disk, and the lock is given back.
    ///
    /// # Errors
    /// When it is not. The old one is there then.
    pub(crate) async fn save(self, state: &State) -> Result<(), AuthorityError> {
        match self.held {
            Held::File(lock) => lock.save(state),
            Held::Shared(lock) => lock.save(state).await,
        }
    }
}

/// The text of a state, and back.
fn text(state: &State) -> Result<String, BadState> {
    Ok(serde_json::to_string_pretty(state)?)
}

fn parse(text: &str, trust_domain: &TrustDomain) -> Result<State, BadState> {
    let state: State = serde_json::from_str(text)?;
    state.check(trust_domain)?;
    Ok(state)
}
