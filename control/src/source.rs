//! Follows the place where policy is kept: a git repository of this machine, one elsewhere, or a plain directory.
//!
//! What is on this machine is watched by cheap looks at a few files, so that a commit is seen within a moment; once in a
//! while it is looked at thoroughly all the same. A remote is asked for its branch's tip at an interval.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use countersign_policy::files::{self, PolicyFiles};

use crate::git::{Branch, CommitId, Git, GitError, Repository};
use crate::mirror::Mirror;
use crate::plain;

/// How often this machine's files are glanced at.
const GLANCE: Duration = Duration::from_millis(100);
/// How often they are looked at thoroughly, whether or not a glance showed a change.
const THOROUGH: Duration = Duration::from_secs(5);
/// Glances may take up to one part in this many of the time.
const GLANCE_SHARE: u32 = 20;

/// A revision that is new, and may be good or bad.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The git commit, or `sha256:…` of a plain directory.
    pub(crate) revision: String,
    pub(crate) files: PolicyFiles,
}

/// Why the source cannot be read now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("cannot read the policy directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
}

/// The place that is followed, and what was last seen there.
pub(crate) struct Source {
    git: Git,
    mirror: Mirror,
    repository: Repository,
    branch: Branch,
    interval: Duration,
    /// The revision that was last handed out.
    revision: Option<String>,
    watched: Watched,
}

/// What a glance looks at.
enum Watched {
    /// Nothing: the source is elsewhere, or cannot be read.
    Nothing,
    /// The files in which a local repository keeps its branch.
    References {
        paths: Vec<PathBuf>,
        seen: Vec<Option<Stamp>>,
    },
    Directory {
        path: PathBuf,
        seen: Option<u64>,
    },
}

type Stamp = (u64, u64, i64, i64);

impl Source {
    /// A source of which nothing was seen yet; a remote will be asked every `interval`.
    pub(crate) fn new(
        git: Git,
        repository: Repository,
        branch: Branch,
        interval: Duration,
        state_directory: &Path,
    ) -> Self {
        let mirror = Mirror::new(git.clone(), state_directory);
        Self {
            git,
            mirror,
            repository,
            branch,
            interval,
            revision: None,
            watched: Watched::Nothing,
        }
    }

    /// Looks thoroughly. `None` is the revision that was handed out last.
    pub(crate) async fn look(&mut self) -> Result<Option<Candidate>, SourceError> {
        self.watched = Watched::Nothing;
        let candidate = match &self.repository {
            Repository::Local(path) if !is_git(path) => {
                let path = path.clone();
                self.look_at_directory(path).await?
            }
            Repository::Local(path) => {
                // Watched from before it is read, so that no change falls in between.
                let common = self.git.common_directory(path).await?;
                self.watched = Watched::references(&common, &self.branch);
                self.look_at_branch().await?
            }
            Repository::Remote(_) => self.look_at_branch().await?,
        };
        if let Some(candidate) = &candidate {
            self.revision = Some(candidate.revision.clone());
        }
        Ok(candidate)
    }

    async fn look_at_branch(&self) -> Result<Option<Candidate>, SourceError> {
        let tip = self.git.tip(&self.repository, &self.branch).await?;
        if self.is_known(tip.as_str()) {
            return Ok(None);
        }
        let commit: CommitId = self
            .mirror
            .fetch(&self.repository, &self.branch, &tip)
            .await?;
        let files = self.mirror.files(&commit).await?;
        Ok(Some(Candidate {
            revision: commit.as_str().to_owned(),
            files,
        }))
    }

    async fn look_at_directory(&mut self, path: PathBuf) -> Result<Option<Candidate>, SourceError> {
        let failed = |source| SourceError::Directory {
            path: path.clone(),
            source,
        };
        let seen = files::fingerprint(&path).map_err(failed)?;
        let (revision, files) = plain::read(&path).map_err(failed)?;
        self.watched = Watched::Directory {
            path,
            seen: Some(seen),
        };
        Ok((!self.is_known(&revision)).then_some(Candidate { revision, files }))
    }

    fn is_known(&self, revision: &str) -> bool {
        self.revision.as_deref() == Some(revision)
    }

    /// Waits until a look may show something new.
    pub(crate) async fn worth_a_look(&mut self) {
        if matches!(self.watched, Watched::Nothing) {
            return tokio::time::sleep(self.interval).await;
        }
        let looked = Instant::now();
        let mut pause = GLANCE;
        while looked.elapsed() < THOROUGH {
            tokio::time::sleep(pause).await;
            let glanced = Instant::now();
            if self.watched.has_changed() {
                return;
            }
            pause = GLANCE.max(glanced.elapsed() * GLANCE_SHARE);
        }
    }
}

impl Watched {
    fn references(common: &Path, branch: &Branch) -> Self {
        // Where git keeps a branch: in a file of its own, packed with others, or in a reftable.
        let names = [&branch.reference(), "packed-refs", "reftable/tables.list"];
        let paths: Vec<_> = names.into_iter().map(|name| common.join(name)).collect();
        let seen = stamps(&paths);
        Self::References { paths, seen }
    }

    fn has_changed(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::References { paths, seen } => stamps(paths) != *seen,
            Self::Directory { path, seen } => files::fingerprint(path).ok() != *seen,
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    paths
        .iter()
        .map(|path| fs::metadata(path).ok().as_ref().map(files::stamp))
        .collect()
}

/// Whether a directory is a repository itself: the root of a work tree, or bare. One that merely lies within some
/// repository's work tree is a plain directory.
fn is_git(directory: &Path) -> bool {
    let has = |name: &str| directory.join(name).exists();
    has(".git") || (has("HEAD") && has("objects") && has("refs"))
}

#[cfg(test)]
mod tests;
