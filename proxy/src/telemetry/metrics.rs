//! The sidecar's metrics. Every label has a closed set of values; what every call touches is looked up once, here.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_policy::Verdict;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{CallProtocol, Direction, HandshakeFailure, TokenOutcome, WireFailure};

/// What is put before every name.
const PREFIX: &str = "countersign_proxy";

/// Upper bounds of the call duration histogram, in seconds: from a hop on one machine to a slow report.
const DURATION_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    direction: Direction,
    protocol: CallProtocol,
    decision: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    direction: Direction,
    protocol: CallProtocol,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: Direction,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabels {
    direction: Direction,
    reason: HandshakeFailure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WireFailureLabels {
    direction: Direction,
    reason: WireFailure,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    outcome: TokenOutcome,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabel {
    revision: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

/// All metrics of one sidecar. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    inbound: PerDirection,
    outbound: PerDirection,
    calls: Family<CallLabels, Counter>,
    wire_failures: Family<WireFailureLabels, Counter>,
    handshake_failures: Family<HandshakeLabels, Counter>,
    tokens: Family<TokenLabels, Counter>,
    tokens_verified: Counter,
    tokens_cached: Counter,
    identity_not_after: Gauge,
    policy_info: Family<RevisionLabel, Gauge>,
    policy_applied: Gauge,
    policy_refused: Counter,
    control_connected: Gauge,
    control_last_update: Gauge,
    decision_log_dropped: Counter,
}

/// What the calls of one direction touch, resolved before the first call.
#[derive(Debug)]
struct PerDirection {
    live_calls: Gauge,
    wire_open: Gauge,
    wire_opened: Counter,
    bytes: ByteCounters,
    http1: PerProtocol,
    http2: PerProtocol,
    grpc: PerProtocol,
    tcp: PerProtocol,
}

#[derive(Debug)]
struct PerProtocol {
    allowed: Counter,
    duration: Histogram,
}

/// Bytes between this sidecar and its own application, heads of messages included.
#[derive(Clone, Debug)]
pub struct ByteCounters {
    /// From the side that made the calls.
    pub received: Counter,
    /// To the side that made the calls.
    pub sent: Counter,
}

/// Counts one call as live until it is dropped.
#[derive(Debug)]
#[must_use = "the call counts as ended when this is dropped"]
pub struct LiveCall(Gauge);

impl Drop for LiveCall {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counts one connection of the wire as open until it is dropped.
#[derive(Debug)]
#[must_use = "the connection counts as closed when this is dropped"]
pub struct OpenWireConnection(Gauge);

impl Drop for OpenWireConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Makes all metrics and registers them.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix(PREFIX);
        let version = Family::<VersionLabel, Gauge>::default();
        version
            .get_or_create(&VersionLabel {
                version: env!("CARGO_PKG_VERSION"),
            })
            .set(1);
        registry.register(
            "build_info",
            "The sidecar's version; the value is 1",
            version,
        );

        let calls = Family::<CallLabels, Counter>::default();
        registry.register(
            "calls",
            "Calls judged, by direction, protocol, decision and reason class",
            calls.clone(),
        );
        let durations = Family::<DurationLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(DURATION_BUCKETS)
        });
        registry.register_with_unit(
            "call_duration",
            "Time from the first byte of a call to its last",
            Unit::Seconds,
            durations.clone(),
        );
        let directions = DirectionFamilies::register(registry);
        let tokens = family(
            registry,
            "tokens",
            "Tokens that came with calls: verified, found in the cache, or failed",
        );
        let token = |outcome| {
            tokens.get_or_create_owned(&TokenLabels {
                outcome,
                reason: "",
            })
        };
        let inner = Inner {
            inbound: directions.resolve(Direction::Inbound, &calls, &durations),
            outbound: directions.resolve(Direction::Outbound, &calls, &durations),
            calls,
            wire_failures: family(
                registry,
                "wire_failures",
                "Connections to peers that could not be had, or broke",
            ),
            handshake_failures: family(
                registry,
                "handshake_failures",
                "TLS handshakes with peers that failed",
            ),
            tokens_verified: token(TokenOutcome::Verified),
            tokens_cached: token(TokenOutcome::Cached),
            tokens,
            identity_not_after: gauge(
                registry,
                "identity_not_after_timestamp_seconds",
                "When the workload's certificate expires; 0 while there is none",
            ),
            policy_info: family(
                registry,
                "policy_info",
                "The policy revision in force; the value is 1",
            ),
            policy_applied: gauge(
                registry,
                "policy_applied_timestamp_seconds",
                "When the policy in force was applied; 0 while there is none",
            ),
            policy_refused: counter(
                registry,
                "policy_refused",
                "Policy snapshots that were refused as a whole",
            ),
            control_connected: gauge(
                registry,
                "control_connected",
                "1 while the stream from the control plane is open, else 0",
            ),
            control_last_update: gauge(
                registry,
                "control_last_update_timestamp_seconds",
                "When the control plane last sent something; 0 before the first time",
            ),
            decision_log_dropped: counter(
                registry,
                "decision_log_dropped",
                "Decisions that could not be logged because standard output was too slow or gone",
            ),
        };
        Self(Arc::new(inner))
    }

    /// Counts a decision. `class` is the reason's class, which has one of few fixed values.
    pub fn call_judged(
        &self,
        direction: Direction,
        protocol: CallProtocol,
        verdict: Verdict,
        class: &'static str,
    ) {
        if verdict == Verdict::Allow && class == ALLOWED {
            self.protocol(direction, protocol).allowed.inc();
            return;
        }
        let decision = match verdict {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
        };
        self.0
            .calls
            .get_or_create(&CallLabels {
                direction,
                protocol,
                decision,
                reason: class,
            })
            .inc();
    }

    /// Records how long a call took, from its first byte to its last.
    pub fn call_ended(&self, direction: Direction, protocol: CallProtocol, took: Duration) {
        self.protocol(direction, protocol)
            .duration
            .observe(took.as_secs_f64());
    }

    /// Counts a call as live until the guard is dropped.
    pub fn live_call(&self, direction: Direction) -> LiveCall {
        let live = &self.direction(direction).live_calls;
        live.inc();
        LiveCall(live.clone())
    }

    /// Counts a connection of the wire: opened now, open until the guard is dropped.
    pub fn wire_opened(&self, direction: Direction) -> OpenWireConnection {
        let direction = self.direction(direction);
        direction.wire_opened.inc();
        direction.wire_open.inc();
        OpenWireConnection(direction.wire_open.clone())
    }

    /// Counts a connection of the wire that could not be had, or broke under calls.
    pub fn wire_failed(&self, direction: Direction, reason: WireFailure) {
        self.0
            .wire_failures
            .get_or_create(&WireFailureLabels { direction, reason })
            .inc();
    }

    /// Counts a TLS handshake that failed.
    pub fn handshake_failed(&self, direction: Direction, reason: HandshakeFailure) {
        self.0
            .handshake_failures
            .get_or_create(&HandshakeLabels { direction, reason })
            .inc();
    }

    /// The byte counters of one direction. To be cloned once per connection rather than looked up per read.
    #[must_use]
    pub fn bytes(&self, direction: Direction) -> &ByteCounters {
        &self.direction(direction).bytes
    }

    /// Counts a token whose signature was verified.
    pub fn token_verified(&self) {
        self.0.tokens_verified.inc();
    }

    /// Counts a token that was verified before.
    pub fn token_cached(&self) {
        self.0.tokens_cached.inc();
    }

    /// Counts a token that proves nothing. `class` has one of few fixed values.
    pub fn token_failed(&self, class: &'static str) {
        self.0
            .tokens
            .get_or_create(&TokenLabels {
                outcome: TokenOutcome::Failed,
                reason: class,
            })
            .inc();
    }

    /// The workload has a certificate that expires then.
    pub fn identity_renewed(&self, not_after: SystemTime) {
        self.0.identity_not_after.set(unix_seconds(not_after));
    }

    /// This policy revision is in force since `now`.
    pub fn policy_applied(&self, revision: &str, now: SystemTime) {
        self.0.policy_info.clear();
        self.0
            .policy_info
            .get_or_create(&RevisionLabel {
                revision: revision.to_owned(),
            })
            .set(1);
        self.0.policy_applied.set(unix_seconds(now));
    }

    /// A policy snapshot was refused.
    pub fn policy_refused(&self) {
        self.0.policy_refused.inc();
    }

    /// Whether the stream from the control plane is open.
    pub fn control_connected(&self, connected: bool) {
        self.0.control_connected.set(i64::from(connected));
    }

    /// The control plane sent something.
    pub fn control_updated(&self, now: SystemTime) {
        self.0.control_last_update.set(unix_seconds(now));
    }

    /// Counts the decisions that could not be logged.
    #[must_use]
    pub fn decision_log_dropped(&self) -> &Counter {
        &self.0.decision_log_dropped
    }

    fn direction(&self, direction: Direction) -> &PerDirection {
        match direction {
            Direction::Inbound => &self.0.inbound,
            Direction::Outbound => &self.0.outbound,
        }
    }

    fn protocol(&self, direction: Direction, protocol: CallProtocol) -> &PerProtocol {
        let direction = self.direction(direction);
        match protocol {
            CallProtocol::Http1 => &direction.http1,
            CallProtocol::Http2 => &direction.http2,
            CallProtocol::Grpc => &direction.grpc,
            CallProtocol::Tcp => &direction.tcp,
        }
    }
}

/// The reason class of a call that a rule allowed, which has its counter at hand.
const ALLOWED: &str = "allowed";

/// The families whose members are resolved once per direction.
struct DirectionFamilies {
    live_calls: Family<DirectionLabel, Gauge>,
    wire_open: Family<DirectionLabel, Gauge>,
    wire_opened: Family<DirectionLabel, Counter>,
    received: Family<DirectionLabel, Counter>,
    sent: Family<DirectionLabel, Counter>,
}

impl DirectionFamilies {
    fn register(registry: &mut Registry) -> Self {
        Self {
            live_calls: family(registry, "live_calls", "Calls that are under way"),
            wire_open: family(registry, "wire_connections", "Open connections with peers"),
            wire_opened: family(
                registry,
                "wire_connections_opened",
                "Connections with peers that were opened",
            ),
            received: family(
                registry,
                "received_bytes",
                "Bytes between this sidecar and its application, from the side that made the calls",
            ),
            sent: family(
                registry,
                "sent_bytes",
                "Bytes between this sidecar and its application, to the side that made the calls",
            ),
        }
    }

    fn resolve(
        &self,
        direction: Direction,
        calls: &Family<CallLabels, Counter>,
        durations: &Family<DurationLabels, Histogram, fn() -> Histogram>,
    ) -> PerDirection {
        let label = DirectionLabel { direction };
        let protocol = |protocol| PerProtocol {
            allowed: calls.get_or_create_owned(&CallLabels {
                direction,
                protocol,
                decision: "allow",
                reason: ALLOWED,
            }),
            duration: durations.get_or_create_owned(&DurationLabels {
                direction,
                protocol,
            }),
        };
        PerDirection {
            live_calls: self.live_calls.get_or_create_owned(&label),
            wire_open: self.wire_open.get_or_create_owned(&label),
            wire_opened: self.wire_opened.get_or_create_owned(&label),
            bytes: ByteCounters {
                received: self.received.get_or_create_owned(&label),
                sent: self.sent.get_or_create_owned(&label),
            },
            http1: protocol(CallProtocol::Http1),
            http2: protocol(CallProtocol::Http2),
            grpc: protocol(CallProtocol::Grpc),
            tcp: protocol(CallProtocol::Tcp),
        }
    }
}

fn family<L, M>(registry: &mut Registry, name: &str, help: &str) -> Family<L, M>
where
    L: EncodeLabelSet + Clone + std::fmt::Debug + std::hash::Hash + Eq + Send + Sync + 'static,
    M: Default
        + prometheus_client::encoding::EncodeMetric
        + prometheus_client::metrics::TypedMetric,
    M: std::fmt::Debug + Send + Sync + 'static,
{
    let family = Family::default();
    registry.register(name, help, Family::clone(&family));
    family
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, Counter::clone(&counter));
    counter
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, Gauge::clone(&gauge));
    gauge
}

/// Seconds since the epoch; 0 for a time before it.
fn unix_seconds(time: SystemTime) -> i64 {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[track_caller]
    fn has(registry: &Registry, line: &str) {
        let text = text(registry);
        assert!(
            text.lines().any(|have| have == line),
            "no line {line:?} in:\n{text}"
        );
    }

    #[test]
    fn calls_are_counted_by_what_was_decided() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let (inbound, http1) = (Direction::Inbound, CallProtocol::Http1);
        metrics.call_judged(inbound, http1, Verdict::Allow, "allowed");
        metrics.call_judged(inbound, http1, Verdict::Allow, "allowed");
        metrics.call_judged(inbound, CallProtocol::Tcp, Verdict::Deny, "no-rule-matched");
        metrics.call_judged(inbound, CallProtocol::Grpc, Verdict::Allow, "observed");
        metrics.call_ended(inbound, http1, Duration::from_millis(3));
        let calls = "countersign_proxy_calls_total{direction=\"inbound\"";
        has(
            &registry,
            &format!(r#"{calls},protocol="http/1.1",decision="allow",reason="allowed"}} 2"#),
        );
        has(
            &registry,
            &format!(r#"{calls},protocol="tcp",decision="deny",reason="no-rule-matched"}} 1"#),
        );
        has(
            &registry,
            &format!(r#"{calls},protocol="grpc",decision="allow",reason="observed"}} 1"#),
        );
        let duration = r#"countersign_proxy_call_duration_seconds_bucket{le="0.005",direction="inbound",protocol="http/1.1"} 1"#;
        has(&registry, duration);
    }

    #[test]
    fn what_is_open_is_counted_until_dropped() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let open = metrics.wire_opened(Direction::Outbound);
        let live = metrics.live_call(Direction::Inbound);
        has(
            &registry,
            r#"countersign_proxy_wire_connections{direction="outbound"} 1"#,
        );
        has(
            &registry,
            r#"countersign_proxy_live_calls{direction="inbound"} 1"#,
        );
        drop((open, live));
        has(
            &registry,
            r#"countersign_proxy_wire_connections{direction="outbound"} 0"#,
        );
        has(
            &registry,
            r#"countersign_proxy_wire_connections_opened_total{direction="outbound"} 1"#,
        );
        has(
            &registry,
            r#"countersign_proxy_live_calls{direction="inbound"} 0"#,
        );
    }

    #[test]
    fn only_the_revision_in_force_is_shown() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let now = UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        metrics.policy_applied("abc", now);
        metrics.policy_applied("def", now);
        has(
            &registry,
            r#"countersign_proxy_policy_info{revision="def"} 1"#,
        );
        has(
            &registry,
            "countersign_proxy_policy_applied_timestamp_seconds 1795000000",
        );
        assert!(!text(&registry).contains("abc"));
    }

    #[test]
    fn failures_and_tokens_are_counted_by_class() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        metrics.handshake_failed(Direction::Inbound, HandshakeFailure::Untrusted);
        metrics.wire_failed(Direction::Outbound, WireFailure::Connect);
        metrics.token_verified();
        metrics.token_cached();
        metrics.token_failed("expired");
        metrics.bytes(Direction::Inbound).received.inc_by(1500);
        metrics.decision_log_dropped().inc();
        let prefix = "countersign_proxy_";
        has(
            &registry,
            &format!(
                r#"{prefix}handshake_failures_total{{direction="inbound",reason="untrusted"}} 1"#
            ),
        );
        has(
            &registry,
            &format!(r#"{prefix}wire_failures_total{{direction="outbound",reason="connect"}} 1"#),
        );
        has(
            &registry,
            &format!(r#"{prefix}tokens_total{{outcome="verified",reason=""}} 1"#),
        );
        has(
            &registry,
            &format!(r#"{prefix}tokens_total{{outcome="cached",reason=""}} 1"#),
        );
        has(
            &registry,
            &format!(r#"{prefix}tokens_total{{outcome="failed",reason="expired"}} 1"#),
        );
        has(
            &registry,
            &format!(r#"{prefix}received_bytes_total{{direction="inbound"}} 1500"#),
        );
        has(&registry, &format!("{prefix}decision_log_dropped_total 1"));
    }
}
