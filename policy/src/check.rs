//! `policy check`: mistakes in policy, and what is hardly meant.

use countersign_identity::TrustDomain;

use crate::files::PolicyFiles;
use crate::{Diagnostic, Policy, document};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The policy is not accepted.
    Error,
    /// It is accepted, and hardly means what its author meant.
    Warning,
}

impl Level {
    /// The level as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A kind of finding. Its ID does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lint {
    /// A file or document that cannot be read.
    InvalidDocument,
    /// A document that can be read, and cannot be enforced.
    InvalidPolicy,
}

impl Lint {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::InvalidDocument, Self::InvalidPolicy];

    /// A word that does not change, for machines and for people who look it up.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::InvalidDocument => "invalid-document",
            Self::InvalidPolicy => "invalid-policy",
        }
    }

    /// How bad it is.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::InvalidDocument | Self::InvalidPolicy => Level::Error,
        }
    }

    /// What it means, in one sentence.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::InvalidDocument => "A file or document that cannot be read.",
            Self::InvalidPolicy => "A document that can be read, and cannot be enforced.",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where, and what.
    pub diagnostic: Diagnostic,
    /// Its kind.
    pub lint: Lint,
}

/// What was found in some policy.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By file, line and column.
    pub findings: Vec<Finding>,
    /// What was left out, and why.
    pub notes: Vec<Diagnostic>,
    /// How many policy files were read.
    pub files: usize,
}

impl Report {
    /// How many findings are this bad.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        let is = |finding: &&Finding| finding.lint.level() == level;
        self.findings.iter().filter(is).count()
    }
}

/// Checks policy files as a whole.
#[must_use]
pub fn check(files: PolicyFiles, trust_domain: &TrustDomain) -> Report {
    let mut report = Report {
        files: files.files.len(),
        notes: files.notes,
        findings: Vec::new(),
    };
    report.add(Lint::InvalidDocument, files.mistakes);
    match document::parse(files.files) {
        Err(mistakes) => report.add(Lint::InvalidDocument, mistakes),
        Ok(documents) => {
            if let Err(mistakes) = Policy::compile("", trust_domain, documents) {
                report.add(Lint::InvalidPolicy, mistakes);
            }
        }
    }
    report.findings.sort();
    report
}

impl Report {
    fn add(&mut self, lint: Lint, found: impl IntoIterator<Item = Diagnostic>) {
        let found = found
            .into_iter()
            .map(|diagnostic| Finding { diagnostic, lint });
        self.findings.extend(found);
    }
}
