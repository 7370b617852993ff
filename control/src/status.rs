//! `/status`: what an operator, and `countersign up`, wants to know at a glance.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use countersign_policy::document::KeySource;

use crate::issuers::KeyPlace;
use crate::sidecars::Sidecars;
use crate::world::World;

/// The whole status.
pub(crate) fn status(world: &World, sidecars: &Sidecars) -> Value {
    json!({
        "policy": policy(world),
        "directory": directory(world),
        "issuers": issuers(world),
        "sidecars": sidecars.list().into_iter().map(|sidecar| {
            let (revision, error) = match sidecar.status {
                Some(status) => (Some(status.revision), status.error),
                None => (None, None),
            };
            json!({
                "workload": sidecar.workload,
                "spiffeId": sidecar.spiffe_id.as_str(),
                "version": sidecar.version,
                "address": sidecar.address,
                "revision": revision,
                "error": error,
            })
        }).collect::<Vec<_>>(),
    })
}

fn policy(world: &World) -> Value {
    let in_force = world.policy.in_force.as_ref();
    let rejected = world.policy.rejected.as_ref();
    json!({
        "revision": in_force.map(|good| good.policy.revision()),
        "acceptedAt": in_force.map(|good| rfc3339(good.accepted_at)),
        "rejected": rejected.map(|bad| json!({ "revision": bad.revision, "errors": bad.errors })),
        "sourceError": world.policy.source_error.as_deref(),
    })
}

fn directory(world: &World) -> Value {
    json!({
        "workloads": world.directory.in_force.as_ref().map(|directory| directory.workloads.len()),
        "errors": &*world.directory.mistakes,
    })
}

/// Every token issuer that the policy in force names.
fn issuers(world: &World) -> Vec<Value> {
    let issuers = world.policy.in_force.iter().flat_map(|good| &good.issuers);
    let status = issuers.map(|issuer| {
        let keys = KeyPlace::of(issuer).and_then(|place| world.keys.get(&place));
        json!({
            "name": issuer.metadata.to_string(),
            "issuer": issuer.issuer,
            "inline": matches!(issuer.keys, KeySource::Inline(_)),
            "fetchedAt": keys.and_then(|keys| keys.fetched_at).map(rfc3339),
            "error": keys.and_then(|keys| keys.error.as_deref()),
        })
    });
    status.collect()
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}
