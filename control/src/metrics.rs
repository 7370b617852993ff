//! What the control plane counts.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_identity::TrustDomain;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::federation::Foreign;
use crate::policy::Reason;

/// All of them, by the part that counts.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) policy: PolicyMetrics,
    pub(crate) directory: DirectoryMetrics,
    pub(crate) federation: FederationMetrics,
    pub(crate) service: ServiceMetrics,
}

impl Metrics {
    /// Registers everything under `countersign_control_…`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("countersign_control");
        self.policy.register(registry);
        self.directory.register(registry);
        self.federation.register(registry);
        self.service.register(registry);
    }
}

/// Counted by [`crate::policy`].
#[derive(Clone, Default)]
pub(crate) struct PolicyMetrics {
    pub(crate) accepted: Counter,
    refused: Family<RefusedLabels, Counter>,
    /// 1 while the newest revision is not the one in force.
    pub(crate) rejected: Gauge,
    pub(crate) force_pushes: Counter,
    pub(crate) rollbacks: Counter,
    pub(crate) source_errors: Counter,
    accepted_at: Seconds,
    source_reached_at: Seconds,
    source_failing_since: Seconds,
}

/// A point in time, in seconds since the epoch; 0 for none.
type Seconds = Gauge<f64, AtomicU64>;

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// What was wrong with a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: &'static str,
}

impl PolicyMetrics {
    /// Notes when the revision in force was accepted.
    pub(crate) fn accepted_at(&self, time: SystemTime) {
        self.accepted_at.set(seconds(time));
    }

    /// Counts a revision that was refused and is the newest.
    pub(crate) fn refused(&self, reason: Reason) {
        let reason = reason.as_str();
        self.refused.get_or_create(&RefusedLabels { reason }).inc();
        self.rejected.set(1);
    }

    /// Notes when the source was last read.
    pub(crate) fn source_reached_at(&self, time: SystemTime) {
        self.source_reached_at.set(seconds(time));
    }

    /// Notes since when the source cannot be read, or that it can.
    pub(crate) fn source_failing_since(&self, time: Option<SystemTime>) {
        self.source_failing_since
            .set(time.map(seconds).unwrap_or_default());
    }

    fn register(&self, registry: &mut Registry) {
        // There from the start, so that an alert on their rise sees the first rise.
        for reason in Reason::ALL {
            let reason = reason.as_str();
            drop(self.refused.get_or_create(&RefusedLabels { reason }));
        }
        registry.register(
            "policy_accepted",
            "Policy revisions that came into force",
            self.accepted.clone(),
        );
        registry.register(
            "policy_refused",
            "Policy revisions that were refused, by what was wrong: signature, mistakes or tests",
            self.refused.clone(),
        );
        registry.register(
            "policy_rejected",
            "1 while the newest policy revision is refused, and an earlier one or none is in force",
            self.rejected.clone(),
        );
        registry.register(
            "policy_source_errors",
            "Failed attempts to read the policy's source",
            self.source_errors.clone(),
        );
        registry.register(
            "policy_branch_force_pushes",
            "Times that the policy's branch moved to a commit that does not build on the one before",
            self.force_pushes.clone(),
        );
        registry.register(
            "policy_branch_rollbacks",
            "Times that the policy's branch moved back to an earlier commit",
            self.rollbacks.clone(),
        );
        registry.register(
            "policy_source_reached_timestamp_seconds",
            "When the policy's source was last read, seconds since the epoch",
            self.source_reached_at.clone(),
        );
        registry.register(
            "policy_source_failing_since_timestamp_seconds",
            "Since when the policy's source cannot be read, seconds since the epoch; 0 while it can",
            self.source_failing_since.clone(),
        );
        registry.register(
            "policy_accepted_timestamp_seconds",
            "When the policy in force was accepted, seconds since the epoch",
            self.accepted_at.clone(),
        );
    }
}

/// Counted by [`crate::directory_file`].
#[derive(Clone, Default)]
pub(crate) struct DirectoryMetrics {
    workloads: Gauge,
    rejected: Gauge,
}

impl DirectoryMetrics {
    /// Notes that the file as it is now is in force, with this many workloads.
    pub(crate) fn in_force(&self, workloads: usize) {
        self.workloads
            .set(i64::try_from(workloads).unwrap_or(i64::MAX));
        self.rejected.set(0);
    }

    /// Notes that the file as it is now has mistakes.
    pub(crate) fn rejected(&self) {
        self.rejected.set(1);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "directory_workloads",
            "Workloads in the directory in force",
            self.workloads.clone(),
        );
        registry.register(
            "directory_rejected",
            "1 while the directory's file has mistakes, and an earlier state or none is in force",
            self.rejected.clone(),
        );
    }
}

/// Counted by [`crate::federation`].
#[derive(Clone, Default)]
pub(crate) struct FederationMetrics {
    fetched_at: Family<TrustDomainLabels, Seconds>,
    sequence: Family<TrustDomainLabels, Gauge<u64, AtomicU64>>,
    errors: Family<TrustDomainLabels, Counter>,
}

/// Another trust domain, of which policy names few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrustDomainLabels {
    trust_domain: String,
}

impl TrustDomainLabels {
    fn of(trust_domain: &TrustDomain) -> Self {
        Self {
            trust_domain: trust_domain.to_string(),
        }
    }
}

impl FederationMetrics {
    /// Notes what is known of a trust domain's bundle.
    pub(crate) fn known(&self, trust_domain: &TrustDomain, known: &Foreign) {
        let labels = TrustDomainLabels::of(trust_domain);
        let fetched_at = known.fetched_at.map(seconds).unwrap_or_default();
        self.fetched_at.get_or_create(&labels).set(fetched_at);
        let sequence = known.bundle.as_ref().map(|bundle| bundle.sequence());
        self.sequence
            .get_or_create(&labels)
            .set(sequence.unwrap_or_default());
        drop(self.errors.get_or_create(&labels));
    }

    /// Counts a failed attempt.
    pub(crate) fn failed(&self, trust_domain: &TrustDomain) {
        let labels = TrustDomainLabels::of(trust_domain);
        self.errors.get_or_create(&labels).inc();
    }

    /// Ends the series of a trust domain that is not followed any more.
    pub(crate) fn forget(&self, trust_domain: &TrustDomain) {
        let labels = TrustDomainLabels::of(trust_domain);
        self.fetched_at.remove(&labels);
        self.sequence.remove(&labels);
        self.errors.remove(&labels);
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "federation_bundle_fetched_timestamp_seconds",
            "When another trust domain's bundle endpoint last answered with a good bundle, seconds since the epoch; 0 for never",
            self.fetched_at.clone(),
        );
        registry.register(
            "federation_bundle_sequence",
            "The sequence of the bundle of another trust domain that is in force; 0 for none, or not known",
            self.sequence.clone(),
        );
        registry.register(
            "federation_fetch_errors",
            "Attempts to fetch another trust domain's bundle that failed, or whose answer was not taken",
            self.errors.clone(),
        );
    }
}

/// Counted by [`crate::service`].
#[derive(Clone, Default)]
pub(crate) struct ServiceMetrics {
    pub(crate) sidecars: Gauge,
    pub(crate) updates: Family<UpdateLabels, Counter>,
    pub(crate) refused: Counter,
}

/// Which kind of update was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct UpdateLabels {
    pub(crate) kind: &'static str,
}

impl ServiceMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "sidecars",
            "Sidecars that are connected",
            self.sidecars.clone(),
        );
        registry.register(
            "updates_sent",
            "Updates sent to sidecars, by kind",
            self.updates.clone(),
        );
        registry.register(
            "watches_refused",
            "Streams ended because the caller is not, or not any more, the workload that it names",
            self.refused.clone(),
        );
    }
}
