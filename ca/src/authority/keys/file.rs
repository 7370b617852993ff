//! Keys in files, `NAME.key.pem`, for their owner only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{KeyError, KeyHandle, KeyStore};
use crate::authority::key::AuthorityKey;
use crate::files::{
    PRIVATE, cannot, private_directory, read_private, sync_directory, write_atomically,
};

/// A directory of keys.
pub(crate) struct FileKeys {
    directory: PathBuf,
}

impl FileKeys {
    /// Makes the directory if it is not there, and checks that nobody else can put keys into it.
    ///
    /// # Errors
    /// When it cannot be made, or others can write to it.
    pub(crate) fn open(directory: &Path) -> Result<Self, KeyError> {
        private_directory(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key.pem"))
    }
}

impl KeyStore for FileKeys {
    fn generate(&self, name: &str) -> Result<KeyHandle, KeyError> {
        let key = AuthorityKey::generate()?;
        write_atomically(&self.path(name), &key.to_pem(), PRIVATE)?;
        Ok(KeyHandle::in_memory(key))
    }

    fn load(&self, name: &str) -> Result<Option<KeyHandle>, KeyError> {
        let path = self.path(name);
        let Some(pem) = read_private(&path)? else {
            return Ok(None);
        };
        Ok(Some(KeyHandle::in_memory(AuthorityKey::from_pem(
            &pem, &path,
        )?)))
    }

    fn remove(&self, name: &str) -> Result<(), KeyError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(cannot("remove", &path)(error).into())
            }
            _ => Ok(sync_directory(&self.directory)?),
        }
    }

    fn place(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}
