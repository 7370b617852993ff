//! Which files of a repository or directory are policy, and how much of it is read.
//!
//! One answer for everyone who reads policy, so that what the command line checks is what the control plane accepts.

mod directory;

pub use directory::{fingerprint, read_directory, read_file, stamp};

use crate::Diagnostic;

/// The largest file that is read, in bytes.
pub const FILE_LIMIT: u64 = 1 << 20;
/// How much all files may hold together, in bytes.
pub const TOTAL_LIMIT: u64 = 16 << 20;
/// How many entries a repository or directory may have.
pub const ENTRY_LIMIT: usize = 50_000;

/// What a file with the ending of YAML is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Policy documents.
    Policy,
    /// Tests of the policy, `*.test.yaml`: decided by it, and no part of it.
    Test,
    /// Another tool's, for the reason given. Left out, and noted.
    Other(&'static str),
}

/// What a path, with `/` between its parts, names: `None` if it is no YAML (`*.yaml`, `*.yml`), or is hidden
/// (`.github/workflows/…`).
#[must_use]
pub fn kind(path: &str) -> Option<Kind> {
    if path.split('/').any(|part| part.starts_with('.')) {
        return None;
    }
    let (stem, extension) = path.rsplit_once('.')?;
    if !matches!(extension, "yaml" | "yml") {
        return None;
    }
    let name = stem.rsplit('/').next().unwrap_or(stem);
    Some(if name.ends_with(".test") {
        Kind::Test
    } else if name == "kustomization" {
        Kind::Other("a kustomization is no policy")
    } else {
        Kind::Policy
    })
}

/// The policy files of one revision, and why some of it could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyFiles {
    /// Path and content of the policy, in the order of paths.
    pub files: Vec<(String, String)>,
    /// Path and content of its tests, in the order of paths.
    pub tests: Vec<(String, String)>,
    /// A revision with mistakes is not accepted.
    pub mistakes: Vec<Diagnostic>,
    /// What was left out, and why; no mistake.
    pub notes: Vec<Diagnostic>,
}

/// Policy files that were good before.
impl From<Vec<(String, String)>> for PolicyFiles {
    fn from(files: Vec<(String, String)>) -> Self {
        Self {
            files,
            ..Self::default()
        }
    }
}

impl PolicyFiles {
    /// Adds a file, if what it holds is text.
    pub fn add(&mut self, path: String, kind: Kind, content: Vec<u8>) {
        let list = match kind {
            Kind::Policy => &mut self.files,
            Kind::Test => &mut self.tests,
            Kind::Other(reason) => return self.skip(path, reason),
        };
        match String::from_utf8(content) {
            Ok(text) => list.push((path, text)),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let before = error.as_bytes().get(..good).unwrap_or_default();
                let line_start = before.iter().rposition(|byte| *byte == b'\n');
                let last_line = before
                    .get(line_start.map_or(0, |at| at + 1)..)
                    .unwrap_or_default();
                self.mistakes.push(Diagnostic {
                    file: path,
                    line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
                    column: String::from_utf8_lossy(last_line).chars().count() + 1,
                    message: "expected UTF-8 text, got other bytes".to_owned(),
                });
            }
        }
    }

    /// Notes that a file was left out.
    pub fn skip(&mut self, path: impl Into<String>, reason: &str) {
        self.notes
            .push(whole_file(path.into(), format!("skipped: {reason}")));
    }

    /// Notes what is wrong with a file as a whole.
    pub fn mistake(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.mistakes.push(whole_file(path.into(), message.into()));
    }

    /// Adds the files of another place.
    pub fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
        self.tests.extend(other.tests);
        self.mistakes.extend(other.mistakes);
        self.notes.extend(other.notes);
    }
}

fn whole_file(file: String, message: String) -> Diagnostic {
    Diagnostic {
        file,
        line: 0,
        column: 0,
        message,
    }
}

/// Decides, file by file, what may still be read.
#[derive(Debug, Default)]
pub struct Budget {
    spent: u64,
}

impl Budget {
    /// Takes a file of `size` bytes into account.
    ///
    /// # Errors
    /// Why it is not read.
    pub fn take(&mut self, size: u64) -> Result<(), String> {
        if size > FILE_LIMIT {
            return Err(format!(
                "expected a file of at most {FILE_LIMIT} bytes (1 MiB), this one has {size}: split it, documents may be in as many files as you like"
            ));
        }
        if self.spent + size > TOTAL_LIMIT {
            return Err(format!(
                "expected at most {TOTAL_LIMIT} bytes (16 MiB) of files of policy and tests together, with this file there are more: \
                 move what is no policy out of the directory, or let one rule with a list of alternatives say what several say"
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
    fn yaml_files_that_are_not_hidden_are_policy_tests_or_another_tools() {
        for path in ["a.yaml", "shop/b.yml", "a.b/c.d.yaml", "test.yaml"] {
            assert_eq!(kind(path), Some(Kind::Policy), "{path}");
        }
        for path in ["a.test.yaml", "shop/b.c.test.yml"] {
            assert_eq!(kind(path), Some(Kind::Test), "{path}");
        }
        for path in ["kustomization.yaml", "shop/kustomization.yml"] {
            assert!(matches!(kind(path), Some(Kind::Other(_))), "{path}");
        }
        for path in [
            "README.md",
            "yaml",
            ".github/workflows/ci.yaml",
            "a/.hidden.yaml",
            "x.yaml/readme",
            ".yaml",
        ] {
            assert_eq!(kind(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_that_is_no_text_is_a_mistake_with_its_position() {
        let mut files = PolicyFiles::default();
        files.add(
            "bad.yaml".to_owned(),
            Kind::Policy,
            b"kind: x\nn\xc3\xa4: \xff".to_vec(),
        );
        assert_eq!(files.files, []);
        let mistake = files.mistakes.first().unwrap().to_string();
        assert_eq!(
            mistake,
            "bad.yaml:2:5: expected UTF-8 text, got other bytes"
        );
    }

    #[test]
    fn what_is_another_tools_is_noted() {
        let mut files = PolicyFiles::default();
        let path = "shop/kustomization.yaml";
        files.add(path.to_owned(), kind(path).unwrap(), b"\xff".to_vec());
        assert_eq!((files.files.len(), files.mistakes.len()), (0, 0));
        assert_eq!(
            files.notes.first().unwrap().to_string(),
            "shop/kustomization.yaml: skipped: a kustomization is no policy"
        );
    }

    #[test]
    fn the_budget_refuses_what_is_too_large_and_goes_on() {
        let mut budget = Budget::default();
        let too_large = budget.take(FILE_LIMIT + 1).unwrap_err();
        assert!(too_large.contains("1048577: split it"), "{too_large}");
        for _ in 0..TOTAL_LIMIT / FILE_LIMIT {
            budget.take(FILE_LIMIT).unwrap();
        }
        let too_many = budget.take(1).unwrap_err();
        assert!(
            too_many.starts_with("expected at most 16777216 bytes (16 MiB)"),
            "{too_many}"
        );
        assert!(
            too_many.contains("move what is no policy out of the directory"),
            "{too_many}"
        );
        budget.take(0).unwrap();
    }
}
