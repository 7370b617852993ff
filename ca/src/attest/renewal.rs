//! Renewal: a workload that has an SVID gets the next one for the same identity.

use std::time::SystemTime;

use countersign_api::transport::Caller;
use countersign_identity::{IdentityStore, SvidError};

use super::{Attested, Kind};
use crate::refusal::Refusal;

/// Why an SVID is not renewed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewalError {
    /// The connection is anonymous.
    #[error(
        "a renewal is proved by the client certificate of the TLS connection, and there is none; present the current \
         SVID, or, if it has expired, attest anew with a join token or a JWT"
    )]
    NoCertificate,
    /// It is not believed (any more).
    #[error(
        "the SVID of this connection is not believed any more ({0}); attest anew with a join token or a JWT"
    )]
    NotBelieved(SvidError),
}

/// The identity of the connection's SVID, which must be good now and not only when the connection was made.
pub(crate) fn attest(
    caller: &Caller,
    store: &IdentityStore,
    now: SystemTime,
) -> Result<Attested, Refusal> {
    let peer = caller.peer.as_ref().ok_or(RenewalError::NoCertificate)?;
    peer.verify(store, now).map_err(RenewalError::NotBelieved)?;
    Ok(Attested::new(
        peer.id().clone(),
        Kind::Renewal,
        format!("serial {}", peer.serial()),
    ))
}
