//! The document about one workload.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use countersign_identity::{SpiffeId, TrustDomain, spiffe::system};
use serde_json::{Value, json};

use super::evidence::{Caller, Evidence, OfCaller, Times};
use super::operations::operations;
use crate::document::{API_VERSION, Document};

/// What the name of a rule may have of one caller's.
const LONGEST_CALLER: usize = 120;

/// The document in YAML, not yet laid out; `None` if no rule can be made of the calls.
pub(super) fn policy(
    evidence: &Evidence,
    trust_domain: &TrustDomain,
    known: &[Document],
    (namespace, account): (&str, &str),
    callers: &BTreeMap<&Caller, OfCaller<'_>>,
) -> Option<String> {
    let mut rules = String::new();
    let mut names = BTreeSet::new();
    for (caller, calls) in callers {
        // Who may call without a token may call with one.
        let alone = Caller {
            issuer: None,
            ..(*caller).clone()
        };
        let without: BTreeSet<_> = callers
            .get(&alone)
            .filter(|_| caller.issuer.is_some())
            .into_iter()
            .flatten()
            .map(|(call, _)| (call.port, &call.what))
            .collect();
        let calls: OfCaller<'_> = calls
            .iter()
            .filter(|(call, _)| !without.contains(&(call.port, &call.what)))
            .copied()
            .collect();
        let operations = operations(&calls, evidence.options.distinct_values);
        if operations.entries.is_empty() {
            continue;
        }
        let mut name = format!("{} calls {account}", short(caller, trust_domain));
        if let Some(issuer) = &caller.issuer {
            let _ = write!(name, " for a subject of {issuer}");
        }
        if !names.insert(name.clone()) {
            let _ = write!(name, " ({})", names.len());
            names.insert(name.clone());
        }
        let remarks = remarks(&calls)
            .into_iter()
            .chain(operations.parameters.iter().map(|(pattern, parameters)| {
                let counts = parameters
                    .iter()
                    .map(|(form, count)| format!("{count} {}", form.plural()));
                format!("{pattern}: {}", counts.collect::<Vec<_>>().join(", "))
            }));
        // Writing to a String cannot fail.
        for remark in remarks {
            let _ = writeln!(rules, "  # {remark}");
        }
        let _ = writeln!(rules, "  - name: {}", json!(name));
        let _ = writeln!(rules, "    action: allow");
        let _ = writeln!(rules, "    from: [{}]", source(caller, trust_domain));
        if let Some(issuer) = &caller.issuer {
            let _ = writeln!(rules, "    subject: {}", subject(issuer, namespace, known));
        }
        let _ = writeln!(rules, "    to: {}", Value::Array(operations.entries));
    }
    if rules.is_empty() {
        return None;
    }
    let period = evidence
        .period()
        .map(|(first, last)| format!(" from {first} to {last}"));
    let period: String = period
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    Some(format!(
        "# Suggested from the calls that were seen{period}. What was not seen is not allowed.\n\
         apiVersion: {API_VERSION}\nkind: AccessPolicy\nmetadata: {}\nspec:\n  target: {}\n  rules:\n{rules}",
        json!({"name": account, "namespace": namespace}),
        json!({"workloads": [account]}),
    ))
}

/// What a reviewer should know of the calls behind a rule.
fn remarks(calls: &OfCaller<'_>) -> Vec<String> {
    let sum = |count: fn(&Times) -> u64| {
        calls
            .iter()
            .fold(0_u64, |sum, (_, times)| sum.saturating_add(count(times)))
    };
    let (seen, denied, objected) = (sum(|t| t.seen), sum(|t| t.denied), sum(|t| t.objected));
    let mut remarks = vec![format!(
        "{seen} {}, {} different",
        if seen == 1 { "call" } else { "calls" },
        calls.len()
    )];
    if denied > 0 {
        remarks.push(format!("{denied} of them were denied"));
    }
    if objected > 0 {
        remarks.push(format!(
            "{objected} of them a deny rule under observation would deny"
        ));
    }
    remarks
}

/// What people call a caller.
fn short(caller: &Caller, trust_domain: &TrustDomain) -> String {
    let Some(peer) = &caller.peer else {
        return "an anonymous caller".to_owned();
    };
    match local(peer, trust_domain) {
        Some(workload) => workload,
        None => peer.chars().take(LONGEST_CALLER).collect(),
    }
}

/// `namespace/account` of a workload of the mesh's own trust domain.
fn local(peer: &str, trust_domain: &TrustDomain) -> Option<String> {
    let id = SpiffeId::parse(peer).ok()?;
    let workload = id.workload()?;
    (id.trust_domain() == trust_domain)
        .then(|| format!("{}/{}", workload.namespace, workload.service_account))
}

fn source(caller: &Caller, trust_domain: &TrustDomain) -> Value {
    match &caller.peer {
        None => json!({"anonymous": true}),
        Some(peer) => match local(peer, trust_domain) {
            Some(workload) => json!({"workload": workload}),
            None => json!({"spiffe": **peer}),
        },
    }
}

/// The issuer by its name, if that leads to it from this namespace; else any.
fn subject(issuer: &str, namespace: &str, known: &[Document]) -> Value {
    let names = |place: &str, name: &str| {
        known.iter().any(|document| {
            let metadata = document.metadata();
            matches!(document, Document::TokenIssuer(_))
                && metadata.namespace.as_str() == place
                && metadata.name.as_str() == name
        })
    };
    let Some((place, name)) = issuer.split_once('/') else {
        return json!({});
    };
    let hidden = place != namespace && names(namespace, name);
    let reached = place == namespace || place == system::NAMESPACE;
    if reached && !hidden && names(place, name) {
        json!({"issuer": name})
    } else {
        json!({})
    }
}
