//! What is hardly meant, as far as the documents themselves show it.

use std::collections::BTreeSet;

use countersign_identity::TrustDomain;

use super::{Lint, Report};
use crate::document::{
    Action, Document, IntentMatch, Operation, OperationFields, RequesterPattern, Rule, Source,
    SourceFields,
};
use crate::pattern::{PathPattern, SpiffePattern, TrustDomainPattern, WorkloadPattern};

/// `complete` is false if some documents could not be read.
pub(super) fn check(
    documents: &[Document],
    local: &TrustDomain,
    complete: bool,
    report: &mut Report,
) {
    let federated: BTreeSet<&TrustDomain> = documents
        .iter()
        .filter_map(|document| match document {
            Document::TrustDomain(domain) => Some(&domain.trust_domain),
            _ => None,
        })
        .collect();
    for document in documents {
        match document {
            Document::AccessPolicy(policy) => {
                for rule in &policy.rules {
                    allow_everything(rule, local, report);
                    if complete {
                        trust_domains(rule, local, &federated, report);
                    }
                }
            }
            Document::TokenIssuer(issuer) if issuer.audiences.is_empty() => report.at(
                Lint::IssuerWithoutAudience,
                &issuer.origin,
                format!(
                    "the tokens of TokenIssuer {} are taken whichever audience they are for: list `audiences`, so that a \
                     token made for others is worth nothing here",
                    issuer.metadata
                ),
            ),
            _ => {}
        }
    }
}

fn allow_everything(rule: &Rule, local: &TrustDomain, report: &mut Report) {
    let Rule {
        action,
        from,
        subject,
        intent,
        to,
        when,
        ..
    } = rule;
    let everything = *action == Action::Allow
        && subject.is_none()
        && intent.is_none()
        && when.is_none()
        && (to.is_empty() || to.iter().any(is_everything));
    if !everything {
        return;
    }
    let who = if from.iter().any(|source| is_stranger(&source.is)) {
        "whoever has proved no identity"
    } else if from.is_empty() || from.iter().any(|source| is_everyone(source, local)) {
        "every workload"
    } else {
        return;
    };
    report.at(
        Lint::AllowEverything,
        &rule.origin,
        format!(
            "the rule {:?} lets {who} do everything: say who calls (`from`) or what is called (`to`)",
            rule.name
        ),
    );
}

fn is_stranger(fields: &SourceFields) -> bool {
    let stranger = SourceFields {
        anonymous: true,
        ..SourceFields::default()
    };
    *fields == stranger
}

fn is_everyone(source: &Source, local: &TrustDomain) -> bool {
    let SourceFields {
        anonymous,
        workload,
        namespace,
        spiffe,
        trust_domain,
        cidr,
        forwarded_for,
    } = &source.is;
    let any_workload = |pattern: &WorkloadPattern| {
        pattern.namespace().is_none() && pattern.service_account().is_none()
    };
    let any_id = |pattern: &SpiffePattern| {
        pattern.is_prefix() && pattern.id().as_str() == format!("spiffe://{local}")
    };
    let ours = |pattern: &TrustDomainPattern| pattern.matches(local);
    !anonymous
        && workload.as_ref().is_none_or(any_workload)
        && namespace.is_none()
        && spiffe.as_ref().is_none_or(any_id)
        && trust_domain.as_ref().is_none_or(ours)
        && cidr.is_none()
        && forwarded_for.is_none()
        && source.not.is_empty()
}

fn is_everything(to: &Operation) -> bool {
    let OperationFields {
        ports,
        methods,
        hosts,
        paths,
        grpc,
        headers,
        sni,
    } = &to.is;
    let every_path = |path: &PathPattern| path.segments().next().is_none() && path.has_rest();
    ports.is_empty()
        && methods.is_empty()
        && hosts.is_empty()
        && (paths.is_empty() || paths.iter().any(every_path))
        && grpc.is_empty()
        && headers.is_empty()
        && sni.is_empty()
        && to.not == OperationFields::default()
}

/// Other trust domains that a rule lets in or keeps out, but for those with a document.
fn trust_domains(
    rule: &Rule,
    local: &TrustDomain,
    federated: &BTreeSet<&TrustDomain>,
    report: &mut Report,
) {
    let sources = rule.from.iter().flat_map(|source| {
        let not = source.not.iter();
        std::iter::once(&source.is).chain(not)
    });
    let mut named = BTreeSet::new();
    for fields in sources {
        if let Some(TrustDomainPattern::Is(domain)) = &fields.trust_domain {
            named.insert(domain);
        }
        named.extend(
            fields
                .spiffe
                .iter()
                .map(|pattern| pattern.id().trust_domain()),
        );
    }
    if let Some(IntentMatch {
        requester: Some(RequesterPattern::Spiffe(pattern)),
        ..
    }) = rule.intent.as_deref()
    {
        named.insert(pattern.id().trust_domain());
    }
    for domain in named {
        if domain != local && !federated.contains(domain) {
            report.at(
                Lint::UnknownTrustDomain,
                &rule.origin,
                format!(
                    "the rule {:?} is about the trust domain {domain}, and no TrustDomain document says how its workloads are \
                     known: without one, or another --trust-domain, nobody proves to be of it",
                    rule.name
                ),
            );
        }
    }
}
