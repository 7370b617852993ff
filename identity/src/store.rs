//! The live identity of a process: its SVID and the bundles that it believes, all replaced while
//! connections go on. A handshake uses what is here when it takes place.
//!
//! An ID is verified by the bundle of its own trust domain and by no other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use crate::bundle::Bundle;
use crate::key::SvidKey;
use crate::spiffe::TrustDomain;
use crate::svid::{SvidError, X509Svid};

/// Why an SVID or a bundle was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A process is of one trust domain for as long as it lives.
    #[error("this process is of the trust domain {expected}, what it was given is of {given}")]
    OtherTrustDomain {
        /// The store's trust domain.
        expected: TrustDomain,
        /// The trust domain of what was given.
        given: TrustDomain,
    },
    /// The process has the bundle of its own trust domain from its own CA.
    #[error("{0} is this process's own trust domain, which cannot be given as a foreign one")]
    NotForeign(TrustDomain),
    /// The certificate is for another key.
    #[error("the certificate of the SVID is for another public key than the private key's")]
    KeyMismatch,
}

/// An SVID together with its key.
struct Held {
    svid: Arc<X509Svid>,
    key: SvidKey,
    certified_key: Arc<CertifiedKey>,
}

/// The bundles of other trust domains.
pub type ForeignBundles = BTreeMap<TrustDomain, Arc<Bundle>>;

/// The identity of this process, shared by everything that makes or takes connections.
pub struct IdentityStore {
    bundle: ArcSwap<Bundle>,
    foreign: ArcSwap<ForeignBundles>,
    held: ArcSwapOption<Held>,
    changes: watch::Sender<u64>,
}

impl IdentityStore {
    /// A store that believes `bundle` and has no SVID yet.
    #[must_use]
    pub fn new(bundle: Bundle) -> Arc<Self> {
        Arc::new(Self {
            bundle: ArcSwap::from_pointee(bundle),
            foreign: ArcSwap::default(),
            held: ArcSwapOption::empty(),
            changes: watch::Sender::new(0),
        })
    }

    /// The bundle in force.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.load_full()
    }

    /// Replaces the bundle, and says whether it did: one that is the same as before, or older by
    /// its sequence, changes nothing. Bundles arrive from the CA and from the control plane, and
    /// the slower of them must not take back what the faster one brought.
    ///
    /// # Errors
    /// The bundle is of another trust domain.
    pub fn set_bundle(&self, bundle: Bundle) -> Result<bool, StoreError> {
        self.check_trust_domain(bundle.trust_domain())?;
        let mut replaced = false;
        // The watch channel's lock makes compare-and-replace one step, and the change visible
        // before it is announced.
        self.changes.send_if_modified(|generation| {
            let current = self.bundle.load();
            let older = bundle.sequence() != 0 && bundle.sequence() < current.sequence();
            if older || **current == bundle {
                return false;
            }
            self.bundle.store(Arc::new(bundle));
            *generation += 1;
            replaced = true;
            true
        });
        Ok(replaced)
    }

    /// The bundles of other trust domains whose members may be peers. None until they are set.
    #[must_use]
    pub fn foreign_bundles(&self) -> Arc<ForeignBundles> {
        self.foreign.load_full()
    }

    /// Replaces the bundles of all other trust domains, and says whether that changed anything. One that is as before keeps
    /// its `Arc`; a trust domain that is not among them is not believed any more.
    ///
    /// # Errors
    /// One of them is of this process's own trust domain, for which only its own CA speaks.
    pub fn set_foreign_bundles(
        &self,
        bundles: impl IntoIterator<Item = Bundle>,
    ) -> Result<bool, StoreError> {
        let before = self.foreign.load_full();
        let own = self.bundle();
        let mut next = ForeignBundles::new();
        for bundle in bundles {
            let trust_domain = bundle.trust_domain().clone();
            if trust_domain == *own.trust_domain() {
                return Err(StoreError::NotForeign(trust_domain));
            }
            let bundle = match before.get(&trust_domain) {
                Some(same) if **same == bundle => Arc::clone(same),
                _ => Arc::new(bundle),
            };
            next.insert(trust_domain, bundle);
        }
        Ok(self.changes.send_if_modified(|generation| {
            if **self.foreign.load() == next {
                return false;
            }
            self.foreign.store(Arc::new(next));
            *generation += 1;
            true
        }))
    }

    /// The bundle that speaks for a trust domain: this process's own, or a foreign one.
    #[must_use]
    pub fn bundle_of(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        let own = self.bundle();
        if own.trust_domain() == trust_domain {
            return Some(own);
        }
        self.foreign.load().get(trust_domain).map(Arc::clone)
    }

    /// Verifies an SVID by the bundle of its own trust domain, valid at `now`.
    ///
    /// # Errors
    /// Why it is not believed; [`SvidError::OtherTrustDomain`] if there is no bundle of its trust domain.
    pub fn verify(&self, svid: &X509Svid, now: SystemTime) -> Result<(), SvidError> {
        let bundle = self.bundle_of(svid.id().trust_domain());
        svid.verify(&bundle.unwrap_or_else(|| self.bundle()), now)
    }

    /// The SVID of this process, if it has one.
    #[must_use]
    pub fn svid(&self) -> Option<Arc<X509Svid>> {
        self.held.load().as_ref().map(|held| Arc::clone(&held.svid))
    }

    /// The SVID together with its key, for the workload whose identity this is.
    #[must_use]
    pub fn svid_with_key(&self) -> Option<(Arc<X509Svid>, SvidKey)> {
        let held = self.held.load();
        let held = held.as_ref()?;
        Some((Arc::clone(&held.svid), held.key.clone()))
    }

    /// Replaces the SVID. It is the caller's to verify it against the bundle first.
    ///
    /// # Errors
    /// The key is not that of the certificate, or the ID is of another trust domain.
    pub fn set_svid(&self, svid: X509Svid, key: SvidKey) -> Result<(), StoreError> {
        self.check_trust_domain(svid.id().trust_domain())?;
        let certified_key = CertifiedKey::new(svid.chain().to_vec(), key.signing_key());
        certified_key
            .keys_match()
            .map_err(|_| StoreError::KeyMismatch)?;
        let held = Held {
            svid: Arc::new(svid),
            key,
            certified_key: Arc::new(certified_key),
        };
        self.changes.send_modify(|generation| {
            self.held.store(Some(Arc::new(held)));
            *generation += 1;
        });
        Ok(())
    }

    /// Counts the replacements of SVID or bundle; wakes on each.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many replacements there have been.
    pub(crate) fn generation(&self) -> u64 {
        *self.changes.borrow()
    }

    /// The SVID as rustls sends it.
    pub(crate) fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        self.held
            .load()
            .as_ref()
            .map(|held| Arc::clone(&held.certified_key))
    }

    fn check_trust_domain(&self, given: &TrustDomain) -> Result<(), StoreError> {
        let bundle = self.bundle.load();
        let expected = bundle.trust_domain();
        if expected == given {
            return Ok(());
        }
        Err(StoreError::OtherTrustDomain {
            expected: expected.clone(),
            given: given.clone(),
        })
    }
}

impl fmt::Debug for IdentityStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityStore")
            .field("trust_domain", self.bundle.load().trust_domain())
            .field("svid", &self.svid().map(|svid| svid.id().clone()))
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::spiffe::SpiffeId;
    use crate::testing::TestAuthority;

    fn td(name: &str) -> TrustDomain {
        TrustDomain::parse(name).unwrap()
    }

    fn bundle(authority: &TestAuthority, name: &str, sequence: u64) -> Bundle {
        Bundle::new(td(name), vec![authority.root().clone()], sequence).unwrap()
    }

    fn svid(authority: &TestAuthority, id: &str) -> (X509Svid, SvidKey) {
        let now = SystemTime::now();
        let hour = Duration::from_secs(3600);
        authority
            .svid(&SpiffeId::parse(id).unwrap(), now - hour..=now + hour)
            .unwrap()
    }

    #[test]
    fn a_key_must_be_the_certificate_s() {
        let authority = TestAuthority::new(&td("td")).unwrap();
        let store = IdentityStore::new(authority.bundle().unwrap());
        let (svid, _) = svid(&authority, "spiffe://td/a");
        let other = SvidKey::generate().unwrap();
        assert_eq!(store.set_svid(svid, other), Err(StoreError::KeyMismatch));
        assert_eq!(store.svid(), None);
    }

    #[test]
    fn a_store_is_of_one_trust_domain() {
        let authority = TestAuthority::new(&td("td")).unwrap();
        let store = IdentityStore::new(authority.bundle().unwrap());
        let error = StoreError::OtherTrustDomain {
            expected: td("td"),
            given: td("other"),
        };
        assert_eq!(
            store.set_bundle(bundle(&authority, "other", 2)),
            Err(error.clone())
        );
        let (svid, key) = svid(&authority, "spiffe://other/a");
        assert_eq!(store.set_svid(svid, key), Err(error));
    }

    #[test]
    fn an_older_bundle_does_not_replace_a_newer_one() {
        let (old, new) = (
            TestAuthority::new(&td("td")).unwrap(),
            TestAuthority::new(&td("td")).unwrap(),
        );
        let store = IdentityStore::new(bundle(&old, "td", 3));
        assert_eq!(store.set_bundle(bundle(&new, "td", 4)), Ok(true));
        assert_eq!(store.set_bundle(bundle(&old, "td", 3)), Ok(false));
        assert_eq!(store.set_bundle(bundle(&new, "td", 4)), Ok(false));
        assert_eq!(*store.bundle(), bundle(&new, "td", 4));
        // Of unknown age: the caller knows best.
        assert_eq!(store.set_bundle(bundle(&old, "td", 0)), Ok(true));
    }

    #[test]
    fn foreign_bundles_are_replaced_as_a_whole_and_the_own_one_is_none() {
        let authorities = ["td", "one", "two"].map(|name| TestAuthority::new(&td(name)).unwrap());
        let [own, one, two] = authorities.map(|authority| authority.bundle().unwrap());
        let store = IdentityStore::new(own.clone());
        let mut changes = store.changes();
        let set = |bundles: &[&Bundle]| store.set_foreign_bundles(bundles.iter().copied().cloned());
        assert_eq!(set(&[&one, &two]), Ok(true));
        assert!(changes.has_changed().unwrap());
        let held = store.bundle_of(&td("one")).unwrap();
        assert_eq!((&*held, store.foreign_bundles().len()), (&one, 2));
        assert_eq!(*store.bundle_of(&td("td")).unwrap(), own);
        changes.mark_unchanged();
        assert_eq!(set(&[&two, &one]), Ok(false));
        assert!(!changes.has_changed().unwrap());
        // Nothing is taken of a set with a wrong one.
        assert_eq!(set(&[&one, &own]), Err(StoreError::NotForeign(td("td"))));
        assert_eq!(store.foreign_bundles().len(), 2);
        // What stays is the same, for those who wait for it to change.
        assert_eq!(set(&[&one]), Ok(true));
        assert!(Arc::ptr_eq(&store.bundle_of(&td("one")).unwrap(), &held));
        assert_eq!(store.bundle_of(&td("two")), None);
    }

    #[tokio::test]
    async fn changes_wake_those_who_wait_and_are_visible_to_them() {
        let authority = TestAuthority::new(&td("td")).unwrap();
        let store = IdentityStore::new(authority.bundle().unwrap());
        let mut changes = store.changes();
        let (svid, key) = svid(&authority, "spiffe://td/a");
        let setter = Arc::clone(&store);
        let task = tokio::spawn(async move { setter.set_svid(svid, key) });
        changes.changed().await.unwrap();
        assert_eq!(store.svid().unwrap().id().as_str(), "spiffe://td/a");
        task.await.unwrap().unwrap();
        assert_eq!(store.set_bundle(bundle(&authority, "td", 2)), Ok(true));
        assert!(changes.has_changed().unwrap());
    }
}
