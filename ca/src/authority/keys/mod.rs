//! Where the authorities' private keys live.
//!
//! A key has a name, which the state of the authorities (`../state.rs`) refers to, and never another key's: a name is never
//! used twice. So the order "key first, then the state that names it" leaves, whatever is cut short, at worst a key that
//! nothing refers to, which has certified nothing.

mod file;
pub(crate) mod pkcs11;
pub(crate) mod secret;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use tokio::task::spawn_blocking;

use super::profile::ProfileError;
use crate::files::FileError;
pub(crate) use file::FileKeys;
use pkcs11::{TokenConfig, TokenError, TokenKeys};
use secret::{SecretConfig, SecretError, SecretKeys};

/// Why a private key cannot be made, read or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// A file or directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// A PKCS#11 token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A Kubernetes Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// What is in the file is no key.
    #[error(
        "{} is damaged: expected a P-256 private key in PKCS #8 PEM, found {found}. Restore it from a backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// The key cannot be made.
    #[error("a private key cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The task that waited for the keys is gone.
    #[error("the program is stopping")]
    Stopping,
}

/// Where the configuration says that keys live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    /// Files in this directory.
    Directory(PathBuf),
    /// A PKCS#11 token.
    Token(TokenConfig),
    /// A Kubernetes Secret.
    Secret(SecretConfig),
}

impl KeyPlace {
    /// Gets at the keys there.
    ///
    /// # Errors
    /// When they are out of reach.
    pub(crate) fn open(&self) -> Result<Keys, KeyError> {
        let store: Arc<dyn KeyStore> = match self {
            Self::Directory(path) => Arc::new(FileKeys::open(path)?),
            Self::Token(config) => Arc::new(TokenKeys::open(config)?),
            Self::Secret(config) => Arc::new(SecretKeys::new(config)),
        };
        Ok(Keys(store))
    }
}

/// A place for private keys. Its functions wait for a disk, a device or a server: [`Keys`] calls them where that holds up
/// nobody.
pub(crate) trait KeyStore: Send + Sync {
    /// Makes a P-256 key. When this returns, it will survive a crash.
    fn generate(&self, name: &str) -> Result<KeyHandle, KeyError>;
    /// A key that was made before; none if it is not there.
    fn load(&self, name: &str) -> Result<Option<KeyHandle>, KeyError>;
    /// Removes a key for good. One that is not there is removed.
    fn remove(&self, name: &str) -> Result<(), KeyError>;
    /// Where a key is, for people.
    fn place(&self, name: &str) -> String;
}

/// A place for private keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keys(Arc<dyn KeyStore>);

impl Keys {
    /// See [`KeyStore::generate`].
    ///
    /// # Errors
    /// When there is no place for it.
    pub(crate) async fn generate(&self, name: &str) -> Result<KeyHandle, KeyError> {
        self.run(name, |store, name| store.generate(name)).await
    }

    /// See [`KeyStore::load`].
    ///
    /// # Errors
    /// When what is there is not a key, or others than its owner can read it.
    pub(crate) async fn load(&self, name: &str) -> Result<Option<KeyHandle>, KeyError> {
        self.run(name, |store, name| store.load(name)).await
    }

    /// See [`KeyStore::remove`].
    ///
    /// # Errors
    /// When it is still there.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), KeyError> {
        self.run(name, |store, name| store.remove(name)).await
    }

    /// See [`KeyStore::place`].
    pub(crate) fn place(&self, name: &str) -> String {
        self.0.place(name)
    }

    async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&dyn KeyStore, &str) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let (store, name) = (Arc::clone(&self.0), name.to_owned());
        spawn_blocking(move || work(store.as_ref(), &name))
            .await
            .map_err(|_| KeyError::Stopping)?
    }
}

/// A private key that can be used, wherever it lives. Not to be shown. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeyHandle {
    key: Arc<dyn SigningKey + Send + Sync>,
    /// Whether a signature takes so long that a thread of its own has to wait for it.
    waits: bool,
}

impl KeyHandle {
    /// A key in this process's memory.
    pub(crate) fn in_memory(key: impl SigningKey + Send + Sync + 'static) -> Self {
        Self {
            key: Arc::new(key),
            waits: false,
        }
    }

    /// A key elsewhere, which takes its time.
    fn in_device(key: impl SigningKey + Send + Sync + 'static) -> Self {
        Self {
            key: Arc::new(key),
            waits: true,
        }
    }

    /// Runs what signs with this key: here if the key is in memory, which takes microseconds, else where waiting for the
    /// device holds up nobody.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) async fn signing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ProfileError> + Send + 'static,
    ) -> Result<T, ProfileError> {
        if !self.waits {
            return work();
        }
        spawn_blocking(work)
            .await
            .map_err(|_| ProfileError::Stopping)?
    }
}

impl fmt::Debug for KeyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHandle(…)")
    }
}

impl PublicKeyData for KeyHandle {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl SigningKey for KeyHandle {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.key.sign(message)
    }
}
