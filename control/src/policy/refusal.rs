//! Why a revision does not come into force.

use countersign_policy::Diagnostics;

use crate::signatures::Untrusted;

/// How many errors of a rejected revision are told; a revision may have thousands.
const TOLD: usize = 50;

/// What is wrong with a revision, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// It is not signed by a listed signer.
    Signature,
    /// It has mistakes.
    Mistakes,
    /// It fails its own tests.
    Tests,
}

impl Reason {
    pub(crate) const ALL: [Self; 3] = [Self::Signature, Self::Mistakes, Self::Tests];

    /// As status, log and metrics name it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Mistakes => "mistakes",
            Self::Tests => "tests",
        }
    }

    /// What the log says with every single error.
    pub(super) fn headline(self) -> &'static str {
        match self {
            Self::Signature => "the policy is not signed by a listed signer",
            Self::Mistakes => "the policy has a mistake",
            Self::Tests => "the policy fails a test of its own",
        }
    }

    /// What is said of the revision.
    pub(super) fn predicate(self) -> &'static str {
        match self {
            Self::Signature => "is not signed by a listed signer",
            Self::Mistakes => "has mistakes",
            Self::Tests => "fails its own tests",
        }
    }
}

/// Everything that is wrong with one revision.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    errors: Vec<String>,
}

impl Refusal {
    /// A revision that compiles and fails its own tests.
    pub(super) fn tests(failures: Diagnostics) -> Self {
        Self {
            reason: Reason::Tests,
            ..failures.into()
        }
    }

    pub(super) fn count(&self) -> usize {
        self.errors.len()
    }

    /// The errors that are told, and how many are not.
    pub(super) fn told(self) -> Vec<String> {
        let mut errors = self.errors;
        let more = errors.len().saturating_sub(TOLD);
        errors.truncate(TOLD);
        if more > 0 {
            errors.push(format!("and {more} more"));
        }
        errors
    }
}

impl From<Diagnostics> for Refusal {
    fn from(mistakes: Diagnostics) -> Self {
        Self {
            reason: Reason::Mistakes,
            errors: mistakes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<Untrusted> for Refusal {
    fn from(untrusted: Untrusted) -> Self {
        Self {
            reason: Reason::Signature,
            errors: vec![untrusted.to_string()],
        }
    }
}
