//! Whether a peer, once verified, is still believed: its root may have left the bundle since, or its trust domain's bundle may
//! be gone.

use std::sync::Arc;
use std::time::SystemTime;

use countersign_identity::tls::PeerIdentity;
use countersign_identity::{IdentityStore, SvidError};

/// Completes when a peer is not believed any more by its trust domain's bundle of the moment, and says why. Time is not its matter:
/// what expires is dealt with call by call.
pub(crate) async fn lost(peer: PeerIdentity, store: Arc<IdentityStore>) -> SvidError {
    let mut changes = store.changes();
    let trust_domain = peer.id().trust_domain().clone();
    // It was verified by a bundle that may have been replaced before we began to look.
    let mut verified_by = None;
    loop {
        let bundle = store.bundle_of(&trust_domain);
        let is_same = match (&bundle, &verified_by) {
            (Some(bundle), Some(verified_by)) => Arc::ptr_eq(bundle, verified_by),
            _ => false,
        };
        if !is_same {
            if let Err(error) = verify(&peer, &store) {
                return error;
            }
            verified_by = bundle;
        }
        // Cannot fail: we hold the store, which holds the sender.
        let _ = changes.changed().await;
    }
}

fn verify(peer: &PeerIdentity, store: &IdentityStore) -> Result<(), SvidError> {
    peer.verify(store, SystemTime::now().min(peer.not_after()))
}
