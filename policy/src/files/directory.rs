//! Policy files in a directory, or one by one.

use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Budget, ENTRY_LIMIT, FILE_LIMIT, Kind, PolicyFiles, kind};

/// How deep directories may be nested.
const DEPTH_LIMIT: usize = 32;

/// What can be seen of a directory's policy files without reading them. It changes when they are written to.
///
/// # Errors
/// Why the directory cannot be looked through.
pub fn fingerprint(root: &Path) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for entry in walk(root)? {
        entry.name.hash(&mut hasher);
        if let Found::File(metadata) = &entry.found {
            stamp(metadata).hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

/// What changes when a file is written to or replaced.
#[must_use]
pub fn stamp(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

/// Reads the policy files below a directory, named by their paths from there.
///
/// Hidden files and directories are left out. A symbolic link to a file is followed as long as it stays within the
/// directory, one to a directory is not.
///
/// # Errors
/// Why the directory or a file in it cannot be read.
pub fn read_directory(root: &Path) -> io::Result<PolicyFiles> {
    let mut files = PolicyFiles::default();
    let mut budget = Budget::default();
    for entry in walk(root)? {
        let (name, path) = (entry.name, entry.path);
        match (entry.kind, entry.found) {
            (Kind::Other(reason), _) => files.skip(name, reason),
            (kind, Found::File(metadata)) => match budget.take(metadata.len()) {
                Ok(()) => files.add(name, kind, read_bounded(&path)?),
                Err(message) => files.mistake(name, message),
            },
            (_, Found::Mistake(message)) => files.mistake(name, message),
        }
    }
    Ok(files)
}

/// Reads one file that was asked for by its name: whatever its ending, it is policy, unless its name is that of a test.
/// It is called `name` in messages.
///
/// # Errors
/// Why the file cannot be read.
pub fn read_file(path: &Path, name: String) -> io::Result<PolicyFiles> {
    let mut files = PolicyFiles::default();
    let kind = match path.file_name().and_then(|file| kind(file.to_str()?)) {
        Some(kind) => kind,
        None => Kind::Policy,
    };
    let content = read_bounded(path)?;
    // What is no regular file has no size, and only what was read of it counts.
    let size = fs::metadata(path)?.len().max(content.len() as u64);
    match Budget::default().take(size) {
        Ok(()) => files.add(name, kind, content),
        Err(message) => files.mistake(name, message),
    }
    Ok(files)
}

/// At most one byte more than a file may have: it could grow while it is read, or be no file with an end.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}

struct Entry {
    /// Relative to the root, with `/` between its parts.
    name: String,
    path: PathBuf,
    kind: Kind,
    found: Found,
}

enum Found {
    File(Metadata),
    Mistake(String),
}

/// The directory's policy files, in the order of names. A symbolic link is followed as long as it stays within the root:
/// a mounted Kubernetes ConfigMap consists of such links.
fn walk(root: &Path) -> io::Result<Vec<Entry>> {
    let root = root.canonicalize()?;
    let mut entries = Vec::new();
    let mut directories = vec![(root.clone(), String::new(), 0_usize)];
    let mut seen = 0_usize;
    while let Some((directory, prefix, depth)) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            seen += 1;
            if seen > ENTRY_LIMIT {
                return Err(io::Error::other(format!(
                    "expected at most {ENTRY_LIMIT} files, there are more"
                )));
            }
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else {
                continue;
            };
            if file_name.starts_with('.') {
                continue;
            }
            let (name, path) = (format!("{prefix}{file_name}"), entry.path());
            let file_type = entry.file_type()?;
            if file_type.is_dir() {
                if depth == DEPTH_LIMIT {
                    return Err(io::Error::other(format!(
                        "{name} is nested more than {DEPTH_LIMIT} deep"
                    )));
                }
                directories.push((path, format!("{name}/"), depth + 1));
            } else if let Some(kind) = kind(&name) {
                entries.push(Entry {
                    found: find(&root, &path)?,
                    kind,
                    name,
                    path,
                });
            }
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

fn find(root: &Path, path: &Path) -> io::Result<Found> {
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Found::Mistake(
                "expected a file, this is a link that leads nowhere".to_owned(),
            ));
        }
        Err(error) => return Err(error),
    };
    if !target.starts_with(root) {
        return Ok(Found::Mistake(
            "expected a file, this is a link that leads out of the directory".to_owned(),
        ));
    }
    let metadata = fs::metadata(target)?;
    Ok(if metadata.is_file() {
        Found::File(metadata)
    } else {
        Found::Mistake("expected a file, this is something else".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    #[test]
    fn files_are_sorted_by_what_they_are_for() {
        let directory = directory(&[
            ("b/c.yml", "y"),
            ("a.yaml", "x"),
            ("a.test.yaml", "t"),
            ("kustomization.yaml", "resources: [a.yaml]"),
            ("README.md", "z"),
            (".git/x.yaml", "z"),
        ]);
        let files = read_directory(directory.path()).unwrap();
        let pair = |path: &str, text: &str| (path.to_owned(), text.to_owned());
        assert_eq!(files.files, [pair("a.yaml", "x"), pair("b/c.yml", "y")]);
        assert_eq!(files.tests, [pair("a.test.yaml", "t")]);
        assert_eq!(files.mistakes, []);
        assert_eq!(files.notes.len(), 1);
    }

    #[test]
    fn a_file_that_was_asked_for_is_read_whatever_its_ending() {
        let directory = directory(&[("policy.txt", "x"), ("a.test.yaml", "t")]);
        let read = |name: &str| read_file(&directory.path().join(name), name.to_owned()).unwrap();
        assert_eq!(read("policy.txt").files.len(), 1);
        assert_eq!(read("a.test.yaml").tests.len(), 1);
        let endless = read_file(Path::new("/dev/zero"), "endless".to_owned()).unwrap();
        assert_eq!((endless.files.len(), endless.mistakes.len()), (0, 1));
    }

    #[test]
    fn the_fingerprint_sees_writing_replacing_adding_and_removing() {
        let directory = directory(&[("a.yaml", "x")]);
        let mut last = fingerprint(directory.path()).unwrap();
        let mut changed = |what: &str| {
            let now = fingerprint(directory.path()).unwrap();
            assert_ne!(now, last, "{what}");
            last = now;
        };
        fs::write(directory.path().join("a.yaml"), "xy").unwrap();
        changed("writing");
        fs::write(directory.path().join("new"), "zz").unwrap();
        fs::rename(
            directory.path().join("new"),
            directory.path().join("a.yaml"),
        )
        .unwrap();
        changed("replacing");
        fs::write(directory.path().join("b.yaml"), "").unwrap();
        changed("adding");
        fs::remove_file(directory.path().join("a.yaml")).unwrap();
        changed("removing");
    }

    #[test]
    fn links_are_followed_inside_and_are_mistakes_where_they_lead_out() {
        let directory = directory(&[(".data/good.yaml", "good")]);
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.yaml"), "secret").unwrap();
        symlink(".data/good.yaml", directory.path().join("good.yaml")).unwrap();
        symlink(
            outside.path().join("secret.yaml"),
            directory.path().join("out.yaml"),
        )
        .unwrap();
        symlink("nowhere", directory.path().join("dangling.yaml")).unwrap();
        symlink("..", directory.path().join("up.yaml")).unwrap();
        let files = read_directory(directory.path()).unwrap();
        assert_eq!(files.files, [("good.yaml".to_owned(), "good".to_owned())]);
        let mistakes: Vec<_> = files
            .mistakes
            .iter()
            .map(|mistake| mistake.file.as_str())
            .collect();
        assert_eq!(mistakes, ["dangling.yaml", "out.yaml", "up.yaml"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(
            read_directory(&directory.path().join("gone"))
                .unwrap_err()
                .kind(),
            io::ErrorKind::NotFound
        );
    }
}
