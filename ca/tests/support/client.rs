//! Who asks a CA for SVIDs.

use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::proto::attestation::Evidence as ProtoEvidence;
use countersign_api::proto::certificate_authority_client::CertificateAuthorityClient;
use countersign_api::proto::{Attestation, IssueRequest};
use countersign_api::transport::channel;
use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{IdentityStore, SvidKey, X509Svid, spiffe};
use tonic::Status;
use tonic::transport::Channel;

use super::{Ca, Home, shop};

pub(crate) fn client(ca: &Ca, store: &Arc<IdentityStore>) -> CertificateAuthorityClient<Channel> {
    client_at(&ca.address, store)
}

pub(crate) fn client_at(
    address: &str,
    store: &Arc<IdentityStore>,
) -> CertificateAuthorityClient<Channel> {
    let expected = ExpectedPeer::Id(spiffe::system::ca(&shop()));
    CertificateAuthorityClient::new(channel(address, store, expected).unwrap())
}

pub(crate) fn request(evidence: Option<ProtoEvidence>) -> IssueRequest {
    IssueRequest {
        csr: SvidKey::generate().unwrap().csr_der().unwrap(),
        attestation: Some(Attestation { evidence }),
        ttl_seconds: 0,
    }
}

/// Asks without a client certificate.
pub(crate) async fn ask(ca: &Ca, home: &Home, request: IssueRequest) -> Result<X509Svid, Status> {
    ask_by(&mut client(ca, &home.store()), &home.store(), request).await
}

/// Over a connection that may have been used before.
pub(crate) async fn ask_by(
    client: &mut CertificateAuthorityClient<Channel>,
    store: &IdentityStore,
    request: IssueRequest,
) -> Result<X509Svid, Status> {
    let answer = client.issue(request).await?.into_inner();
    let chain = answer
        .certificate_chain
        .into_iter()
        .map(Into::into)
        .collect();
    let svid = X509Svid::from_chain(chain).unwrap();
    svid.verify(&store.bundle(), SystemTime::now()).unwrap();
    Ok(svid)
}

pub(crate) fn join(token: &str) -> Option<ProtoEvidence> {
    Some(ProtoEvidence::JoinToken(token.to_owned()))
}

pub(crate) fn jwt(token: String) -> Option<ProtoEvidence> {
    Some(ProtoEvidence::Jwt(token))
}
