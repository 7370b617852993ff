//! Everything that `cert inspect` says of a target, in the order of its JSON form, which is stable.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use serde::Serialize;

use super::entry::{Entry, Role, entries};
use super::facts::{Facts, sha256};
use super::findings::chain::path;
use super::findings::keys::owner;
use super::findings::{Finding, Judged, Severity, Strictness, findings};
use super::links::Link;
use super::source::{Connection, Found, FoundKey, Kind, Remark};
use super::trust::{self, Roots, Trust};

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) target: String,
    /// "PEM", "PKCS#12", "TLS handshake", …
    pub(super) form: &'static str,
    /// `good`, `warnings` or `errors`.
    pub(super) verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<Connection>,
    pub(super) findings: Vec<Finding>,
    pub(super) groups: Vec<GroupReport>,
    pub(super) certificates: Vec<CertificateReport>,
    /// What else was there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// Certificates that belong together.
#[derive(Debug, Serialize)]
pub(super) struct GroupReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// `chain` or `bundle`.
    pub(super) kind: &'static str,
    /// The numbers of its certificates, as they were found.
    pub(super) certificates: Vec<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) private_keys: Vec<KeyReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trust: Option<Trust>,
}

/// A private key beside certificates.
#[derive(Debug, Serialize)]
pub(super) struct KeyReport {
    /// `matches`, `mismatch`, `encrypted` or `unusable`.
    pub(super) state: &'static str,
    /// "ECDSA P-256".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// The number of the certificate that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<usize>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub(super) struct CertificateReport {
    /// From 1, through all groups.
    pub(super) number: usize,
    pub(super) role: Role,
    /// The number of the certificate that signed it, its own for a self-signed one; absent if that is
    /// not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issued_by: Option<usize>,
    #[serde(flatten)]
    pub(super) content: Content,
}

/// What a certificate says, or why it cannot be read.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    Readable(Box<Facts>),
    Unreadable {
        unreadable: String,
        /// SHA-256 of its bytes.
        sha256: String,
    },
}

impl Report {
    /// Whether there is no error.
    pub(super) fn holds(&self) -> bool {
        self.verdict != "errors"
    }

    /// How many findings are of a severity.
    pub(super) fn count(&self, severity: Severity) -> usize {
        let same = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(same).count()
    }
}

/// Judges what was found as of `now`.
pub(super) fn examine(
    found: Found,
    roots: Option<&Roots>,
    strictness: Strictness,
    now: SystemTime,
) -> Report {
    let entries = entries(&found, now);
    let judged: Vec<_> = (0..found.groups.len())
        .map(|group| Judged::of(group, &found, &entries))
        .collect();
    let mut findings = findings(&found, &judged, &entries, strictness);
    let mut groups = Vec::new();
    for (group, judged) in found.groups.iter().zip(&judged) {
        let trust = group_trust(judged, &found, &entries, roots, strictness, now);
        if let Some(trust) = &trust
            && trust.verified == Some(false)
        {
            let untrusted = Finding {
                severity: Severity::Error,
                code: "untrusted",
                certificate: judged.leaf().map(|leaf| leaf.number),
                message: trust.detail.clone(),
                advice: Some(
                    "is it of another mesh or trust domain, or is the bundle an old one?"
                        .to_owned(),
                ),
            };
            let errors = findings.partition_point(|finding| finding.severity == Severity::Error);
            findings.insert(errors, untrusted);
            if let Some(gap) = missing_issuer(judged, &entries, roots)
                && !findings.iter().any(|finding| finding.code == gap.code)
            {
                findings.insert(errors, gap);
            }
        }
        groups.push(GroupReport {
            name: group.name.clone(),
            kind: match judged.kind {
                Kind::Bundle => "bundle",
                _ => "chain",
            },
            certificates: judged.entries.iter().map(|entry| entry.number).collect(),
            private_keys: group
                .keys
                .iter()
                .map(|key| key_report(key, judged))
                .collect(),
            trust,
        });
    }
    let worst = findings.iter().map(|finding| finding.severity).min();
    Report {
        verdict: match worst {
            Some(Severity::Error) => "errors",
            Some(Severity::Warning) => "warnings",
            _ => "good",
        },
        certificates: entries.iter().map(certificate_report).collect(),
        notes: found
            .remarks
            .iter()
            .filter_map(|remark| match remark {
                Remark::Note(text) => Some(text.clone()),
                Remark::Damaged(_) => None,
            })
            .collect(),
        groups,
        findings,
        form: found.form,
        target: found.origin,
        connection: found.connection,
    }
}

/// That the chain breaks off before it gets to a root.
fn missing_issuer(
    judged: &Judged<'_>,
    entries: &[Entry<'_>],
    roots: Option<&Roots>,
) -> Option<Finding> {
    let path = path(judged.leaf()?, entries);
    let last = path.last()?;
    let (roots, read) = (roots?, last.read.as_ref().ok()?);
    if last.link != Link::Missing || roots.has_issuer_of(&read.parsed) {
        return None;
    }
    Some(Finding {
        severity: Severity::Error,
        code: "chain-gap",
        certificate: Some(last.number),
        message: format!(
            "its issuer ({}) is neither behind it nor a root in {}",
            read.facts.issuer_title, roots.origin
        ),
        advice: Some(
            "put the certificate of its issuer after it, if it has one in between".to_owned(),
        ),
    })
}

/// Verifies a group's chain: against the bundle that came with it, or the one that was asked for.
fn group_trust(
    judged: &Judged<'_>,
    found: &Found,
    entries: &[Entry<'_>],
    roots: Option<&Roots>,
    strictness: Strictness,
    now: SystemTime,
) -> Option<Trust> {
    let leaf = judged.leaf()?;
    let path = path(leaf, entries);
    if !judged.is_svid(strictness) {
        let roots = roots.filter(|roots| roots.asked_for)?;
        return Some(trust::verify_any(&chain(leaf, judged), roots, &path, now));
    }
    let own;
    let roots = match (roots, &judged.kind) {
        (Some(roots), _) => roots,
        (None, Kind::Svid(Some(id))) => {
            own = given_bundle(id, found)?;
            &own
        }
        (None, _) => return Some(Trust::no_roots()),
    };
    Some(trust::verify(chain(leaf, judged), roots, &path, now))
}

/// A group's certificates, the leaf first.
fn chain(leaf: &Entry<'_>, judged: &Judged<'_>) -> Vec<CertificateDer<'static>> {
    let others = judged.entries.iter();
    let others = others.filter(|entry| entry.number != leaf.number);
    std::iter::once(leaf)
        .chain(others.copied())
        .map(|entry| entry.der.clone())
        .collect()
}

/// The bundle that the Workload API gave out with an SVID.
fn given_bundle(id: &str, found: &Found) -> Option<Roots> {
    let domain = id.strip_prefix("spiffe://")?.split('/').next()?;
    let name = format!("bundle of {domain}");
    let group = found
        .groups
        .iter()
        .find(|group| group.kind == Kind::Bundle && group.name.as_deref() == Some(name.as_str()))?;
    Some(Roots {
        origin: format!("the {name}"),
        authorities: group.certificates.clone(),
        asked_for: false,
    })
}

fn key_report(key: &FoundKey, judged: &Judged<'_>) -> KeyReport {
    let (state, name, certificate) = match key {
        FoundKey::Readable { public_key, name } => match owner(public_key, &judged.entries) {
            Some(entry)
                if judged
                    .leaf()
                    .is_some_and(|leaf| leaf.number != entry.number) =>
            {
                ("mismatch", Some(name.clone()), Some(entry.number))
            }
            Some(entry) => ("matches", Some(name.clone()), Some(entry.number)),
            None => ("mismatch", Some(name.clone()), None),
        },
        FoundKey::Encrypted => ("encrypted", None, None),
        FoundKey::Unusable => ("unusable", None, None),
    };
    KeyReport {
        state,
        name,
        certificate,
    }
}

fn certificate_report(entry: &Entry<'_>) -> CertificateReport {
    CertificateReport {
        number: entry.number,
        role: entry.role,
        issued_by: match entry.link {
            Link::SelfSigned => Some(entry.number),
            link => link.issuer().map(|index| index + 1),
        },
        content: match &entry.read {
            Ok(read) => Content::Readable(Box::new(read.facts.clone())),
            Err(problem) => Content::Unreadable {
                unreadable: problem.clone(),
                sha256: sha256(entry.der),
            },
        },
    }
}

impl CertificateReport {
    pub(super) fn facts(&self) -> Option<&Facts> {
        match &self.content {
            Content::Readable(facts) => Some(facts),
            Content::Unreadable { .. } => None,
        }
    }

    /// What people call it.
    pub(super) fn title(&self) -> &str {
        self.facts().map_or("(unreadable)", |facts| &facts.title)
    }
}
