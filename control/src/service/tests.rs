use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use countersign_api::proto::mesh_client::MeshClient;
use countersign_api::proto::update::Update as Kind;
use countersign_api::transport::{IncomingLimits, channel, incoming};
use countersign_identity::spiffe::system;
use countersign_identity::testing::TestAuthority;
use countersign_identity::tls::{ClientAuth, ExpectedPeer};
use countersign_identity::{SpiffeId, TrustDomain};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::directory::{Directory, Workload};
use crate::world::World;

const LONG: Duration = Duration::from_secs(3600);

struct Served {
    authority: TestAuthority,
    trust_domain: TrustDomain,
    address: SocketAddr,
    world: watch::Sender<World>,
    sidecars: Sidecars,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

fn workload(id: &SpiffeId, name: &str, label: &str) -> Workload {
    let names = id.workload().unwrap();
    Workload {
        name: name.to_owned(),
        namespace: names.namespace.to_owned(),
        service_account: names.service_account.to_owned(),
        spiffe_id: id.clone(),
        labels: BTreeMap::from([("app".to_owned(), label.to_owned())]),
        wire_address: "127.0.0.1:1".parse().unwrap(),
        ports: Vec::new(),
    }
}

/// A control plane whose directory has the workload `orders`.
async fn served(connection_age: Duration) -> Served {
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let authority = TestAuthority::new(&trust_domain).unwrap();
    let store = IdentityStore::new(authority.bundle().unwrap());
    let now = SystemTime::now();
    let (svid, key) = authority
        .svid(&system::control(&trust_domain), now - LONG..=now + LONG)
        .unwrap();
    store.set_svid(svid, key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let world = watch::Sender::new(World {
        bundle: Some(store.bundle()),
        ..World::default()
    });
    let sidecars = Sidecars::default();
    let incoming = incoming(
        listener,
        &store,
        ClientAuth::Required,
        IncomingLimits::default(),
    )
    .unwrap();
    let service = MeshService {
        world: world.subscribe(),
        store,
        sidecars: sidecars.clone(),
        metrics: ServiceMetrics::default(),
        stopping,
    };
    let task = tokio::spawn(service.serve(incoming, connection_age));
    let served = Served {
        authority,
        trust_domain,
        address,
        world,
        sidecars,
        stop,
        task,
    };
    served.publish("orders");
    served
}

impl Served {
    fn id(&self, account: &str) -> SpiffeId {
        SpiffeId::for_workload(&self.trust_domain, "shop", account).unwrap()
    }

    /// Publishes a directory in which `orders` has this label.
    fn publish(&self, label: &str) {
        let orders = workload(&self.id("orders"), "orders", label);
        let workloads = BTreeMap::from([("orders".to_owned(), orders)]);
        let directory = Arc::new(Directory {
            workloads,
            ..Directory::default()
        });
        self.world
            .send_modify(|world| world.directory.in_force = Some(directory));
    }

    fn identity(&self, account: &str, valid: Duration) -> Arc<IdentityStore> {
        let store = IdentityStore::new(self.authority.bundle().unwrap());
        self.renew(&store, account, valid);
        store
    }

    fn renew(&self, store: &IdentityStore, account: &str, valid: Duration) {
        let now = SystemTime::now();
        let (svid, key) = self
            .authority
            .svid(&self.id(account), now - LONG..=now + valid)
            .unwrap();
        store.set_svid(svid, key).unwrap();
    }

    fn channel(&self, store: &Arc<IdentityStore>) -> Channel {
        let control = ExpectedPeer::Id(system::control(&self.trust_domain));
        channel(&self.address.to_string(), store, control).unwrap()
    }

    async fn watch(&self, account: &str, first: Message) -> Result<Stream, Status> {
        Stream::open(self.channel(&self.identity(account, LONG)), first).await
    }
}

/// A sidecar's side of the stream.
#[derive(Debug)]
struct Stream {
    requests: mpsc::Sender<proto::WatchRequest>,
    updates: Streaming<proto::Update>,
}

impl Stream {
    async fn open(channel: Channel, first: Message) -> Result<Self, Status> {
        let (requests, sent) = mpsc::channel(8);
        requests
            .send(proto::WatchRequest {
                message: Some(first),
            })
            .await
            .unwrap();
        let updates = MeshClient::new(channel)
            .watch(ReceiverStream::new(sent))
            .await?
            .into_inner();
        Ok(Self { requests, updates })
    }

    async fn send(&self, message: Message) {
        self.requests
            .send(proto::WatchRequest {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Result<Kind, Status> {
        let next = tokio::time::timeout(Duration::from_secs(30), self.updates.message());
        let update = next.await.expect("something comes in time")?;
        Ok(update
            .expect("the stream goes on")
            .update
            .expect("a known kind"))
    }

    /// How the stream ends.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    /// The label of `orders`, once the directory is sent.
    async fn label(&mut self) -> String {
        match self.next().await.unwrap() {
            Kind::Directory(directory) => directory.self_.unwrap().labels["app"].clone(),
            other => panic!("expected a directory, got {other:?}"),
        }
    }
}

fn hello(workload: &str) -> Message {
    Message::Hello(proto::Hello {
        workload: workload.to_owned(),
        version: "test".to_owned(),
    })
}

#[tokio::test]
async fn each_kind_is_sent_at_first_and_again_only_when_it_changes() {
    let served = served(LONG).await;
    let mut stream = served.watch("orders", hello("orders")).await.unwrap();
    assert!(
        matches!(stream.next().await.unwrap(), Kind::Bundle(bundle) if bundle.trust_domain == "shop.example")
    );
    assert_eq!(stream.label().await, "orders");
    // Published again as it was, then changed: only the change is sent.
    served.publish("orders");
    served.publish("changed");
    assert_eq!(stream.label().await, "changed");
    stream
        .send(Message::Subscribe(proto::Subscribe {
            services: vec!["nobody:1".to_owned()],
        }))
        .await;
    served.publish("last");
    assert_eq!(stream.label().await, "last");
}

#[tokio::test]
async fn a_caller_that_is_not_the_workload_is_refused() {
    let served = served(LONG).await;
    let refused = async |account: &str, workload: &str| {
        served
            .watch(account, hello(workload))
            .await
            .unwrap()
            .end()
            .await
    };
    let status = refused("web", "orders").await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "spiffe://shop.example/ns/shop/sa/web is not the workload \"orders\": that is spiffe://shop.example/ns/shop/sa/orders"
    );
    let status = refused("web", "web").await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status
            .message()
            .ends_with("the directory has no such workload"),
        "{status}"
    );
    let subscribe = Message::Subscribe(proto::Subscribe::default());
    let status = served.watch("orders", subscribe).await.unwrap().end().await;
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::InvalidArgument,
            "expected a hello as the first message"
        )
    );
    assert_eq!(served.sidecars.list(), []);
}

#[tokio::test]
async fn a_workload_that_leaves_the_directory_is_cut_off() {
    let served = served(LONG).await;
    let mut stream = served.watch("orders", hello("orders")).await.unwrap();
    stream.next().await.unwrap();
    served
        .world
        .send_modify(|world| world.directory.in_force = Some(Arc::default()));
    assert_eq!(stream.end().await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_a_sidecar_says_of_its_policy_is_listed_while_it_is_connected() {
    let served = served(LONG).await;
    let mut stream = served.watch("orders", hello("orders")).await.unwrap();
    stream.next().await.unwrap();
    let status = proto::PolicyStatus {
        revision: "r1".to_owned(),
        error: "line 3".to_owned(),
    };
    stream.send(Message::PolicyStatus(status)).await;
    let said = async |expected: &str| {
        while served
            .sidecars
            .list()
            .first()
            .and_then(|sidecar| sidecar.status.clone())
            != Some(crate::sidecars::ReportedStatus {
                revision: "r1".to_owned(),
                error: Some(expected.to_owned()),
            })
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), said("line 3"))
        .await
        .unwrap();
    drop(stream);
    let gone = async {
        while !served.sidecars.list().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_slow_sidecar_gets_the_latest_and_not_everything() {
    let served = served(LONG).await;
    let mut stream = served.watch("orders", hello("orders")).await.unwrap();
    stream.next().await.unwrap();
    // Far more than the flow-control windows hold.
    let bulk = "x".repeat(100_000);
    for round in 0..200 {
        served.publish(&format!("{round} {bulk}"));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    let mut received = 0;
    while !stream.label().await.starts_with("199 ") {
        received += 1;
    }
    assert!(received < 100, "{received}");
}

#[tokio::test]
async fn a_stream_ends_with_the_svid_and_goes_on_with_the_renewed_one() {
    let served = served(Duration::from_millis(50)).await;
    let store = served.identity("orders", Duration::from_secs(4));
    let channel = served.channel(&store);
    let mut stream = Stream::open(channel.clone(), hello("orders"))
        .await
        .unwrap();
    stream.next().await.unwrap();
    let status = stream.end().await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(
        status.message().contains("has expired; connect again"),
        "{status}"
    );
    served.renew(&store, "orders", LONG);
    let mut stream = Stream::open(channel, hello("orders")).await.unwrap();
    assert!(matches!(stream.next().await.unwrap(), Kind::Bundle(_)));
}

#[tokio::test]
async fn streams_end_when_the_control_plane_stops() {
    let served = served(LONG).await;
    let mut stream = served.watch("orders", hello("orders")).await.unwrap();
    stream.next().await.unwrap();
    served.stop.send_replace(true);
    let status = stream.end().await;
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "the control plane is stopping")
    );
    served.task.await.unwrap().unwrap();
}
