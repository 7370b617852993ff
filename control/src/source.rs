//! Follows the place where policy is kept: a git repository of this machine, one elsewhere, or a plain directory.
//!
//! What is on this machine is watched by cheap looks at a few files, so that a commit is seen within a moment; once in a
//! while it is looked at thoroughly all the same. A remote is asked for its branch's tip at an interval; while it does not
//! answer, ever more rarely.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use countersign_policy::files::{self, PolicyFiles};

use crate::git::{Branch, CommitId, Git, GitError, Repository};
use crate::history::{History, Moved};
use crate::mirror::Mirror;
use crate::plain;
use crate::signatures::{Signature, SignerFiles, SignerKeys, SignersError, Untrusted, Verifier};

/// How often this machine's files are glanced at.
const GLANCE: Duration = Duration::from_millis(100);
/// How often they are looked at thoroughly, whether or not a glance showed a change.
const THOROUGH: Duration = Duration::from_secs(5);
/// Glances may take up to one part in this many of the time.
const GLANCE_SHARE: u32 = 20;

/// The longest time between two questions to a remote that does not answer, unless its interval is longer.
const RETRY_LIMIT: Duration = Duration::from_secs(5 * 60);

/// A revision that is new, and may be good or bad.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The git commit, or `sha256:…` of a plain directory.
    pub(crate) revision: String,
    /// Where signers are configured, always there.
    pub(crate) signed: Option<Signed>,
    pub(crate) files: PolicyFiles,
}

/// The proof of who made a revision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signed {
    pub(crate) signature: Signature,
    /// The commit as git keeps it, by which the signature can be verified again.
    pub(crate) commit: Vec<u8>,
}

/// What a look has shown that is new.
#[derive(Debug)]
pub(crate) enum Seen {
    Candidate(Candidate),
    /// A commit of which nothing was read, because no listed signer has signed it.
    Untrusted(Untrusted),
}

impl Seen {
    pub(crate) fn revision(&self) -> &str {
        match self {
            Self::Candidate(candidate) => &candidate.revision,
            Self::Untrusted(untrusted) => untrusted.commit.as_str(),
        }
    }
}

/// Why the source cannot be read now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("cannot read the policy directory {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "{} is a plain directory, which nobody can sign; make it a git repository (git init), or leave policy.signers out",
        .0.display()
    )]
    Unsignable(PathBuf),
    #[error(transparent)]
    Signers(#[from] SignersError),
}

/// Why a policy that was accepted earlier is not taken for a signer's now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotVouchedFor {
    #[error("it was accepted while no signers were configured")]
    Unsigned,
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// The place that is followed, and what was last seen there.
pub(crate) struct Source {
    git: Git,
    mirror: Mirror,
    history: History,
    verifier: Option<Verifier>,
    repository: Repository,
    branch: Branch,
    interval: Duration,
    /// What was last handed out.
    known: Option<Known>,
    watched: Watched,
    /// The waits that are left, while looks fail.
    retries: Option<ExponentialBackoff>,
    /// How long to wait before the next look.
    pause: Duration,
}

/// A revision, and the keys by which it was verified. With other keys it may be judged differently.
struct Known {
    revision: String,
    keys: Option<SignerKeys>,
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
        signers: Option<SignerFiles>,
        state_directory: &Path,
    ) -> Self {
        Self {
            mirror: Mirror::new(git.clone(), state_directory),
            history: History::new(git.clone(), state_directory),
            verifier: signers.map(|files| Verifier::new(git.clone(), files, state_directory)),
            git,
            repository,
            branch,
            interval,
            known: None,
            watched: Watched::Nothing,
            retries: None,
            pause: interval,
        }
    }

    /// Looks thoroughly. `None` is what was handed out last.
    pub(crate) async fn look(&mut self) -> Result<Option<Seen>, SourceError> {
        let looked = self.looked().await;
        self.pause = match (&looked, &self.repository) {
            (Err(_), Repository::Remote(_)) => self.next_retry(),
            _ => {
                self.retries = None;
                self.interval
            }
        };
        looked
    }

    /// How long the source is left alone after the last look, if nothing can be seen of it by glances.
    pub(crate) fn pause(&self) -> Duration {
        self.pause
    }

    /// The wait after one more failure: twice the one before, and up to twice as long again by chance, so that control
    /// planes that lost the same remote do not all come back in the same moment.
    fn next_retry(&mut self) -> Duration {
        let (interval, longest) = (self.interval, RETRY_LIMIT.max(self.interval));
        let retries = self.retries.get_or_insert_with(|| {
            ExponentialBuilder::new()
                .with_min_delay(interval)
                .with_max_delay(longest / 2)
                .without_max_times()
                .with_jitter()
                .build()
        });
        retries.next().unwrap_or(longest).clamp(interval, longest)
    }

    async fn looked(&mut self) -> Result<Option<Seen>, SourceError> {
        self.watched = Watched::Nothing;
        let keys = self.verifier.as_ref().map(Verifier::keys).transpose()?;
        let seen = match &self.repository {
            Repository::Local(path) if !is_git(path) => {
                let path = path.clone();
                self.look_at_directory(path).await?
            }
            Repository::Local(path) => {
                // Watched from before it is read, so that no change falls in between.
                let common = self.git.common_directory(path).await?;
                self.watched = Watched::references(&common, &self.branch);
                self.look_at_branch(keys.as_ref()).await?
            }
            Repository::Remote(_) => self.look_at_branch(keys.as_ref()).await?,
        };
        if let Some(seen) = &seen {
            let revision = seen.revision().to_owned();
            self.known = Some(Known { revision, keys });
        }
        Ok(seen)
    }

    async fn look_at_branch(&self, keys: Option<&SignerKeys>) -> Result<Option<Seen>, SourceError> {
        let tip = self.git.tip(&self.repository, &self.branch).await?;
        if self.is_known(tip.as_str(), keys) {
            return Ok(None);
        }
        let commit: CommitId = self
            .mirror
            .fetch(&self.repository, &self.branch, &tip)
            .await?;
        // Who made it is known before anything in it is read.
        let signed = match self.signed(keys, &commit).await? {
            Ok(signed) => signed,
            Err(untrusted) => return Ok(Some(Seen::Untrusted(untrusted))),
        };
        let files = self.mirror.files(&commit).await?;
        Ok(Some(Seen::Candidate(Candidate {
            revision: commit.as_str().to_owned(),
            signed,
            files,
        })))
    }

    /// The proof of who made a commit of the mirror, where it is asked for.
    async fn signed(
        &self,
        keys: Option<&SignerKeys>,
        commit: &CommitId,
    ) -> Result<Result<Option<Signed>, Untrusted>, SourceError> {
        let (Some(verifier), Some(keys)) = (&self.verifier, keys) else {
            return Ok(Ok(None));
        };
        let repository = self.mirror.repository_of(commit);
        match verifier.verify(keys, &repository, commit).await? {
            Ok(signature) => {
                let commit = self.mirror.object(commit).await?;
                Ok(Ok(Some(Signed { signature, commit })))
            }
            Err(untrusted) => Ok(Err(untrusted)),
        }
    }

    /// The proof, by the signers of today, of who made a revision that was accepted earlier; `commit` is what was kept of
    /// the proof then. `None` where no proof is asked for.
    pub(crate) async fn vouch_for(
        &self,
        revision: &str,
        commit: Option<Vec<u8>>,
    ) -> Result<Option<Signed>, NotVouchedFor> {
        let Some(verifier) = &self.verifier else {
            return Ok(None);
        };
        let (Some(id), Some(commit)) = (CommitId::parse(revision), commit) else {
            return Err(NotVouchedFor::Unsigned);
        };
        let keys = verifier.keys().map_err(SourceError::from)?;
        self.mirror
            .put(&id, commit)
            .await
            .map_err(SourceError::from)?;
        Ok(self.signed(Some(&keys), &id).await??)
    }

    async fn look_at_directory(&mut self, path: PathBuf) -> Result<Option<Seen>, SourceError> {
        let failed = |source| SourceError::Directory {
            path: path.clone(),
            source,
        };
        let seen = files::fingerprint(&path).map_err(failed)?;
        if self.verifier.is_some() {
            return Err(SourceError::Unsignable(path));
        }
        let (revision, files) = plain::read(&path).map_err(failed)?;
        self.watched = Watched::Directory {
            path,
            seen: Some(seen),
        };
        Ok(
            (!self.is_known(&revision, None)).then_some(Seen::Candidate(Candidate {
                revision,
                signed: None,
                files,
            })),
        )
    }

    fn is_known(&self, revision: &str, keys: Option<&SignerKeys>) -> bool {
        self.known
            .as_ref()
            .is_some_and(|known| known.revision == revision && known.keys.as_ref() == keys)
    }

    /// The revision that was last handed out.
    pub(crate) fn last_seen(&self) -> Option<&str> {
        self.known.as_ref().map(|known| known.revision.as_str())
    }

    /// How the branch came to the revision that was last handed out, unless it was forward: `before` was handed out
    /// before it, and `in_force` was in force then. It is not known of what is no commit.
    pub(crate) async fn moved(
        &self,
        before: &str,
        in_force: Option<&str>,
    ) -> Result<Option<Moved>, GitError> {
        let tip = self.last_seen().and_then(CommitId::parse);
        let (Some(before), Some(tip)) = (CommitId::parse(before), tip) else {
            return Ok(None);
        };
        let in_force = in_force.and_then(CommitId::parse);
        self.history
            .moved(
                &self.repository,
                &self.branch,
                &before,
                in_force.as_ref(),
                &tip,
            )
            .await
    }

    /// Waits until a look may show something new.
    pub(crate) async fn worth_a_look(&mut self) {
        if matches!(self.watched, Watched::Nothing) {
            return tokio::time::sleep(self.pause).await;
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
pub(crate) fn is_git(directory: &Path) -> bool {
    let has = |name: &str| directory.join(name).exists();
    has(".git") || (has("HEAD") && has("objects") && has("refs"))
}

#[cfg(test)]
mod tests;
