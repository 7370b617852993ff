//! Finds the programs that `up` runs: those of this project, and the workloads' commands.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The programs of this project, which stand beside `countersign` itself.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    directory: PathBuf,
    pub(crate) ca: PathBuf,
    pub(crate) control: PathBuf,
    pub(crate) proxy: PathBuf,
}

/// Why a program cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("cannot find out where this program is")]
    Itself(#[source] io::Error),
    #[error(
        "{name} is not in {}, beside this program; build everything with `cargo build --workspace`",
        directory.display()
    )]
    Missing {
        name: &'static str,
        directory: PathBuf,
    },
    #[error(
        "workload {workload}: the command {command} was not found; looked in {}, {} and PATH",
        mesh.display(), programs.display()
    )]
    Command {
        workload: String,
        command: String,
        mesh: PathBuf,
        programs: PathBuf,
    },
}

impl Programs {
    /// Finds this project's programs.
    ///
    /// # Errors
    /// Every one that is missing.
    pub(crate) fn find() -> Result<Self, Vec<ProgramError>> {
        let itself = std::env::current_exe().map_err(|error| vec![ProgramError::Itself(error)])?;
        Self::find_in(itself.parent().unwrap_or(Path::new("/")))
    }

    fn find_in(directory: &Path) -> Result<Self, Vec<ProgramError>> {
        let mut missing = Vec::new();
        let mut find = |name: &'static str| {
            let path = directory.join(name);
            if !is_executable(&path) {
                missing.push(ProgramError::Missing {
                    name,
                    directory: directory.to_owned(),
                });
            }
            path
        };
        let programs = Self {
            ca: find("countersign-ca"),
            control: find("countersign-control"),
            proxy: find("countersign-proxy"),
            directory: directory.to_owned(),
        };
        if missing.is_empty() {
            Ok(programs)
        } else {
            Err(missing)
        }
    }

    /// Finds a workload's command: from the mesh file's directory, beside this program, on the PATH.
    pub(crate) fn command(
        &self,
        workload: &str,
        command: &str,
        mesh_directory: &Path,
        path: Option<&OsStr>,
    ) -> Result<PathBuf, ProgramError> {
        let mut places = vec![mesh_directory.to_owned(), self.directory.clone()];
        // As in a shell, what has a slash in it is not looked up on the PATH.
        if !command.contains('/') {
            places.extend(path.iter().flat_map(std::env::split_paths));
        }
        places
            .into_iter()
            .map(|place| place.join(command))
            .find(|candidate| is_executable(candidate))
            .ok_or_else(|| ProgramError::Command {
                workload: workload.to_owned(),
                command: command.to_owned(),
                mesh: mesh_directory.to_owned(),
                programs: self.directory.clone(),
            })
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(path: &Path) {
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn every_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        executable(&directory.path().join("countersign-control"));
        let errors = Programs::find_in(directory.path()).unwrap_err();
        let names: Vec<_> = errors
            .iter()
            .map(|error| match error {
                ProgramError::Missing { name, .. } => *name,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(names, ["countersign-ca", "countersign-proxy"]);
    }

    #[test]
    fn commands_are_looked_up_near_first() {
        let (mesh, programs, path) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        for name in ["countersign-ca", "countersign-control", "countersign-proxy"] {
            executable(&programs.path().join(name));
        }
        let found = Programs::find_in(programs.path()).unwrap();
        let find = |command: &str| {
            found.command("web", command, mesh.path(), Some(path.path().as_os_str()))
        };
        let places = [path.path(), programs.path(), mesh.path()];
        for place in places {
            executable(&place.join("shop"));
            assert_eq!(find("shop").unwrap(), place.join("shop"));
        }
        fs::create_dir(mesh.path().join("bin")).unwrap();
        executable(&mesh.path().join("bin/tool"));
        assert_eq!(find("bin/tool").unwrap(), mesh.path().join("bin/tool"));
        assert_eq!(find("/bin/sh").unwrap(), Path::new("/bin/sh"));
        // A directory is no program, nor is a file that nobody may execute.
        fs::write(mesh.path().join("data"), "").unwrap();
        assert!(find("bin").is_err());
        let error = find("data").unwrap_err().to_string();
        assert!(error.starts_with("workload web: the command data was not found; looked in "));
    }
}
