//! The policy in force: each new revision is compiled and takes the place of the one before if it is good; if it is not,
//! nothing changes but what status and log say.

use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::ops::ReadyPart;
use countersign_identity::TrustDomain;
use countersign_policy::document::{Document, TokenIssuer};
use countersign_policy::{Diagnostics, Policy};

use crate::metrics::PolicyMetrics;
use crate::source::{Candidate, Source, SourceError};
use crate::state::{LastGood, StateDirectory};
use crate::world::WorldSender;

/// How many mistakes of a rejected revision are told; a revision may have thousands.
const TOLD_MISTAKES: usize = 50;

/// What is known of the policy.
#[derive(Clone, Default)]
pub(crate) struct PolicyState {
    /// The last good revision.
    pub(crate) in_force: Option<Arc<InForce>>,
    /// The newest revision, if it is not good.
    pub(crate) rejected: Option<Arc<Rejected>>,
    /// Why the source cannot be read now.
    pub(crate) source_error: Option<Arc<str>>,
}

/// A good revision.
pub(crate) struct InForce {
    pub(crate) policy: Policy,
    /// Every token issuer that it names.
    pub(crate) issuers: Vec<TokenIssuer>,
    pub(crate) accepted_at: SystemTime,
}

/// A revision that is not good.
#[derive(Debug, PartialEq)]
pub(crate) struct Rejected {
    pub(crate) revision: String,
    /// `file:line:column: message` each.
    pub(crate) errors: Vec<String>,
}

/// Compiles a revision.
fn compile(
    trust_domain: &TrustDomain,
    candidate: &Candidate,
    accepted_at: SystemTime,
) -> Result<InForce, Diagnostics> {
    let Candidate { revision, files } = candidate;
    let parsed = countersign_policy::document::parse(files.files.iter().cloned());
    if !files.mistakes.is_empty() {
        let mut mistakes = files.mistakes.clone();
        mistakes.extend(parsed.err().into_iter().flatten());
        return Err(Diagnostics::new(mistakes));
    }
    let documents = parsed?;
    let issuers = documents.iter().filter_map(|document| match document {
        Document::TokenIssuer(issuer) => Some(issuer.clone()),
        _ => None,
    });
    let issuers = issuers.collect();
    let policy = Policy::compile(revision, trust_domain, documents)?;
    Ok(InForce {
        policy,
        issuers,
        accepted_at,
    })
}

/// Compiles texts that a test has at hand.
#[cfg(test)]
pub(crate) fn compile_texts(
    trust_domain: &TrustDomain,
    revision: &str,
    files: &[(&str, &str)],
) -> Result<InForce, Diagnostics> {
    let files = files
        .iter()
        .map(|(path, text)| (path.to_string(), text.to_string()))
        .collect::<Vec<_>>();
    let candidate = Candidate {
        revision: revision.to_owned(),
        files: files.into(),
    };
    compile(trust_domain, &candidate, SystemTime::UNIX_EPOCH)
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
        keeper.restore();
        loop {
            match source.look().await {
                Ok(Some(candidate)) => {
                    // Compiling and writing to disk take their time; the streams to sidecars must not wait for it.
                    let keeper = Arc::clone(&keeper);
                    let offer = move || keeper.offer(candidate, SystemTime::now());
                    if let Err(error) = tokio::task::spawn_blocking(offer).await {
                        tracing::error!(%error, "a policy revision could not be compiled; this is a bug");
                    }
                }
                Ok(None) => keeper.source_is_well(),
                Err(error) => keeper.source_failed(&error),
            }
            source.worth_a_look().await;
        }
    }

    fn restore(&self) {
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
        let candidate = Candidate {
            revision: last.revision,
            files: last.files.into(),
        };
        match compile(&self.trust_domain, &candidate, last.accepted_at) {
            Ok(good) => {
                tracing::info!(revision = candidate.revision, "last good policy restored");
                self.bring_into_force(good);
            }
            Err(mistakes) => {
                let revision = candidate.revision;
                tracing::warn!(revision, %mistakes, "the last good policy is not good any more, and not used");
            }
        }
    }

    /// Takes a revision that is new, or that the source has gone back to.
    fn offer(&self, candidate: Candidate, now: SystemTime) {
        self.source_is_well();
        let in_force = self.world.borrow().policy.in_force.clone();
        if in_force.is_some_and(|good| good.policy.revision() == candidate.revision) {
            self.world
                .send_if_modified(|world| world.policy.rejected.take().is_some());
            self.metrics.rejected.set(0);
            return;
        }
        match compile(&self.trust_domain, &candidate, now) {
            Ok(good) => {
                let revision = &candidate.revision;
                tracing::info!(
                    revision,
                    files = candidate.files.files.len(),
                    "policy accepted"
                );
                self.metrics.accepted.inc();
                // In force first: a disk that is full must not keep a change of policy from the sidecars.
                self.bring_into_force(good);
                self.save(candidate, now);
            }
            Err(mistakes) => self.reject(candidate.revision, &mistakes),
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
        let Candidate { revision, files } = candidate;
        let last_good = LastGood {
            repository,
            branch,
            revision,
            accepted_at,
            files: files.files,
        };
        if let Err(error) = self.state.save(&last_good) {
            tracing::warn!(%error, "the policy is in force, but a restart without its repository would not find it");
        }
    }

    fn reject(&self, revision: String, mistakes: &Diagnostics) {
        let mut errors: Vec<String> = mistakes
            .iter()
            .take(TOLD_MISTAKES)
            .map(ToString::to_string)
            .collect();
        for error in &errors {
            tracing::warn!(revision, %error, "the policy has a mistake");
        }
        if mistakes.len() > TOLD_MISTAKES {
            errors.push(format!("and {} more", mistakes.len() - TOLD_MISTAKES));
        }
        self.metrics.refused.inc();
        self.metrics.rejected.set(1);
        let in_force = self.world.borrow().policy.in_force.clone();
        match &in_force {
            Some(good) => {
                let stays = good.policy.revision();
                tracing::warn!(
                    revision,
                    stays,
                    mistakes = mistakes.len(),
                    "policy rejected, the last good revision stays"
                );
            }
            None => {
                tracing::warn!(
                    revision,
                    mistakes = mistakes.len(),
                    "policy rejected, and there is no earlier one: sidecars deny"
                );
                let first = errors.first().map(String::as_str).unwrap_or_default();
                self.ready.not_ready(format!(
                    "no revision was accepted yet; {revision} has mistakes: {first}"
                ));
            }
        }
        let rejected = Arc::new(Rejected { revision, errors });
        self.world
            .send_modify(|world| world.policy.rejected = Some(rejected));
    }

    fn source_failed(&self, error: &SourceError) {
        let error: Arc<str> = error.to_string().into();
        self.metrics.source_errors.inc();
        let is_new = self.world.send_if_modified(|world| {
            world
                .policy
                .source_error
                .replace(Arc::clone(&error))
                .as_ref()
                != Some(&error)
        });
        if is_new {
            tracing::warn!(%error, "the policy's source cannot be read");
        }
        if self.world.borrow().policy.in_force.is_none() {
            self.ready
                .not_ready(format!("no revision was accepted yet: {error}"));
        }
    }

    fn source_is_well(&self) {
        if self
            .world
            .send_if_modified(|world| world.policy.source_error.take().is_some())
        {
            tracing::info!("the policy's source can be read again");
        }
    }
}

#[cfg(test)]
mod tests;
