//! Where the state of the authorities is kept: `authority.json` in the data directory. Whoever changes it holds the lock
//! `authority.lock` meanwhile, and reads it under the lock first: commands and the server change it beside one another.

use std::fs::File;
use std::path::{Path, PathBuf};

use countersign_identity::TrustDomain;
use tokio::task::spawn_blocking;

use super::AuthorityError;
use super::files::{PUBLIC, cannot, private_directory, read_public, write_atomically};
use super::state::{BadState, State};
use crate::fault;

/// The place of the state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ledger {
    directory: PathBuf,
    trust_domain: TrustDomain,
}

/// The right to change the state. The lock is the kernel's, and ends with the process.
pub(crate) struct Locked {
    ledger: Ledger,
    /// What the state is; none before the first start.
    pub(crate) state: Option<State>,
    _lock: File,
}

impl Ledger {
    /// The state in this data directory.
    pub(crate) fn new(directory: &Path, trust_domain: &TrustDomain) -> Self {
        Self {
            directory: directory.to_owned(),
            trust_domain: trust_domain.clone(),
        }
    }

    /// Where it is, for people.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("authority.json")
    }

    /// Reads the state; none before the first start.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub(crate) fn read(&self) -> Result<Option<State>, AuthorityError> {
        let path = self.path();
        let Some(text) = read_public(&path)? else {
            return Ok(None);
        };
        let damaged = |error| AuthorityError::State {
            path: path.clone(),
            error,
        };
        let state: State =
            serde_json::from_str(&text).map_err(|error| damaged(BadState::from(error)))?;
        state.check(&self.trust_domain).map_err(damaged)?;
        Ok(Some(state))
    }

    /// Waits for the lock, and reads the state.
    ///
    /// # Errors
    /// As [`Ledger::read`].
    pub(crate) async fn lock(&self) -> Result<Locked, AuthorityError> {
        let ledger = self.clone();
        let locked = spawn_blocking(move || {
            private_directory(&ledger.directory)?;
            let path = ledger.directory.join("authority.lock");
            let lock = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(cannot("open", &path))?;
            lock.lock().map_err(cannot("lock", &path))?;
            let state = ledger.read()?;
            Ok(Locked {
                ledger,
                state,
                _lock: lock,
            })
        });
        locked.await.map_err(|_| AuthorityError::Stopping)?
    }
}

impl Locked {
    /// Puts a new state in the place of the old one: when this returns, it is on the disk.
    ///
    /// # Errors
    /// When it is not. The old one is there then.
    pub(crate) fn save(&mut self, state: State) -> Result<(), AuthorityError> {
        let path = self.ledger.path();
        let text = serde_json::to_string_pretty(&state).map_err(|error| AuthorityError::State {
            path: path.clone(),
            error: error.into(),
        })?;
        fault::point("before-authority-state");
        write_atomically(&path, &text, PUBLIC)?;
        fault::point("after-authority-state");
        self.state = Some(state);
        Ok(())
    }
}
