//! What `make` builds or fetches for tests, outside of the clone: `$XDG_CACHE_HOME/countersign`, by default
//! `~/.cache/countersign`.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// A file of the cache, such as `kubernetes-1.36.3/kube-apiserver`, if it is there.
///
/// # Errors
/// It is not, and this is CI (`CI=true`), where every test has to run. Elsewhere that is told on stderr, and the test is to
/// end.
pub fn cached(path: &str, made_by: &str) -> io::Result<Option<PathBuf>> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let file = cache.map(|cache| cache.join("countersign").join(path));
    if let Some(file) = file.filter(|file| file.exists()) {
        return Ok(Some(file));
    }
    let missing = format!("{path} is not there; it comes with: {made_by}");
    if env::var("CI").as_deref() == Ok("true") {
        return Err(io::Error::new(io::ErrorKind::NotFound, missing));
    }
    writeln!(io::stderr(), "NOT RUN: {missing}")?;
    Ok(None)
}

/// Whether a program is in the PATH, which it gets there by `from`. A test that cannot run says so, and fails where nobody
/// would read it.
///
/// # Panics
/// It is not, and this is CI (`CI=true`).
#[must_use]
pub fn is_there(program: &str, from: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let there = env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !there {
        let missing = format!("{program} is missing; it comes from: {from}");
        assert!(env::var("CI").as_deref() != Ok("true"), "{missing}");
        // If standard error is gone there is nobody to tell.
        let _ = writeln!(io::stderr(), "NOT TESTED: {missing}");
    }
    there
}
