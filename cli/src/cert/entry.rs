//! The certificates of a target, read, numbered, and put in relation to one another.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::facts::Facts;
use super::links::{Link, link};
use super::source::{Found, Kind};

/// One certificate of a target.
pub(super) struct Entry<'a> {
    /// From 1, through all groups.
    pub(super) number: usize,
    /// Its group, and its place in it, from 0.
    pub(super) group: usize,
    pub(super) position: usize,
    pub(super) der: &'a CertificateDer<'static>,
    /// What it says, or why it cannot be read.
    pub(super) read: Result<Read<'a>, String>,
    pub(super) role: Role,
    pub(super) link: Link,
}

/// A certificate that can be read.
pub(super) struct Read<'a> {
    pub(super) parsed: X509Certificate<'a>,
    pub(super) facts: Facts,
}

/// What a certificate is for, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    Leaf,
    Intermediate,
    Root,
    Unreadable,
}

impl Role {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "CA",
            Self::Root => "root",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Entry<'_> {
    pub(super) fn facts(&self) -> Option<&Facts> {
        self.read.as_ref().ok().map(|read| &read.facts)
    }

    /// Whether another has the name of its issuer.
    pub(super) fn names_as_issuer(&self, other: &Entry<'_>) -> bool {
        match (&self.read, &other.read) {
            (Ok(own), Ok(other)) => own.parsed.issuer().as_raw() == other.parsed.subject().as_raw(),
            _ => false,
        }
    }
}

/// Reads every certificate of a target.
pub(super) fn entries(found: &Found, now: SystemTime) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for (group_index, group) in found.groups.iter().enumerate() {
        for (position, der) in group.certificates.iter().enumerate() {
            let read = parse(der, now);
            let role = match &read {
                Ok(read) => role(read, &group.kind),
                Err(_) => Role::Unreadable,
            };
            entries.push(Entry {
                number: entries.len() + 1,
                group: group_index,
                position,
                der,
                read,
                role,
                link: Link::Missing,
            });
        }
    }
    let links: Vec<_> = entries.iter().map(|entry| link(entry, &entries)).collect();
    for (entry, link) in entries.iter_mut().zip(links) {
        entry.link = link;
    }
    entries
}

fn parse<'a>(der: &'a CertificateDer<'static>, now: SystemTime) -> Result<Read<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(Read {
            facts: Facts::of(der, &parsed, now),
            parsed,
        }),
        Ok((rest, _)) => Err(format!(
            "{} bytes follow that do not belong to it",
            rest.len()
        )),
        Err(error) => Err(format!(
            "it is not a DER-encoded X.509 certificate ({error})"
        )),
    }
}

/// The `spiffe:` URI of a certificate, safe to show.
pub(super) fn spiffe_id(der: &CertificateDer<'static>) -> Option<String> {
    parse(der, SystemTime::UNIX_EPOCH).ok()?.facts.spiffe_id
}

/// The SubjectPublicKeyInfo of a certificate, DER.
pub(super) fn public_key(der: &CertificateDer<'static>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

fn role(read: &Read<'_>, kind: &Kind) -> Role {
    let facts = &read.facts;
    // Version 1 has no extensions, so that a root of that age cannot say that it is a CA's.
    let old_root = facts.version < 3
        && (*kind == Kind::Bundle || (*kind == Kind::Unknown && facts.is_self_issued()));
    match (
        facts.certificate_authority || old_root,
        facts.is_self_issued(),
    ) {
        (true, true) => Role::Root,
        (true, false) => Role::Intermediate,
        (false, _) => Role::Leaf,
    }
}
