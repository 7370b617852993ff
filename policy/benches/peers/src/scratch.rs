//! Directories for the time of a measurement.

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

/// Removed when it is done with.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty one; `name` is of this process's own choice.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let name = format!("countersign-bench-{}-{name}", process::id());
        let directory = Self(env::temp_dir().join(name));
        fs::create_dir_all(&directory.0)?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
