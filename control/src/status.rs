//! `/status`: what an operator, and `countersign up`, wants to know at a glance.

use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use countersign_policy::document::KeySource;

use crate::history::Moved;
use crate::issuers::KeyPlace;
use crate::policy::PolicyState;
use crate::sidecars::Sidecars;
use crate::world::World;

/// The whole status.
pub(crate) fn status(world: &World, sidecars: &Sidecars, now: SystemTime) -> Value {
    json!({
        "policy": policy(&world.policy, now),
        "directory": directory(world),
        "issuers": issuers(world),
        "federation": federation(world, now),
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

fn policy(policy: &PolicyState, now: SystemTime) -> Value {
    let seconds_since = |time| now.duration_since(time).unwrap_or_default().as_secs();
    let in_force = policy.in_force.as_ref();
    let signature = in_force
        .and_then(|good| good.signed.as_ref())
        .map(|signed| &signed.signature);
    let source = &policy.source;
    json!({
        "revision": in_force.map(|good| good.policy.revision()),
        "acceptedAt": in_force.map(|good| rfc3339(good.accepted_at)),
        "ageSeconds": in_force.map(|good| seconds_since(good.accepted_at)),
        "signedBy": signature.map(|signature| json!({ "signer": signature.signer(), "key": signature.key() })),
        "rejected": policy.rejected.as_ref().map(|bad| json!({
            "revision": bad.revision,
            "reason": bad.reason.as_str(),
            "errors": bad.errors,
        })),
        "branchMoved": policy.moved.as_ref().map(|moved| {
            let (how, from, to) = match &moved.moved {
                Moved::Back { from, to } => ("rollback", from, to),
                Moved::Aside { from, to } => ("force-push", from, to),
            };
            json!({ "how": how, "from": from, "to": to, "at": rfc3339(moved.at) })
        }),
        "sourceReachedAt": source.reached_at.map(rfc3339),
        "sourceError": source.failing.as_ref().map(|failing| failing.error.as_str()),
        "sourceFailing": source.failing.as_ref().map(|failing| json!({
            "since": rfc3339(failing.since),
            "seconds": seconds_since(failing.since),
            "attempts": failing.attempts,
            "retryAt": rfc3339(failing.retry_at),
        })),
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

/// Every other trust domain that the policy in force names.
fn federation(world: &World, now: SystemTime) -> Vec<Value> {
    let in_force = world.policy.in_force.iter();
    let described = in_force.flat_map(|good| good.policy.trust_domains());
    let status = described.map(|document| {
        let known = world.federation.get(&document.trust_domain);
        let bundle = known.and_then(|known| known.bundle.as_ref());
        let fetched_at = known.and_then(|known| known.fetched_at);
        json!({
            "trustDomain": document.trust_domain.as_str(),
            "name": document.metadata.to_string(),
            "url": document.bundle_endpoint.url,
            "alias": document.alias,
            "sequence": bundle.map(|bundle| bundle.sequence()),
            "x509Authorities": bundle.map(|bundle| bundle.x509_authorities().len()),
            "fetchedAt": fetched_at.map(rfc3339),
            "ageSeconds": fetched_at.map(|at| now.duration_since(at).unwrap_or_default().as_secs()),
            "error": known.and_then(|known| known.error.as_deref()),
        })
    });
    status.collect()
}

fn rfc3339(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use countersign_identity::testing::TestAuthority;
    use countersign_identity::{SpiffeId, TrustDomain};

    use super::*;
    use crate::federation::Foreign;
    use crate::issuers::Keys;
    use crate::policy::{BranchMove, Failing, Reason, Rejected, compile_texts};
    use crate::sidecars::{ReportedStatus, Sidecar};

    const ISSUER: &str = "\
apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: \"https://login.example\", audiences: [shop]}
---
apiVersion: countersign.dev/v1
kind: TrustDomain
metadata: {name: partner, namespace: countersign-system}
spec: {trustDomain: partner.example, bundleEndpoint: {url: \"https://partner.example/\", profile: https_web}}
";

    #[test]
    fn an_empty_world_has_the_same_shape_as_a_full_one() {
        let expected = json!({
            "policy": {
                "revision": null, "acceptedAt": null, "ageSeconds": null, "signedBy": null, "rejected": null,
                "branchMoved": null, "sourceReachedAt": null, "sourceError": null, "sourceFailing": null,
            },
            "directory": {"workloads": null, "errors": []},
            "issuers": [],
            "federation": [],
            "sidecars": [],
        });
        assert_eq!(
            status(
                &World::default(),
                &Sidecars::default(),
                SystemTime::UNIX_EPOCH
            ),
            expected
        );
    }

    #[test]
    fn everything_that_is_known_is_told() {
        let trust_domain = TrustDomain::parse("shop.example").unwrap();
        let in_force = compile_texts(&trust_domain, "r1", &[("tokens.yaml", ISSUER)]).unwrap();
        let place = KeyPlace::of(in_force.issuers.first().unwrap()).unwrap();
        let fetched_at = Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        let keys = Keys {
            jwks: None,
            fetched_at,
            error: Some("gone".to_owned()),
        };
        let partner = TrustDomain::parse("partner.example").unwrap();
        let bundle = TestAuthority::new(&partner).unwrap().bundle().unwrap();
        let foreign = Foreign {
            bundle: Some(Arc::new(bundle)),
            fetched_at,
            error: Some("away".to_owned()),
        };
        let mut world = World {
            keys: Arc::new([(place, keys)].into()),
            federation: Arc::new([(partner.clone(), foreign)].into()),
            ..World::default()
        };
        world.policy.in_force = Some(Arc::new(in_force));
        let rejected = Rejected {
            revision: "r2".to_owned(),
            reason: Reason::Mistakes,
            errors: vec!["a.yaml:1:1: wrong".to_owned()],
        };
        world.policy.rejected = Some(Arc::new(rejected));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        world.policy.source.reached_at = Some(at(1));
        world.policy.source.failing = Some(Arc::new(Failing {
            error: "unreachable".to_owned(),
            since: at(2),
            attempts: 3,
            retry_at: at(7),
        }));
        world.policy.moved = Some(Arc::new(BranchMove {
            moved: Moved::Back {
                from: "r3".to_owned(),
                to: "r1".to_owned(),
            },
            at: at(4),
        }));
        world.directory.mistakes = Arc::from(["directory.yaml:1:1: wrong".to_owned()]);
        let sidecars = Sidecars::default();
        let entry = sidecars.enter(Sidecar {
            workload: "orders".to_owned(),
            spiffe_id: SpiffeId::for_workload(&trust_domain, "shop", "orders").unwrap(),
            version: "1".to_owned(),
            address: "127.0.0.1:7".parse().unwrap(),
            status: None,
        });
        entry.report(ReportedStatus {
            revision: "r1".to_owned(),
            error: Some("no".to_owned()),
        });
        let expected = json!({
            "policy": {
                "revision": "r1",
                "acceptedAt": "1970-01-01T00:00:00.000Z",
                "ageSeconds": 5,
                "signedBy": null,
                "rejected": {"revision": "r2", "reason": "mistakes", "errors": ["a.yaml:1:1: wrong"]},
                "branchMoved": {"how": "rollback", "from": "r3", "to": "r1", "at": "1970-01-01T00:00:04.000Z"},
                "sourceReachedAt": "1970-01-01T00:00:01.000Z",
                "sourceError": "unreachable",
                "sourceFailing": {
                    "since": "1970-01-01T00:00:02.000Z", "seconds": 3, "attempts": 3, "retryAt": "1970-01-01T00:00:07.000Z",
                },
            },
            "directory": {"workloads": null, "errors": ["directory.yaml:1:1: wrong"]},
            "issuers": [{
                "name": "shop/corp", "issuer": "https://login.example", "inline": false,
                "fetchedAt": "1970-01-01T00:00:01.500Z", "error": "gone",
            }],
            "federation": [{
                "trustDomain": "partner.example", "name": "countersign-system/partner", "url": "https://partner.example/",
                "alias": false, "sequence": 1, "x509Authorities": 1, "fetchedAt": "1970-01-01T00:00:01.500Z",
                "ageSeconds": 3, "error": "away",
            }],
            "sidecars": [{
                "workload": "orders", "spiffeId": "spiffe://shop.example/ns/shop/sa/orders", "version": "1",
                "address": "127.0.0.1:7", "revision": "r1", "error": "no",
            }],
        });
        assert_eq!(status(&world, &sidecars, at(5)), expected);
    }
}
