//! Whether a peer believes what the CA signs. That rests on the key, the intermediate's certificate and the bundle, which are
//! the same for many certificates; so the first one under them is verified as a peer would, and after that one each second.
//! Below one issuance per second that is every one. A signature that was made wrongly, by a device for keys that fails, is of
//! no use to anybody: who asked for the certificate verifies it too, and asks again.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use countersign_identity::{Bundle, SvidError, X509Svid};

use crate::authority::Intermediate;

/// For how long one good sample is enough.
const INTERVAL: Duration = Duration::from_secs(1);

/// The last sample.
#[derive(Default)]
pub(crate) struct Samples(Mutex<Option<Sample>>);

/// What was good, and when. Weak: while these are here, their addresses are nobody else's.
struct Sample {
    intermediate: Weak<Intermediate>,
    bundle: Weak<Bundle>,
    at: SystemTime,
}

impl Sample {
    fn covers(
        &self,
        intermediate: &Arc<Intermediate>,
        bundle: &Arc<Bundle>,
        now: SystemTime,
    ) -> bool {
        let is_recent = now.duration_since(self.at).is_ok_and(|age| age < INTERVAL);
        is_recent
            && std::ptr::eq(self.intermediate.as_ptr(), Arc::as_ptr(intermediate))
            && std::ptr::eq(self.bundle.as_ptr(), Arc::as_ptr(bundle))
    }
}

impl Samples {
    /// Verifies `svid`, which `intermediate` has signed, by `bundle`, unless another one of theirs was good just now.
    ///
    /// # Errors
    /// Why a peer would not believe it.
    pub(super) fn verify(
        &self,
        svid: &X509Svid,
        intermediate: &Arc<Intermediate>,
        bundle: &Arc<Bundle>,
        now: SystemTime,
    ) -> Result<(), SvidError> {
        let last = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_covered = last()
            .as_ref()
            .is_some_and(|sample| sample.covers(intermediate, bundle, now));
        if is_covered {
            return Ok(());
        }
        svid.verify(bundle, now)?;
        *last() = Some(Sample {
            intermediate: Arc::downgrade(intermediate),
            bundle: Arc::downgrade(bundle),
            at: now,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use countersign_identity::testing::TestAuthority;
    use countersign_identity::{SpiffeId, TrustDomain};

    use super::*;

    #[tokio::test]
    async fn the_first_under_an_intermediate_and_a_bundle_is_verified_and_then_one_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let authority = crate::authority::tests::opened(directory.path(), now).await;
        let (intermediate, bundle) = (authority.intermediate(), authority.bundle());
        let td = TrustDomain::parse("shop.example").unwrap();
        let id = SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap();
        let hour = Duration::from_hours(1);
        // As a device would make it that signs wrongly: of the right form, and by another key.
        let (bad, _) = TestAuthority::new(&td)
            .unwrap()
            .svid(&id, now - hour..=now + hour)
            .unwrap();
        let key = countersign_identity::SvidKey::generate().unwrap();
        let key = crate::csr::check(&key.csr_der().unwrap()).unwrap();
        let leaf = intermediate
            .sign(&id, key.public_key(), (now - hour, now + hour))
            .await
            .unwrap();
        let good = intermediate.svid(leaf).unwrap();

        let samples = Samples::default();
        assert!(samples.verify(&bad, &intermediate, &bundle, now).is_err());
        samples.verify(&good, &intermediate, &bundle, now).unwrap();
        samples.verify(&bad, &intermediate, &bundle, now).unwrap();
        // Not for another bundle, even of the same roots; not later; and not if the clock was set back.
        let other = Arc::new((*bundle).clone());
        assert!(samples.verify(&bad, &intermediate, &other, now).is_err());
        for at in [now + INTERVAL, now - INTERVAL] {
            assert!(samples.verify(&bad, &intermediate, &bundle, at).is_err());
        }
    }
}
