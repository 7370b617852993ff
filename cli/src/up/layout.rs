//! The state directory: what is where in it, and how files get there.
//!
//! ```text
//! DIR/lock               held by the `up` that runs
//!     mesh.json          addresses, for other commands
//!     ca.yaml  control.yaml  directory.yaml  sidecars/NAME.yaml
//!     ca/                the CA's data: keys stay from start to start
//!     control/           the control plane's data
//!     issuers/NAME.key.pem
//!     join-tokens/NAME   each used once, then removed
//!     logs/NAME.log      what the programs and workloads of the last start printed
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::mesh_state;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("cannot make the state directory {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot lock the state directory with {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error(
        "a mesh is up already with the state directory {}{}; stop it, or choose another with --state",
        directory.display(), holder.as_deref().map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        directory: PathBuf,
        holder: Option<String>,
    },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// A state directory that this process holds until it ends.
#[derive(Debug)]
pub(crate) struct Layout {
    directory: PathBuf,
    _lock: File,
}

impl Layout {
    /// Makes the directory if needed, readable for its owner alone, and takes it.
    pub(crate) fn open(directory: &Path) -> Result<Self, LayoutError> {
        let made = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|source| LayoutError::Make {
                    path: path.to_owned(),
                    source,
                })
        };
        made(directory)?;
        let directory = directory
            .canonicalize()
            .map_err(|source| LayoutError::Make {
                path: directory.to_owned(),
                source,
            })?;
        let lock = lock(&directory)?;
        for part in [
            "ca",
            "control",
            "issuers",
            "join-tokens",
            "logs",
            "sidecars",
        ] {
            made(&directory.join(part))?;
        }
        let layout = Self {
            directory,
            _lock: lock,
        };
        layout.clear("logs")?;
        layout.clear("join-tokens")?;
        Ok(layout)
    }

    /// Removes the files of a part of the directory: what belongs to an earlier start.
    fn clear(&self, part: &str) -> Result<(), LayoutError> {
        let part = self.directory.join(part);
        let failed = |source| LayoutError::Write {
            path: part.clone(),
            source,
        };
        for entry in fs::read_dir(&part).map_err(failed)? {
            fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
        }
        Ok(())
    }

    /// The directory, as an absolute path without links.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn mesh_state(&self) -> PathBuf {
        self.directory.join(mesh_state::FILE_NAME)
    }

    pub(crate) fn ca_config(&self) -> PathBuf {
        self.directory.join("ca.yaml")
    }

    pub(crate) fn ca_data(&self) -> PathBuf {
        self.directory.join("ca")
    }

    /// The trusted roots, written by the CA.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.ca_data().join("bundle.pem")
    }

    pub(crate) fn control_config(&self) -> PathBuf {
        self.directory.join("control.yaml")
    }

    pub(crate) fn control_data(&self) -> PathBuf {
        self.directory.join("control")
    }

    pub(crate) fn workload_directory(&self) -> PathBuf {
        self.directory.join("directory.yaml")
    }

    pub(crate) fn sidecar_config(&self, workload: &str) -> PathBuf {
        self.directory
            .join("sidecars")
            .join(format!("{workload}.yaml"))
    }

    pub(crate) fn issuer_key(&self, issuer: &str) -> PathBuf {
        self.directory
            .join("issuers")
            .join(format!("{issuer}.key.pem"))
    }

    /// The join token of the control plane or of a workload's sidecar.
    pub(crate) fn join_token(&self, holder: &str) -> PathBuf {
        self.directory.join("join-tokens").join(holder)
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    /// Writes a file of this directory: for its owner alone, all or nothing.
    pub(crate) fn write(&self, path: &Path, content: &str) -> Result<(), LayoutError> {
        write_private(path, content.as_bytes()).map_err(|source| LayoutError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

/// Takes the directory's lock, which the kernel gives back however this process ends, and leaves this
/// process's ID in it for whoever finds it taken.
fn lock(directory: &Path) -> Result<File, LayoutError> {
    let path = directory.join("lock");
    let failed = |source| LayoutError::Lock {
        path: path.clone(),
        source,
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.read_to_string(&mut holder);
            let holder = read
                .ok()
                .map(|_| holder.trim().to_owned())
                .filter(|pid| !pid.is_empty());
            return Err(LayoutError::InUse {
                directory: directory.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}

/// Writes a file with mode 0600 so that it is either wholly there or not at all: beside its place
/// first, then moved.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    // NamedTempFile makes its files with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_held_once_and_names_its_holder() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("deep/state");
        let held = Layout::open(&directory).unwrap();
        let error = Layout::open(&directory).unwrap_err().to_string();
        assert!(error.contains("a mesh is up already"), "{error}");
        assert!(
            error.contains(&format!("(process {})", std::process::id())),
            "{error}"
        );
        drop(held);
        Layout::open(&directory).unwrap();
    }

    #[test]
    fn only_the_owner_can_look() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("state");
        let layout = Layout::open(&directory).unwrap();
        layout.write(&layout.ca_config(), "secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&layout.ca_config()), 0o600);
    }
}
