//! The engine's own word that every call is allowed by what was suggested.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::{SpiffeId, TrustDomain};
use serde_json::Map;

use super::SuggestedPolicy;
use super::evidence::{CallSeen, Evidence, What};
use crate::document::{Document, parse};
use crate::{Call, Diagnostics, Policy, Request, Subject, Workload, WorkloadPolicy};

/// How calls arrived is not for the suggested documents to say: whoever the log has got so far.
const AS_THEY_CAME: &str = "apiVersion: countersign.dev/v1
kind: MeshMode
metadata: {name: suggested, namespace: countersign-system}
spec: {mode: permissive, ambiguousPaths: accept}
";

/// The calls that are not allowed, each with why.
pub(super) fn uncovered(
    evidence: &Evidence,
    trust_domain: &TrustDomain,
    known: &[Document],
    policies: &[SuggestedPolicy],
) -> Result<Vec<String>, Diagnostics> {
    let suggested = policies.iter().map(|policy| {
        (
            format!("{}/{}", policy.namespace, policy.name),
            policy.text.clone(),
        )
    });
    let mode = ("mode".to_owned(), AS_THEY_CAME.to_owned());
    let mut documents = parse(suggested.chain([mode]))?;
    let issuers = known
        .iter()
        .filter(|document| matches!(document, Document::TokenIssuer(_)));
    documents.extend(issuers.cloned());
    let policy = Policy::compile("suggested", trust_domain, documents)?;

    let mut workloads: HashMap<(&str, &str), WorkloadPolicy> = HashMap::new();
    let mut uncovered = Vec::new();
    for (call, _) in evidence.calls() {
        let judge = workloads
            .entry((&*call.namespace, &*call.account))
            .or_insert_with(|| {
                policy.for_workload(&Workload {
                    namespace: call.namespace.to_string(),
                    service_account: call.account.to_string(),
                    labels: std::collections::BTreeMap::new(),
                })
            });
        if let Some(why) = denied(judge, call) {
            uncovered.push(why);
        }
    }
    Ok(uncovered)
}

fn denied(judge: &WorkloadPolicy, seen: &CallSeen) -> Option<String> {
    // The log's reader has seen that it is one.
    let peer = seen
        .caller
        .peer
        .as_ref()
        .and_then(|peer| SpiffeId::parse(peer).ok());
    let now = SystemTime::now();
    let subjects: Vec<Arc<Subject>> = seen
        .caller
        .issuer
        .iter()
        .map(|issuer| {
            Arc::new(Subject {
                issuer: issuer.to_string(),
                claims: Map::new(),
                expires_at: now.checked_add(Duration::from_secs(3600)).unwrap_or(now),
            })
        })
        .collect();
    let (request, sni) = match &seen.what {
        What::Connection { sni } => (None, sni.as_deref()),
        What::Request {
            method, host, path, ..
        } => {
            let host = host.as_deref().unwrap_or_default();
            (
                Some(Request {
                    method,
                    host,
                    path,
                    headers: &(),
                }),
                None,
            )
        }
    };
    let decision = judge.decide(&Call {
        peer: peer.as_ref(),
        source_ip: None,
        destination_ip: None,
        port: seen.port,
        sni,
        request,
        subjects: &subjects,
        intent: None,
        time: now,
    });
    (!decision.is_allowed()).then(|| {
        let to = format!("{}/{}", seen.namespace, seen.account);
        format!("to {to} on port {}: {}", seen.port, decision.reason)
    })
}
