//! Policy in a plain directory, without git: its revision is a hash of what its policy files hold.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use crate::files::{self, Budget, ENTRY_LIMIT, PolicyFiles};

/// How deep directories may be nested.
const DEPTH_LIMIT: usize = 32;

/// What can be seen of a directory's policy files without reading them. It changes when they are written to.
pub(crate) fn fingerprint(root: &Path) -> io::Result<u64> {
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
pub(crate) fn stamp(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    )
}

/// Reads the directory's policy files; the revision is `sha256:…` of their names and contents.
pub(crate) fn read(root: &Path) -> io::Result<(String, PolicyFiles)> {
    let mut files = PolicyFiles::default();
    let mut budget = Budget::default();
    for Entry { name, path, found } in walk(root)? {
        match found {
            Found::File(metadata) => match budget.take(metadata.len()) {
                Ok(()) => files.add(name, fs::read(path)?),
                Err(message) => files.mistake(name, message),
            },
            Found::Mistake(message) => files.mistake(name, message),
        }
    }
    Ok((revision(&files), files))
}

fn revision(files: &PolicyFiles) -> String {
    let mut context = Context::new(&SHA256);
    let mut field = |text: &str| {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    for (path, text) in &files.files {
        field(path);
        field(text);
    }
    for mistake in &files.mistakes {
        field(&mistake.to_string());
    }
    format!("sha256:{}", hex::encode(context.finish()))
}

struct Entry {
    /// Relative to the root, with `/` between its parts.
    name: String,
    path: PathBuf,
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
            let kind = entry.file_type()?;
            if kind.is_dir() {
                if depth == DEPTH_LIMIT {
                    return Err(io::Error::other(format!(
                        "{name} is nested more than {DEPTH_LIMIT} deep"
                    )));
                }
                directories.push((path, format!("{name}/"), depth + 1));
            } else if files::is_policy(&name) {
                entries.push(Entry {
                    found: find(&root, &path)?,
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
    fn the_revision_depends_on_names_and_contents_and_nothing_else() {
        let one = directory(&[("a.yaml", "x"), ("b/c.yml", "y"), ("README.md", "one")]);
        let same = directory(&[
            ("b/c.yml", "y"),
            ("a.yaml", "x"),
            ("README.md", "other"),
            (".git/x.yaml", "z"),
        ]);
        let other = directory(&[("a.yaml", "xb/c.yml"), ("b/c.yml", "y")]);
        let (revision, files) = read(one.path()).unwrap();
        assert!(
            revision.starts_with("sha256:") && revision.len() == 71,
            "{revision}"
        );
        assert_eq!(
            files.files,
            [
                ("a.yaml".into(), "x".into()),
                ("b/c.yml".into(), "y".into())
            ]
        );
        assert_eq!(read(same.path()).unwrap().0, revision);
        assert_ne!(read(other.path()).unwrap().0, revision);
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
        let (_, files) = read(directory.path()).unwrap();
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
            read(&directory.path().join("gone")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
