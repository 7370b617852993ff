//! Which files of a repository or directory are policy, and how much of it is read.

use countersign_policy::Diagnostic;

/// The largest file that is read, in bytes.
pub(crate) const FILE_LIMIT: u64 = 1 << 20;
/// How much all files may hold together, in bytes.
pub(crate) const TOTAL_LIMIT: u64 = 16 << 20;
/// How many entries a repository or directory may have.
pub(crate) const ENTRY_LIMIT: usize = 50_000;

/// The policy files of one revision, and why some of it could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PolicyFiles {
    /// Path and content, in the order of paths.
    pub(crate) files: Vec<(String, String)>,
    /// A revision with mistakes is not accepted.
    pub(crate) mistakes: Vec<Diagnostic>,
}

/// Files that were good before.
impl From<Vec<(String, String)>> for PolicyFiles {
    fn from(files: Vec<(String, String)>) -> Self {
        Self {
            files,
            mistakes: Vec::new(),
        }
    }
}

impl PolicyFiles {
    /// Adds a file, if what it holds is text.
    pub(crate) fn add(&mut self, path: String, content: Vec<u8>) {
        match String::from_utf8(content) {
            Ok(text) => self.files.push((path, text)),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let before = error.as_bytes().get(..good).unwrap_or_default();
                let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
                let column = before
                    .iter()
                    .rev()
                    .take_while(|byte| **byte != b'\n')
                    .count()
                    + 1;
                self.mistake_at(
                    path,
                    line,
                    column,
                    "expected UTF-8 text, got other bytes".to_owned(),
                );
            }
        }
    }

    /// Notes what is wrong with a file as a whole.
    pub(crate) fn mistake(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.mistake_at(path.into(), 0, 0, message.into());
    }

    fn mistake_at(&mut self, file: String, line: usize, column: usize, message: String) {
        self.mistakes.push(Diagnostic {
            file,
            line,
            column,
            message,
        });
    }
}

/// Whether a path, with `/` between its parts, names a policy file: `*.yaml` and `*.yml`, but for what is hidden
/// (`.github/workflows/…`).
pub(crate) fn is_policy(path: &str) -> bool {
    let yaml = path
        .rsplit_once('.')
        .is_some_and(|(_, extension)| matches!(extension, "yaml" | "yml"));
    yaml && !path.split('/').any(|part| part.starts_with('.'))
}

/// Decides, file by file, what may still be read.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    spent: u64,
}

impl Budget {
    /// Takes a file of `size` bytes into account, or says why it is not read.
    pub(crate) fn take(&mut self, size: u64) -> Result<(), String> {
        if size > FILE_LIMIT {
            return Err(format!(
                "expected a file of at most {FILE_LIMIT} bytes, this one has {size}"
            ));
        }
        if self.spent + size > TOTAL_LIMIT {
            return Err(format!(
                "expected at most {TOTAL_LIMIT} bytes of policy files together; with this file there are more"
            ));
        }
        self.spent += size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_files_are_the_yaml_files_that_are_not_hidden() {
        for path in ["a.yaml", "shop/b.yml", "a.b/c.d.yaml"] {
            assert!(is_policy(path), "{path}");
        }
        for path in [
            "README.md",
            "yaml",
            ".github/workflows/ci.yaml",
            "a/.hidden.yaml",
            "x.yaml/readme",
            ".yaml",
        ] {
            assert!(!is_policy(path), "{path}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_is_a_mistake_with_its_position() {
        let mut files = PolicyFiles::default();
        files.add("bad.yaml".to_owned(), b"kind: x\nname: \xff".to_vec());
        assert_eq!(files.files, []);
        let mistake = files.mistakes.first().unwrap().to_string();
        assert_eq!(
            mistake,
            "bad.yaml:2:7: expected UTF-8 text, got other bytes"
        );
    }

    #[test]
    fn the_budget_refuses_what_is_too_large_and_goes_on() {
        let mut budget = Budget::default();
        assert!(budget.take(FILE_LIMIT + 1).unwrap_err().contains("1048577"));
        for _ in 0..TOTAL_LIMIT / FILE_LIMIT {
            budget.take(FILE_LIMIT).unwrap();
        }
        assert!(budget.take(1).unwrap_err().contains("together"));
        budget.take(0).unwrap();
    }
}
