//! `policy check`: mistakes in policy, and what is hardly meant.
//!
//! Mistakes are found by reading and compiling, as the control plane does. What is hardly meant is looked for
//! document by document ([`documents`]), by analysis of all rules together ([`needless`]) and, where it is known which
//! workloads there are, by comparing with those ([`known`]).

mod documents;
mod known;
mod lint;
mod needless;

use countersign_identity::TrustDomain;

pub use self::lint::{Level, Lint};
use crate::directory::Directory;
use crate::document::{Origin, parse_all};
use crate::files::PolicyFiles;
use crate::{Diagnostic, Policy};

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

    fn add(&mut self, lint: Lint, found: impl IntoIterator<Item = Diagnostic>) {
        let found = found
            .into_iter()
            .map(|diagnostic| Finding { diagnostic, lint });
        self.findings.extend(found);
    }

    fn at(&mut self, lint: Lint, place: &Origin, message: impl Into<String>) {
        self.add(lint, [place.diagnostic(message)]);
    }
}

/// Checks policy files as a whole. With a directory, what they say of workloads is compared with it.
#[must_use]
pub fn check(
    files: PolicyFiles,
    trust_domain: &TrustDomain,
    directory: Option<&Directory>,
) -> Report {
    let mut report = Report {
        files: files.files.len(),
        notes: files.notes,
        findings: Vec::new(),
    };
    report.add(Lint::InvalidDocument, files.mistakes);
    let parsed = parse_all(files.files);
    report.notes.extend(parsed.notes);
    report.add(Lint::InvalidDocument, parsed.mistakes);
    let complete = report.findings.is_empty();
    documents::check(&parsed.documents, trust_domain, complete, &mut report);
    if let Some(directory) = directory {
        known::check(&parsed.documents, trust_domain, directory, &mut report);
    }
    let (policy, mistakes) = Policy::compile_all("", trust_domain, parsed.documents, complete);
    // Beside what is missing, nothing can be said of the rules together.
    if complete && mistakes.is_empty() {
        needless::check(&policy, directory, &mut report);
    }
    report.add(Lint::InvalidPolicy, mistakes);
    report.findings.sort();
    report.findings.dedup();
    report.notes.sort();
    report
}

#[cfg(test)]
mod tests;
