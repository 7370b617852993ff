//! The form of a certificate: version, serial number, extensions, names.

use std::collections::HashSet;

use super::super::entry::Read;
use super::Findings;

const REISSUE: &str = "have it issued anew";

pub(super) fn judge(at: usize, read: &Read<'_>, findings: &mut Findings) {
    let facts = &read.facts;
    let mut seen = HashSet::new();
    for extension in &facts.extensions {
        if !seen.insert(extension.oid.as_str()) {
            findings.error(
                "extension-duplicate",
                at,
                format!(
                    "it has the extension {} twice (RFC 5280 §4.2)",
                    extension.name
                ),
                REISSUE,
            );
        }
        if extension.damaged {
            findings.error(
                "extension-damaged",
                at,
                format!("its extension {} cannot be read", extension.name),
                REISSUE,
            );
        }
        if extension.critical && !extension.known {
            findings.error(
                "extension-unknown-critical",
                at,
                format!(
                    "it has a critical extension that is not known here, {}; who does not know it refuses the certificate (RFC 5280 §4.2)",
                    extension.oid
                ),
                "use it only where this extension is understood",
            );
        }
        if extension.name == "precertificatePoison" {
            findings.error(
                "precertificate",
                at,
                "it is a precertificate (RFC 6962 §3.1), which is not for use",
                "take the certificate that was issued after it",
            );
        }
    }
    if !facts.extensions.is_empty() && facts.version != 3 {
        findings.error(
            "version-extensions",
            at,
            format!(
                "it has extensions, but is of version {} (RFC 5280 §4.1.2.9)",
                facts.version
            ),
            REISSUE,
        );
    } else if facts.version < 3 {
        findings.warning(
            "version-old",
            at,
            format!(
                "it is of version {}, which has no extensions",
                facts.version
            ),
            "others may refuse it; have it issued anew as version 3",
        );
    }
    serial(at, read.parsed.raw_serial(), findings);
    if let Some(damaged) = facts.names.iter().find(|name| name.kind == "damaged") {
        findings.error(
            "name-damaged",
            at,
            format!(
                "one of its subject alternative names is no text: {}",
                damaged.value
            ),
            REISSUE,
        );
    }
    // Escapes are only there for characters that have no place in such names.
    let odd = facts
        .names
        .iter()
        .find(|name| matches!(name.kind, "uri" | "dns" | "email") && name.value.contains("\\"));
    if let Some(odd) = odd {
        findings.error(
            "name-odd",
            at,
            format!(
                "its name {} has characters that are made to deceive",
                odd.value
            ),
            "do not use it; ask who issued it",
        );
    }
}

/// RFC 5280 §4.1.2.2: positive, and at most 20 bytes.
fn serial(at: usize, serial: &[u8], findings: &mut Findings) {
    let problem = match serial {
        [] => "is empty",
        [first, ..] if *first >= 0x80 => "is negative",
        bytes if bytes.iter().all(|byte| *byte == 0) => "is 0",
        bytes if bytes.len() > 20 => "has more than 20 bytes",
        _ => return,
    };
    findings.warning(
        "serial-odd",
        at,
        format!("its serial number {problem} (RFC 5280 §4.1.2.2)"),
        "others may refuse it; have it issued anew",
    );
}
