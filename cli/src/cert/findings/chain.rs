//! Whether certificates lead from a leaf to a root: gaps, order, strangers, limits.

use super::super::entry::{Entry, Role};
use super::super::links::Link;
use super::super::source::Kind;
use super::{Findings, Judged, Severity};

pub(super) fn judge(group: &Judged<'_>, all: &[Entry<'_>], findings: &mut Findings) {
    for entry in &group.entries {
        if let Link::NotSignedBy(index) = entry.link {
            let issuer = index + 1;
            findings.error(
                "chain-signature",
                entry.number,
                format!("certificate {issuer} has the name of its issuer, but has not signed it"),
                "put the issuer's right certificate there, or it is a forgery",
            );
        }
        signing_usage(entry, findings);
    }
    if group.kind == Kind::Bundle {
        return bundle(group, findings);
    }
    let Some(leaf) = group.leaf() else { return };
    let path = path(leaf, all);
    let in_group = |number: usize| group.entries.iter().any(|entry| entry.number == number);
    order(group, &path, findings);
    path_length(&path, findings);
    for entry in &path {
        if entry.number != leaf.number && entry.role == Role::Leaf {
            findings.error(
                "chain-not-ca",
                entry.number,
                format!(
                    "it has signed certificate {}, but is not a CA's (RFC 5280 §6.1.4 k)",
                    path_before(&path, entry)
                ),
                "only a certificate whose basic constraints say CA may sign others",
            );
        }
    }
    let strangers: Vec<_> = group
        .entries
        .iter()
        .filter(|entry| entry.role != Role::Unreadable)
        .filter(|entry| !path.iter().any(|on_path| on_path.number == entry.number))
        .collect();
    // Where the chain breaks off, and others are there: is one of them beyond the gap?
    let last = path.last().copied().unwrap_or(leaf);
    let beyond = strangers
        .iter()
        .find(|entry| matches!(entry.role, Role::Intermediate | Role::Root));
    if let (Link::Missing, Some(beyond)) = (last.link, beyond) {
        let issuer = last.facts().map_or("", |facts| facts.issuer_title.as_str());
        findings.error(
            "chain-gap",
            last.number,
            match last.names_as_issuer(beyond) {
                true => format!(
                    "its issuer ({issuer}) is not among the certificates: certificate {} has that name, and another key",
                    beyond.number
                ),
                false => format!(
                    "its issuer ({issuer}) is not among the certificates; certificate {} is no link to it",
                    beyond.number
                ),
            },
            "put the certificate of its issuer after it",
        );
    } else {
        for stranger in strangers.iter().take(10) {
            let (code, message) = match stranger.role {
                Role::Leaf => (
                    "chain-several-leaves",
                    "it is another leaf: a chain has one",
                ),
                _ => ("chain-stranger", "it is no part of the leaf's chain"),
            };
            findings.warning(
                code,
                stranger.number,
                message,
                "remove it, or keep it in a file of its own",
            );
        }
    }
    let root_sent = path.iter().skip(1).find(|entry| {
        entry.link == Link::SelfSigned
            && in_group(entry.number)
            && matches!(group.kind, Kind::Chain | Kind::Svid(_))
    });
    if let Some(root) = root_sent {
        findings.add(
            Severity::Info,
            "chain-root",
            Some(root.number),
            "the root is in the chain: whoever verifies has it, or does not believe it",
            "",
        );
    }
}

fn path_before(path: &[&Entry<'_>], entry: &Entry<'_>) -> usize {
    path.iter()
        .take_while(|other| other.number != entry.number)
        .last()
        .map_or(0, |other| other.number)
}

/// The leaf, its issuer, the issuer's issuer, and so on, as far as they are there.
pub(in super::super) fn path<'a>(leaf: &'a Entry<'a>, all: &'a [Entry<'a>]) -> Vec<&'a Entry<'a>> {
    let mut path = vec![leaf];
    let mut next = leaf.link.issuer();
    while let Some(issuer) = next.and_then(|index| all.get(index)) {
        // Certificates that have signed one another in a circle.
        if path.iter().any(|seen| seen.number == issuer.number) {
            break;
        }
        path.push(issuer);
        next = issuer.link.issuer();
    }
    path
}

/// RFC 8446 §4.4.2, X509-SVID §5: the leaf first, then each certificate's issuer after it.
fn order(group: &Judged<'_>, path: &[&Entry<'_>], findings: &mut Findings) {
    let positions = path
        .iter()
        .filter(|entry| group.entries.iter().any(|own| own.number == entry.number))
        .map(|entry| entry.position);
    if positions.clone().next() != Some(0) || !positions.is_sorted_by(|a, b| a < b) {
        let right: Vec<_> = path.iter().map(|entry| entry.number.to_string()).collect();
        findings.add(
            Severity::Warning,
            "chain-order",
            None,
            format!(
                "the certificates are in the wrong order; it should be {}",
                right.join(", ")
            ),
            "put the leaf first, and after each certificate its issuer; `-o pem` writes them so",
        );
    }
}

/// RFC 5280 §4.2.1.9: how many CAs may be below one.
fn path_length(path: &[&Entry<'_>], findings: &mut Findings) {
    for (below, entry) in path.iter().enumerate().skip(1) {
        let Some(facts) = entry.facts() else { continue };
        // Those between it and the leaf, without those that only renew their own key.
        let between = path
            .iter()
            .take(below)
            .skip(1)
            .filter(|other| other.facts().is_some_and(|facts| !facts.is_self_issued()))
            .count();
        if let Some(limit) = facts.path_length
            && usize::try_from(limit).is_ok_and(|limit| between > limit)
        {
            findings.error(
                "path-length",
                entry.number,
                format!("it allows {limit} CAs below it, but there are {between} (RFC 5280 §4.2.1.9)"),
                "issue the leaf from a CA nearer to it, or this certificate anew with a larger path length",
            );
        }
    }
}

/// A CA that may not sign certificates (RFC 5280 §4.2.1.3).
fn signing_usage(entry: &Entry<'_>, findings: &mut Findings) {
    let Ok(read) = &entry.read else { return };
    if read.facts.certificate_authority
        && matches!(read.parsed.key_usage(), Ok(Some(usage)) if !usage.value.key_cert_sign())
    {
        findings.error(
            "ca-key-usage",
            entry.number,
            "it is a CA's, but its key usage lacks keyCertSign",
            "issue it anew with keyCertSign",
        );
    }
}

fn bundle(group: &Judged<'_>, findings: &mut Findings) {
    for entry in &group.entries {
        if entry.role == Role::Leaf {
            findings.error(
                "bundle-not-ca",
                entry.number,
                "it is in a bundle of authorities, but not a CA's",
                "a bundle holds signing certificates only; remove it",
            );
        }
    }
    let mut seen = std::collections::HashSet::new();
    for entry in &group.entries {
        if !seen.insert(entry.der) {
            findings.warning(
                "bundle-duplicate",
                entry.number,
                "it is there twice",
                "remove one",
            );
        }
    }
}
