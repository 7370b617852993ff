//! Whether the policy would be accepted, asked before anything is started.
//!
//! The control plane follows the repository later by itself; this is the same question, asked once, so
//! that a mistake is told at once and with its place.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use countersign_identity::TrustDomain;
use countersign_policy::files::{self, PolicyFiles};
use countersign_policy::{Diagnostics, Policy, testing};

use super::mesh::{PolicySource, Repository};

/// Why the policy would not be accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyCheckError {
    #[error("policy: no directory {}", path.display())]
    Absent { path: PathBuf },
    #[error("policy: cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("policy: cannot run git, which is needed to follow {repository}")]
    NoGit {
        repository: String,
        source: io::Error,
    },
    #[error("policy: cannot get branch {branch} of {repository}: {problem}")]
    Clone {
        repository: String,
        branch: String,
        problem: String,
    },
    #[error("policy: no room for a copy of the repository")]
    Temporary(#[source] io::Error),
    #[error("the policy of {repository} has mistakes:\n{diagnostics}")]
    Mistakes {
        repository: String,
        diagnostics: Diagnostics,
    },
    #[error("the policy of {repository} fails its own tests:\n{failures}")]
    TestsFail {
        repository: String,
        failures: Diagnostics,
    },
}

/// Reads and compiles the policy, and runs its tests.
///
/// # Errors
/// Why it cannot be read, all mistakes in it, or the tests that fail.
pub(crate) fn check(
    source: &PolicySource,
    trust_domain: &TrustDomain,
) -> Result<(), PolicyCheckError> {
    let mut files = match &source.repository {
        Repository::Local(path) if !path.is_dir() => {
            return Err(PolicyCheckError::Absent { path: path.clone() });
        }
        Repository::Local(path) if !is_git(path) => read_directory(path)?,
        repository => {
            let copy = tempfile::tempdir().map_err(PolicyCheckError::Temporary)?;
            clone(&repository.location(), &source.branch, copy.path())?;
            read_directory(copy.path())?
        }
    };
    let mistakes = |diagnostics| PolicyCheckError::Mistakes {
        repository: source.repository.location(),
        diagnostics,
    };
    let tests = testing::read(std::mem::take(&mut files.tests)).map_err(mistakes)?;
    let policy = Policy::from_files("", trust_domain, files).map_err(mistakes)?;
    let outcome = testing::run(&policy, trust_domain, tests, SystemTime::now());
    let failures = outcome.failures();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(PolicyCheckError::TestsFail {
            repository: source.repository.location(),
            failures: Diagnostics::new(failures),
        })
    }
}

/// A work tree or a bare repository.
fn is_git(path: &Path) -> bool {
    path.join(".git").exists() || (path.join("HEAD").is_file() && path.join("objects").is_dir())
}

/// Gets the newest commit of a branch. Nothing of the repository is run, and nobody is asked for a
/// password.
fn clone(repository: &str, branch: &str, into: &Path) -> Result<(), PolicyCheckError> {
    let output = Command::new("git")
        .args([
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "protocol.ext.allow=never",
        ])
        .args([
            "clone",
            "--quiet",
            "--depth=1",
            "--no-local",
            "--no-tags",
            "--branch",
            branch,
            "--",
        ])
        .arg(repository)
        .arg(into)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PolicyCheckError::NoGit {
            repository: repository.to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(PolicyCheckError::Clone {
        repository: repository.to_owned(),
        branch: branch.to_owned(),
        problem: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn read_directory(path: &Path) -> Result<PolicyFiles, PolicyCheckError> {
    files::read_directory(path).map_err(|source| PolicyCheckError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec: {rules: [{name: web, action: allow, from: [{workload: shop/web}]}]}
";
    const BAD: &str = "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: 5\n";

    fn check_at(repository: Repository) -> Result<(), String> {
        let source = PolicySource {
            repository,
            branch: "main".to_owned(),
        };
        let trust_domain = TrustDomain::parse("shop.example").unwrap();
        check(&source, &trust_domain).map_err(|error| error.to_string())
    }

    fn git(directory: &Path, arguments: &[&str]) {
        let status = Command::new("git")
            .args(arguments)
            .current_dir(directory)
            .status()
            .unwrap();
        assert!(status.success(), "{arguments:?}");
    }

    fn commit(directory: &Path) {
        git(directory, &["add", "."]);
        let author = ["-c", "user.name=test", "-c", "user.email=test@shop.example"];
        let commit = ["commit", "--quiet", "--no-gpg-sign", "--message=policy"];
        git(directory, &[author.as_slice(), commit.as_slice()].concat());
    }

    #[test]
    fn a_plain_directory_is_read_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let repository = || Repository::Local(directory.path().to_owned());
        fs::create_dir(directory.path().join("shop")).unwrap();
        fs::create_dir(directory.path().join(".github")).unwrap();
        fs::write(directory.path().join("shop/orders.yaml"), GOOD).unwrap();
        fs::write(directory.path().join(".github/ci.yaml"), BAD).unwrap();
        fs::write(directory.path().join("README.md"), BAD).unwrap();
        assert_eq!(check_at(repository()), Ok(()));
        fs::write(directory.path().join("shop/bad.yaml"), BAD).unwrap();
        let error = check_at(repository()).unwrap_err();
        assert!(error.contains("\nshop/bad.yaml:3:11: "), "{error}");
    }

    #[test]
    fn the_tests_beside_the_policy_have_to_pass() {
        let directory = tempfile::tempdir().unwrap();
        let repository = || Repository::Local(directory.path().to_owned());
        let test = |expect: &str| {
            format!(
                "apiVersion: countersign.dev/v1\nkind: PolicyTest\nmetadata: {{name: t}}\nspec:\n  tests:\n  - name: web\n    \
                 call: {{peer: shop/web, destination: {{namespace: shop, workload: orders, port: 80}}}}\n    expect: {expect}\n"
            )
        };
        let file = directory.path().join("orders.test.yaml");
        fs::write(directory.path().join("orders.yaml"), GOOD).unwrap();
        fs::write(&file, test("allow")).unwrap();
        assert_eq!(check_at(repository()), Ok(()));
        fs::write(&file, test("deny")).unwrap();
        let error = check_at(repository()).unwrap_err();
        assert!(
            error.contains("fails its own tests:\norders.test.yaml:6:5: the test \"web\" failed: expected deny, got allow"),
            "{error}"
        );
    }

    #[test]
    fn of_a_git_repository_the_branch_counts_and_not_the_work_tree() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        git(path, &["init", "--quiet", "--initial-branch=main"]);
        let file = path.join("orders.yaml");
        fs::write(&file, GOOD).unwrap();
        commit(path);
        fs::write(&file, BAD).unwrap();
        assert_eq!(check_at(Repository::Local(path.to_owned())), Ok(()));
        let url = format!("file://{}", path.display());
        assert_eq!(check_at(Repository::Remote(url)), Ok(()));
        commit(path);
        let error = check_at(Repository::Local(path.to_owned())).unwrap_err();
        assert!(error.contains("\norders.yaml:3:11: "), "{error}");
        git(path, &["branch", "--quiet", "--move", "other"]);
        let error = check_at(Repository::Local(path.to_owned())).unwrap_err();
        assert!(error.contains("cannot get branch main of "), "{error}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_told() {
        let error = check_at(Repository::Local("/no/such/policy".into())).unwrap_err();
        assert_eq!(error, "policy: no directory /no/such/policy");
    }
}
