//! What the sidecar tells its operator: one log line per decision, metrics, and trace ids that join them across hops.

mod decision_log;
mod ids;
mod labels;
mod metrics;
mod trace;

pub use decision_log::{DecisionLog, DecisionLogError, DecisionRecord, LoggedSubject};
pub use ids::{DecisionId, Ids, SpanId, TraceId};
pub use labels::{CallProtocol, Direction, HandshakeFailure, TokenOutcome, WireFailure};
pub use metrics::{ByteCounters, LiveCall, Metrics, OpenWireConnection};
pub use trace::{TraceParent, TraceParentError};
