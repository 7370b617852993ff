//! Who is calling: the same for every call of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use countersign_identity::SpiffeId;
use countersign_identity::tls::PeerIdentity;

/// A verified peer at the other end of a connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Caller(Arc<Facts>);

struct Facts {
    peer: PeerIdentity,
    source: SocketAddr,
    forwarded_client_cert: String,
}

impl Caller {
    /// `own` is the SPIFFE ID of the workload that was called.
    pub(crate) fn new(peer: PeerIdentity, source: SocketAddr, own: &SpiffeId) -> Self {
        // Written once per connection, sent with every call.
        let forwarded_client_cert = format!(
            "By={own};Hash={};URI={}",
            hex::encode(peer.thumbprint()),
            peer.id()
        );
        Self(Arc::new(Facts {
            peer,
            source,
            forwarded_client_cert,
        }))
    }

    pub(crate) fn peer(&self) -> &PeerIdentity {
        &self.0.peer
    }

    pub(crate) fn source(&self) -> SocketAddr {
        self.0.source
    }

    /// The value of `x-forwarded-client-cert`, as Envoy writes it.
    pub(crate) fn forwarded_client_cert(&self) -> &str {
        &self.0.forwarded_client_cert
    }
}
