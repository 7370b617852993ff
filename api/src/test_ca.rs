//! A CA for tests: it attests, signs and answers over real mutual TLS, and can be told to do it
//! badly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use countersign_identity::testing::{TestAuthority, leaf_params};
use countersign_identity::tls::ClientAuth;
use countersign_identity::{Bundle, IdentityStore, SpiffeId, SvidKey, TrustDomain, spiffe};
use rcgen::{CertificateSigningRequestParams, PublicKeyData};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

use crate::proto::attestation::Evidence;
use crate::proto::certificate_authority_server::{
    CertificateAuthority, CertificateAuthorityServer,
};
use crate::proto::{
    self, GetBundleRequest, IssueJwtRequest, IssueJwtResponse, IssueRequest, IssueResponse,
    IssueWitRequest, IssueWitResponse,
};
use crate::transport::{Caller, IncomingLimits, incoming};

pub(crate) const JOIN_TOKEN: &str = "join-me-once";
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn td() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

pub(crate) fn orders() -> SpiffeId {
    SpiffeId::for_workload(&td(), "shop", "orders").unwrap()
}

/// What the CA has been asked, as it understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    JoinToken(String),
    Jwt(String),
    Renewal(SpiffeId),
    Bundle(Option<SpiffeId>),
    JwtSvid(SpiffeId, Vec<String>),
}

/// What the CA does with the next requests; the default is what it ought to do.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// How many requests it answers with UNAVAILABLE first.
    pub(crate) unavailable: u32,
    /// Issue for this ID instead of the attested one.
    pub(crate) id: Option<SpiffeId>,
    /// Certify this public key instead of the one in the CSR.
    pub(crate) public_key: Option<Vec<u8>>,
    /// Let another authority sign.
    pub(crate) signer: Option<TestAuthority>,
    /// Send this bundle instead of its own.
    pub(crate) bundle: Option<proto::Bundle>,
    /// How long before now the SVID starts to be valid; an hour after now it ends.
    pub(crate) age: Duration,
}

pub(crate) struct TestCa {
    pub(crate) authority: TestAuthority,
    pub(crate) store: Arc<IdentityStore>,
    pub(crate) behaviour: Mutex<Behaviour>,
    asked: Mutex<Vec<Asked>>,
}

impl TestCa {
    pub(crate) fn new() -> Arc<Self> {
        let authority = TestAuthority::new(&td()).unwrap();
        let store = store_with(&authority, &authority, &spiffe::system::ca(&td()));
        Self::with(authority, store)
    }

    pub(crate) fn with(authority: TestAuthority, store: Arc<IdentityStore>) -> Arc<Self> {
        let (behaviour, asked) = (Mutex::default(), Mutex::default());
        Arc::new(Self {
            authority,
            store,
            behaviour,
            asked,
        })
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// A store that believes this CA and has no SVID yet.
    pub(crate) fn new_store(&self) -> Arc<IdentityStore> {
        IdentityStore::new(self.authority.bundle().unwrap())
    }

    fn attest(&self, evidence: Option<Evidence>, caller: &Caller) -> Result<SpiffeId, Status> {
        let mut asked = self.asked.lock().unwrap();
        match evidence {
            Some(Evidence::JoinToken(token)) => {
                let said = Asked::JoinToken(token.clone());
                let used = asked.contains(&said);
                asked.push(said);
                match token == JOIN_TOKEN && !used {
                    true => Ok(orders()),
                    false => Err(Status::unauthenticated("the join token is not valid")),
                }
            }
            Some(Evidence::Jwt(jwt)) => {
                asked.push(Asked::Jwt(jwt));
                Ok(orders())
            }
            Some(Evidence::Renewal(_)) => {
                let peer = caller.peer.as_ref();
                let peer = peer.ok_or_else(|| Status::unauthenticated("no certificate"))?;
                asked.push(Asked::Renewal(peer.id().clone()));
                Ok(peer.id().clone())
            }
            Some(Evidence::X509Proof(_)) => {
                Err(Status::unimplemented("no other authority is known"))
            }
            None => Err(Status::invalid_argument("no evidence")),
        }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Arc<TestCa> {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mut behaviour = self.behaviour.lock().unwrap();
        if behaviour.unavailable > 0 {
            behaviour.unavailable -= 1;
            return Err(Status::unavailable("the issuance log cannot be written"));
        }
        let attested = self.attest(request.attestation.unwrap().evidence, &caller)?;
        let csr = CertificateSigningRequestParams::from_der(&request.csr.into()).unwrap();
        let public_key = csr.public_key.subject_public_key_info();

        let now = SystemTime::now();
        let id = behaviour.id.as_ref().unwrap_or(&attested);
        let params = leaf_params(id, now - behaviour.age..=now + HOUR).unwrap();
        let signer = behaviour.signer.as_ref().unwrap_or(&self.authority);
        let public_key = behaviour.public_key.as_ref().unwrap_or(&public_key);
        let chain = signer.chain(&params, public_key).unwrap();
        let own_bundle = || proto::Bundle::from(&self.authority.bundle().unwrap());
        Ok(Response::new(IssueResponse {
            certificate_chain: chain.iter().map(|der| der.to_vec()).collect(),
            bundle: Some(behaviour.bundle.clone().unwrap_or_else(own_bundle)),
        }))
    }

    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<proto::Bundle>, Status> {
        let peer = Caller::of(&request)?
            .peer
            .as_ref()
            .map(|peer| peer.id().clone());
        self.asked.lock().unwrap().push(Asked::Bundle(peer));
        Ok(Response::new((&*self.store.bundle()).into()))
    }

    async fn issue_jwt(
        &self,
        request: Request<IssueJwtRequest>,
    ) -> Result<Response<IssueJwtResponse>, Status> {
        let peer = Caller::of(&request)?.peer.clone();
        let peer = peer.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let audience = request.into_inner().audience;
        if audience.is_empty() {
            return Err(Status::invalid_argument("no audience"));
        }
        let mut asked = self.asked.lock().unwrap();
        asked.push(Asked::JwtSvid(peer.id().clone(), audience));
        Ok(Response::new(IssueJwtResponse {
            token: format!("token {}", asked.len()),
            issued_at: 1_800_000_000,
            expires_at: 1_800_000_300,
            bundle: Some((&*self.store.bundle()).into()),
        }))
    }

    async fn issue_wit(
        &self,
        _request: Request<IssueWitRequest>,
    ) -> Result<Response<IssueWitResponse>, Status> {
        Err(Status::unimplemented("not of this CA"))
    }
}

/// A store that believes `believed`, with an SVID of `id` by `issuer`.
pub(crate) fn store_with(
    believed: &TestAuthority,
    issuer: &TestAuthority,
    id: &SpiffeId,
) -> Arc<IdentityStore> {
    let store = IdentityStore::new(believed.bundle().unwrap());
    let (svid, key) = svid(issuer, id);
    store.set_svid(svid, key).unwrap();
    store
}

pub(crate) fn svid(
    issuer: &TestAuthority,
    id: &SpiffeId,
) -> (countersign_identity::X509Svid, SvidKey) {
    let now = SystemTime::now();
    issuer.svid(id, now - HOUR..=now + HOUR).unwrap()
}

pub(crate) fn bundle(authority: &TestAuthority, sequence: u64) -> Bundle {
    Bundle::new(td(), vec![authority.root().clone()], sequence).unwrap()
}

/// A running CA. Dropping it stops it and closes its connections.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Serving {
    pub(crate) async fn start(ca: &Arc<TestCa>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(
            ca,
            listener,
            ClientAuth::Optional,
            IncomingLimits::default(),
        )
    }

    pub(crate) fn on(
        ca: &Arc<TestCa>,
        listener: TcpListener,
        auth: ClientAuth,
        limits: IncomingLimits,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let connections = incoming(listener, &ca.store, auth, limits).unwrap();
        let service = CertificateAuthorityServer::new(Arc::clone(ca));
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(connections, async { drop(stopped.await) })
                .await
                .unwrap();
        });
        Self {
            address,
            stop: Some(stop),
            server,
        }
    }

    /// Stops it and waits until it has stopped.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.server).await.unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.server.abort();
    }
}
