//! The rules of the X.509-SVID standard, every one that is broken, and not only the first.

use countersign_identity::SpiffeId;
use x509_parser::extensions::GeneralName;

use super::super::entry::{Entry, Read};
use super::super::source::Kind;
use super::super::text::shown;
use super::{Findings, Judged};

const REISSUE: &str = "have it issued anew by a SPIFFE authority, such as countersign-ca";
const REISSUE_CA: &str = "issue the signing certificate anew by the rules of X509-SVID §3.2 and §4";

pub(super) fn judge(group: &Judged<'_>, findings: &mut Findings) {
    let Some(leaf) = group.leaf() else { return };
    let id = match &leaf.read {
        Ok(read) => {
            usage(leaf.number, read, findings);
            identity(leaf.number, read, &group.kind, findings)
        }
        Err(_) => None,
    };
    for entry in &group.entries {
        if entry.number != leaf.number
            && let Ok(read) = &entry.read
        {
            signing(entry, read, id.as_ref(), findings);
        }
    }
}

/// The name (X509-SVID §2, §3.1); gives the ID if it is one.
fn identity(at: usize, read: &Read<'_>, kind: &Kind, findings: &mut Findings) -> Option<SpiffeId> {
    let names = read.parsed.subject_alternative_name().ok().flatten();
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris.as_slice() else {
        match uris.len() {
            0 => findings.error(
                "svid-no-uri",
                at,
                "it has no URI in its subject alternative name, so that it names no SPIFFE ID (X509-SVID §2)",
                REISSUE,
            ),
            count => findings.error(
                "svid-several-uris",
                at,
                format!("it has {count} URIs in its subject alternative name; an X.509-SVID has exactly one (X509-SVID §2)"),
                REISSUE,
            ),
        }
        return None;
    };
    let id = match SpiffeId::parse(uri) {
        Ok(id) => id,
        Err(error) => {
            findings.error(
                "svid-id-invalid",
                at,
                format!("its URI is not a SPIFFE ID: {}", shown(&error.to_string())),
                REISSUE,
            );
            return None;
        }
    };
    if id.path().is_empty() {
        findings.error(
            "svid-id-no-path",
            at,
            "its SPIFFE ID has no path: it names a trust domain and no workload (X509-SVID §3.1)",
            REISSUE,
        );
    }
    if let Kind::Svid(Some(expected)) = kind
        && expected != id.as_str()
    {
        findings.error(
            "svid-other-id",
            at,
            format!("it is of {id}, but was given out as {}", shown(expected)),
            "whoever serves it mixes up identities; do not use it",
        );
    }
    if names.is_some_and(|names| !names.critical) && read.parsed.subject().iter().next().is_none() {
        findings.error(
            "svid-san-not-critical",
            at,
            "it has no subject, and its subject alternative name is not marked critical (X509-SVID §3.1)",
            REISSUE,
        );
    }
    Some(id)
}

/// What the leaf's key may be used for (X509-SVID §4.1, §4.3, §4.4).
fn usage(at: usize, read: &Read<'_>, findings: &mut Findings) {
    if read.facts.certificate_authority {
        findings.error(
            "svid-leaf-is-ca",
            at,
            "it is a CA's: it may sign, but not authenticate a workload (X509-SVID §4.1)",
            REISSUE,
        );
    }
    match read.parsed.key_usage() {
        Ok(Some(usage)) => {
            let mut broken = |code, problem: &str| {
                findings.error(
                    code,
                    at,
                    format!("its key usage {problem} (X509-SVID §4.3)"),
                    REISSUE,
                );
            };
            if !usage.critical {
                broken("svid-key-usage-not-critical", "is not marked critical");
            }
            if usage.value.key_cert_sign() && !read.facts.certificate_authority {
                broken("svid-key-cert-sign", "includes keyCertSign");
            }
            if usage.value.crl_sign() && !read.facts.certificate_authority {
                broken("svid-crl-sign", "includes cRLSign");
            }
            if !usage.value.digital_signature() {
                broken("svid-no-digital-signature", "lacks digitalSignature");
            }
        }
        Ok(None) => findings.error(
            "svid-key-usage-missing",
            at,
            "it has no key usage (X509-SVID §4.3)",
            REISSUE,
        ),
        // Damaged, which is told elsewhere.
        Err(_) => {}
    }
    match read.parsed.extended_key_usage() {
        Ok(Some(usage)) => {
            for (has, name) in [
                (usage.value.server_auth, "serverAuth"),
                (usage.value.client_auth, "clientAuth"),
            ] {
                if !has {
                    findings.error(
                        "svid-extended-key-usage",
                        at,
                        format!("its extended key usage lacks {name}; an X.509-SVID has both serverAuth and clientAuth (X509-SVID §4.4)"),
                        REISSUE,
                    );
                }
            }
        }
        Ok(None) if !read.facts.certificate_authority => findings.warning(
            "svid-extended-key-usage-missing",
            at,
            "it has no extended key usage; serverAuth and clientAuth should be there (X509-SVID §4.4)",
            REISSUE,
        ),
        _ => {}
    }
}

/// What a signing certificate is (X509-SVID §3.2, §4.1, §4.3).
fn signing(entry: &Entry<'_>, read: &Read<'_>, leaf: Option<&SpiffeId>, findings: &mut Findings) {
    let at = entry.number;
    let facts = &read.facts;
    if !facts.certificate_authority {
        // Told of chains of every kind.
        return;
    }
    match read.parsed.key_usage() {
        Ok(Some(usage)) if !usage.critical && usage.value.key_cert_sign() => findings.warning(
            "ca-key-usage-not-critical",
            at,
            "its key usage is not marked critical (X509-SVID §4.3)",
            REISSUE_CA,
        ),
        _ => {}
    }
    let Some(uri) = &facts.spiffe_id else { return };
    match SpiffeId::parse(uri) {
        Ok(id) if !id.path().is_empty() => findings.error(
            "ca-id-has-path",
            at,
            format!("it is a CA's, and its SPIFFE ID {id} has a path (X509-SVID §3.2)"),
            REISSUE_CA,
        ),
        Ok(id) => {
            if let Some(leaf) = leaf
                && leaf.trust_domain() != id.trust_domain()
            {
                findings.error(
                    "ca-other-trust-domain",
                    at,
                    format!(
                        "it is an authority of {}, but the leaf is of {}",
                        id.trust_domain(),
                        leaf.trust_domain()
                    ),
                    "a trust domain's SVIDs are signed by its own authorities only",
                );
            }
        }
        Err(error) => findings.error(
            "ca-id-invalid",
            at,
            format!("its URI is not a SPIFFE ID: {}", shown(&error.to_string())),
            REISSUE_CA,
        ),
    }
}
