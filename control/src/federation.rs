//! The bundles of the other trust domains that the policy in force names (SPIFFE Federation): one follower for each, which
//! starts and ends with the policy that names it.
//!
//! The last good bundle stays in force while its endpoint is out of reach, and is kept on disk for the next start. A trust
//! domain that the policy no longer names is forgotten, on disk, too.

mod attempt;
mod kept;
mod reach;
mod schedule;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::bundle::SpiffeBundle;
use countersign_identity::{Bundle, TrustDomain};
use countersign_policy::document::BundleEndpoint;
use tokio::task::AbortHandle;

use crate::metrics::FederationMetrics;
use crate::world::{World, WorldSender};
use attempt::AttemptError;
use kept::{Kept, KeptBundles};
pub(crate) use reach::{Reach, read as read_reach};
use schedule::Schedule;

/// What is known of each trust domain that is followed.
pub(crate) type FederationTable = BTreeMap<TrustDomain, Foreign>;

/// What is known of one trust domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Foreign {
    /// The last good bundle.
    pub(crate) bundle: Option<Arc<Bundle>>,
    /// When the endpoint last answered with a good bundle.
    pub(crate) fetched_at: Option<SystemTime>,
    /// Why the last attempt failed.
    pub(crate) error: Option<String>,
}

/// Follows the bundle endpoints of all trust domains that policy names.
pub(crate) struct Federation {
    reach: Vec<Reach>,
    kept: KeptBundles,
    world: WorldSender,
    metrics: FederationMetrics,
}

/// A follower, which ends when it is dropped.
struct Followed {
    endpoint: BundleEndpoint,
    task: AbortHandle,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Federation {
    /// `reach` says how to reach endpoints, where that is not as usual; bundles are kept in `state_directory`.
    pub(crate) fn new(
        reach: Vec<Reach>,
        state_directory: &Path,
        world: WorldSender,
        metrics: FederationMetrics,
    ) -> Self {
        Self {
            reach,
            kept: KeptBundles::new(state_directory),
            world,
            metrics,
        }
    }

    /// Follows for ever.
    pub(crate) async fn follow(self) {
        let mut policy = self.world.subscribe();
        let mut followed = BTreeMap::new();
        let mut adjusted = None;
        loop {
            let wanted = wanted(&policy.borrow_and_update());
            // Before there is a policy, nothing says that anything is not wanted any more.
            if wanted != adjusted
                && let Some(wanted) = &wanted
            {
                self.adjust(&mut followed, wanted);
            }
            adjusted = wanted;
            if policy.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends what is not wanted any more, and starts what is wanted and not there.
    fn adjust(
        &self,
        followed: &mut BTreeMap<TrustDomain, Followed>,
        wanted: &BTreeMap<TrustDomain, BundleEndpoint>,
    ) {
        followed.retain(|trust_domain, follower| {
            let is_wanted = wanted.get(trust_domain) == Some(&follower.endpoint);
            if !is_wanted {
                tracing::info!(%trust_domain, "a trust domain's bundle endpoint is not followed any more");
            }
            is_wanted
        });
        self.forget_all_but(wanted);
        for (trust_domain, endpoint) in wanted {
            followed.entry(trust_domain.clone()).or_insert_with(|| {
                let task = tokio::spawn(self.follower(trust_domain, endpoint).follow());
                Followed {
                    endpoint: endpoint.clone(),
                    task: task.abort_handle(),
                }
            });
        }
    }

    fn forget_all_but(&self, wanted: &BTreeMap<TrustDomain, BundleEndpoint>) {
        self.kept.forget_all_but(|name| {
            wanted
                .keys()
                .any(|trust_domain| trust_domain.as_str() == name)
        });
        self.world.send_if_modified(|world| {
            let gone: Vec<TrustDomain> = world
                .federation
                .keys()
                .filter(|trust_domain| !wanted.contains_key(*trust_domain))
                .cloned()
                .collect();
            for trust_domain in &gone {
                Arc::make_mut(&mut world.federation).remove(trust_domain);
                self.metrics.forget(trust_domain);
            }
            !gone.is_empty()
        });
    }

    fn follower(&self, trust_domain: &TrustDomain, endpoint: &BundleEndpoint) -> Follower {
        let configured = self
            .reach
            .iter()
            .find(|reach| reach.trust_domain == *trust_domain);
        Follower {
            trust_domain: trust_domain.clone(),
            endpoint: endpoint.clone(),
            reach: configured
                .cloned()
                .unwrap_or_else(|| Reach::new(trust_domain.clone())),
            kept: self.kept.clone(),
            world: self.world.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

/// The trust domains that the policy in force names, and where their bundles are.
fn wanted(world: &World) -> Option<BTreeMap<TrustDomain, BundleEndpoint>> {
    let in_force = world.policy.in_force.as_ref()?;
    let described = in_force.policy.trust_domains();
    Some(
        described
            .map(|document| {
                (
                    document.trust_domain.clone(),
                    document.bundle_endpoint.clone(),
                )
            })
            .collect(),
    )
}

/// Follows one bundle endpoint.
struct Follower {
    trust_domain: TrustDomain,
    endpoint: BundleEndpoint,
    reach: Reach,
    kept: KeptBundles,
    world: WorldSender,
    metrics: FederationMetrics,
}

impl Follower {
    async fn follow(self) {
        let (trust_domain, url) = (&self.trust_domain, &self.endpoint.url);
        tracing::info!(%trust_domain, url, "following the bundle endpoint of a trust domain");
        self.restore();
        let mut schedule = Schedule::default();
        loop {
            let wait = self.attempt(&mut schedule).await;
            tokio::time::sleep(wait).await;
        }
    }

    /// Begins with what is known already: in this run, from an earlier one, or as configured.
    fn restore(&self) {
        if self.known().bundle.is_some() {
            return;
        }
        let (bundle, fetched_at) = match self.kept.load(&self.trust_domain) {
            Some(Kept { bundle, fetched_at }) => (bundle, Some(fetched_at)),
            None => match &self.reach.bundle {
                Some(bundle) => (bundle.clone(), None),
                None => return,
            },
        };
        let (trust_domain, sequence) = (&self.trust_domain, bundle.sequence());
        tracing::info!(%trust_domain, sequence, "starting with a bundle that is known already");
        self.publish(Foreign {
            bundle: Some(Arc::new(bundle)),
            fetched_at,
            error: None,
        });
    }

    fn known(&self) -> Foreign {
        let world = self.world.borrow();
        world
            .federation
            .get(&self.trust_domain)
            .cloned()
            .unwrap_or_default()
    }

    /// One attempt; how long to wait for the next.
    async fn attempt(&self, schedule: &mut Schedule) -> Duration {
        let fetched = attempt::fetch(self).await;
        let now = SystemTime::now();
        let known = self.known();
        let checked = fetched.and_then(|published| {
            attempt::check(&published.bundle, known.bundle.as_deref(), now)?;
            Ok(published)
        });
        match checked {
            Ok(published) => {
                let wait = schedule.succeeded(published.refresh_hint, schedule::jitter());
                self.succeeded(published, known, now);
                wait
            }
            Err(error) => {
                let wait = schedule.failed(schedule::jitter());
                self.failed(&error, known, wait);
                wait
            }
        }
    }

    fn succeeded(&self, published: SpiffeBundle, known: Foreign, now: SystemTime) {
        let trust_domain = &self.trust_domain;
        if known.error.is_some() {
            tracing::info!(%trust_domain, "the trust domain's bundle can be fetched again");
        }
        let bundle = match known.bundle {
            Some(same) if *same == published.bundle => same,
            _ => {
                let bundle = Arc::new(published.bundle);
                let (sequence, authorities) = (bundle.sequence(), bundle.x509_authorities().len());
                tracing::info!(%trust_domain, sequence, authorities, "the trust domain's bundle is new");
                self.kept.save(&bundle, now);
                bundle
            }
        };
        self.publish(Foreign {
            bundle: Some(bundle),
            fetched_at: Some(now),
            error: None,
        });
    }

    fn failed(&self, error: &AttemptError, known: Foreign, wait: Duration) {
        let trust_domain = &self.trust_domain;
        let error = one_line(&error.to_string());
        let sequence = known.bundle.as_ref().map(|bundle| bundle.sequence());
        let age = known.fetched_at.and_then(|at| at.elapsed().ok());
        tracing::warn!(
            %trust_domain,
            error,
            kept_sequence = sequence,
            kept_age_seconds = age.map(|age| age.as_secs()),
            retry_in = ?wait,
            "cannot take the trust domain's bundle; the last good one, if any, stays in force"
        );
        self.metrics.failed(trust_domain);
        self.publish(Foreign {
            error: Some(error),
            ..known
        });
    }

    fn publish(&self, known: Foreign) {
        self.metrics.known(&self.trust_domain, &known);
        self.world.send_if_modified(|world| {
            if world.federation.get(&self.trust_domain) == Some(&known) {
                return false;
            }
            Arc::make_mut(&mut world.federation).insert(self.trust_domain.clone(), known);
            true
        });
    }
}

/// An error for people. What the endpoint sent may stand in it, and may be long or have many lines.
fn one_line(error: &str) -> String {
    const SHOWN: usize = 500;
    error
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
