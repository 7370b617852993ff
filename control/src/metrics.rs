//! What the control plane counts.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All of them, by the part that counts.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    pub(crate) policy: PolicyMetrics,
    pub(crate) directory: DirectoryMetrics,
    pub(crate) service: ServiceMetrics,
}

impl Metrics {
    /// Registers everything under `countersign_control_…`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("countersign_control");
        self.policy.register(registry);
        self.directory.register(registry);
        self.service.register(registry);
    }
}

/// Counted by [`crate::policy`].
#[derive(Clone, Default)]
pub(crate) struct PolicyMetrics {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    /// 1 while the newest revision is not the one in force.
    pub(crate) rejected: Gauge,
    pub(crate) source_errors: Counter,
    accepted_at: Gauge<f64, AtomicU64>,
}

impl PolicyMetrics {
    /// Notes when the revision in force was accepted.
    pub(crate) fn accepted_at(&self, time: SystemTime) {
        self.accepted_at.set(
            time.duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64(),
        );
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_accepted",
            "Policy revisions that came into force",
            self.accepted.clone(),
        );
        registry.register(
            "policy_refused",
            "Policy revisions with mistakes",
            self.refused.clone(),
        );
        registry.register(
            "policy_rejected",
            "1 while the newest policy revision has mistakes, and an earlier one or none is in force",
            self.rejected.clone(),
        );
        registry.register(
            "policy_source_errors",
            "Failed attempts to read the policy's source",
            self.source_errors.clone(),
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
