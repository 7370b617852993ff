//! A CA over real mutual TLS that takes any token but one, and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use countersign_api::proto::attestation::Evidence;
use countersign_api::proto::certificate_authority_server::{
    CertificateAuthority, CertificateAuthorityServer,
};
use countersign_api::proto::{
    self, GetBundleRequest, IssueJwtRequest, IssueJwtResponse, IssueRequest, IssueResponse,
    IssueWitRequest, IssueWitResponse,
};
use countersign_api::transport::{IncomingLimits, incoming};
use countersign_identity::testing::{TestAuthority, leaf_params};
use countersign_identity::tls::ClientAuth;
use countersign_identity::{IdentityStore, SpiffeId, TrustDomain, spiffe};
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

pub(crate) const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";
const HOUR: Duration = Duration::from_secs(3600);

/// The kind of evidence, the token, and the lifetime in seconds.
type Asked = (String, String, u32);

struct Inner {
    authority: TestAuthority,
    asked: Mutex<Vec<Asked>>,
}

pub(crate) struct Ca {
    inner: Arc<Inner>,
    address: SocketAddr,
    /// Ends the server when it is dropped.
    _running: oneshot::Sender<()>,
}

impl Ca {
    pub(crate) fn start() -> Self {
        let domain = TrustDomain::parse("shop.example").unwrap();
        let authority = TestAuthority::new(&domain).unwrap();
        let store = IdentityStore::new(authority.bundle().unwrap());
        let now = SystemTime::now();
        let (svid, key) = authority
            .svid(&spiffe::system::ca(&domain), now - HOUR..=now + HOUR)
            .unwrap();
        store.set_svid(svid, key).unwrap();
        let inner = Arc::new(Inner {
            authority,
            asked: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Service(Arc::clone(&inner));
        let (running, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let limits = IncomingLimits::default();
                let connections = incoming(listener, &store, ClientAuth::Optional, limits).unwrap();
                tonic::transport::Server::builder()
                    .add_service(CertificateAuthorityServer::new(service))
                    .serve_with_incoming_shutdown(connections, async { drop(stopped.await) })
                    .await
                    .unwrap();
            });
        });
        Self {
            inner,
            address,
            _running: running,
        }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn roots(&self) -> String {
        self.inner.authority.bundle().unwrap().to_pem()
    }

    pub(crate) fn root_base64(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(self.inner.authority.root())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }
}

struct Service(Arc<Inner>);

#[tonic::async_trait]
impl CertificateAuthority for Service {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let request = request.into_inner();
        let (kind, token) = match request.attestation.unwrap().evidence.unwrap() {
            Evidence::JoinToken(token) => ("join_token", token),
            Evidence::Jwt(token) => ("jwt", token),
            _ => return Err(Status::invalid_argument("not of use to this test")),
        };
        if token == "used-before" {
            return Err(Status::unauthenticated("the join token is not valid"));
        }
        let asked = (kind.to_owned(), token, request.ttl_seconds);
        self.0.asked.lock().unwrap().push(asked);
        let csr = CertificateSigningRequestParams::from_der(&request.csr.into()).unwrap();
        let now = SystemTime::now();
        let id = SpiffeId::parse(ORDERS).unwrap();
        let params = leaf_params(&id, now - Duration::from_secs(60)..=now + HOUR).unwrap();
        let public_key = csr.public_key.subject_public_key_info();
        let chain = self.0.authority.chain(&params, &public_key).unwrap();
        Ok(Response::new(IssueResponse {
            certificate_chain: chain.iter().map(|der| der.to_vec()).collect(),
            bundle: Some((&self.0.authority.bundle().unwrap()).into()),
        }))
    }

    async fn get_bundle(
        &self,
        _: Request<GetBundleRequest>,
    ) -> Result<Response<proto::Bundle>, Status> {
        Err(Status::unimplemented("not of use to this test"))
    }

    async fn issue_jwt(
        &self,
        _: Request<IssueJwtRequest>,
    ) -> Result<Response<IssueJwtResponse>, Status> {
        Err(Status::unimplemented("not of use to this test"))
    }

    async fn issue_wit(
        &self,
        _: Request<IssueWitRequest>,
    ) -> Result<Response<IssueWitResponse>, Status> {
        Err(Status::unimplemented("not of use to this test"))
    }
}
