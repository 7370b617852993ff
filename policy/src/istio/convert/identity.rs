//! Identities of callers as fields of a rule, and as patterns where no field says the same.

use countersign_identity::TrustDomain;

use super::cel;
use crate::document::SourceFields;
use crate::pattern::{SpiffePattern, TextPattern, TrustDomainPattern, WorkloadPattern};

/// Istio's name for the trust domain of the mesh, whichever that is.
const OWN_TRUST_DOMAIN: &str = "cluster.local";

/// A principal or another identity as a field of a rule, if there is one that says the same.
pub(super) enum Identity {
    Fields(SourceFields),
    /// A workload of the mesh's own trust domain.
    Own(WorkloadPattern),
    /// Names of any trust domain.
    Anywhere(SourceFields),
}

pub(super) fn anywhere(fields: SourceFields) -> SourceFields {
    SourceFields {
        trust_domain: Some(TrustDomainPattern::Any),
        ..fields
    }
}

pub(super) fn own(workload: WorkloadPattern) -> SourceFields {
    SourceFields {
        workload: Some(workload),
        ..SourceFields::default()
    }
}

fn workload(text: &str) -> Option<WorkloadPattern> {
    text.parse().ok()
}

fn spiffe(text: &str) -> Option<SourceFields> {
    let pattern: SpiffePattern = format!("spiffe://{text}").parse().ok()?;
    Some(SourceFields {
        spiffe: Some(pattern),
        ..SourceFields::default()
    })
}

/// `trust-domain/ns/namespace/sa/account` in its five parts, the last one perhaps empty.
fn parts(text: &str) -> Option<[&str; 5]> {
    let parts: Vec<&str> = text.split('/').collect();
    parts.try_into().ok()
}

pub(super) fn principal(pattern: &TextPattern) -> Option<Identity> {
    match pattern {
        TextPattern::Present => Some(Identity::Fields(anywhere(SourceFields::default()))),
        TextPattern::Exact(text) => match parts(text) {
            Some([OWN_TRUST_DOMAIN, "ns", namespace, "sa", account]) => {
                workload(&format!("{namespace}/{account}")).map(Identity::Own)
            }
            Some([OWN_TRUST_DOMAIN, ..]) => None,
            _ => spiffe(text).map(Identity::Fields),
        },
        TextPattern::Prefix(text) => match parts(text) {
            Some([OWN_TRUST_DOMAIN, "ns", namespace, "sa", ""]) => {
                workload(&format!("{namespace}/*")).map(Identity::Own)
            }
            Some([OWN_TRUST_DOMAIN, ..]) => None,
            _ => {
                let above = text.strip_suffix('/')?;
                spiffe(&format!("{above}/**")).map(Identity::Fields)
            }
        },
        TextPattern::Suffix(text) => {
            let names = match text.split('/').collect::<Vec<_>>().as_slice() {
                ["", "ns", namespace, "sa", account] => format!("{namespace}/{account}"),
                ["", "sa", account] => format!("*/{account}"),
                _ => return None,
            };
            let workload = workload(&names)?;
            Some(Identity::Anywhere(own(workload)))
        }
    }
}

/// The expression of a pattern for SPIFFE IDs.
pub(super) fn principal_pattern(pattern: &TextPattern) -> String {
    let text = pattern.to_string();
    match pattern {
        TextPattern::Suffix(_) | TextPattern::Present => cel::quoted(&text),
        TextPattern::Exact(_) | TextPattern::Prefix(_) => {
            let own = text
                .strip_prefix(OWN_TRUST_DOMAIN)
                .filter(|rest| rest.starts_with('/') && parts(&text).is_some());
            match own {
                Some(rest) => {
                    format!(
                        "\"spiffe://\" + destination.trustDomain + {}",
                        cel::quoted(rest)
                    )
                }
                None => cel::quoted(&format!("spiffe://{text}")),
            }
        }
    }
}

pub(super) fn namespace(pattern: &TextPattern) -> Option<Identity> {
    match pattern {
        TextPattern::Present => workload("*/*").map(own).map(Identity::Anywhere),
        TextPattern::Exact(name) => Some(Identity::Anywhere(SourceFields {
            namespace: Some(name.parse().ok()?),
            ..SourceFields::default()
        })),
        TextPattern::Prefix(_) | TextPattern::Suffix(_) => None,
    }
}

pub(super) fn trust_domain(pattern: &TextPattern) -> Option<Identity> {
    let domain = match pattern {
        TextPattern::Present => TrustDomainPattern::Any,
        TextPattern::Exact(name) => TrustDomainPattern::Is(TrustDomain::parse(name).ok()?),
        TextPattern::Prefix(_) | TextPattern::Suffix(_) => return None,
    };
    Some(Identity::Fields(SourceFields {
        trust_domain: Some(domain),
        ..SourceFields::default()
    }))
}

/// The pattern for the ID of a workload of the own trust domain.
pub(super) fn own_pattern(workload: &WorkloadPattern) -> String {
    let path = format!("/ns/{}", workload.to_string().replacen('/', "/sa/", 1));
    format!(
        "\"spiffe://\" + destination.trustDomain + {}",
        cel::quoted(&path)
    )
}
