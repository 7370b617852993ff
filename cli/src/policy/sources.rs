//! Reads the policy that the command line names: files, directories, standard input.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use countersign_policy::files::{self, FILE_LIMIT, Kind, PolicyFiles};

/// What standard input is called in messages.
const STDIN: &str = "stdin";

/// Why policy cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    #[error("{}: expected a path in UTF-8", path.display())]
    NotUtf8 { path: PathBuf },
    #[error("standard input (`-`) can be read once, and was named twice")]
    StdinTwice,
}

/// Reads policy files and their tests: each path is a file, a directory that is read recursively, or `-` for standard
/// input. Messages name a file as the path did, so that a terminal or an editor finds it.
///
/// # Errors
/// Why a path cannot be read. What is wrong with the files themselves is among their mistakes.
pub(crate) fn read(paths: &[PathBuf]) -> Result<PolicyFiles, SourceError> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(SourceError::StdinTwice);
    }
    let mut all = PolicyFiles::default();
    for path in paths {
        all.extend(read_one(path)?);
    }
    // A file that was named twice, itself and by its directory, is one file.
    for list in [&mut all.files, &mut all.tests] {
        list.sort();
        list.dedup();
    }
    Ok(all)
}

fn read_one(path: &Path) -> Result<PolicyFiles, SourceError> {
    if is_stdin(path) {
        return stdin().map_err(SourceError::Stdin);
    }
    let failed = |source| SourceError::Read {
        path: path.to_owned(),
        source,
    };
    let name = path.to_str().ok_or_else(|| SourceError::NotUtf8 {
        path: path.to_owned(),
    })?;
    if path.is_dir() {
        let files = files::read_directory(path).map_err(failed)?;
        Ok(below(name, files))
    } else {
        let name = name.strip_prefix("./").unwrap_or(name);
        files::read_file(path, name.to_owned()).map_err(failed)
    }
}

/// Paths in a message.
pub(crate) fn named(paths: &[PathBuf]) -> String {
    let named: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    named.join(" and ")
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn stdin() -> io::Result<PolicyFiles> {
    let mut content = Vec::new();
    io::stdin()
        .lock()
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut content)?;
    let mut files = PolicyFiles::default();
    if content.len() as u64 > FILE_LIMIT {
        let message = format!(
            "expected at most {FILE_LIMIT} bytes (1 MiB): split it into files and name their directory"
        );
        files.mistake(STDIN, message);
    } else {
        files.add(STDIN.to_owned(), Kind::Policy, content);
    }
    Ok(files)
}

/// The files of a directory, named from where the command runs.
fn below(directory: &str, mut files: PolicyFiles) -> PolicyFiles {
    let directory = directory.strip_prefix("./").unwrap_or(directory);
    let prefix = match directory.trim_end_matches('/') {
        "" if directory.is_empty() => String::new(),
        "." => String::new(),
        name => format!("{name}/"),
    };
    for (name, _) in files.files.iter_mut().chain(&mut files.tests) {
        name.insert_str(0, &prefix);
    }
    for told in files.mistakes.iter_mut().chain(&mut files.notes) {
        told.file.insert_str(0, &prefix);
    }
    files
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_named_as_the_command_line_named_them() {
        let name = |directory: &str| {
            let files = PolicyFiles::from(vec![("shop/a.yaml".to_owned(), String::new())]);
            below(directory, files).files.remove(0).0
        };
        assert_eq!(name("."), "shop/a.yaml");
        assert_eq!(name("./"), "shop/a.yaml");
        assert_eq!(name("policy"), "policy/shop/a.yaml");
        assert_eq!(name("./policy/"), "policy/shop/a.yaml");
        assert_eq!(name("/"), "/shop/a.yaml");
        assert_eq!(name("../policy"), "../policy/shop/a.yaml");
    }

    #[test]
    fn a_file_named_itself_and_by_its_directory_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        fs::write(&file, "x").unwrap();
        let files = read(&[directory.path().to_owned(), file]).unwrap();
        assert_eq!(files.files.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let error = read(&["/no/such/policy".into()]).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /no/such/policy");
        let error = read(&["-".into(), "-".into()]).unwrap_err();
        assert!(matches!(error, SourceError::StdinTwice));
    }
}
