//! What is told about the place that policy comes from: whether it can be read, since when not, and how its branch moved.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::PolicyKeeper;
use crate::git::GitError;
use crate::history::Moved;
use crate::source::SourceError;

/// How it stands with the place that policy comes from.
#[derive(Clone, Default)]
pub(crate) struct SourceState {
    /// When it was last read.
    pub(crate) reached_at: Option<SystemTime>,
    /// While it cannot be read.
    pub(crate) failing: Option<Arc<Failing>>,
}

/// A source that cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failing {
    pub(crate) error: String,
    /// When it was first found so.
    pub(crate) since: SystemTime,
    /// How often it was tried since.
    pub(crate) attempts: u32,
    /// When it will be tried again.
    pub(crate) retry_at: SystemTime,
}

/// One time that the branch did not move forward.
#[derive(Debug, PartialEq)]
pub(crate) struct BranchMove {
    pub(crate) moved: Moved,
    pub(crate) at: SystemTime,
}

impl PolicyKeeper {
    pub(super) fn source_failed(&self, error: &SourceError, now: SystemTime, retry: Duration) {
        let error = error.to_string();
        self.metrics.source_errors.inc();
        let SourceState {
            reached_at,
            failing: before,
        } = self.world.borrow().policy.source.clone();
        let failing = Failing {
            since: before.as_ref().map_or(now, |before| before.since),
            attempts: before
                .as_ref()
                .map_or(1, |before| before.attempts.saturating_add(1)),
            retry_at: now.checked_add(retry).unwrap_or(now),
            error,
        };
        self.metrics.source_failing_since(Some(failing.since));
        let Failing {
            error, attempts, ..
        } = &failing;
        // Again when it has lasted twice as long, so that it is not forgotten and does not fill the log.
        let is_new = before.is_none_or(|before| before.error != *error);
        if is_new || attempts.is_power_of_two() {
            let seconds = |time| now.duration_since(time).unwrap_or_default().as_secs();
            let accepted = self.world.borrow().policy.in_force.clone();
            tracing::warn!(
                %error,
                attempts,
                failing_seconds = seconds(failing.since),
                last_read_seconds_ago = reached_at.map(seconds),
                policy_age_seconds = accepted.map(|good| seconds(good.accepted_at)),
                retry_in_seconds = retry.as_secs_f64(),
                "the policy's source cannot be read; the last good policy stays"
            );
        }
        if self.world.borrow().policy.in_force.is_none() {
            self.ready
                .not_ready(format!("no revision was accepted yet: {error}"));
        }
        self.world.send_if_modified(|world| {
            world.policy.source.failing = Some(Arc::new(failing));
            // The sidecars are not concerned.
            is_new
        });
    }

    pub(super) fn source_is_well(&self, now: SystemTime) {
        let mut failed = None;
        self.world.send_if_modified(|world| {
            world.policy.source.reached_at = Some(now);
            failed = world.policy.source.failing.take();
            failed.is_some()
        });
        self.metrics.source_reached_at(now);
        if let Some(failed) = failed {
            self.metrics.source_failing_since(None);
            tracing::info!(
                attempts = failed.attempts,
                failed_seconds = now
                    .duration_since(failed.since)
                    .unwrap_or_default()
                    .as_secs(),
                "the policy's source can be read again"
            );
        }
    }

    /// Tells of a branch that has not moved forward.
    pub(super) fn tell_move(&self, moved: Result<Option<Moved>, GitError>, now: SystemTime) {
        let moved = match moved {
            Ok(Some(moved)) => moved,
            Ok(None) => return,
            Err(error) => {
                tracing::info!(%error, "it cannot be told whether the policy's branch moved forward");
                return;
            }
        };
        let branch = &self.origin.branch;
        match &moved {
            Moved::Back { from, to } => {
                self.metrics.rollbacks.inc();
                tracing::warn!(branch, from, to, "the policy's branch was rolled back");
            }
            Moved::Aside { from, to } => {
                self.metrics.force_pushes.inc();
                tracing::warn!(
                    branch,
                    from,
                    to,
                    "the policy's branch was force-pushed: its new commit does not build on the one before"
                );
            }
        }
        let moved = Arc::new(BranchMove { moved, at: now });
        self.world
            .send_modify(|world| world.policy.moved = Some(moved));
    }
}
