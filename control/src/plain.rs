//! Policy in a plain directory, without git: its revision is a hash of what its policy files hold.

use std::io;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use countersign_policy::files::{self, PolicyFiles};

/// Reads the directory's policy files; the revision is `sha256:…` of their names and contents.
pub(crate) fn read(root: &Path) -> io::Result<(String, PolicyFiles)> {
    let files = files::read_directory(root)?;
    Ok((revision(&files), files))
}

fn revision(files: &PolicyFiles) -> String {
    let mut context = Context::new(&SHA256);
    let mut field = |text: &str| {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    };
    for (path, text) in files.files.iter().chain(&files.tests) {
        field(path);
        field(text);
    }
    for mistake in &files.mistakes {
        field(&mistake.to_string());
    }
    format!("sha256:{}", hex::encode(context.finish()))
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let tested = directory(&[("a.yaml", "x"), ("b/c.yml", "y"), ("a.test.yaml", "t")]);
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
        assert_ne!(read(tested.path()).unwrap().0, revision);
    }
}
