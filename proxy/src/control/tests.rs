//! Against a control plane of the test's own: real gRPC over real mutual TLS.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use countersign_api::ops::Readiness;
use countersign_api::proto::mesh_server::{Mesh, MeshServer};
use countersign_api::proto::{self, PolicyStatus, Update, update};
use countersign_api::transport::{Caller, IncomingLimits, incoming};
use countersign_identity::testing::TestAuthority;
use countersign_identity::tls::ClientAuth;
use countersign_identity::{IdentityStore, SpiffeId, TrustDomain, spiffe};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::StreamExt;
use tonic::{Request, Response, Streaming};

use super::*;

/// A condition that is not true after this long will not become true.
const LONG: Duration = Duration::from_secs(30);

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn orders() -> SpiffeId {
    SpiffeId::for_workload(&trust_domain(), "shop", "orders").unwrap()
}

fn store_of(authority: &TestAuthority, id: &SpiffeId) -> Arc<IdentityStore> {
    let store = IdentityStore::new(authority.bundle().unwrap());
    let now = SystemTime::now();
    let validity = now - Duration::from_secs(60)..=now + Duration::from_secs(3600);
    let (svid, key) = authority.svid(id, validity).unwrap();
    store.set_svid(svid, key).unwrap();
    store
}

/// One stream that a sidecar opened.
struct Session {
    caller: SpiffeId,
    updates: mpsc::Sender<Result<Update, Status>>,
    requests: Streaming<WatchRequest>,
}

impl Session {
    async fn send(&self, update: update::Update) {
        self.updates
            .send(Ok(Update {
                update: Some(update),
            }))
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Message {
        let request = tokio::time::timeout(LONG, self.requests.next())
            .await
            .expect("a message");
        request.unwrap().unwrap().message.unwrap()
    }

    async fn next_status(&mut self) -> PolicyStatus {
        match self.next().await {
            Message::PolicyStatus(status) => status,
            other => panic!("expected a policy status, got {other:?}"),
        }
    }

    /// Reads the messages that open a stream.
    async fn hello(&mut self) -> (Hello, Subscribe) {
        match (self.next().await, self.next().await) {
            (Message::Hello(hello), Message::Subscribe(subscribe)) => (hello, subscribe),
            other => panic!("expected hello and subscribe, got {other:?}"),
        }
    }
}

/// Hands each stream to the test.
struct HandsOver(mpsc::Sender<Session>);

#[tonic::async_trait]
impl Mesh for HandsOver {
    type WatchStream = ReceiverStream<Result<Update, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?.peer.as_ref().unwrap().id().clone();
        let (updates, stream) = mpsc::channel(8);
        let session = Session {
            caller,
            updates,
            requests: request.into_inner(),
        };
        self.0.send(session).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A control plane. Dropping it closes its listener and its connections.
struct Control {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    server: JoinHandle<()>,
}

impl Control {
    async fn start(store: &Arc<IdentityStore>, address: SocketAddr) -> Self {
        let listener = listen(address).await;
        let address = listener.local_addr().unwrap();
        let incoming = incoming(
            listener,
            store,
            ClientAuth::Required,
            IncomingLimits::default(),
        )
        .unwrap();
        let (hand_over, sessions) = mpsc::channel(8);
        let server = tonic::transport::Server::builder()
            .add_service(MeshServer::new(HandsOver(hand_over)))
            .serve_with_incoming(incoming);
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self {
            address,
            sessions,
            server,
        }
    }

    async fn session(&mut self) -> Session {
        tokio::time::timeout(LONG, self.sessions.recv())
            .await
            .expect("a stream")
            .unwrap()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Listens there, once whoever did before has been dropped by its runtime.
async fn listen(address: SocketAddr) -> TcpListener {
    let free = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(LONG, free)
        .await
        .expect("a free address")
}

/// A sidecar's control stream and what it fills.
struct Sidecar {
    state: Arc<State>,
    store: Arc<IdentityStore>,
    readiness: Readiness,
    registry: Registry,
    task: AbortHandle,
}

impl Sidecar {
    fn start(store: Arc<IdentityStore>, control: SocketAddr) -> Self {
        let mut registry = Registry::default();
        let readiness = Readiness::new();
        let state = State::new();
        let subscription = Subscription {
            address: control.to_string(),
            workload: "orders".to_owned(),
            trust_domain: trust_domain(),
            services: vec!["payments.shop:9090".to_owned()],
        };
        let stream = ControlStream::new(
            subscription,
            Arc::clone(&store),
            Arc::clone(&state),
            ControlReadiness::new(&readiness),
            Metrics::new(&mut registry),
        );
        let task = tokio::spawn(stream.follow()).abort_handle();
        Self {
            state,
            store,
            readiness,
            registry,
            task,
        }
    }

    /// Waits until something is so, looking again whenever the state changes.
    async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let mut changes = self.state.changes();
        let wait = async {
            while !is_so(&self.state) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(LONG, wait)
            .await
            .unwrap_or_else(|_| panic!("waited for: {what}"));
    }

    async fn until_readiness_says(&self, reason: &str) {
        let said = async {
            while !self.readiness.to_string().contains(reason) {
                tokio::task::yield_now().await;
            }
        };
        let said = tokio::time::timeout(LONG, said).await;
        said.unwrap_or_else(|_| panic!("waited for {reason:?}: {}", self.readiness));
    }

    fn metric(&self, name: &str) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value
            .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
            .trim()
            .to_owned()
    }

    fn revision(&self) -> Option<String> {
        self.state
            .policy()
            .map(|policy| policy.revision().to_owned())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn start() -> (TestAuthority, Control, Sidecar) {
    let authority = TestAuthority::new(&trust_domain()).unwrap();
    let control_id = spiffe::system::control(&trust_domain());
    let control = Control::start(
        &store_of(&authority, &control_id),
        ([127, 0, 0, 1], 0).into(),
    )
    .await;
    let sidecar = Sidecar::start(store_of(&authority, &orders()), control.address);
    (authority, control, sidecar)
}

fn directory(label: &str) -> update::Update {
    update::Update::Directory(directory_of("orders", label))
}

fn directory_of(service_account: &str, label: &str) -> proto::Directory {
    let endpoint = proto::Endpoint {
        wire_address: "127.1.2.12:15008".to_owned(),
        spiffe_id: "spiffe://shop.example/ns/shop/sa/payments".to_owned(),
        destination: "127.1.2.12:9090".to_owned(),
    };
    proto::Directory {
        self_: Some(proto::Workload {
            name: "orders".to_owned(),
            namespace: "shop".to_owned(),
            service_account: service_account.to_owned(),
            labels: [("app".to_owned(), label.to_owned())].into(),
            ports: Vec::new(),
        }),
        services: vec![proto::Service {
            name: "payments.shop:9090".to_owned(),
            protocol: proto::Protocol::Http2.into(),
            endpoints: vec![endpoint],
        }],
    }
}

fn policy(revision: &str, documents: Vec<String>) -> update::Update {
    let documents = documents
        .into_iter()
        .map(|json| proto::PolicyDocument { json })
        .collect();
    update::Update::Policy(proto::PolicySnapshot {
        revision: revision.to_owned(),
        documents,
    })
}

const ACCESS_POLICY: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - name: web
    action: allow
    from: [{workload: shop/web}]
";

/// As the control plane would send it.
fn documents(yaml: &str) -> Vec<String> {
    let files = [("orders.yaml".to_owned(), yaml.to_owned())];
    let documents = countersign_policy::document::parse(files).unwrap();
    documents
        .iter()
        .map(|document| serde_json::to_string(document).unwrap())
        .collect()
}

fn in_force(revision: &str) -> PolicyStatus {
    PolicyStatus {
        revision: revision.to_owned(),
        error: String::new(),
    }
}

#[tokio::test]
async fn says_who_it_is_and_what_it_wants() {
    let (_authority, mut control, sidecar) = start().await;
    let mut session = control.session().await;
    assert_eq!(session.caller, orders());
    let (hello, subscribe) = session.hello().await;
    assert_eq!(hello.workload, "orders");
    assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(subscribe.services, ["payments.shop:9090"]);
    assert!(!sidecar.readiness.is_ready());
}

#[tokio::test]
async fn is_ready_with_the_first_snapshots_in_any_order() {
    let (_authority, mut control, sidecar) = start().await;
    let mut session = control.session().await;
    session.hello().await;
    // Policy first: it cannot be in force before it is known which workload it is for.
    session.send(policy("abc", Vec::new())).await;
    session.send(directory("orders")).await;
    assert_eq!(session.next_status().await, in_force("abc"));
    sidecar
        .until("policy", |state| state.policy().is_some())
        .await;
    assert_eq!(sidecar.revision().unwrap(), "abc");
    let directory = sidecar.state.directory().unwrap();
    assert_eq!(
        directory
            .service("payments.shop:9090")
            .unwrap()
            .endpoints
            .len(),
        1
    );
    assert!(sidecar.readiness.is_ready(), "{}", sidecar.readiness);
    assert_eq!(sidecar.metric("countersign_proxy_control_connected"), "1");
    assert_ne!(
        sidecar.metric("countersign_proxy_control_last_update_timestamp_seconds"),
        "0"
    );
}

#[tokio::test]
async fn a_policy_that_is_refused_leaves_the_last_good_one() {
    let (_authority, mut control, sidecar) = start().await;
    let mut session = control.session().await;
    session.hello().await;
    session.send(directory("orders")).await;
    session.send(policy("good", documents(ACCESS_POLICY))).await;
    assert_eq!(session.next_status().await, in_force("good"));

    // Beside a good document, one with a mode and one with a field of a later version, which might forbid what would be
    // allowed without it.
    for (known, unknown, told) in [
        (r#""mode":"enforce""#, r#""mode":"rehearse""#, "`rehearse`"),
        (
            r#""mode":"#,
            r#""inTheFuture":true,"mode":"#,
            "AccessPolicy.inTheFuture",
        ),
    ] {
        let good = documents(&ACCESS_POLICY.replace("name: orders", "name: other"));
        let mut sent = [good, documents(ACCESS_POLICY)].concat();
        assert!(sent[1].contains(known));
        sent[1] = sent[1].replacen(known, unknown, 1);
        session.send(policy("bad", sent)).await;
        let status = session.next_status().await;
        assert_eq!(status.revision, "bad");
        let named = status
            .error
            .starts_with("AccessPolicy shop/orders (orders.yaml:1): ");
        assert!(named && status.error.contains(told), "{}", status.error);
    }
    // A document that is whole and does not compile: there is no such token issuer.
    session
        .send(policy(
            "worse",
            documents(&format!("{ACCESS_POLICY}    subject: {{issuer: nobody}}\n")),
        ))
        .await;
    let status = session.next_status().await;
    assert_eq!(status.revision, "worse");
    assert!(status.error.starts_with("orders.yaml:"), "{}", status.error);
    assert_eq!(sidecar.revision().unwrap(), "good");
    assert!(sidecar.readiness.is_ready());
    assert_eq!(
        sidecar.metric("countersign_proxy_policy_refused_total"),
        "3"
    );
    assert_eq!(
        sidecar.metric(r#"countersign_proxy_policy_info{revision="good"}"#),
        "1"
    );

    session.send(policy("better", Vec::new())).await;
    assert_eq!(session.next_status().await, in_force("better"));
    assert_eq!(sidecar.revision().unwrap(), "better");
}

#[tokio::test]
async fn other_labels_put_the_policy_in_force_anew() {
    let (_authority, mut control, _sidecar) = start().await;
    let mut session = control.session().await;
    session.hello().await;
    session.send(directory("orders")).await;
    session.send(policy("abc", Vec::new())).await;
    assert_eq!(session.next_status().await, in_force("abc"));
    // The same labels again say nothing new, so that the next status is that of the others.
    session.send(directory("orders")).await;
    session.send(directory("orders-canary")).await;
    assert_eq!(session.next_status().await, in_force("abc"));
    session.send(policy("def", Vec::new())).await;
    assert_eq!(session.next_status().await, in_force("def"));
}

#[tokio::test]
async fn a_directory_of_another_workload_is_refused() {
    let (_authority, mut control, sidecar) = start().await;
    let mut session = control.session().await;
    session.hello().await;
    let theirs = directory_of("payments", "payments");
    session.send(update::Update::Directory(theirs)).await;
    session.send(policy("abc", Vec::new())).await;
    session.send(directory("orders")).await;
    assert_eq!(session.next_status().await, in_force("abc"));
    assert_eq!(
        sidecar.state.directory().unwrap().own.log_name,
        "shop/orders"
    );
}

#[tokio::test]
async fn comes_back_with_its_last_good_state_when_control_restarts() {
    let (authority, mut control, sidecar) = start().await;
    let mut session = control.session().await;
    session.hello().await;
    session.send(directory("orders")).await;
    session.send(policy("before", Vec::new())).await;
    assert_eq!(session.next_status().await, in_force("before"));
    let known = sidecar.state.directory().unwrap();

    let address = control.address;
    drop((control, session));
    let lost = async {
        while sidecar.metric("countersign_proxy_control_connected") == "1" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, lost).await.unwrap();
    assert_eq!(sidecar.revision().unwrap(), "before");
    assert!(Arc::ptr_eq(&sidecar.state.directory().unwrap(), &known));
    assert!(sidecar.readiness.is_ready());

    let control_id = spiffe::system::control(&trust_domain());
    let mut control = Control::start(&store_of(&authority, &control_id), address).await;
    let mut session = control.session().await;
    session.hello().await;
    session.send(policy("after", Vec::new())).await;
    assert_eq!(session.next_status().await, in_force("after"));
    assert_eq!(sidecar.revision().unwrap(), "after");
    assert_eq!(sidecar.metric("countersign_proxy_control_connected"), "1");
}

#[tokio::test]
async fn a_newer_bundle_is_believed() {
    let (authority, mut control, sidecar) = start().await;
    let mut session = control.session().await;
    session.hello().await;
    let other = TestAuthority::new(&trust_domain()).unwrap();
    let roots = [authority.root(), other.root()]
        .map(|root| root.to_vec())
        .to_vec();
    let bundle = |x509_authorities: Vec<Vec<u8>>| {
        update::Update::Bundle(proto::Bundle {
            trust_domain: trust_domain().to_string(),
            x509_authorities,
            sequence: 2,
            ..proto::Bundle::default()
        })
    };
    session
        .send(bundle(vec![b"not a certificate".to_vec()]))
        .await;
    session.send(bundle(Vec::new())).await;
    session.send(bundle(roots)).await;
    let mut changes = sidecar.store.changes();
    let replaced = changes.wait_for(|_| sidecar.store.bundle().sequence() == 2);
    tokio::time::timeout(LONG, replaced).await.unwrap().unwrap();
    assert_eq!(sidecar.store.bundle().x509_authorities().len(), 2);
}

#[tokio::test]
async fn keys_are_taken_issuer_by_issuer() {
    const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"a","alg":"ES256","use":"sig","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
    let (_authority, mut control, sidecar) = start().await;
    let mut session = control.session().await;
    session.hello().await;
    let keys = |issuers: &[(&str, &str)]| {
        let issuers = issuers.iter().map(|(issuer, jwks)| proto::IssuerKeys {
            issuer: (*issuer).to_owned(),
            jwks: (*jwks).to_owned(),
            fetched_at: 0,
        });
        update::Update::IssuerKeys(proto::TokenIssuerKeys {
            issuers: issuers.collect(),
        })
    };
    session
        .send(keys(&[
            ("shop/corp", JWKS),
            ("shop/never-fetched", ""),
            ("shop/odd", "{"),
        ]))
        .await;
    sidecar
        .until("keys", |state| !state.issuer_keys().is_empty())
        .await;
    let first = sidecar.state.issuer_keys();
    assert_eq!(first.keys().collect::<Vec<_>>(), ["shop/corp"]);

    // What cannot be read changes nothing for its issuer; what is the same stays the same.
    session
        .send(keys(&[("shop/corp", "{"), ("shop/new", JWKS)]))
        .await;
    sidecar
        .until("more keys", |state| state.issuer_keys().len() == 2)
        .await;
    let second = sidecar.state.issuer_keys();
    assert!(Arc::ptr_eq(&first["shop/corp"], &second["shop/corp"]));

    // An issuer that policy names no more is forgotten.
    session.send(keys(&[("shop/new", JWKS)])).await;
    sidecar
        .until("fewer keys", |state| state.issuer_keys().len() == 1)
        .await;
    assert!(Arc::ptr_eq(
        &second["shop/new"],
        &sidecar.state.issuer_keys()["shop/new"]
    ));
}

#[tokio::test]
async fn listens_to_nobody_but_the_control_plane() {
    let authority = TestAuthority::new(&trust_domain()).unwrap();
    let web = SpiffeId::for_workload(&trust_domain(), "shop", "web").unwrap();
    let mut impostor =
        Control::start(&store_of(&authority, &web), ([127, 0, 0, 1], 0).into()).await;
    let sidecar = Sidecar::start(store_of(&authority, &orders()), impostor.address);
    sidecar.until_readiness_says(web.as_str()).await;
    assert!(impostor.sessions.try_recv().is_err());
}

#[tokio::test]
async fn readiness_says_why_there_is_no_policy_yet() {
    let authority = TestAuthority::new(&trust_domain()).unwrap();
    // Nobody listens there: the port was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let sidecar = Sidecar::start(store_of(&authority, &orders()), address);
    sidecar
        .until_readiness_says(&format!("cannot connect to {address}"))
        .await;
    assert!(sidecar.state.directory().is_none());
}
