//! What comes of a step of a rotation, or why it is not done.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};

/// Why a step is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepError {
    /// Before the first start.
    #[error(
        "this CA has no root yet: start it first (`countersign-ca serve`), or install one (`countersign-ca csr`)"
    )]
    NoRoot,
    /// Too early.
    #[error(
        "{step} of the root {root} is safe from {} on: {why}. Wait, or, if calls may fail, add --force", rfc3339(*safe_at)
    )]
    TooEarly {
        /// What was to be done.
        step: &'static str,
        /// With which root.
        root: String,
        /// When it can be.
        safe_at: SystemTime,
        /// What would go wrong.
        why: String,
    },
    /// Replicas that have not noticed.
    #[error(
        "these replicas still give out an older bundle, in which the root is not: {0}. Look into their logs, stop them, or, \
         if calls may fail, add --force"
    )]
    Behind(String),
    /// The log shows that it is in use.
    #[error(
        "revoke of the root {root} would end calls: the issuance log shows certificates under it that are valid: {count}, the \
         last until {}. Wait, or, if calls may fail, add --force", rfc3339(*last)
    )]
    InUse {
        /// The root.
        root: String,
        /// How many.
        count: u64,
        /// Until when.
        last: SystemTime,
    },
    /// An external root cannot be made here.
    #[error(
        "the root of this CA is an external one (`authority.root: upstream`): give its certificate, \
         `countersign-ca root prepare --certificate ROOT.pem`"
    )]
    NeedsCertificate,
    /// Another one is prepared.
    #[error("the root {0} is prepared already; activate or abandon it first")]
    OtherPrepared(String),
    /// This one has been here before.
    #[error("the root {id} is {phase} here; a root is prepared once")]
    Known {
        /// The root.
        id: String,
        /// Its phase.
        phase: &'static str,
    },
    /// The prepared external root has not signed yet.
    #[error(
        "the root {0} has signed no intermediate for this CA yet: make a request with `countersign-ca csr`, have the root \
         sign it, and install the answer with `countersign-ca install`"
    )]
    NothingSigned(String),
    /// No such root.
    #[error("there is no root {0}; `countersign-ca root status` shows which there are")]
    Unknown(String),
    /// A root that cannot be tainted or revoked.
    #[error("the root {id} is {phase}; {needs}")]
    WrongPhase {
        /// The root.
        id: String,
        /// Its phase.
        phase: &'static str,
        /// What has to come first.
        needs: &'static str,
    },
    /// Which one?
    #[error("there are several roots that could be meant: {0}; name one")]
    Ambiguous(String),
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// What came of a step: a sentence for people, and whether anything was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What is so now.
    pub(crate) message: String,
    /// Or it was so before.
    pub(crate) changed: bool,
}

impl Outcome {
    pub(super) fn changed(message: String) -> Self {
        Self {
            message,
            changed: true,
        }
    }

    pub(super) fn already(message: String) -> Self {
        Self {
            message,
            changed: false,
        }
    }
}

/// What comes next in a rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// The command.
    pub(crate) command: String,
    /// From when on it is safe.
    pub(crate) safe_at: SystemTime,
    /// What it does, and why not earlier.
    pub(crate) why: String,
}
