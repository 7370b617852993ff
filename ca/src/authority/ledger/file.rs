//! The state in the file `authority.json` of the data directory, with the lock `authority.lock`.

use std::fs::File;
use std::path::{Path, PathBuf};

use countersign_identity::TrustDomain;
use tokio::task::spawn_blocking;

use super::{parse, text};
use crate::authority::AuthorityError;
use crate::authority::state::{BadState, State};
use crate::fault;
use crate::files::{PUBLIC, cannot, private_directory, read_public, write_atomically};

/// The place of the state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct FileLedger {
    directory: PathBuf,
    trust_domain: TrustDomain,
}

/// The lock is the kernel's, and ends with the process.
pub(super) struct FileLock {
    ledger: FileLedger,
    _lock: File,
}

impl FileLedger {
    pub(super) fn new(directory: &Path, trust_domain: &TrustDomain) -> Self {
        Self {
            directory: directory.to_owned(),
            trust_domain: trust_domain.clone(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.join("authority.json")
    }

    pub(super) fn read(&self) -> Result<Option<State>, AuthorityError> {
        let Some(text) = read_public(&self.path())? else {
            return Ok(None);
        };
        let state = parse(&text, &self.trust_domain);
        Ok(Some(state.map_err(|error| self.bad(error))?))
    }

    pub(super) async fn lock(&self) -> Result<(FileLock, Option<State>), AuthorityError> {
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
            let lock = FileLock {
                ledger,
                _lock: lock,
            };
            Ok((lock, state))
        });
        locked.await.map_err(|_| AuthorityError::Stopping)?
    }

    fn bad(&self, error: BadState) -> AuthorityError {
        AuthorityError::State {
            place: self.path().display().to_string(),
            error,
        }
    }
}

impl FileLock {
    pub(super) fn save(self, state: &State) -> Result<(), AuthorityError> {
        let text = text(state).map_err(|error| self.ledger.bad(error))?;
        fault::point("before-authority-state");
        write_atomically(&self.ledger.path(), &text, PUBLIC)?;
        fault::point("after-authority-state");
        Ok(())
    }
}
