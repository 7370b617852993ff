//! The certificate, its key and the bundle as files: all or nothing, and the key for its owner alone.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::ask::Issued;
use crate::instant::{Span, rfc3339};

/// Why files cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub(crate) struct WriteError {
    path: PathBuf,
    source: io::Error,
}

/// Where everything goes.
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) bundle: Option<PathBuf>,
}

impl Files {
    /// Whether it can be written there, before anything is asked for.
    pub(super) fn check(&self) -> Result<(), WriteError> {
        self.paths().try_for_each(|path| {
            temporary(path, 0o600)
                .map(drop)
                .map_err(|source| WriteError {
                    path: path.to_owned(),
                    source,
                })
        })
    }

    /// Writes all files beside their places first, then moves them there.
    pub(super) fn write(&self, issued: &Issued) -> Result<(), WriteError> {
        let mut written = vec![
            write(&self.key, &issued.key, 0o600)?,
            write(&self.cert, &issued.chain(), 0o644)?,
        ];
        if let Some(path) = &self.bundle {
            written.push(write(path, &issued.bundle.to_pem(), 0o644)?);
        }
        for (path, file) in written {
            file.persist(path).map_err(|error| WriteError {
                path: path.to_owned(),
                source: error.error,
            })?;
        }
        Ok(())
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.key, &self.cert]
            .into_iter()
            .chain(&self.bundle)
            .map(PathBuf::as_path)
    }
}

fn write<'a>(
    path: &'a Path,
    text: &str,
    mode: u32,
) -> Result<(&'a Path, NamedTempFile), WriteError> {
    let attempt = || {
        let mut file = temporary(path, mode)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        Ok(file)
    };
    match attempt() {
        Ok(file) => Ok((path, file)),
        Err(source) => Err(WriteError {
            path: path.to_owned(),
            source,
        }),
    }
}

fn temporary(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(unwritable(directory, "is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(unwritable(
                directory,
                "is not there; make that directory first",
            ));
        }
        Err(error) => return Err(error),
    }
    tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        // Without the temporary name, which nobody has given it.
        .map_err(|error| io::Error::from(error.kind()))
}

fn unwritable(directory: &Path, problem: &str) -> io::Error {
    io::Error::other(format!("{} {problem}", directory.display()))
}

impl Issued {
    /// For people.
    pub(super) fn text(&self, files: Option<&Files>) -> String {
        let left = self.svid.not_after().duration_since(SystemTime::now());
        let mut text = format!(
            "issued: {}, valid for {}, until {}\n",
            self.svid.id(),
            Span(left.unwrap_or_default()),
            rfc3339(self.svid.not_after())
        );
        if let Some(files) = files {
            text.push_str(&format!("  certificate  {}\n", files.cert.display()));
            text.push_str(&format!("  key          {}\n", files.key.display()));
            if let Some(bundle) = &files.bundle {
                text.push_str(&format!("  bundle       {}\n", bundle.display()));
            }
        }
        text
    }

    /// For programs; stable. The key is there only if it is not in a file.
    pub(super) fn json(&self, files: Option<&Files>) -> Value {
        let mut value = json!({
            "spiffe_id": self.svid.id(),
            "serial": self.svid.serial(),
            "not_before": rfc3339(self.svid.not_before()),
            "not_after": rfc3339(self.svid.not_after()),
            "certificate": self.chain(),
            "bundle": self.bundle.to_pem(),
        });
        let fields = value.as_object_mut();
        match (files, fields) {
            (Some(files), Some(fields)) => {
                let places = json!({
                    "certificate": files.cert, "key": files.key, "bundle": files.bundle,
                });
                fields.insert("files".to_owned(), places);
            }
            (None, Some(fields)) => {
                fields.insert("private_key".to_owned(), json!(self.key.as_str()));
            }
            (_, None) => {}
        }
        value
    }
}
