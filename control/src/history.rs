//! How the branch of policy moved: forward, back, or to a history of its own.
//!
//! It is told to people and decides nothing. Of a remote only the commits are fetched, not what they hold.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::git::{Branch, Call, CommitId, Git, GitError, Repository, make_bare};

/// Where the fetched history is kept, …
const TIP: &str = "refs/countersign/tip";
/// … and the commit whose policy is in force, so that it is not pruned after the branch has left it.
const IN_FORCE: &str = "refs/countersign/in-force";
/// How long fetching the history may take. New commits are not looked for meanwhile.
const FETCH_TIME: Duration = Duration::from_secs(30);

/// A way to move that is not forward. Both commits are named in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// To an earlier commit.
    Back { from: String, to: String },
    /// To a commit that does not build on the one before.
    Aside { from: String, to: String },
}

/// Answers what is an ancestor of what.
pub(crate) struct History {
    git: Git,
    state_directory: PathBuf,
}

impl History {
    /// A history that is kept inside `state_directory`, if it needs to be kept.
    pub(crate) fn new(git: Git, state_directory: &Path) -> Self {
        Self {
            git,
            state_directory: state_directory.to_owned(),
        }
    }

    /// How the branch came to its tip, where `before` was its tip and `in_force` is the commit whose policy was in force
    /// then. `None` is forward.
    pub(crate) async fn moved(
        &self,
        repository: &Repository,
        branch: &Branch,
        before: &CommitId,
        in_force: Option<&CommitId>,
        tip: &CommitId,
    ) -> Result<Option<Moved>, GitError> {
        let place = match repository {
            Repository::Local(path) => path.clone(),
            Repository::Remote(_) => self.fetched(repository, branch, in_force, tip).await?,
        };
        let back = |from: &CommitId| Moved::Back {
            from: from.to_string(),
            to: tip.to_string(),
        };
        if before == tip {
            return Ok(None);
        }
        if let Some(in_force) = in_force
            && in_force != tip
            && self.is_ancestor(&place, tip, in_force).await?
        {
            return Ok(Some(back(in_force)));
        }
        if self.is_ancestor(&place, before, tip).await? {
            return Ok(None);
        }
        if self.is_ancestor(&place, tip, before).await? {
            return Ok(Some(back(before)));
        }
        Ok(Some(Moved::Aside {
            from: before.to_string(),
            to: tip.to_string(),
        }))
    }

    /// Fetches the commits of a remote's branch, and returns the repository that has them.
    async fn fetched(
        &self,
        repository: &Repository,
        branch: &Branch,
        in_force: Option<&CommitId>,
        tip: &CommitId,
    ) -> Result<PathBuf, GitError> {
        let format = tip.object_format();
        let place = self.state_directory.join(format!("history.{format}.git"));
        make_bare(&self.git, &place, format).await?;
        if let Some(in_force) = in_force {
            let call = Call::new("update-ref").at(&place);
            // It may not be there yet: then there is nothing to keep.
            let _ = self
                .git
                .finish(call.args([IN_FORCE, in_force.as_str()]))
                .await?;
        }
        // A remote of this name, because git notes the name of one whose objects it has only a part of; the URL, which may
        // hold a password, is not written down.
        let call = Call::new("fetch")
            .at(&place)
            .setting("remote.policy.url", repository.as_argument())
            .args(["--quiet", "--filter=tree:0", "--force", "--no-tags"])
            .args(["--no-write-fetch-head", "--no-recurse-submodules"])
            .args(["--", "policy", &format!("+{}:{TIP}", branch.reference())])
            .limit(FETCH_TIME);
        match self.git.run(call).await {
            Ok(_) => Ok(place),
            Err(error) => {
                // As with the mirror: what a stopped fetch leaves behind must not hinder the next.
                let _ = fs::remove_dir_all(&place);
                Err(repository.redact(error))
            }
        }
    }

    /// Whether a commit is another's ancestor, or the same. One that is not there is nobody's.
    async fn is_ancestor(
        &self,
        place: &Path,
        ancestor: &CommitId,
        of: &CommitId,
    ) -> Result<bool, GitError> {
        // What is not there is not to be fetched after all.
        let local = |name| Call::new(name).at(place).variable("GIT_NO_LAZY_FETCH", "1");
        for commit in [ancestor, of] {
            let call = local("cat-file").args(["-e", commit.as_str()]);
            let there = self.git.finish(call).await?;
            if !there.status.success() {
                return Ok(false);
            }
        }
        let call = local("merge-base").args(["--is-ancestor", ancestor.as_str(), of.as_str()]);
        let finished = self.git.finish(call).await?;
        match finished.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(GitError::Failed {
                command: "merge-base".to_owned(),
                status: finished.status,
                stderr: String::from_utf8_lossy(&finished.stderr).trim().to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
