//! A bare mirror of the policy repository, from which a commit's files are read without ever checking them out: names in
//! a tree are labels here, not paths, so a symbolic link or `..` leads nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use countersign_policy::files::{self, Budget, ENTRY_LIMIT, Kind, PolicyFiles, TOTAL_LIMIT};

use crate::git::{
    Branch, Call, CommitId, Git, GitError, LOCAL_TIME, Repository, answer, make_bare,
};

/// Where the mirror keeps the commit that was fetched last.
const CANDIDATE: &str = "refs/countersign/candidate";
/// The mode of an ordinary file in a git tree, and of one that is executable.
const FILE_MODES: [&str; 2] = ["100644", "100755"];

/// The mirror, in a directory of the control plane's own.
pub(crate) struct Mirror {
    git: Git,
    state_directory: PathBuf,
}

impl Mirror {
    /// A mirror that is made inside `state_directory` when it is first needed.
    pub(crate) fn new(git: Git, state_directory: &Path) -> Self {
        Self {
            git,
            state_directory: state_directory.to_owned(),
        }
    }

    /// Fetches what the branch holds now and nothing else of the repository, and returns its commit. `tip` is the
    /// commit that is expected; it tells which kind of repository this is.
    pub(crate) async fn fetch(
        &self,
        repository: &Repository,
        branch: &Branch,
        tip: &CommitId,
    ) -> Result<CommitId, GitError> {
        let mirror = self.made(tip.object_format()).await?;
        let fetched = self.fetch_into(&mirror, repository, branch).await;
        if fetched.is_err() {
            // A fetch that was stopped may leave locks and halves behind. The mirror is only a cache: the next attempt
            // begins with a new one.
            let _ = fs::remove_dir_all(&mirror);
        }
        fetched
    }

    async fn fetch_into(
        &self,
        mirror: &Path,
        repository: &Repository,
        branch: &Branch,
    ) -> Result<CommitId, GitError> {
        let refspec = format!("+{}:{CANDIDATE}", branch.reference());
        let call = Call::new("fetch")
            .at(mirror)
            .args([
                "--quiet",
                "--depth=1",
                "--update-shallow",
                "--force",
                "--no-tags",
            ])
            .args(["--no-write-fetch-head", "--no-recurse-submodules", "--"])
            .arg(repository.as_argument())
            .arg(refspec)
            .limit(repository.time_limit());
        self.git
            .run(call)
            .await
            .map_err(|error| repository.redact(error))?;
        let call = Call::new("rev-parse").at(mirror);
        let output = self
            .git
            .run(call.args(["--verify", &format!("{CANDIDATE}^{{commit}}")]))
            .await?;
        let text = String::from_utf8_lossy(&output);
        CommitId::parse(text.trim_end())
            .ok_or_else(|| answer("rev-parse", "expected a commit ID", &text))
    }

    /// Reads the policy files of a commit that was fetched.
    pub(crate) async fn files(&self, commit: &CommitId) -> Result<PolicyFiles, GitError> {
        let mirror = self.directory(commit.object_format());
        let call = Call::new("ls-tree")
            .at(&mirror)
            .args(["-r", "-z", "-l", "--full-tree"]);
        let listing = self
            .git
            .run(call.arg(commit.as_str()).output_limit(TOTAL_LIMIT))
            .await?;
        let Chosen { blobs, mut files } = choose(&listing)?;
        if blobs.is_empty() {
            return Ok(files);
        }
        let input: Vec<u8> = blobs
            .iter()
            .flat_map(|blob| [blob.id.as_bytes(), b"\n"])
            .flatten()
            .copied()
            .collect();
        let headers = 128 * blobs.len() as u64;
        let call = Call::new("cat-file")
            .at(&mirror)
            .args(["--batch", "--buffer"]);
        let call = call
            .input(input)
            .limit(LOCAL_TIME)
            .output_limit(TOTAL_LIMIT + headers);
        let output = self.git.run(call).await?;
        let mut rest = output.as_slice();
        for blob in blobs {
            let (content, after) = split_blob(rest, &blob)?;
            files.add(blob.path, blob.kind, content.to_vec());
            rest = after;
        }
        Ok(files)
    }

    /// The repository that has a commit that was fetched or put.
    pub(crate) fn repository_of(&self, commit: &CommitId) -> PathBuf {
        self.directory(commit.object_format())
    }

    /// A commit as git keeps it, without the files that belong to it.
    pub(crate) async fn object(&self, commit: &CommitId) -> Result<Vec<u8>, GitError> {
        let call = Call::new("cat-file").at(&self.repository_of(commit));
        self.git.run(call.args(["commit", commit.as_str()])).await
    }

    /// Puts back what [`object`](Self::object) gave, if it is that commit.
    pub(crate) async fn put(&self, commit: &CommitId, object: Vec<u8>) -> Result<(), GitError> {
        let mirror = self.made(commit.object_format()).await?;
        let call = Call::new("hash-object").at(&mirror);
        let call = call.args(["-w", "-t", "commit", "--stdin"]).input(object);
        let output = self.git.run(call).await?;
        let id = String::from_utf8_lossy(&output);
        if id.trim_end() == commit.as_str() {
            Ok(())
        } else {
            Err(answer("hash-object", &format!("expected {commit}"), &id))
        }
    }

    fn directory(&self, object_format: &str) -> PathBuf {
        self.state_directory
            .join(format!("policy.{object_format}.git"))
    }

    /// Makes the mirror, unless it is there.
    async fn made(&self, object_format: &str) -> Result<PathBuf, GitError> {
        let mirror = self.directory(object_format);
        make_bare(&self.git, &mirror, object_format).await?;
        Ok(mirror)
    }
}

struct Blob {
    id: String,
    path: String,
    kind: Kind,
    size: u64,
}

struct Chosen {
    blobs: Vec<Blob>,
    files: PolicyFiles,
}

/// Reads `ls-tree -r -z -l`: `mode type id size<TAB>path<NUL>` for each entry, the path as it is in the tree.
fn choose(listing: &[u8]) -> Result<Chosen, GitError> {
    let mut chosen = Chosen {
        blobs: Vec::new(),
        files: PolicyFiles::default(),
    };
    let mut budget = Budget::default();
    let entries = listing
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty());
    for (count, entry) in entries.enumerate() {
        if count == ENTRY_LIMIT {
            let message =
                format!("expected a repository of at most {ENTRY_LIMIT} files, this one has more");
            chosen.files.mistake(".", message);
            break;
        }
        let unreadable = || {
            answer(
                "ls-tree",
                "expected mode, type, id, size and path",
                &String::from_utf8_lossy(entry),
            )
        };
        let tab = entry
            .iter()
            .position(|byte| *byte == b'\t')
            .ok_or_else(unreadable)?;
        let (facts, path) = entry.split_at_checked(tab).ok_or_else(unreadable)?;
        let path = path.get(1..).unwrap_or_default();
        let facts = std::str::from_utf8(facts).map_err(|_| unreadable())?;
        let mut facts = facts.split_ascii_whitespace();
        let (Some(mode), Some(_kind), Some(id), Some(size), None) = (
            facts.next(),
            facts.next(),
            facts.next(),
            facts.next(),
            facts.next(),
        ) else {
            return Err(unreadable());
        };
        let lossy = String::from_utf8_lossy(path);
        let Some(kind) = files::kind(&lossy) else {
            continue;
        };
        let path = lossy.into_owned();
        if path.contains(['\u{fffd}', '\n', '\r']) {
            chosen.files.mistake(
                path.escape_debug().to_string(),
                "expected a file name in UTF-8 on one line",
            );
        } else if let Kind::Other(reason) = kind {
            chosen.files.skip(path, reason);
        } else if mode == "120000" {
            chosen.files.mistake(
                path,
                "expected a file, this is a symbolic link, and links are not followed",
            );
        } else if !FILE_MODES.contains(&mode) {
            chosen.files.mistake(
                path,
                format!("expected a file, this has the mode {mode} (a submodule?)"),
            );
        } else {
            let size = size.parse().map_err(|_| unreadable())?;
            match budget.take(size) {
                Ok(()) => chosen.blobs.push(Blob {
                    id: id.to_owned(),
                    path,
                    kind,
                    size,
                }),
                Err(message) => chosen.files.mistake(path, message),
            }
        }
    }
    Ok(chosen)
}

/// Takes the next object off what `cat-file --batch` wrote: `id blob size<LF>content<LF>`.
fn split_blob<'a>(output: &'a [u8], blob: &Blob) -> Result<(&'a [u8], &'a [u8]), GitError> {
    let header = format!("{} blob {}\n", blob.id, blob.size);
    let unreadable = || {
        let got = output.get(..output.len().min(80)).unwrap_or_default();
        answer(
            "cat-file",
            &format!("expected {header:?}"),
            &String::from_utf8_lossy(got),
        )
    };
    let content = output
        .strip_prefix(header.as_bytes())
        .ok_or_else(unreadable)?;
    let size = usize::try_from(blob.size).map_err(|_| unreadable())?;
    let (content, rest) = content.split_at_checked(size).ok_or_else(unreadable)?;
    Ok((content, rest.strip_prefix(b"\n").ok_or_else(unreadable)?))
}

#[cfg(test)]
mod tests;
