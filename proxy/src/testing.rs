//! A mesh within one test process: real sockets, real mutual TLS, the real data path; only the CA and the control plane
//! are played by the test.

mod issuer;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use countersign_identity::testing::TestAuthority;
use countersign_identity::tls::{ExpectedPeer, client_config, server_name};
use countersign_identity::{Bundle, IdentityStore, SpiffeId, TrustDomain};
use countersign_policy::{Policy, Workload, WorkloadPolicy, document};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::{Config, Limits};
use crate::directory::{DeclaredProtocol, Directory, Endpoint, OwnPort, OwnWorkload, Service};
use crate::drain::Drain;
use crate::inbound::{self, Inbound};
use crate::outbound::{self, Destination, Outbound};
use crate::parts::Parts;
use crate::state::State;
use crate::telemetry::{DecisionLog, Ids, Metrics};
use crate::wire;
pub(crate) use issuer::Issuer;

/// The called workload's port and the service that names it.
pub(crate) const SERVICE: &str = "orders.shop:8080";

/// A CA of the trust domain `test`, unless it is made for another one.
pub(crate) struct Ca {
    trust_domain: TrustDomain,
    authority: TestAuthority,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::of(trust_domain())
    }

    pub(crate) fn of(trust_domain: TrustDomain) -> Self {
        Self {
            authority: TestAuthority::new(&trust_domain).unwrap(),
            trust_domain,
        }
    }

    pub(crate) fn bundle_with_sequence(&self, sequence: u64) -> Bundle {
        let authorities = vec![self.authority.root().clone()];
        Bundle::new(self.trust_domain.clone(), authorities, sequence).unwrap()
    }

    /// A store with the bundle and an SVID for `shop/name`.
    pub(crate) fn store(&self, name: &str) -> Arc<IdentityStore> {
        let store = IdentityStore::new(self.bundle_with_sequence(1));
        self.issue(&store, name);
        store
    }

    /// Puts a new SVID for `shop/name` into a store.
    pub(crate) fn issue(&self, store: &IdentityStore, name: &str) {
        self.issue_for(store, name, Duration::from_secs(3600));
    }

    /// Puts a new SVID for `shop/name` into a store, which expires in so long.
    pub(crate) fn issue_for(&self, store: &IdentityStore, name: &str, lasts: Duration) {
        let now = SystemTime::now();
        let validity = now - Duration::from_secs(60)..=now + lasts;
        let id = SpiffeId::for_workload(&self.trust_domain, "shop", name).unwrap();
        let (svid, key) = self.authority.svid(&id, validity).unwrap();
        store.set_svid(svid, key).unwrap();
    }
}

/// `shop/name`.
pub(crate) fn id(name: &str) -> SpiffeId {
    SpiffeId::for_workload(&TrustDomain::parse("test").unwrap(), "shop", name).unwrap()
}

/// The sidecar of the workload `orders`, which accepts the wire.
pub(crate) struct Callee {
    pub(crate) store: Arc<IdentityStore>,
    pub(crate) state: Arc<State>,
    pub(crate) drain: Drain,
    pub(crate) wire_address: SocketAddr,
    /// What callers name on the wire.
    pub(crate) destination: SocketAddr,
    pub(crate) log: Log,
    /// Its metrics.
    pub(crate) registry: Registry,
}

/// A decision log that a test can read.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The first so many decisions, once they are there.
    pub(crate) async fn decisions(&self, count: usize) -> Vec<serde_json::Value> {
        loop {
            let text = self.0.lock().unwrap().clone();
            let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').collect();
            if lines.iter().filter(|line| line.ends_with(b"\n")).count() >= count {
                let first = lines.into_iter().take(count);
                return first
                    .map(|line| serde_json::from_slice(line).unwrap())
                    .collect();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A policy for `orders` of these rules, which are the text of `spec.rules`. More documents may follow them.
pub(crate) fn policy(rules: &str) -> WorkloadPolicy {
    let text = format!(
        "apiVersion: countersign.dev/v1\nkind: AccessPolicy\n\
         metadata: {{name: orders, namespace: shop}}\nspec:\n  rules:{rules}"
    );
    let documents = document::parse([("orders.yaml".to_owned(), text)]).unwrap();
    let policy = Policy::compile("test", &trust_domain(), documents).unwrap();
    policy.for_workload(&workload("orders"))
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("test").unwrap()
}

/// The parts of a sidecar of the workload `name`, but for its listeners.
fn parts(
    store: &Arc<IdentityStore>,
    name: &str,
    limits: Limits,
    log: Log,
    registry: &mut Registry,
) -> Parts {
    let config = format!(
        "workload: {name}\ntrustDomain: test\ncontrol: localhost:1\ninbound: 127.0.0.1:1\nops: 127.0.0.1:2\n\
         identity: {{ca: 'localhost:1', bundle: bundle.pem, joinTokenFile: token}}"
    );
    let config = Config {
        limits,
        ..Config::parse("proxy.yaml", &config).unwrap()
    };
    let metrics = Metrics::new(registry);
    let dropped = metrics.decision_log_dropped().clone();
    Parts {
        config: Arc::new(config),
        identity: Arc::clone(store),
        state: State::new(),
        decisions: DecisionLog::new(log, dropped).unwrap(),
        metrics,
        ids: Arc::new(Ids::new()),
        drain: Drain::new(),
    }
}

/// Starts the sidecar of `orders` before an application that listens at `application`. It has no policy yet.
pub(crate) async fn callee(
    ca: &Ca,
    application: SocketAddr,
    protocol: DeclaredProtocol,
    limits: Limits,
) -> Callee {
    let store = ca.store("orders");
    let log = Log::default();
    let mut registry = Registry::default();
    let parts = parts(&store, "orders", limits, log.clone(), &mut registry);
    let state = Arc::clone(&parts.state);
    let destination = SocketAddr::from(([10, 0, 0, 1], 8080));
    state.set_directory(Directory {
        own: OwnWorkload {
            name: "orders".to_owned(),
            workload: workload("orders"),
            log_name: "shop/orders".to_owned(),
            ports: vec![OwnPort {
                port: 8080,
                protocol,
                destination,
                application,
            }],
        },
        services: HashMap::new(),
    });
    let drain = parts.drain.clone();
    let listener = listener().await;
    let wire_address = listener.local_addr().unwrap();
    let tls = wire::server_config(&store).unwrap();
    tokio::spawn(inbound::serve(Inbound::new(parts), listener, tls));
    Callee {
        store,
        state,
        drain,
        wire_address,
        destination,
        log,
        registry,
    }
}

/// The sidecar of a workload that calls `orders`.
pub(crate) struct Caller {
    pub(crate) store: Arc<IdentityStore>,
    /// Where the application connects to.
    pub(crate) listen: SocketAddr,
    /// Its metrics.
    pub(crate) registry: Registry,
}

/// Starts the sidecar of the workload `name`, whose directory says that `orders` is at `endpoints`.
pub(crate) async fn caller(
    ca: &Ca,
    name: &str,
    endpoints: Vec<Endpoint>,
    limits: Limits,
) -> Caller {
    let store = ca.store(name);
    let mut registry = Registry::default();
    let parts = parts(&store, name, limits, Log::default(), &mut registry);
    let state = Arc::clone(&parts.state);
    let service = Service {
        name: SERVICE.to_owned(),
        protocol: DeclaredProtocol::Detect,
        endpoints: endpoints.into_iter().map(Arc::new).collect(),
    };
    state.set_directory(Directory {
        own: OwnWorkload {
            name: name.to_owned(),
            workload: workload(name),
            log_name: format!("shop/{name}"),
            ports: Vec::new(),
        },
        services: HashMap::from([(SERVICE.to_owned(), Arc::new(service))]),
    });
    let listener = listener().await;
    let listen = listener.local_addr().unwrap();
    let destination = Destination {
        service: SERVICE.into(),
        protocol: DeclaredProtocol::Detect,
    };
    tokio::spawn(outbound::serve(Outbound::new(parts), listener, destination));
    Caller {
        store,
        listen,
        registry,
    }
}

/// The value of the metric `name`, as it is exposed, its labels included and the prefix left out.
pub(crate) fn metric(registry: &Registry, name: &str) -> Option<u64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let name = format!("countersign_proxy_{name}");
    let value = lines.find_map(|(of, value)| (of == name).then_some(value));
    value.map(|value| value.parse().unwrap())
}

impl Callee {
    /// The directory's entry for this workload.
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            wire_address: self.wire_address,
            spiffe_id: id("orders"),
            destination: self.destination,
        }
    }
}

/// A TLS connection to a sidecar as the workload `name` would make it.
pub(crate) async fn tls_client(
    store: &Arc<IdentityStore>,
    address: SocketAddr,
    alpn: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let config = client_config(store, ExpectedPeer::Id(id("orders")), &[alpn]).unwrap();
    let tcp = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(config)
        .connect(server_name(), tcp)
        .await
}

pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

fn workload(name: &str) -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        service_account: name.to_owned(),
        labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
    }
}

/// Reads one HTTP/1.1 response with a `content-length`: its head and its content.
pub(crate) async fn read_http1(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await;
        head.push(byte.unwrap_or_else(|error| panic!("{error} after {head:?}")));
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().unwrap())
    });
    let mut content = vec![0; length.unwrap()];
    stream.read_exact(&mut content).await.unwrap();
    (head, String::from_utf8(content).unwrap())
}
