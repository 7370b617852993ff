//! Policy as it is in a directory, or was at a revision of the git repository that the command runs in.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use countersign_identity::TrustDomain;
use countersign_policy::document::API_VERSION;
use countersign_policy::files::{self, Budget, ENTRY_LIMIT, Kind, PolicyFiles};
use countersign_policy::{Diagnostics, Policy};

use super::sources::{self, SourceError};

/// How git says that an entry of a tree is a file, in octal.
const FILE_MODES: [&str; 2] = ["100644", "100755"];

/// What may be given as policy.
const EXPECTED: &str = "a directory, a file, or a git revision such as main~1 (this directory then) or v1:policies/ (a path of the repository)";

/// Why there is no policy to compare.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevisionError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot run git, which would have to say what {spec} is: there is no such path")]
    NoGit { spec: String, source: io::Error },
    #[error(
        "there is no path {spec}, and no git repository here whose revision it could be: expected {EXPECTED}"
    )]
    NoRepository { spec: String },
    #[error(
        "the git repository {} has no revision {revision}{help}, and there is no path {spec}: expected {EXPECTED}",
        repository.display()
    )]
    NoRevision {
        spec: String,
        revision: String,
        repository: PathBuf,
        help: String,
    },
    #[error(
        "at the revision {revision} of the git repository {} there is no {path}: expected {EXPECTED}",
        repository.display()
    )]
    NoPath {
        revision: String,
        path: String,
        repository: PathBuf,
    },
    #[error(
        "git does not say what {spec} is, and there is no such path: {told}; expected {EXPECTED}"
    )]
    Unknown { spec: String, told: String },
    #[error(
        "there is no policy in {spec}: expected documents of {API_VERSION} in files that end in .yaml or .yml"
    )]
    Empty { spec: String },
    #[error("git {command} failed for {spec}: {told}")]
    Git {
        command: &'static str,
        spec: String,
        told: String,
    },
    #[error("the policy in {spec} has mistakes:\n{mistakes}")]
    Mistakes { spec: String, mistakes: Diagnostics },
}

/// Reads and compiles the policy of a path, or of a git revision: `REV` is what the working directory was then,
/// `REV:PATH` what is at a path of the repository. A path that there is comes first.
///
/// # Errors
/// Why it cannot be read, or every mistake in it, or that there is no policy.
pub(crate) fn policy(spec: &str, trust_domain: &TrustDomain) -> Result<Policy, RevisionError> {
    let policy = earlier_policy(spec, trust_domain)?;
    match policy.is_empty() {
        true => Err(RevisionError::Empty {
            spec: spec.to_owned(),
        }),
        false => Ok(policy),
    }
}

/// [`policy`], which may be none yet.
///
/// # Errors
/// Why it cannot be read, or every mistake in it.
pub(crate) fn earlier_policy(
    spec: &str,
    trust_domain: &TrustDomain,
) -> Result<Policy, RevisionError> {
    let path = Path::new(spec);
    let files = if spec == "-" || path.exists() {
        sources::read(&[PathBuf::from(spec)])?
    } else {
        at_revision(spec)?
    };
    Policy::from_files("", trust_domain, files).map_err(|mistakes| RevisionError::Mistakes {
        spec: spec.to_owned(),
        mistakes,
    })
}

fn at_revision(spec: &str) -> Result<PolicyFiles, RevisionError> {
    let (object, name) = resolve(spec)?;
    let git = |command: &'static str, arguments: &[&str], input: &[u8]| {
        let output = git(spec, command, arguments, input)?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(RevisionError::Git {
                command,
                spec: spec.to_owned(),
                told: stderr(&output),
            }),
        }
    };
    let kind = git("cat-file", &["-t", &object], b"")?;
    let mut found = PolicyFiles::default();
    if kind.starts_with(b"blob") {
        let content = git("cat-file", &["blob", &object], b"")?;
        match Budget::default().take(content.len() as u64) {
            Ok(()) => found.add(name, Kind::Policy, content),
            Err(why) => found.mistake(name, why),
        }
        return Ok(found);
    }
    let tree = git("ls-tree", &["-r", "-l", "-z", "--full-tree", &object], b"")?;
    let wanted = choose(&tree, &name, &mut found);
    let mut input = Vec::new();
    for (_, _, object) in &wanted {
        input.extend_from_slice(object.as_bytes());
        input.push(b'\n');
    }
    let contents = git("cat-file", &["--batch"], &input)?;
    let mut rest = contents.as_slice();
    for (path, kind, _) in wanted {
        let Some(content) = next_object(&mut rest) else {
            found.mistake(path, "git did not give its content");
            continue;
        };
        found.add(path, kind, content.to_vec());
    }
    Ok(found)
}

/// What git says when there is no such revision, and nothing more to be said.
const NO_REVISION: &str = "Needed a single revision";

/// The object that a revision names, and what messages call the place.
fn resolve(spec: &str) -> Result<(String, String), RevisionError> {
    let repository = repository(spec)?;
    let parse = |object: &str| parse(spec, object);
    if let Some((revision, path)) = spec.split_once(':') {
        let name = format!("{revision}:{}", path.trim_start_matches("./"));
        return match parse(spec)? {
            Ok(object) => Ok((object, name)),
            Err(_) if parse(&format!("{revision}^{{tree}}"))?.is_ok() => {
                Err(RevisionError::NoPath {
                    revision: revision.to_owned(),
                    path: path.to_owned(),
                    repository: repository.path,
                })
            }
            Err(_) => Err(no_revision(spec, revision, repository)?),
        };
    }
    if parse(&format!("{spec}^{{commit}}"))?.is_err() {
        return Err(no_revision(spec, spec, repository)?);
    }
    // A repository without a working tree has no directory to be in.
    let here = match repository.has_working_tree {
        true => format!("{spec}:./"),
        false => format!("{spec}^{{tree}}"),
    };
    let here = parse(&here)?.map_err(|_| RevisionError::NoPath {
        revision: spec.to_owned(),
        path: "directory like this one".to_owned(),
        repository: repository.path,
    })?;
    Ok((here, format!("{spec}:")))
}

/// The object that git knows under a name, or what it says.
fn parse(spec: &str, object: &str) -> Result<Result<String, String>, RevisionError> {
    let arguments = ["--verify", "--end-of-options", object];
    let output = git(spec, "rev-parse", &arguments, b"")?;
    let found = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(match output.status.success() && !found.is_empty() {
        true => Ok(found),
        false => Err(stderr(&output)),
    })
}

/// The git repository that the command runs in.
struct Repository {
    path: PathBuf,
    has_working_tree: bool,
}

fn repository(spec: &str) -> Result<Repository, RevisionError> {
    for (argument, has_working_tree) in [("--show-toplevel", true), ("--absolute-git-dir", false)] {
        let output = git(spec, "rev-parse", &[argument], b"")?;
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !path.is_empty() {
            return Ok(Repository {
                path: path.into(),
                has_working_tree,
            });
        }
        let told = stderr(&output);
        if told.starts_with("not a git repository") {
            return Err(RevisionError::NoRepository {
                spec: spec.to_owned(),
            });
        }
        if !has_working_tree {
            return Err(RevisionError::Unknown {
                spec: spec.to_owned(),
                told,
            });
        }
    }
    Err(RevisionError::NoRepository {
        spec: spec.to_owned(),
    })
}

/// Why a revision was not found: there is none, or several, or it was not fetched.
fn no_revision(
    spec: &str,
    revision: &str,
    repository: Repository,
) -> Result<RevisionError, RevisionError> {
    let told = parse(spec, &format!("{revision}^{{commit}}"))?.err();
    let told = told.filter(|told| told != NO_REVISION);
    let remote = format!("origin/{revision}");
    let help = if let Some(told) = told {
        format!(" ({told})")
    } else if parse(spec, &format!("{remote}^{{commit}}"))?.is_ok() {
        format!(" (did you mean {remote}?)")
    } else if git(spec, "rev-parse", &["--is-shallow-repository"], b"")?.stdout == b"true\n" {
        " (it is a shallow clone: `git fetch --unshallow` gets the rest of its history)".to_owned()
    } else {
        String::new()
    };
    Ok(RevisionError::NoRevision {
        spec: spec.to_owned(),
        revision: revision.to_owned(),
        repository: repository.path,
        help,
    })
}

fn git(
    spec: &str,
    command: &'static str,
    arguments: &[&str],
    input: &[u8],
) -> Result<Output, RevisionError> {
    let failed = |source| RevisionError::NoGit {
        spec: spec.to_owned(),
        source,
    };
    let mut child = Command::new("git")
        .env("LC_ALL", "C")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .arg(command)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    // Git answers while it is asked: who only asks first would wait for it, and it for who listens.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut stdin) = stdin {
                // If git has ended, its status says why.
                let _ = stdin.write_all(input);
            }
        });
        child.wait_with_output()
    })
    .map_err(failed)
}

fn stderr(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.trim().lines().next().unwrap_or("nothing").to_owned();
    line.strip_prefix("fatal: ")
        .map(ToOwned::to_owned)
        .unwrap_or(line)
}

/// The policy files of a tree: path, kind and object. What is left out is noted.
fn choose(tree: &[u8], name: &str, found: &mut PolicyFiles) -> Vec<(String, Kind, String)> {
    let prefix = match name.ends_with([':', '/']) {
        true => name.to_owned(),
        false => format!("{name}/"),
    };
    let mut budget = Budget::default();
    let mut wanted = Vec::new();
    for (number, entry) in tree.split(|byte| *byte == 0).enumerate() {
        if number > ENTRY_LIMIT {
            found.mistake(name, format!("expected at most {ENTRY_LIMIT} entries"));
            break;
        }
        let entry = String::from_utf8_lossy(entry);
        let Some((facts, path)) = entry.split_once('\t') else {
            continue;
        };
        let Some(kind) = files::kind(path) else {
            continue;
        };
        let facts: Vec<&str> = facts.split_ascii_whitespace().collect();
        let &[mode, _, object, size] = facts.as_slice() else {
            continue;
        };
        let path = format!("{prefix}{path}");
        match kind {
            Kind::Other(reason) => found.skip(path, reason),
            // Tests are no part of what is compared.
            Kind::Test => {}
            Kind::Policy if !FILE_MODES.contains(&mode) => {
                found.mistake(
                    path,
                    "expected a file, this is a link, and links are not followed",
                );
            }
            Kind::Policy => match budget.take(size.parse().unwrap_or(u64::MAX)) {
                Ok(()) => wanted.push((path, kind, object.to_owned())),
                Err(why) => found.mistake(path, why),
            },
        }
    }
    wanted
}

/// The next content in what `git cat-file --batch` gives: `<object> <type> <size>`, a line's end, the content, and
/// another.
fn next_object<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (header, after) = rest.split_at_checked(end)?;
    let size = std::str::from_utf8(header).ok()?.rsplit(' ').next()?;
    let (content, after) = after.get(1..)?.split_at_checked(size.parse().ok()?)?;
    *rest = after.get(1..)?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_read_one_after_the_other() {
        let mut rest = b"abc blob 3\nx\ny\ndef blob 0\n\nghi missing\n".as_slice();
        assert_eq!(next_object(&mut rest), Some(b"x\ny".as_slice()));
        assert_eq!(next_object(&mut rest), Some(b"".as_slice()));
        assert_eq!(next_object(&mut rest), None);
    }

    #[test]
    fn files_of_a_tree_are_chosen_as_those_of_a_directory_are() {
        let tree = b"100644 blob a1      12\ta.yaml\x00120000 blob a2       3\tb.yaml\x00100755 blob a3       4\tx/c.yml\x00\
            100644 blob a4       4\ta.test.yaml\x00100644 blob a5       4\tREADME.md\x00100644 blob a6 9999999\tbig.yaml\x00";
        let mut found = PolicyFiles::default();
        let wanted = choose(tree, "v1:p", &mut found);
        let names: Vec<&str> = wanted.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(names, ["v1:p/a.yaml", "v1:p/x/c.yml"]);
        let mistakes: Vec<&str> = found.mistakes.iter().map(|m| m.file.as_str()).collect();
        assert_eq!(mistakes, ["v1:p/b.yaml", "v1:p/big.yaml"]);
    }
}
