//! The peer of a connection.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;

use crate::bundle::Bundle;
use crate::spiffe::SpiffeId;
use crate::store::IdentityStore;
use crate::svid::{SvidError, X509Svid};

/// A peer that has proved its SPIFFE ID on a connection. Cheap to clone.
///
/// Only [`super::peer_of_accepted`] and [`super::peer_of_connected`] make it.
#[derive(Clone)]
pub struct PeerIdentity(Arc<Peer>);

struct Peer {
    svid: Arc<X509Svid>,
    /// The last verification that found it good.
    believed: ArcSwapOption<Believed>,
}

/// A verification that need not be done again: the same chain and the same bundle lead to the same answer, as long as
/// nothing of either begins or ends to be valid.
struct Believed {
    /// Weak: a connection must not keep an old bundle in memory. While this is here its address is nobody else's.
    bundle: Weak<Bundle>,
    when: RangeInclusive<SystemTime>,
}

impl PeerIdentity {
    /// A peer whose chain its trust domain's bundle vouches for at `now`.
    pub(super) fn verified(
        svid: X509Svid,
        store: &IdentityStore,
        now: SystemTime,
    ) -> Result<Self, SvidError> {
        let peer = Self::unverified(svid);
        peer.verify(store, now)?;
        Ok(peer)
    }

    /// A peer that no handshake has proved.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn of_test(svid: X509Svid) -> Self {
        Self::unverified(svid)
    }

    fn unverified(svid: X509Svid) -> Self {
        Self(Arc::new(Peer {
            svid: Arc::new(svid),
            believed: ArcSwapOption::empty(),
        }))
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        self.0.svid.id()
    }

    /// When its proof expires.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.svid.not_after()
    }

    /// The serial number of its certificate, in lower-case hexadecimal digits.
    #[must_use]
    pub fn serial(&self) -> &str {
        self.0.svid.serial()
    }

    /// The SHA-256 digest of its certificate.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        self.0.svid.thumbprint()
    }

    /// Verifies its proof again, against its trust domain's bundle of the moment: what was good when the
    /// connection was made may have expired, or its authority be gone, while the connection lasts.
    ///
    /// Signatures are checked again when the bundle was replaced, or a certificate has begun or ended to be valid, since they
    /// were last found good; else this compares times.
    ///
    /// # Errors
    /// Why it is not believed any more.
    pub fn verify(&self, store: &IdentityStore, now: SystemTime) -> Result<(), SvidError> {
        // Without a bundle of its trust domain, ours says so.
        let bundle = store.bundle_of(self.id().trust_domain());
        let bundle = bundle.unwrap_or_else(|| store.bundle());
        let still_believed = self.0.believed.load().as_ref().is_some_and(|believed| {
            std::ptr::eq(believed.bundle.as_ptr(), Arc::as_ptr(&bundle))
                && believed.when.contains(&now)
        });
        if still_believed {
            return Ok(());
        }
        let when = self.0.svid.verified_when(&bundle, now)?;
        let bundle = Arc::downgrade(&bundle);
        self.0
            .believed
            .store(Some(Arc::new(Believed { bundle, when })));
        Ok(())
    }

    /// The proof itself.
    #[must_use]
    pub fn svid(&self) -> &Arc<X509Svid> {
        &self.0.svid
    }
}

impl PartialEq for PeerIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.0.svid == other.0.svid
    }
}

impl Eq for PeerIdentity {}

impl fmt::Debug for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PeerIdentity").field(&self.0.svid).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::TrustDomain;
    use crate::testing::TestAuthority;

    const HOUR: Duration = Duration::from_secs(3600);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    struct Setup {
        authority: TestAuthority,
        store: Arc<IdentityStore>,
        peer: PeerIdentity,
    }

    fn setup() -> Setup {
        let td = TrustDomain::parse("td").unwrap();
        let authority = TestAuthority::new(&td).unwrap();
        let store = IdentityStore::new(authority.bundle().unwrap());
        let id = SpiffeId::parse("spiffe://td/a").unwrap();
        let (svid, _) = authority.svid(&id, now() - HOUR..=now() + HOUR).unwrap();
        let peer = PeerIdentity::verified(svid, &store, now()).unwrap();
        Setup {
            authority,
            store,
            peer,
        }
    }

    #[test]
    fn what_is_believed_ends_with_its_time() {
        let Setup { store, peer, .. } = setup();
        for at in [now() - HOUR, now(), now() + HOUR] {
            peer.verify(&store, at).unwrap();
        }
        let second = Duration::from_secs(1);
        for _ in 0..2 {
            // And a clock that was set back finds it not valid yet.
            let late = peer.verify(&store, now() + HOUR + second);
            assert!(matches!(late, Err(SvidError::Expired { .. })));
            let early = peer.verify(&store, now() - HOUR - second);
            assert!(matches!(early, Err(SvidError::NotYetValid { .. })));
            peer.verify(&store, now()).unwrap();
        }
    }

    #[test]
    fn what_is_believed_ends_with_its_authority() {
        let Setup {
            store,
            peer,
            authority,
        } = setup();
        let td = authority.bundle().unwrap().trust_domain().clone();
        let other = TestAuthority::new(&td).unwrap();
        let with = |roots: &[&TestAuthority], sequence| {
            let roots = roots.iter().map(|authority| authority.root().clone());
            Bundle::new(td.clone(), roots.collect(), sequence).unwrap()
        };
        store.set_bundle(with(&[&authority, &other], 2)).unwrap();
        peer.verify(&store, now()).unwrap();
        store.set_bundle(with(&[&other], 3)).unwrap();
        let gone = peer.verify(&store, now());
        assert!(matches!(gone, Err(SvidError::UnknownAuthority { .. })));
        store.set_bundle(with(&[&authority], 4)).unwrap();
        peer.verify(&store, now()).unwrap();
    }

    #[test]
    fn a_foreign_peer_is_believed_by_its_own_bundle_for_as_long_as_there_is_one() {
        let Setup {
            store, authority, ..
        } = setup();
        let partner = TestAuthority::new(&TrustDomain::parse("partner").unwrap()).unwrap();
        let id = SpiffeId::parse("spiffe://partner/a").unwrap();
        let (svid, _) = partner.svid(&id, now() - HOUR..=now() + HOUR).unwrap();
        store
            .set_foreign_bundles([partner.bundle().unwrap()])
            .unwrap();
        let peer = PeerIdentity::verified(svid, &store, now()).unwrap();
        // Our own bundle changes, and has nothing to say of it.
        let td = authority.bundle().unwrap().trust_domain().clone();
        let newer = Bundle::new(td, vec![authority.root().clone()], 9).unwrap();
        store.set_bundle(newer).unwrap();
        peer.verify(&store, now()).unwrap();
        store.set_foreign_bundles([]).unwrap();
        let gone = peer.verify(&store, now());
        assert!(matches!(gone, Err(SvidError::OtherTrustDomain { .. })));
    }

    #[test]
    fn another_store_has_not_verified_it() {
        let Setup { store, peer, .. } = setup();
        peer.verify(&store, now()).unwrap();
        let td = TrustDomain::parse("td").unwrap();
        let stranger = TestAuthority::new(&td).unwrap();
        let stranger = IdentityStore::new(stranger.bundle().unwrap());
        assert!(peer.verify(&stranger, now()).is_err());
    }
}
