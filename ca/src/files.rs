//! Files that must survive a crash whole, and must not be read by others.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// For its owner only.
pub(crate) const PRIVATE: u32 = 0o600;
/// For everybody to read.
pub(crate) const PUBLIC: u32 = 0o644;

/// No file here is longer than this; a longer one is something else.
const MAX_BYTES: u64 = 1024 * 1024;

/// Why a file of the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The system says no.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was tried: "read", "write", …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Others can read, or could have read, a key.
    #[error(
        "{path} has the mode {mode:04o}, so that others than its owner can read the key in it; expected 0600. If nobody \
         can have read it: chmod 600 {path}. Otherwise the key is lost: move the data directory away and start anew",
        path = path.display()
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can put files in the place of ours.
    #[error(
        "{path} has the mode {mode:04o}, so that others than its owner can replace the keys in it; expected 0700. \
         Check what is in it, then: chmod 700 {path}",
        path = path.display()
    )]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a regular file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What it is the path of.
        path: PathBuf,
    },
}

/// An action on a file, for the message if it fails.
pub(crate) fn cannot<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> FileError + 'a {
    move |error| FileError::Io {
        action,
        path: path.to_owned(),
        error,
    }
}

/// Makes a directory for its owner only, and its parents as usual; checks it if it is there.
pub(crate) fn private_directory(path: &Path) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(cannot("make", parent))?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = fs::metadata(path).map_err(cannot("look at", path))?.mode() & 0o7777;
            if mode & 0o022 == 0 {
                Ok(())
            } else {
                Err(FileError::WritableByOthers {
                    path: path.to_owned(),
                    mode,
                })
            }
        }
        Err(error) => Err(cannot("make", path)(error)),
    }
}

/// The text of a private file; none if there is no such file.
pub(crate) fn read_private(path: &Path) -> Result<Option<Zeroizing<String>>, FileError> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    // Of the open file, not of the path, which somebody could replace in between.
    let mode = file.metadata().map_err(cannot("look at", path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::NotPrivate {
            path: path.to_owned(),
            mode,
        });
    }
    read_text(file, path).map(Some)
}

/// The text of a public file; none if there is no such file.
pub(crate) fn read_public(path: &Path) -> Result<Option<Zeroizing<String>>, FileError> {
    open(path)?.map(|file| read_text(file, path)).transpose()
}

fn open(path: &Path) -> Result<Option<File>, FileError> {
    match File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_file()) => Ok(Some(file)),
        Ok(_) => Err(FileError::NotAFile {
            path: path.to_owned(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("read", path)(error)),
    }
}

fn read_text(file: File, path: &Path) -> Result<Zeroizing<String>, FileError> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(cannot("read", path))?;
    // Lossy: a damaged key is reported by whoever reads the text, who knows what it should be.
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Puts a file in its place so that, whatever happens, the old or the new one is there whole: a temporary file beside it,
/// to the disk, then renamed, and the directory to the disk.
pub(crate) fn write_atomically(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}.new", std::process::id()));
    let write = || {
        // Of a process that had the same id, and crashed.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(cannot("write", path)).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    })?;
    sync_directory(directory)
}

/// Makes renames and removals in a directory survive a crash.
pub(crate) fn sync_directory(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(cannot("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_written_file_is_private_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        assert!(read_private(&path).unwrap().is_none());
        write_atomically(&path, "old", PRIVATE).unwrap();
        write_atomically(&path, "new", PRIVATE).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap().as_str(), "new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write_atomically(&path, "secret", PRIVATE).unwrap();
        for bits in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            let error = read_private(&path).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{bits:04o}")) && error.contains("chmod 600"),
                "{error}"
            );
            assert!(!error.contains("secret"));
        }
        assert!(matches!(
            read_private(directory.path()),
            Err(FileError::NotAFile { .. })
        ));
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        private_directory(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        private_directory(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        let error = private_directory(&path).unwrap_err().to_string();
        assert!(
            error.contains("0770") && error.contains("chmod 700"),
            "{error}"
        );
    }
}
