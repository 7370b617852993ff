//! The real control plane with the real CA, seen from a sidecar's side.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_api::proto::mesh_client::MeshClient;
use countersign_api::proto::update::Update as Kind;
use countersign_api::proto::watch_request::Message;
use countersign_api::proto::{
    Hello, PolicySnapshot, PolicyStatus, Subscribe, Update, WatchRequest,
};
use countersign_api::svid::{Evidence, SvidClient};
use countersign_api::transport::channel;
use countersign_identity::spiffe::system;
use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{Bundle, IdentityStore, SpiffeId, TrustDomain};
use countersign_integration::http;
use countersign_integration::loopback::Loopback;
use countersign_integration::process::Program;
use countersign_integration::programs::program;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use zeroize::Zeroizing;

const ORDERS: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - {name: web, action: allow, from: [{workload: shop/web}]}
";

const PATIENCE: Duration = Duration::from_secs(30);

/// A CA and a control plane, whose policy is in a git repository.
struct Mesh {
    directory: tempfile::TempDir,
    loopback: Loopback,
    ca: Program,
}

impl Mesh {
    /// With a running CA, and the repository's first commit.
    async fn new() -> Self {
        let (directory, loopback) = (tempfile::tempdir().unwrap(), Loopback::claim().unwrap());
        let path = directory.path();
        let write = |name: &str, text: String| fs::write(path.join(name), text).unwrap();
        let [ca, ca_ops, listen, ops] =
            [15010, 15011, 15012, 15013].map(|port| loopback.address(1, port));
        write(
            "ca.yaml",
            format!(
                "trustDomain: shop.example\ndataDirectory: {}/ca\nlisten: {ca}\nops: {ca_ops}\n",
                path.display()
            ),
        );
        write(
            "control.yaml",
            format!(
                "trustDomain: shop.example\nlisten: {listen}\nops: {ops}\nstateDirectory: state\n\
                 identity: {{ca: \"{ca}\", bundle: ca/bundle.pem, joinTokenFile: control.token}}\n\
                 policy: {{repository: policy, branch: main}}\ndirectory: directory.yaml\n"
            ),
        );
        write(
            "directory.yaml",
            format!(
                "workloads:\n\
                 - {{name: orders, namespace: shop, serviceAccount: orders, labels: {{app: orders}}, wireAddress: \"{wire}\", \
                 ports: [{{port: 8080, protocol: http1, destination: \"{port}\", application: \"{port}\"}}]}}\n\
                 - {{name: guest, namespace: guest, serviceAccount: guest, wireAddress: \"{guest}\"}}\n\
                 services:\n- {{name: \"orders.shop:8080\", port: 8080, workloads: [orders]}}\n",
                wire = loopback.address(10, 15008),
                port = loopback.address(10, 8080),
                guest = loopback.address(11, 15008),
            ),
        );
        let binary = program("countersign-ca").unwrap();
        let config = path.join("ca.yaml").display().to_string();
        let ca = Program::start("ca", &binary, ["serve", "--config", &config], path).unwrap();
        let mesh = Self {
            directory,
            loopback,
            ca,
        };
        fs::create_dir(mesh.path("policy")).unwrap();
        mesh.git(&["init", "--quiet", "--initial-branch=main"]);
        eventually("the CA is ready", || {
            http::get(ca_ops, "/ready").is_ok_and(|(status, _)| status == 200)
        })
        .await;
        mesh
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .current_dir(self.path("policy"))
            .args([
                "-c",
                "user.name=Test",
                "-c",
                "user.email=test@example.org",
                "-c",
                "commit.gpgSign=false",
            ])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits this policy, and returns the commit.
    fn commit(&self, policy: &str) -> String {
        fs::write(self.path("policy/orders.yaml"), policy).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message=test"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn join_token(&self, id: &SpiffeId) -> String {
        let output = Command::new(program("countersign-ca").unwrap())
            .args(["join-token", "--config"])
            .arg(self.path("ca.yaml"))
            .args(["--spiffe-id", id.as_str()])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts the control plane with a fresh join token.
    fn start_control(&self) -> Program {
        let token = self.join_token(&system::control(&trust_domain()));
        fs::write(self.path("control.token"), token).unwrap();
        let binary = program("countersign-control").unwrap();
        let config = self.path("control.yaml").display().to_string();
        Program::start(
            "control",
            &binary,
            ["--config", &config],
            self.directory.path(),
        )
        .unwrap()
    }

    fn ops(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.loopback.address(1, 15013), path).ok()
    }

    fn status(&self) -> Value {
        serde_json::from_str(
            &self
                .ops("/status")
                .expect("the control plane serves its status")
                .1,
        )
        .unwrap()
    }

    async fn until_ready(&self) {
        eventually("the control plane is ready", || {
            self.ops("/ready").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// An identity obtained from the CA.
    async fn identity(&self, namespace: &str, account: &str) -> Arc<IdentityStore> {
        let id = SpiffeId::for_workload(&trust_domain(), namespace, account).unwrap();
        let pem = fs::read_to_string(self.path("ca/bundle.pem")).unwrap();
        let store = IdentityStore::new(Bundle::from_pem(trust_domain(), &pem).unwrap());
        let evidence = Evidence::JoinToken(Zeroizing::new(self.join_token(&id)));
        let ca = self.loopback.address(1, 15010).to_string();
        SvidClient::new(Arc::clone(&store), ca, evidence)
            .obtain()
            .await
            .unwrap();
        store
    }

    async fn watch(&self, store: &Arc<IdentityStore>, workload: &str) -> Sidecar {
        let expected = ExpectedPeer::Id(system::control(&trust_domain()));
        let channel = channel(
            &self.loopback.address(1, 15012).to_string(),
            store,
            expected,
        )
        .unwrap();
        let (requests, sent) = mpsc::channel(8);
        let hello = Hello {
            workload: workload.to_owned(),
            version: "test".to_owned(),
        };
        requests
            .send(WatchRequest {
                message: Some(Message::Hello(hello)),
            })
            .await
            .unwrap();
        let updates = MeshClient::new(channel)
            .watch(ReceiverStream::new(sent))
            .await
            .unwrap()
            .into_inner();
        Sidecar { requests, updates }
    }
}

/// A sidecar's side of the stream.
struct Sidecar {
    requests: mpsc::Sender<WatchRequest>,
    updates: Streaming<Update>,
}

impl Sidecar {
    async fn send(&self, message: Message) {
        self.requests
            .send(WatchRequest {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    async fn next(&mut self) -> Result<Kind, Status> {
        let next = tokio::time::timeout(PATIENCE, self.updates.message());
        let update = next.await.expect("something comes in time")?;
        Ok(update.expect("the stream goes on").update.unwrap())
    }

    /// The next policy, whatever comes before it.
    async fn policy(&mut self) -> PolicySnapshot {
        loop {
            if let Kind::Policy(policy) = self.next().await.unwrap() {
                return policy;
            }
        }
    }
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

/// Waits until something is so.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        // Between one look and the next.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_sidecar_is_told_what_concerns_it_and_every_change_at_once() {
    let mesh = Mesh::new().await;
    let first = mesh.commit(ORDERS);
    let control = mesh.start_control();
    mesh.until_ready().await;
    assert!(
        !mesh.path("control.token").exists(),
        "the token is of use once, and removed"
    );

    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    let Kind::Bundle(bundle) = sidecar.next().await.unwrap() else {
        panic!("the bundle comes first")
    };
    assert_eq!(bundle.trust_domain, "shop.example");
    let Kind::Directory(directory) = sidecar.next().await.unwrap() else {
        panic!("then the directory")
    };
    assert_eq!(directory.self_.unwrap().name, "orders");
    assert!(directory.services.is_empty());
    let policy = sidecar.policy().await;
    assert_eq!(
        (policy.revision.as_str(), policy.documents.len()),
        (first.as_str(), 1)
    );

    let services = vec!["orders.shop:8080".to_owned()];
    sidecar
        .send(Message::Subscribe(Subscribe { services }))
        .await;
    let Kind::Directory(directory) = sidecar.next().await.unwrap() else {
        panic!("only the directory changed")
    };
    let endpoint = &directory.services[0].endpoints[0];
    assert_eq!(
        endpoint.spiffe_id,
        "spiffe://shop.example/ns/shop/sa/orders"
    );

    let status = PolicyStatus {
        revision: first.clone(),
        error: String::new(),
    };
    sidecar.send(Message::PolicyStatus(status)).await;
    eventually("the sidecar's revision is listed", || {
        mesh.status()["sidecars"][0]["revision"] == first.as_str()
    })
    .await;
    let status = mesh.status();
    assert_eq!(status["policy"]["revision"], first.as_str());
    assert_eq!(status["sidecars"][0]["workload"], "orders");
    assert_eq!(status["sidecars"][0]["error"], Value::Null);

    // The best of several: the bound is on the program, not on what else this machine does.
    let mut best = Duration::MAX;
    for round in 0..3 {
        let commit = mesh.commit(&format!("{ORDERS}# {round}\n"));
        let committed = Instant::now();
        assert_eq!(sidecar.policy().await.revision, commit);
        best = best.min(committed.elapsed());
    }
    assert!(best < Duration::from_millis(500), "{best:?}");

    let guest = mesh.identity("guest", "guest").await;
    let mut stranger = mesh.watch(&guest, "guest").await;
    assert!(
        stranger.policy().await.documents.is_empty(),
        "no policy of the shop concerns a guest"
    );
    let refused = mesh.watch(&guest, "orders").await.next().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);

    assert!(control.terminate().unwrap().success());
    assert_eq!(sidecar.next().await.unwrap_err().code(), Code::Unavailable);
    drop(mesh.ca);
}

#[tokio::test]
async fn a_broken_commit_and_a_lost_repository_leave_the_last_good_policy() {
    let mesh = Mesh::new().await;
    let good = mesh.commit(ORDERS);
    let control = mesh.start_control();
    mesh.until_ready().await;
    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert_eq!(sidecar.policy().await.revision, good);

    let bad = mesh.commit(&ORDERS.replace("action: allow", "action: alow"));
    eventually("the commit is rejected", || {
        mesh.status()["policy"]["rejected"]["revision"] == bad.as_str()
    })
    .await;
    let status = mesh.status();
    assert_eq!(status["policy"]["revision"], good.as_str());
    let error = status["policy"]["rejected"]["errors"][0]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.starts_with("orders.yaml:6:"), "{error}");
    assert!(
        control
            .stderr()
            .unwrap()
            .contains("policy rejected, the last good revision stays")
    );
    let metrics = mesh.ops("/metrics").unwrap().1;
    assert!(
        metrics.contains("\ncountersign_control_policy_rejected 1\n"),
        "{metrics}"
    );
    assert!(control.terminate().unwrap().success());

    fs::rename(mesh.path("policy"), mesh.path("elsewhere")).unwrap();
    let _control = mesh.start_control();
    mesh.until_ready().await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert_eq!(sidecar.policy().await.revision, good);
    let error = mesh.status()["policy"]["sourceError"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        error.contains("cannot read the policy directory"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_good_commit_there_is_no_policy_and_ready_says_why() {
    let mesh = Mesh::new().await;
    mesh.commit("apiVersion: countersign.dev/v1\nkind: AccessPolicy\n");
    let _control = mesh.start_control();
    let reason = || mesh.ops("/ready").map(|(_, line)| line).unwrap_or_default();
    eventually("the mistake is told", || {
        reason().starts_with("not ready: policy: no revision was accepted yet; ")
    })
    .await;
    assert!(
        reason().contains("orders.yaml:1:1: missing field `metadata`"),
        "{}",
        reason()
    );
    let orders = mesh.identity("shop", "orders").await;
    let mut sidecar = mesh.watch(&orders, "orders").await;
    assert!(matches!(sidecar.next().await.unwrap(), Kind::Bundle(_)));
    assert!(matches!(sidecar.next().await.unwrap(), Kind::Directory(_)));
    // The first policy that comes is the first good one.
    let good = mesh.commit(ORDERS);
    assert!(matches!(sidecar.next().await.unwrap(), Kind::IssuerKeys(_)));
    assert_eq!(sidecar.policy().await.revision, good);
}

#[tokio::test]
async fn a_used_join_token_is_refused_and_said_so() {
    let mesh = Mesh::new().await;
    mesh.commit(ORDERS);
    let control = mesh.start_control();
    let used = fs::read(mesh.path("control.token")).unwrap_or_default();
    mesh.until_ready().await;
    assert!(control.terminate().unwrap().success());
    fs::write(
        mesh.path("control.token"),
        if used.is_empty() {
            b"used".to_vec()
        } else {
            used
        },
    )
    .unwrap();
    let binary = program("countersign-control").unwrap();
    let config = mesh.path("control.yaml").display().to_string();
    let mut again = Program::start(
        "again",
        Path::new(&binary),
        ["--config", &config],
        mesh.directory.path(),
    )
    .unwrap();
    assert_eq!(again.wait().unwrap().code(), Some(2));
    let told = again.stderr().unwrap();
    assert!(
        told.contains("(identity.joinTokenFile) was refused: "),
        "{told}"
    );
}
