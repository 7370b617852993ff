//! The policy repository of the demo.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// A git repository with one branch, `main`.
pub(crate) struct Repository {
    directory: PathBuf,
}

/// A repository that cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("git cannot be run; install it with: apt-get install git")]
    Run(#[source] io::Error),
    #[error("`git {command}` failed: {stderr}")]
    Failed { command: String, stderr: String },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} has no {text:?} to replace", path.display())]
    NotThere { path: PathBuf, text: String },
}

impl Repository {
    /// A new repository with a copy of a directory's files as its first commit.
    pub(crate) fn with_copy_of(source: &Path, directory: &Path) -> Result<Self, GitError> {
        let failed = |path: &Path, source| GitError::File {
            path: path.to_owned(),
            source,
        };
        fs::create_dir(directory).map_err(|error| failed(directory, error))?;
        for entry in fs::read_dir(source).map_err(|error| failed(source, error))? {
            let from = entry.map_err(|error| failed(source, error))?;
            let to = directory.join(from.file_name());
            fs::copy(from.path(), &to).map_err(|error| failed(&to, error))?;
        }
        let repository = Self {
            directory: directory.to_owned(),
        };
        repository.git(&["init", "--quiet", "--initial-branch", "main"])?;
        repository.commit("Say who may call whom")?;
        Ok(repository)
    }

    /// A file's text.
    pub(crate) fn read(&self, file: &str) -> Result<String, GitError> {
        let path = self.directory.join(file);
        fs::read_to_string(&path).map_err(|source| GitError::File { path, source })
    }

    /// Replaces a piece of a file, which must be there, and commits; gives the new commit.
    pub(crate) fn change(
        &self,
        file: &str,
        from: &str,
        to: &str,
        message: &str,
    ) -> Result<String, GitError> {
        let path = self.directory.join(file);
        let text = self.read(file)?;
        if !text.contains(from) {
            return Err(GitError::NotThere {
                path,
                text: from.to_owned(),
            });
        }
        fs::write(&path, text.replacen(from, to, 1))
            .map_err(|source| GitError::File { path, source })?;
        self.commit(message)
    }

    fn commit(&self, message: &str) -> Result<String, GitError> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Runs git on this repository alone: whatever the user has configured, and whatever repository surrounds it.
    fn git(&self, arguments: &[&str]) -> Result<String, GitError> {
        let output = Command::new("git")
            .args(["-c", "user.name=demo", "-c", "user.email=demo@shop.example"])
            .args([
                "-c",
                "commit.gpgSign=false",
                "-c",
                "core.hooksPath=/dev/null",
            ])
            .args(arguments)
            .current_dir(&self.directory)
            .env(
                "GIT_CEILING_DIRECTORIES",
                self.directory.parent().unwrap_or(&self.directory),
            )
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .output()
            .map_err(GitError::Run)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(GitError::Failed {
            command: arguments.join(" "),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_commit_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let source = place.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("a.yaml"), "one two").unwrap();
        let repository = Repository::with_copy_of(&source, &place.path().join("copy")).unwrap();
        let commit = repository
            .change("a.yaml", "two", "three", "count")
            .unwrap();
        assert_eq!(commit.len(), 40);
        assert_eq!(repository.read("a.yaml").unwrap(), "one three");
        let error = repository
            .change("a.yaml", "two", "four", "count")
            .unwrap_err();
        assert!(matches!(error, GitError::NotThere { .. }), "{error}");
    }
}
