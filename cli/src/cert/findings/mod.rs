//! What is wrong with certificates, or soon will be, and what to do about it.
//!
//! Every finding has a severity and a code that does not change between versions. A file per subject.

pub(super) mod chain;
mod connection;
mod extensions;
pub(super) mod keys;
mod spiffe;
mod strength;
mod validity;

use std::time::Duration;

use serde::Serialize;

use super::entry::{Entry, Role};
use super::source::{Found, Kind, Remark};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Somebody will refuse it, or should: exit status 1.
    Error,
    /// It works today.
    Warning,
    /// Good to know.
    Info,
}

/// One finding. Its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Stable, kebab-case.
    pub(super) code: &'static str,
    /// The number of the certificate that it is about; absent if it is about all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<usize>,
    pub(super) message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

/// How strictly to judge.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strictness {
    /// Every leaf has to be an X.509-SVID, also one that names no SPIFFE ID.
    pub(super) svid: bool,
    /// Warn of what expires within this time, instead of by the share of its life that is left.
    pub(super) expires_within: Option<Duration>,
}

/// The findings, as they are found.
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        certificate: Option<usize>,
        message: impl Into<String>,
        advice: &str,
    ) {
        self.0.push(Finding {
            severity,
            code,
            certificate,
            message: message.into(),
            advice: (!advice.is_empty()).then(|| advice.to_owned()),
        });
    }

    fn error(&mut self, code: &'static str, at: usize, message: impl Into<String>, advice: &str) {
        self.add(Severity::Error, code, Some(at), message, advice);
    }

    fn warning(&mut self, code: &'static str, at: usize, message: impl Into<String>, advice: &str) {
        self.add(Severity::Warning, code, Some(at), message, advice);
    }
}

/// A group of certificates, as it turned out to be.
pub(super) struct Judged<'a> {
    pub(super) kind: Kind,
    pub(super) entries: Vec<&'a Entry<'a>>,
}

impl<'a> Judged<'a> {
    /// Finds out what a group is that does not say it.
    pub(super) fn of(group: usize, found: &Found, entries: &'a [Entry<'a>]) -> Self {
        let entries: Vec<_> = entries
            .iter()
            .filter(|entry| entry.group == group)
            .collect();
        let declared = found
            .groups
            .get(group)
            .map_or(&Kind::Unknown, |group| &group.kind);
        let has_key = found
            .groups
            .get(group)
            .is_some_and(|group| !group.keys.is_empty());
        // With a key beside it, or the ID of a workload, it is to be presented, whatever it says it is.
        let presented = |entry: &Entry<'_>| {
            entry.position == 0
                && (has_key
                    || entry
                        .facts()
                        .is_some_and(|facts| names_workload(facts.spiffe_id.as_deref())))
        };
        let kind = match declared {
            Kind::Unknown => {
                let leaf = entries
                    .iter()
                    .any(|entry| entry.role == Role::Leaf || presented(entry));
                if leaf { Kind::Chain } else { Kind::Bundle }
            }
            known => known.clone(),
        };
        Self { kind, entries }
    }

    /// The leaf of a chain.
    pub(super) fn leaf(&self) -> Option<&'a Entry<'a>> {
        if self.kind == Kind::Bundle {
            return None;
        }
        let mut entries = self.entries.iter().copied();
        let first_leaf = self.entries.iter().find(|entry| entry.role == Role::Leaf);
        first_leaf.copied().or_else(|| entries.next())
    }

    /// Whether its leaf is to be judged as an X.509-SVID.
    pub(super) fn is_svid(&self, strictness: Strictness) -> bool {
        matches!(self.kind, Kind::Svid(_))
            || (strictness.svid && self.kind != Kind::Bundle)
            || self
                .leaf()
                .and_then(Entry::facts)
                .is_some_and(|facts| facts.spiffe_id.is_some())
    }
}

fn names_workload(spiffe_id: Option<&str>) -> bool {
    let path = spiffe_id.and_then(|id| id.strip_prefix("spiffe://")?.split_once('/'));
    path.is_some()
}

/// Everything that is found, the worst first.
pub(super) fn findings(
    found: &Found,
    groups: &[Judged<'_>],
    entries: &[Entry<'_>],
    strictness: Strictness,
) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    connection::judge(found.connection.as_ref(), &mut findings);
    for remark in &found.remarks {
        if let Remark::Damaged(text) = remark {
            findings.add(
                Severity::Error,
                "input-damaged",
                None,
                text,
                "write this part anew; what could be read is shown",
            );
        }
    }
    for entry in entries {
        match &entry.read {
            Ok(read) => {
                strength::judge(entry.number, read, entry.link, &mut findings);
                extensions::judge(entry.number, read, &mut findings);
            }
            Err(problem) => findings.error(
                "certificate-unreadable",
                entry.number,
                problem,
                "get it anew from where it was issued; it is damaged, or no certificate",
            ),
        }
    }
    for group in groups {
        let svid = group.is_svid(strictness);
        if svid {
            spiffe::judge(group, &mut findings);
        }
        validity::judge(group, entries, svid, strictness, &mut findings);
        chain::judge(group, entries, &mut findings);
    }
    keys::judge(found, groups, &mut findings);
    let mut findings = findings.0;
    findings.sort_by_key(|finding| (finding.severity, finding.certificate));
    findings
}
