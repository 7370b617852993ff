//! Real git repositories for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::git::Branch;

/// A repository in a directory of its own, removed in the end.
pub(crate) struct TestRepository {
    directory: tempfile::TempDir,
}

pub(crate) fn main_branch() -> Branch {
    "main".parse().unwrap()
}

impl TestRepository {
    /// A repository whose branch `main` has no commit yet.
    pub(crate) fn new() -> Self {
        let repository = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        repository.git(["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits everything and returns the commit.
    pub(crate) fn commit(&self) -> String {
        self.git(["add", "--all"]);
        self.git(["commit", "--quiet", "--allow-empty", "--message=test"]);
        self.git(["rev-parse", "HEAD"])
    }

    /// Runs git in the repository; what it prints, less the last line feed.
    pub(crate) fn git<const N: usize>(&self, arguments: [&str; N]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.path())
            .args([
                "-c",
                "user.name=Test",
                "-c",
                "user.email=test@example.org",
                "-c",
                "commit.gpgSign=false",
            ])
            .args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }
}
