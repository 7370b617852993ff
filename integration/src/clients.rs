//! Clients of others, in other languages: built or installed once, outside of the clone, from pinned versions.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::is_there;

/// The Go client, built from `clients/go-spiffe`. `None`: there is no Go here, which has been told, and is a failure in CI.
///
/// # Errors
/// It does not build.
pub fn go_client() -> io::Result<Option<PathBuf>> {
    if !is_there("go", "https://go.dev/dl (1.25 or later)") {
        return Ok(None);
    }
    let source = source("go-spiffe");
    let cache = Cache::lock("go-spiffe")?;
    let binary = cache.directory.join("go-spiffe");
    // Go knows itself what is up to date.
    let mut build = Command::new("go");
    build
        .args(["build", "-mod=readonly", "-trimpath", "-o"])
        .arg(&binary)
        .arg(".")
        .current_dir(source);
    run(&mut build)?;
    Ok(Some(binary))
}

/// The Python client: an interpreter that has the packages of `clients/python-spiffe`, and the program. `None` as of
/// [`go_client`].
///
/// # Errors
/// The packages cannot be installed.
pub fn python_client() -> io::Result<Option<(PathBuf, PathBuf)>> {
    if !is_there("python3", "apt-get install python3 python3-venv") {
        return Ok(None);
    }
    let source = source("python-spiffe");
    let requirements = source.join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    let cache = Cache::lock("python-spiffe")?;
    let environment = cache.directory.join("venv");
    let python = environment.join("bin/python");
    let installed = cache.directory.join("installed.txt");
    if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&environment);
        run(&mut make)?;
        let mut install = Command::new(&python);
        install
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
            ])
            .args([OsStr::new("--requirement"), requirements.as_os_str()]);
        run(&mut install)?;
        fs::write(&installed, wanted)?;
    }
    Ok(Some((python, source.join("client.py"))))
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(name)
}

/// A directory that one test at a time fills.
struct Cache {
    directory: PathBuf,
    _lock: File,
}

impl Cache {
    fn lock(name: &str) -> io::Result<Self> {
        let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
        let base =
            base.ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME is set"))?;
        let directory = base.join("countersign/clients").join(name);
        fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )))
}
