//! The UNIX socket that workloads find their identity at.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The system says no.
    #[error("cannot {action} {}, which is `workloadApi.socket` of this sidecar: {error}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Somebody answers there.
    #[error(
        "another process serves {}; stop it, or use another `workloadApi.socket`", path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{} is not a socket, and is left alone; use another `workloadApi.socket`", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Anybody could put a socket of their own in the place of ours.
    #[error(
        "{path} has the mode {mode:04o}, so that anybody can replace the socket in it: chmod o-w {path}",
        path = path.display()
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// A socket that is listened on. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

impl Socket {
    /// Listens at `path` with these permission bits. A socket that a dead process has left is replaced.
    ///
    /// # Errors
    /// Somebody answers there, it is something else, or the system says no.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, SocketError> {
        let cannot = |action, path: &Path| {
            let path = path.to_owned();
            move |error| SocketError::Io {
                action,
                path,
                error,
            }
        };
        check_directory(path.parent().unwrap_or(Path::new(".")))?;
        check_free(path)?;
        // Under another name until its permissions are right; the name is then taken in one step, whoever had it.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("remove", &temporary)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&temporary).map_err(cannot("listen at", path))?;
        let placed = fs::set_permissions(&temporary, Permissions::from_mode(mode))
            .and_then(|()| fs::rename(&temporary, path))
            .and_then(|()| fs::symlink_metadata(path));
        let inode = match placed {
            Ok(metadata) => metadata.ino(),
            Err(error) => {
                // The first error is the one to tell.
                let _ = fs::remove_file(&temporary);
                return Err(cannot("listen at", path)(error));
            }
        };
        Ok(Self {
            listener,
            file: SocketFile {
                path: path.to_owned(),
                inode,
            },
        })
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

/// The file of a socket, which goes when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not one that another process has put there since.
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the directory if it is not there: ours, for all to look into.
fn check_directory(directory: &Path) -> Result<(), SocketError> {
    let cannot = |action| {
        move |error| SocketError::Io {
            action,
            path: directory.to_owned(),
            error,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)
        .map_err(cannot("make"))?;
    let mode = fs::metadata(directory).map_err(cannot("look at"))?.mode() & 0o7777;
    // In a directory with the sticky bit, such as /tmp, a file can be replaced by its owner only.
    if mode & 0o002 != 0 && mode & 0o1000 == 0 {
        return Err(SocketError::OpenDirectory {
            path: directory.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Whether nobody answers at `path`, and nothing but a socket is lost if it goes.
fn check_free(path: &Path) -> Result<(), SocketError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| SocketError::Io {
            action: "look at",
            path: path.to_owned(),
            error,
        })?,
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket {
            path: path.to_owned(),
        });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(SocketError::InUse {
            path: path.to_owned(),
        }),
        Err(error) => Err(SocketError::Io {
            action: "find out who serves",
            path: path.to_owned(),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_with_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/run/workload.sock");
        let socket = Socket::bind(&path, 0o660).unwrap();
        assert_eq!(bits(&path), 0o660);
        assert_eq!(bits(path.parent().unwrap()), 0o755);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_live_socket_is_left_alone_and_a_dead_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("workload.sock");
        let live = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let error = Socket::bind(&path, 0o666).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        drop(live);
        let socket = Socket::bind(&path, 0o666).unwrap();
        UnixStream::connect(socket.path()).unwrap();
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("workload.sock");
        fs::write(&path, "precious").unwrap();
        let error = Socket::bind(&path, 0o666).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_directory_in_which_anybody_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("workload.sock");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let error = Socket::bind(&path, 0o666).unwrap_err().to_string();
        assert!(
            error.contains("0777") && error.contains("chmod o-w"),
            "{error}"
        );
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
        Socket::bind(&path, 0o666).unwrap();
    }

    #[tokio::test]
    async fn a_successor_keeps_its_socket_when_we_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("workload.sock");
        let old = Socket::bind(&path, 0o666).unwrap();
        fs::remove_file(&path).unwrap();
        let _new = Socket::bind(&path, 0o666).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
    }
}
