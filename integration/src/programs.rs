//! Where the programs under test are.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A directory with binaries to test instead of those of this workspace, such as an installation's.
const INSTALLED: &str = "COUNTERSIGN_TEST_PROGRAMS";

/// Where the workspace's binaries are, once they are built by this process.
static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The binary of this name, such as `countersign-ca`.
///
/// Cargo builds the binaries of the package under test only. So the first call has cargo bring all of the workspace's up
/// to date, beside this test and in its profile: that takes a moment when they are, and a test never runs an old program.
///
/// # Errors
/// When the workspace does not build.
pub fn program(name: &str) -> io::Result<PathBuf> {
    if let Some(directory) = env::var_os(INSTALLED) {
        return Ok(Path::new(&directory).join(name));
    }
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = &*built {
        return Ok(directory.join(name));
    }
    let directory = build()?;
    let path = directory.join(name);
    *built = Some(directory);
    Ok(path)
}

/// Builds every binary, all at once: package by package, the same dependencies would be built with other features again.
fn build() -> io::Result<PathBuf> {
    // target/<profile>/deps/<test>-<hash>
    let test = env::current_exe()?;
    let profile = test.parent().and_then(|deps| deps.parent());
    let profile =
        profile.ok_or_else(|| io::Error::other("the test is not in cargo's target directory"))?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--workspace", "--bins"])
        // Its targets build for a fuzzer only.
        .args(["--exclude", "countersign-fuzz"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.file_name().is_some_and(|name| name == "release") {
        command.arg("--release");
    }
    if let Some(target) = profile.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command.status()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "cargo build of the programs under test failed: {status}"
        )));
    }
    Ok(profile.to_owned())
}
