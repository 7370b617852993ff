//! The bundles of other trust domains as they came from the control plane, each checked for itself.

use std::collections::BTreeMap;

use countersign_api::bundle::InvalidBundle;
use countersign_api::proto;
use countersign_identity::store::ForeignBundles;
use countersign_identity::{Bundle, TrustDomain};

/// The bundles to put in force in place of those that are `held`: of every trust domain that is named the new one, or the held
/// one where there is no new one or it is wrong.
pub(super) fn next(update: proto::FederatedBundles, held: &ForeignBundles) -> Vec<Bundle> {
    let mut sent = BTreeMap::new();
    for bundle in update.bundles {
        let trust_domain = bundle.trust_domain.clone();
        if sent.insert(trust_domain.clone(), bundle).is_some() {
            tracing::warn!(
                trust_domain,
                "the control plane sent two bundles of one trust domain"
            );
        }
    }
    let named = update.trust_domains.into_iter();
    named
        .filter_map(|name| {
            let bundle = sent.remove(&name);
            let held = TrustDomain::parse(&name)
                .ok()
                .and_then(|trust_domain| held.get(&trust_domain));
            match bundle.map(read) {
                Some(Ok(bundle)) => Some(bundle),
                Some(Err(error)) => {
                    tracing::error!(
                        trust_domain = name,
                        %error,
                        "the bundle of another trust domain is refused; the last good one stays in force"
                    );
                    held.map(|held| Bundle::clone(held))
                }
                None => {
                    if held.is_none() {
                        tracing::warn!(
                            trust_domain = name,
                            "the bundle of another trust domain is not known; its workloads cannot be verified"
                        );
                    }
                    held.map(|held| Bundle::clone(held))
                }
            }
        })
        .collect()
}

fn read(bundle: proto::Bundle) -> Result<Bundle, InvalidBundle> {
    bundle.try_into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use countersign_identity::testing::TestAuthority;

    use super::*;

    fn bundle(name: &str) -> Bundle {
        let trust_domain = TrustDomain::parse(name).unwrap();
        TestAuthority::new(&trust_domain).unwrap().bundle().unwrap()
    }

    fn update(named: &[&str], bundles: &[&Bundle]) -> proto::FederatedBundles {
        proto::FederatedBundles {
            trust_domains: named.iter().map(ToString::to_string).collect(),
            bundles: bundles.iter().map(|bundle| (*bundle).into()).collect(),
        }
    }

    fn held(bundles: &[&Bundle]) -> ForeignBundles {
        let entry = |bundle: &&Bundle| (bundle.trust_domain().clone(), Arc::new((*bundle).clone()));
        bundles.iter().map(entry).collect()
    }

    #[test]
    fn each_trust_domain_is_for_itself() {
        let [one, two, newer] = ["one", "two", "one"].map(bundle);
        let held = held(&[&one, &two]);
        // Both stay: of the one there is nothing new, the other's new one is wrong.
        let mut wrong = update(&["one", "two"], &[&two]);
        wrong.bundles[0].x509_authorities.clear();
        assert_eq!(next(wrong, &held), [one.clone(), two.clone()]);
        let only_one = next(update(&["one"], &[&newer]), &held);
        assert_eq!(only_one, std::slice::from_ref(&newer));
        // What is not named goes, and what is not named is not taken.
        assert_eq!(next(update(&[], &[&newer]), &held), []);
        // What was never known cannot be kept.
        assert_eq!(next(update(&["three", "not a name"], &[]), &held), []);
    }
}
