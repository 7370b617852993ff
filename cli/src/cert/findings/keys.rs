//! Private keys that lie beside certificates.

use super::super::entry::Entry;
use super::super::source::{Found, FoundKey};
use super::{Findings, Judged, Severity};

pub(super) fn judge(found: &Found, groups: &[Judged<'_>], findings: &mut Findings) {
    for (group, judged) in found.groups.iter().zip(groups) {
        for key in &group.keys {
            match key {
                FoundKey::Readable { public_key, name } => {
                    let leaf = judged.leaf().map(|leaf| leaf.number);
                    let message = match owner(public_key, &judged.entries) {
                        None => format!("the private key beside it ({name}) does not belong to it, nor to any other certificate here"),
                        Some(owner) if leaf.is_some_and(|leaf| leaf != owner.number) => {
                            format!("the private key beside it ({name}) does not belong to it, but to certificate {}", owner.number)
                        }
                        Some(_) => continue,
                    };
                    findings.add(
                        Severity::Error,
                        "key-mismatch",
                        leaf,
                        message,
                        "put the key there that the certificate was issued for, or have one issued for this key",
                    );
                }
                FoundKey::Encrypted => findings.add(
                    Severity::Info,
                    "key-encrypted",
                    None,
                    "the private key is encrypted: whether it belongs to the certificate is not known",
                    "give its password with --password-file or in COUNTERSIGN_PASSWORD",
                ),
                FoundKey::Unusable => findings.add(
                    Severity::Warning,
                    "key-unusable",
                    None,
                    "the private key cannot be read, or is of a kind that is not used here",
                    "use a key for ECDSA (P-256, P-384, P-521), Ed25519, or RSA of 2048 bits or more",
                ),
            }
        }
    }
    if let Some(mode) = found.exposed_mode {
        findings.add(
            Severity::Warning,
            "key-exposed",
            None,
            format!("others can read the file, and it holds a private key (mode {mode:04o})"),
            "chmod 600, and a new key if somebody may have read it",
        );
    }
}

/// The certificate that a key belongs to.
pub(in super::super) fn owner<'a>(
    public_key: &[u8],
    entries: &[&'a Entry<'a>],
) -> Option<&'a Entry<'a>> {
    entries.iter().copied().find(|entry| {
        let read = entry.read.as_ref();
        read.is_ok_and(|read| read.parsed.public_key().raw == public_key)
    })
}
