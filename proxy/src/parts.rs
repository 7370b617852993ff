//! What the path of a call needs of the rest of the sidecar, in one handle.

use std::sync::Arc;

use countersign_identity::IdentityStore;

use crate::config::Config;
use crate::drain::Drain;
use crate::state::State;
use crate::telemetry::{DecisionLog, Ids, Metrics};

/// The parts of the sidecar that every call touches. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What the operator has set.
    pub config: Arc<Config>,
    /// Who we are, and whom we believe.
    pub identity: Arc<IdentityStore>,
    /// Policy, directory and issuer keys, as last known.
    pub state: Arc<State>,
    /// The metrics.
    pub metrics: Metrics,
    /// The decision log.
    pub decisions: DecisionLog,
    /// Names for decisions and traces.
    pub ids: Arc<Ids>,
    /// Counts calls, and says when to stop.
    pub drain: Drain,
}
