//! The API over a real socket, as any client speaks to it. The CA is away: who asks for tokens of it is in the end-to-end
//! tests, with a real one.

use std::path::Path;

use countersign_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::*;
use countersign_identity::TrustDomain;

use crate::testing::{Ca, trust_domain};

/// How long something may take that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(10);

struct Served {
    _directory: tempfile::TempDir,
    ca: Ca,
    store: Arc<IdentityStore>,
    task: JoinHandle<()>,
    client: SpiffeWorkloadApiClient<Channel>,
}

impl Served {
    async fn new(with_identity: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("workload.sock");
        let ca = Ca::new();
        let store = IdentityStore::new(ca.bundle_with_sequence(1));
        if with_identity {
            ca.issue(&store, "orders");
        }
        let socket = Socket::bind(&path, 0o600).unwrap();
        let tokens = TokenClient::new(Arc::clone(&store), "127.0.0.1:1".to_owned());
        let serving = serve(socket, Arc::clone(&store), tokens);
        let task = tokio::spawn(async { serving.await.unwrap() });
        let client = connect(&path).await;
        Self {
            _directory: directory,
            ca,
            store,
            task,
            client,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(path: &Path) -> SpiffeWorkloadApiClient<Channel> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_uri| {
        let path = path.clone();
        async { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://workload");
    SpiffeWorkloadApiClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = "true".parse().unwrap();
    request.metadata_mut().insert(SECURITY_HEADER, value);
    request
}

/// A request for a token, for one audience.
fn token_for(audience: &str, spiffe_id: &str) -> Request<JwtsvidRequest> {
    request(JwtsvidRequest {
        audience: vec![audience.to_owned()],
        spiffe_id: spiffe_id.to_owned(),
    })
}

/// A token that is shown to the audience `db`.
fn shown(svid: &str) -> Request<ValidateJwtsvidRequest> {
    request(ValidateJwtsvidRequest {
        audience: "db".to_owned(),
        svid: svid.to_owned(),
    })
}

type Streamed<T> = Result<Response<Streaming<T>>, Status>;

/// The first message of a stream.
async fn first_of<T>(streamed: Streamed<T>) -> T {
    let mut stream = streamed.unwrap().into_inner();
    soon(stream.message()).await.unwrap().unwrap()
}

/// Why a stream ends without a message.
async fn end_of<T>(streamed: Streamed<T>) -> Status {
    let mut stream = streamed.unwrap().into_inner();
    soon(stream.message()).await.err().unwrap()
}

/// Certificates one after the other.
fn der(certificates: &[CertificateDer<'static>]) -> Vec<u8> {
    let certificates: Vec<&[u8]> = certificates.iter().map(|der| &**der).collect();
    certificates.concat()
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("in time")
}

#[tokio::test]
async fn without_the_security_header_nothing_is_answered() {
    let mut served = Served::new(true).await;
    let status = served
        .client
        .fetch_x509svid(Request::new(X509svidRequest {}))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut wrong = token_for("db", "");
    wrong
        .metadata_mut()
        .insert(SECURITY_HEADER, "TRUE".parse().unwrap());
    let status = served.client.fetch_jwtsvid(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("workload.spiffe.io"), "{status}");
}

#[tokio::test]
async fn without_an_identity_permission_is_denied() {
    let mut served = Served::new(false).await;
    let (client, mut codes) = (&mut served.client, Vec::new());
    let streamed = client.fetch_x509svid(request(X509svidRequest {})).await;
    codes.push(end_of(streamed).await.code());
    let streamed = client
        .fetch_x509_bundles(request(X509BundlesRequest {}))
        .await;
    codes.push(end_of(streamed).await.code());
    let streamed = client
        .fetch_jwt_bundles(request(JwtBundlesRequest {}))
        .await;
    codes.push(end_of(streamed).await.code());
    let refused = client.fetch_jwtsvid(token_for("db", "")).await;
    codes.push(refused.unwrap_err().code());
    let refused = client.validate_jwtsvid(shown("a.b.c")).await;
    codes.push(refused.unwrap_err().code());
    assert_eq!(codes, [Code::PermissionDenied; 5]);
}

#[tokio::test]
async fn the_svid_comes_with_its_key_and_again_with_every_rotation() {
    let mut served = Served::new(true).await;
    let stream = served
        .client
        .fetch_x509svid(request(X509svidRequest {}))
        .await;
    let mut stream = stream.unwrap().into_inner();
    let first = soon(stream.message()).await.unwrap().unwrap();
    let svid = &first.svids[0];
    assert_eq!(svid.spiffe_id, "spiffe://test/ns/shop/sa/orders");
    let held = served.store.svid().unwrap();
    assert_eq!(svid.x509_svid, der(held.chain()));
    assert_eq!(svid.bundle, der(served.store.bundle().x509_authorities()));
    let key = aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &svid.x509_svid_key,
    )
    .unwrap();
    use aws_lc_rs::signature::KeyPair as _;
    let (_, ours) = served.store.svid_with_key().unwrap();
    assert!(ours.public_key_der().ends_with(key.public_key().as_ref()));

    served.ca.issue(&served.store, "orders");
    let second = soon(stream.message()).await.unwrap().unwrap();
    assert_ne!(second.svids[0].x509_svid, svid.x509_svid);
    assert_ne!(second.svids[0].x509_svid_key, svid.x509_svid_key);
}

#[tokio::test]
async fn bundles_come_again_when_they_change_and_not_with_every_rotation() {
    let mut served = Served::new(true).await;
    let stream = served
        .client
        .fetch_x509_bundles(request(X509BundlesRequest {}))
        .await;
    let mut stream = stream.unwrap().into_inner();
    let first = soon(stream.message()).await.unwrap().unwrap();
    let ours = format!("spiffe://{}", trust_domain());
    assert_eq!(
        first.bundles[&ours],
        der(served.store.bundle().x509_authorities())
    );

    served.ca.issue(&served.store, "orders");
    let mut both = served.store.bundle().x509_authorities().to_vec();
    both.extend(
        Ca::new()
            .bundle_with_sequence(1)
            .x509_authorities()
            .to_vec(),
    );
    let both = countersign_identity::Bundle::new(trust_domain(), both, 2).unwrap();
    served.store.set_bundle(both).unwrap();
    let second = soon(stream.message()).await.unwrap().unwrap();
    assert_eq!(
        second.bundles[&ours],
        der(served.store.bundle().x509_authorities())
    );
    assert!(
        second.bundles[&ours].len() > first.bundles[&ours].len(),
        "the rotation told nothing"
    );
}

#[tokio::test]
async fn a_trust_domain_without_token_keys_has_an_empty_key_set() {
    let mut served = Served::new(true).await;
    let stream = served
        .client
        .fetch_jwt_bundles(request(JwtBundlesRequest {}))
        .await;
    let told = first_of(stream).await;
    assert_eq!(told.bundles["spiffe://test"], NO_KEYS.as_bytes());
}

const NO_KEYS: &str = r#"{"keys":[]}"#;

#[tokio::test]
async fn an_identity_that_expires_ends_the_stream() {
    let mut served = Served::new(false).await;
    let lasts = Duration::from_secs(2);
    served.ca.issue_for(&served.store, "orders", lasts);
    let stream = served
        .client
        .fetch_x509svid(request(X509svidRequest {}))
        .await;
    let mut stream = stream.unwrap().into_inner();
    soon(stream.message()).await.unwrap().unwrap();
    let status = soon(stream.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("expired"), "{status}");
}

#[tokio::test]
async fn requests_that_lack_something_say_what() {
    let mut served = Served::new(true).await;
    let mut none = token_for("", "");
    none.get_mut().audience.clear();
    for asked in [none, token_for("", "")] {
        let status = served.client.fetch_jwtsvid(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    let other = token_for("db", "spiffe://test/ns/shop/sa/other");
    let status = served.client.fetch_jwtsvid(other).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    for svid in ["", "no token", "a.b.c"] {
        let status = served
            .client
            .validate_jwtsvid(shown(svid))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
}

#[tokio::test]
async fn a_ca_that_is_away_is_told_as_such() {
    let mut served = Served::new(true).await;
    let status = served
        .client
        .fetch_jwtsvid(token_for("db", ""))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("127.0.0.1:1"), "{status}");
    // What does not need it goes on.
    let stream = served
        .client
        .fetch_x509svid(request(X509svidRequest {}))
        .await;
    first_of(stream).await;
}

#[tokio::test]
async fn bundles_of_other_trust_domains_are_told_and_each_speaks_for_its_own() {
    let mut served = Served::new(true).await;
    let client = &mut served.client;
    let svids = client.fetch_x509svid(request(X509svidRequest {})).await;
    let mut svids = svids.unwrap().into_inner();
    let bundles = client
        .fetch_x509_bundles(request(X509BundlesRequest {}))
        .await;
    let mut bundles = bundles.unwrap().into_inner();
    let keys = client
        .fetch_jwt_bundles(request(JwtBundlesRequest {}))
        .await;
    let mut keys = keys.unwrap().into_inner();
    let first = soon(svids.message()).await.unwrap().unwrap();
    assert!(first.federated_bundles.is_empty());
    soon(bundles.message()).await.unwrap().unwrap();
    soon(keys.message()).await.unwrap().unwrap();

    let partner = Ca::of(TrustDomain::parse("partner").unwrap()).bundle_with_sequence(1);
    let foreign = der(partner.x509_authorities());
    served.store.set_foreign_bundles([partner]).unwrap();
    let svid = soon(svids.message()).await.unwrap().unwrap();
    assert_eq!(svid.federated_bundles["spiffe://partner"], foreign);
    assert_eq!(svid.svids[0].bundle, first.svids[0].bundle);
    let told = soon(bundles.message()).await.unwrap().unwrap();
    assert_eq!(told.bundles["spiffe://partner"], foreign);
    assert_eq!(told.bundles["spiffe://test"], first.svids[0].bundle);
    let told = soon(keys.message()).await.unwrap().unwrap();
    assert_eq!(told.bundles["spiffe://partner"], NO_KEYS.as_bytes());
    assert_eq!(told.bundles.len(), 2);

    served.store.set_foreign_bundles([]).unwrap();
    let svid = soon(svids.message()).await.unwrap().unwrap();
    assert!(svid.federated_bundles.is_empty());
}
