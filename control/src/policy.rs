//! The policy in force: each new revision is compiled and takes the place of the one before if it is good; if it is not,
//! nothing changes but what status and log say.

mod following;
mod refusal;
mod trial;

use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::ops::ReadyPart;
use countersign_identity::TrustDomain;
use countersign_policy::document::TokenIssuer;
use countersign_policy::{Diagnostics, Policy, testing};

use crate::metrics::PolicyMetrics;
use crate::signatures::Signature;
use crate::source::{Candidate, Seen, Signed, Source};
use crate::state::{LastGood, StateDirectory};
use crate::world::WorldSender;

#[cfg(test)]
pub(crate) use following::Failing;
pub(crate) use following::{BranchMove, SourceState};
pub(crate) use refusal::Reason;
use refusal::Refusal;

/// What is known of the policy.
#[derive(Clone, Default)]
pub(crate) struct PolicyState {
    /// The last good revision.
    pub(crate) in_force: Option<Arc<InForce>>,
    /// The newest revision, if it is not good.
    pub(crate) rejected: Option<Arc<Rejected>>,
    /// How it stands with the place that policy comes from.
    pub(crate) source: SourceState,
    /// The last time that the branch did not move forward.
    pub(crate) moved: Option<Arc<BranchMove>>,
}

/// A good revision.
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    /// Every token issuer that it names.
    pub(crate) issuers: Vec<TokenIssuer>,
    pub(crate) accepted_at: SystemTime,
    /// Who made it, where signers are configured.
    pub(crate) signed: Option<Signed>,
}

/// A revision that is not good.
#[derive(Debug, PartialEq)]
pub(crate) struct Rejected {
    pub(crate) revision: String,
    pub(crate) reason: Reason,
    /// Mistakes are `file:line:column: message` each.
    pub(crate) errors: Vec<String>,
}

/// Compiles a revision, and runs its tests.
fn compile(
    trust_domain: &TrustDomain,
    candidate: &Candidate,
    accepted_at: SystemTime,
) -> Result<InForce, Refusal> {
    let Candidate {
        revision,
        signed,
        files,
    } = candidate;
    let tests = testing::read(files.tests.iter().cloned());
    let policy = Policy::from_files(revision, trust_domain, files.clone());
    let (policy, tests) = match (policy, tests) {
        (Ok(policy), Ok(tests)) => (policy, tests),
        (policy, tests) => {
            let mistakes = policy.err().into_iter().chain(tests.err()).flatten();
            return Err(Diagnostics::new(mistakes.collect()).into());
        }
    };
    let issuers = policy.token_issuers().cloned().collect();
    trial::run(&policy, trust_domain, tests, accepted_at).map_err(Refusal::tests)?;
    Ok(InForce {
        policy,
        issuers,
        accepted_at,
        signed: signed.clone(),
    })
}

/// Compiles texts that a test has at hand.
#[cfg(test)]
pub(crate) fn compile_texts(
    trust_domain: &TrustDomain,
    revision: &str,
    files: &[(&str, &str)],
) -> Result<InForce, Vec<String>> {
    let files = files
        .iter()
        .map(|(path, text)| (path.to_string(), text.to_string()))
        .collect::<Vec<_>>();
    let candidate = Candidate {
        revision: revision.to_owned(),
        signed: None,
        files: files.into(),
    };
    compile(trust_domain, &candidate, SystemTime::UNIX_EPOCH).map_err(Refusal::told)
}

/// Where policy comes from, in words that stay the same from one start to the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Origin {
    pub(crate) repository: String,
    pub(crate) branch: String,
}

/// Decides which revision is in force.
pub(crate) struct PolicyKeeper {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) origin: Origin,
    pub(crate) state: StateDirectory,
    pub(crate) world: WorldSender,
    pub(crate) ready: ReadyPart,
    pub(crate) metrics: PolicyMetrics,
}

impl PolicyKeeper {
    /// Brings the last good revision of an earlier start into force, and then follows the source for ever.
    pub(crate) async fn follow(self, mut source: Source) {
        let keeper = Arc::new(self);
        keeper.restore(&source).await;
        loop {
            let in_force = keeper.revision_in_force();
            let before = source.last_seen().map(str::to_owned);
            match source.look().await {
                Ok(seen) => {
                    keeper.source_is_well(SystemTime::now());
                    if let Some(seen) = seen {
                        let before = before.or_else(|| in_force.clone());
                        let before = before.unwrap_or_else(|| seen.revision().to_owned());
                        Self::take(&keeper, seen).await;
                        // After the revision has come into force: telling people must not delay it.
                        let moved = source.moved(&before, in_force.as_deref()).await;
                        keeper.tell_move(moved, SystemTime::now());
                    }
                }
                Err(error) => keeper.source_failed(&error, SystemTime::now(), source.pause()),
            }
            source.worth_a_look().await;
        }
    }

    /// Compiling and writing to disk take their time; the streams to sidecars must not wait for it.
    async fn take(keeper: &Arc<Self>, seen: Seen) {
        let keeper = Arc::clone(keeper);
        let take = move || match seen {
            Seen::Candidate(candidate) => keeper.offer(candidate, SystemTime::now()),
            Seen::Untrusted(untrusted) => {
                let revision = untrusted.commit.to_string();
                keeper.reject(revision, untrusted.into());
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(take).await {
            tracing::error!(%error, "a policy revision could not be compiled; this is a bug");
        }
    }

    async fn restore(&self, source: &Source) {
        let last = match self.state.load() {
            Ok(Some(last)) => last,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "starting without the last good policy");
                return;
            }
        };
        let origin = Origin {
            repository: last.repository,
            branch: last.branch,
        };
        if origin != self.origin {
            let Origin { repository, branch } = origin;
            tracing::info!(
                repository,
                branch,
                "the last good policy is of another repository or branch, and not used"
            );
            return;
        }
        // It may have been accepted when other signers were configured, or none.
        let revision = last.revision;
        let signed = match source.vouch_for(&revision, last.commit).await {
            Ok(signed) => signed,
            Err(error) => {
                tracing::warn!(
                    revision,
                    %error,
                    "the last good policy is not vouched for by a configured signer, and not used"
                );
                return;
            }
        };
        let candidate = Candidate {
            revision,
            signed,
            files: last.files.into(),
        };
        match compile(&self.trust_domain, &candidate, last.accepted_at) {
            Ok(good) => {
                tracing::info!(revision = candidate.revision, "last good policy restored");
                self.bring_into_force(good);
            }
            Err(refusal) => {
                let (revision, mistakes) = (candidate.revision, refusal.told().join("\n"));
                tracing::warn!(revision, %mistakes, "the last good policy is not good any more, and not used");
            }
        }
    }

    fn revision_in_force(&self) -> Option<String> {
        let world = self.world.borrow();
        let good = world.policy.in_force.as_ref()?;
        Some(good.policy.revision().to_owned())
    }

    /// Takes a revision that is new, or that the source has gone back to.
    fn offer(&self, candidate: Candidate, now: SystemTime) {
        if self.revision_in_force().as_ref() == Some(&candidate.revision) {
            self.world
                .send_if_modified(|world| world.policy.rejected.take().is_some());
            self.metrics.rejected.set(0);
            return;
        }
        match compile(&self.trust_domain, &candidate, now) {
            Ok(good) => {
                let revision = &candidate.revision;
                let signature = candidate.signed.as_ref().map(|signed| &signed.signature);
                tracing::info!(
                    revision,
                    files = candidate.files.files.len(),
                    signer = signature.map(Signature::signer),
                    key = signature.map(Signature::key),
                    "policy accepted"
                );
                self.metrics.accepted.inc();
                // In force first: a disk that is full must not keep a change of policy from the sidecars.
                self.bring_into_force(good);
                self.save(candidate, now);
            }
            Err(refusal) => self.reject(candidate.revision, refusal),
        }
    }

    fn bring_into_force(&self, good: InForce) {
        self.metrics.accepted_at(good.accepted_at);
        self.metrics.rejected.set(0);
        self.world.send_modify(|world| {
            world.policy.in_force = Some(Arc::new(good));
            world.policy.rejected = None;
        });
        self.ready.ready();
    }

    fn save(&self, candidate: Candidate, accepted_at: SystemTime) {
        let Origin { repository, branch } = self.origin.clone();
        let Candidate {
            revision,
            signed,
            files,
        } = candidate;
        let last_good = LastGood {
            repository,
            branch,
            revision,
            accepted_at,
            commit: signed.map(|signed| signed.commit),
            files: files.files,
        };
        if let Err(error) = self.state.save(&last_good) {
            tracing::warn!(%error, "the policy is in force, but a restart without its repository would not find it");
        }
    }

    fn reject(&self, revision: String, refusal: Refusal) {
        let (reason, count) = (refusal.reason, refusal.count());
        let errors = refusal.told();
        for error in &errors {
            tracing::warn!(revision, %error, "{}", reason.headline());
        }
        self.metrics.refused(reason);
        match self.revision_in_force() {
            Some(stays) if stays == revision => tracing::warn!(
                revision,
                reason = reason.as_str(),
                "the policy in force would not be accepted any more; it stays until another comes or the control plane restarts"
            ),
            Some(stays) => tracing::warn!(
                revision,
                stays,
                reason = reason.as_str(),
                mistakes = count,
                "policy rejected, the last good revision stays"
            ),
            None => {
                tracing::warn!(
                    revision,
                    reason = reason.as_str(),
                    mistakes = count,
                    "policy rejected, and there is no earlier one: sidecars deny"
                );
                let first = errors.first().map(String::as_str).unwrap_or_default();
                self.ready.not_ready(format!(
                    "no revision was accepted yet; {revision} {}: {first}",
                    reason.predicate()
                ));
            }
        }
        let rejected = Arc::new(Rejected {
            revision,
            reason,
            errors,
        });
        self.world
            .send_modify(|world| world.policy.rejected = Some(rejected));
    }
}

#[cfg(test)]
mod tests;
