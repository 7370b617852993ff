//! What one workload's sidecar is told: of everything that is known, what concerns it and no more. Pure functions.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_api::proto;
use countersign_policy::document::{Document, KeySource};

use crate::directory::{Directory, Protocol, Workload};
use crate::federation::FederationTable;
use crate::issuers::{KeyPlace, KeyTable};
use crate::policy::InForce;

/// The policy documents that concern the workload.
///
/// # Errors
/// A document that cannot be written as JSON.
pub(crate) fn policy(
    in_force: &InForce,
    workload: &Workload,
) -> Result<proto::PolicySnapshot, serde_json::Error> {
    let documents = concerning(in_force, workload);
    let documents = documents.iter().map(|document| {
        let json = serde_json::to_string(document)?;
        Ok(proto::PolicyDocument { json })
    });
    let revision = in_force.policy.revision().to_owned();
    Ok(proto::PolicySnapshot {
        revision,
        documents: documents.collect::<Result<_, serde_json::Error>>()?,
    })
}

/// The keys of the token issuers that concern the workload.
pub(crate) fn issuer_keys(
    in_force: &InForce,
    keys: &KeyTable,
    workload: &Workload,
) -> proto::TokenIssuerKeys {
    let documents = concerning(in_force, workload);
    let issuers = documents.iter().filter_map(|document| match document {
        Document::TokenIssuer(issuer) => Some(issuer),
        _ => None,
    });
    let issuers = issuers.map(|issuer| {
        let name = issuer.metadata.to_string();
        if let KeySource::Inline(jwks) = &issuer.keys {
            // The policy itself has them: they were never fetched, and do not age.
            return proto::IssuerKeys {
                issuer: name,
                jwks: jwks.clone(),
                fetched_at: 0,
            };
        }
        let known = KeyPlace::of(issuer).and_then(|place| keys.get(&place));
        let jwks = known
            .and_then(|keys| keys.jwks.as_deref())
            .unwrap_or_default()
            .to_owned();
        let fetched_at = known.and_then(|keys| keys.fetched_at).map_or(0, seconds);
        proto::IssuerKeys {
            issuer: name,
            jwks,
            fetched_at,
        }
    });
    proto::TokenIssuerKeys {
        issuers: issuers.collect(),
    }
}

/// The bundles of the other trust domains that the policy names. They concern the whole mesh.
pub(crate) fn federated_bundles(
    in_force: &InForce,
    known: &FederationTable,
) -> proto::FederatedBundles {
    let named = || {
        let described = in_force.policy.trust_domains();
        described.map(|document| &document.trust_domain)
    };
    let bundles = named().filter_map(|name| known.get(name)?.bundle.as_deref());
    proto::FederatedBundles {
        trust_domains: named().map(ToString::to_string).collect(),
        bundles: bundles.map(proto::Bundle::from).collect(),
    }
}

fn concerning(in_force: &InForce, workload: &Workload) -> Vec<Document> {
    in_force.policy.concerning(&countersign_policy::Workload {
        namespace: workload.namespace.clone(),
        service_account: workload.service_account.clone(),
        labels: workload.labels.clone(),
    })
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The workload itself, and the services that its sidecar has asked for.
pub(crate) fn directory(
    directory: &Directory,
    workload: &Workload,
    subscribed: &BTreeSet<String>,
) -> proto::Directory {
    let services = subscribed.iter().filter_map(|name| {
        let service = directory.services.get(name)?;
        let endpoints = service.endpoints.iter().map(|endpoint| proto::Endpoint {
            wire_address: endpoint.wire_address.to_string(),
            spiffe_id: endpoint.spiffe_id.to_string(),
            destination: endpoint.destination.to_string(),
        });
        Some(proto::Service {
            name: name.clone(),
            protocol: protocol(service.protocol).into(),
            endpoints: endpoints.collect(),
        })
    });
    proto::Directory {
        self_: Some(own(workload)),
        services: services.collect(),
    }
}

fn own(workload: &Workload) -> proto::Workload {
    let ports = workload.ports.iter().map(|port| proto::Port {
        port: port.port.into(),
        protocol: protocol(port.protocol).into(),
        destination: port.destination.to_string(),
        application: port.application.to_string(),
    });
    proto::Workload {
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        service_account: workload.service_account.clone(),
        labels: workload.labels.clone().into_iter().collect(),
        ports: ports.collect(),
    }
}

fn protocol(protocol: Protocol) -> proto::Protocol {
    match protocol {
        Protocol::Detect => proto::Protocol::Unspecified,
        Protocol::Http1 => proto::Protocol::Http1,
        Protocol::Http2 => proto::Protocol::Http2,
        Protocol::Tcp => proto::Protocol::Tcp,
    }
}

#[cfg(test)]
mod tests;
