//! Where the programs under test are.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// What was built by this process.
static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// The binary of one of the workspace's packages, such as `countersign-ca`, which is both names.
///
/// Cargo builds the binaries of the package under test only. So the first call for a package has cargo bring it up to
/// date, beside this test and in its profile: that takes a moment when it is, and a test never runs an old program.
///
/// # Errors
/// When it does not build.
pub fn program(package: &str) -> io::Result<PathBuf> {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(package) {
        return Ok(path.clone());
    }
    let path = build(package)?;
    built.insert(package.to_owned(), path.clone());
    Ok(path)
}

fn build(package: &str) -> io::Result<PathBuf> {
    // target/<profile>/deps/<test>-<hash>
    let test = env::current_exe()?;
    let profile = test.parent().and_then(|deps| deps.parent());
    let profile =
        profile.ok_or_else(|| io::Error::other("the test is not in cargo's target directory"))?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", package, "--bins"])
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
            "cargo build --package {package} failed: {status}"
        )));
    }
    Ok(profile.join(package))
}
