//! Keys and signatures that are too weak, or that others may refuse.

use super::super::entry::Read;
use super::super::facts::Weakness;
use super::super::links::Link;
use super::Findings;

pub(super) fn judge(at: usize, read: &Read<'_>, link: Link, findings: &mut Findings) {
    let facts = &read.facts;
    match &facts.key.weakness {
        Some(Weakness::Broken(why)) => findings.error(
            "weak-key",
            at,
            format!("its key ({}) is too weak: {why}", facts.key.name),
            "have it issued anew for an ECDSA P-256 key",
        ),
        Some(Weakness::Unusual(why)) => findings.warning(
            "unusual-key",
            at,
            format!("its key ({}) is unusual: {why}", facts.key.name),
            "an ECDSA P-256 key is taken everywhere",
        ),
        None => {}
    }
    // Nobody verifies the signature of a root: it is believed because it is in a bundle.
    if link != Link::SelfSigned {
        match &facts.signature.weakness {
            Some(Weakness::Broken(why)) => findings.error(
                "weak-signature",
                at,
                format!(
                    "its signature ({}) proves nothing: {why}",
                    facts.signature.name
                ),
                "have it issued anew, signed with SHA-256 or better",
            ),
            Some(Weakness::Unusual(why)) => findings.warning(
                "unusual-signature",
                at,
                format!("its signature ({}): {why}", facts.signature.name),
                "others may not be able to verify it",
            ),
            None => {}
        }
    }
    if read.parsed.signature_algorithm != read.parsed.tbs_certificate.signature {
        findings.error(
            "signature-algorithm-differs",
            at,
            "it names two different signature algorithms, inside and outside of what is signed (RFC 5280 §4.1.1.2)",
            "it was tampered with, or badly made; have it issued anew",
        );
    }
}
