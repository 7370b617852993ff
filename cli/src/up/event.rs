//! What happens in a mesh, as `up` tells it.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::decisions::Decision;
use super::process::Ending;

/// What kind of child something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Ca,
    Control,
    Sidecar,
    Workload,
}

impl Role {
    /// Stable, for programs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Control => "control",
            Self::Sidecar => "sidecar",
            Self::Workload => "workload",
        }
    }
}

/// A child of `up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) role: Role,
    /// Of a sidecar, the name of its workload.
    pub(crate) name: String,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Ca => f.write_str("CA"),
            Role::Control => f.write_str("control plane"),
            Role::Sidecar => write!(f, "sidecar of {}", self.name),
            Role::Workload => write!(f, "workload {}", self.name),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Starting(Who),
    Ready(Who),
    /// It runs, but did not get ready in time; it is left running.
    Late {
        who: Who,
        limit: Duration,
        missing: String,
    },
    /// It ended, and nobody asked it to.
    Died {
        who: Who,
        ending: Ending,
        again_in: Duration,
    },
    /// It cannot even be started.
    CannotStart {
        who: Who,
        problem: String,
        again_in: Duration,
    },
    Stopped {
        who: Who,
        how: String,
    },
    /// Everything is ready that will be.
    Up {
        workloads: usize,
        took: Duration,
    },
    Stopping,
    PolicyTaken {
        revision: String,
    },
    PolicyRefused {
        revision: String,
        mistakes: Vec<String>,
        stays: Option<String>,
    },
    /// The policy repository cannot be read just now.
    PolicyUnreadable {
        error: String,
        stays: Option<String>,
    },
    /// A sidecar has this policy revision.
    PolicyAt {
        workload: String,
        revision: Option<String>,
        error: Option<String>,
    },
    /// A workload's SVID lasts until then.
    SvidUntil {
        workload: String,
        not_after: SystemTime,
    },
    /// A sidecar decided on a call to its workload.
    Decided {
        workload: String,
        decision: Box<Decision>,
    },
}

/// Something that happened, and when.
#[derive(Clone, Debug)]
pub(crate) struct Stamped {
    pub(crate) time: SystemTime,
    pub(crate) event: Event,
}

/// Where the parts of `up` tell what happens.
#[derive(Clone, Debug)]
pub(crate) struct Events(mpsc::UnboundedSender<Stamped>);

impl Events {
    /// A way to tell, and one to listen.
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<Stamped>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells something. Nobody may be listening any more, when `up` is on its way out.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.0.send(Stamped {
            time: SystemTime::now(),
            event,
        });
    }
}
