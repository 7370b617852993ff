//! What Prometheus is told.

use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::attest::Kind;
use crate::authority::Expiry;
use crate::authority::tokens::Use;
use crate::key_status::KeyStatus;
use crate::log::chain::Head;
use crate::refusal::Refusal;

/// Upper bounds in seconds. A good disk's fsync takes 1 ms to 20 ms; fetching an issuer's keys up to 10 s.
const BUCKETS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IssuedLabels {
    attestation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    reason: &'static str,
}

/// The metrics of the CA.
pub(crate) struct Metrics {
    issued: Family<IssuedLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    refused: Family<RefusedLabels, Counter>,
    duration: Histogram,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn register(registry: &mut Registry, keys: KeyStatus) -> Self {
        let metrics = Self {
            issued: Family::default(),
            tokens: Family::default(),
            refused: Family::default(),
            duration: Histogram::new(BUCKETS),
        };
        let registry = registry.sub_registry_with_prefix("countersign_ca");
        registry.register(
            "issued",
            "X.509-SVIDs issued, by attestation",
            metrics.issued.clone(),
        );
        registry.register(
            "tokens_issued",
            "JWT-SVIDs and WIT-SVIDs issued, by kind",
            metrics.tokens.clone(),
        );
        registry.register(
            "refused",
            "Requests refused, by reason",
            metrics.refused.clone(),
        );
        registry.register_with_unit(
            "issue_duration",
            "Time from request to answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register_collector(Box::new(keys));
        metrics
    }

    /// An SVID was issued.
    pub(crate) fn issued(&self, attestation: Kind, took: Duration) {
        self.issued
            .get_or_create(&IssuedLabels {
                attestation: attestation.name(),
            })
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A token was issued.
    pub(crate) fn token_issued(&self, usage: Use, took: Duration) {
        let kind = usage.name();
        self.tokens.get_or_create(&TokenLabels { kind }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A request was refused.
    pub(crate) fn refused(&self, refusal: &Refusal, took: Duration) {
        self.refused
            .get_or_create(&RefusedLabels {
                reason: refusal.class(),
            })
            .inc();
        self.duration.observe(took.as_secs_f64());
    }
}

/// The metrics of the issuance log.
#[derive(Clone, Default)]
pub(crate) struct LogMetrics {
    sequence: Gauge,
    entries: Counter,
    commits: Counter,
    failures: Counter,
}

impl LogMetrics {
    /// Registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("countersign_ca_log");
        registry.register(
            "sequence",
            "Number of the last entry of the issuance log that this replica wrote or found",
            metrics.sequence.clone(),
        );
        registry.register(
            "entries",
            "Entries that this replica wrote to the issuance log",
            metrics.entries.clone(),
        );
        registry.register(
            "commits",
            "Commits to the issuance log by this replica",
            metrics.commits.clone(),
        );
        registry.register(
            "commit_failures",
            "Commits to the issuance log that failed, and with them the issuances that waited for them",
            metrics.failures.clone(),
        );
        metrics
    }

    /// What the log ends with.
    pub(crate) fn head(&self, head: &Head) {
        self.sequence.set(head.row());
    }

    /// Entries are on the disk.
    pub(crate) fn committed(&self, head: &Head, entries: usize) {
        self.head(head);
        self.entries.inc_by(entries as u64);
        self.commits.inc();
    }

    /// Entries are not, or that is not certain.
    pub(crate) fn failed(&self) {
        self.failures.inc();
    }
}

/// How long the authorities last.
#[derive(Clone, Default)]
pub(crate) struct AuthorityMetrics {
    intermediate_expiry: Gauge,
    root_expiry: Gauge,
}

impl AuthorityMetrics {
    /// Registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("countersign_ca");
        registry.register_with_unit(
            "intermediate_expiry",
            "Time until the intermediate that signs ends; it is replaced at half its life, by itself or in a ceremony",
            Unit::Seconds,
            metrics.intermediate_expiry.clone(),
        );
        registry.register_with_unit(
            "root_expiry",
            "Time until the active root ends; it is replaced by the operator",
            Unit::Seconds,
            metrics.root_expiry.clone(),
        );
        metrics
    }

    /// As of now.
    pub(crate) fn expiry(&self, expiry: Expiry, now: SystemTime) {
        let left = |end: SystemTime| {
            let left = end.duration_since(now).unwrap_or_default();
            i64::try_from(left.as_secs()).unwrap_or(i64::MAX)
        };
        self.intermediate_expiry.set(left(expiry.intermediate));
        self.root_expiry.set(left(expiry.root));
    }
}
