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
    #[error("{} is missing; build everything with `cargo build --workspace`", program.display())]
    Missing { program: PathBuf },
    #[error("{} cannot be run", program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
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
    /// This project's programs, where they should be.
    ///
    /// # Errors
    /// It cannot be found out where this program is.
    pub(crate) fn beside_this() -> Result<Self, ProgramError> {
        let this = std::env::current_exe().map_err(ProgramError::Itself)?;
        Ok(Self::in_directory(this.parent().unwrap_or(Path::new("/"))))
    }

    fn in_directory(directory: &Path) -> Self {
        Self {
            ca: directory.join("countersign-ca"),
            control: directory.join("countersign-control"),
            proxy: directory.join("countersign-proxy"),
            directory: directory.to_owned(),
        }
    }

    /// Whether they are there.
    ///
    /// # Errors
    /// Every one that is missing.
    pub(crate) fn missing(&self) -> Result<(), Vec<ProgramError>> {
        let missing: Vec<_> = [&self.ca, &self.control, &self.proxy]
            .into_iter()
            .filter(|program| !is_executable(program))
            .map(|program| ProgramError::Missing {
                program: program.clone(),
            })
            .collect();
        if missing.is_empty() {
            Ok(())
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
        let programs = Programs::in_directory(directory.path());
        let missing = programs.missing().unwrap_err();
        let [
            ProgramError::Missing { program: ca },
            ProgramError::Missing { program: proxy },
        ] = missing.as_slice()
        else {
            panic!("{missing:?}");
        };
        assert_eq!((ca, proxy), (&programs.ca, &programs.proxy));
    }

    #[test]
    fn commands_are_looked_up_near_first() {
        let (mesh, programs, path) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let found = Programs::in_directory(programs.path());
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
