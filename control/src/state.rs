//! The state directory: what a restart begins with when the policy's repository is out of reach.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("cannot use the state directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("another countersign-control uses the state directory {}; give each one its own", .0.display())]
    InUse(PathBuf),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is damaged ({source}); remove it to go on without the last good policy", path.display())]
    Damaged {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The policy that was accepted last, whole, so that nothing else is needed to bring it into force again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LastGood {
    /// Where it came from: another repository's or branch's policy is not taken for this one's.
    pub(crate) repository: String,
    pub(crate) branch: String,
    pub(crate) revision: String,
    pub(crate) accepted_at: SystemTime,
    /// The signed commit as git keeps it, if signers were configured: by it the signature is verified again.
    #[serde(default, with = "hexadecimal")]
    pub(crate) commit: Option<Vec<u8>>,
    /// Path and content.
    pub(crate) files: Vec<(String, String)>,
}

/// A commit is not always UTF-8.
mod hexadecimal {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(hex::encode).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| hex::decode(text).map_err(D::Error::custom))
            .transpose()
    }
}

/// The directory, which no other process uses at the same time.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    lock: File,
}

impl Drop for StateDirectory {
    fn drop(&mut self) {
        // Not left to closing the file: a program that is just being started may hold a copy of it for a moment.
        let _ = self.lock.unlock();
    }
}

impl StateDirectory {
    /// Makes the directory unless it is there, readable by this user only, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Directory {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                lock,
            }),
            Err(fs::TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn last_good(&self) -> PathBuf {
        self.path.join("last-good.json")
    }

    /// The policy that was accepted last, if one ever was.
    pub(crate) fn load(&self) -> Result<Option<LastGood>, StateError> {
        let path = self.last_good();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| StateError::Damaged { path, source })
    }

    /// Keeps a policy in place of the one before. After a crash there is the one or the other, never a part.
    pub(crate) fn save(&self, policy: &LastGood) -> Result<(), StateError> {
        let path = self.last_good();
        let write = || replace_file(&path, &serde_json::to_vec(policy)?);
        write().map_err(|source| StateError::Write {
            path: path.clone(),
            source,
        })
    }
}

/// Writes a file in place of the one before, readable by this user only. After a crash there is the one or the other, never a
/// part.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn policy(revision: &str) -> LastGood {
        LastGood {
            repository: "/policy".to_owned(),
            branch: "main".to_owned(),
            revision: revision.to_owned(),
            accepted_at: SystemTime::UNIX_EPOCH,
            commit: Some(b"tree \xff".to_vec()),
            files: vec![("a.yaml".to_owned(), "kind: x".to_owned())],
        }
    }

    #[test]
    fn the_last_good_policy_survives_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let state = StateDirectory::open(&path).unwrap();
        assert_eq!(state.load().unwrap(), None);
        state.save(&policy("one")).unwrap();
        state.save(&policy("two")).unwrap();
        drop(state);
        let state = StateDirectory::open(&path).unwrap();
        assert_eq!(state.load().unwrap(), Some(policy("two")));
        let mode = fs::metadata(path.join("last-good.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_file_from_before_signatures_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        let mut old = serde_json::to_value(policy("one")).unwrap();
        old.as_object_mut().unwrap().remove("commit").unwrap();
        fs::write(state.last_good(), old.to_string()).unwrap();
        assert_eq!(state.load().unwrap().unwrap().commit, None);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(directory.path()).unwrap();
        fs::write(state.last_good(), "{\"revision\":").unwrap();
        let error = state.load().unwrap_err().to_string();
        assert!(error.contains("last-good.json is damaged"), "{error}");
    }

    #[test]
    fn the_directory_is_used_by_one_process_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let _first = StateDirectory::open(directory.path()).unwrap();
        let second = StateDirectory::open(directory.path()).unwrap_err();
        assert!(matches!(second, StateError::InUse(_)), "{second}");
    }
}
