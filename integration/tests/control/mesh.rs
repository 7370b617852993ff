//! A CA and a control plane as real processes, and a sidecar's side of the stream.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_api::proto::mesh_client::MeshClient;
use countersign_api::proto::update::Update as Kind;
use countersign_api::proto::watch_request::Message;
use countersign_api::proto::{Hello, PolicySnapshot, Update, WatchRequest};
use countersign_api::svid::{Evidence, SvidClient};
use countersign_api::transport::channel;
use countersign_identity::spiffe::system;
use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{Bundle, IdentityStore, SpiffeId, TrustDomain};
use countersign_integration::http;
use countersign_integration::loopback::Loopback;
use countersign_integration::process::Program;
use countersign_integration::programs::program;
pub(crate) use countersign_integration::shop::POLICY;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use zeroize::Zeroizing;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A CA and a control plane, whose policy is in a git repository.
pub(crate) struct Mesh {
    pub(crate) directory: tempfile::TempDir,
    loopback: Loopback,
    pub(crate) ca: Program,
}

impl Mesh {
    /// With a running CA, and a repository without a commit.
    pub(crate) async fn new() -> Self {
        Self::with("repository: policy").await
    }

    /// [`new`](Self::new), with these settings of the control plane about policy. What is in braces is the directory of
    /// the whole mesh.
    pub(crate) async fn with(policy: &str) -> Self {
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
                 policy: {{{policy}, branch: main}}\ndirectory: directory.yaml\n",
                policy = policy.replace("{}", &path.display().to_string()),
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
        fs::create_dir(path.join("policy")).unwrap();
        let mesh = Self {
            directory,
            loopback,
            ca,
        };
        mesh.git(&["init", "--quiet", "--initial-branch=main"]);
        eventually("the CA is ready", || {
            http::get(ca_ops, "/ready").is_ok_and(|(status, _)| status == 200)
        })
        .await;
        mesh
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
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

    /// Writes a file of the policy repository, without committing it.
    pub(crate) fn write_policy(&self, name: &str, content: &str) {
        fs::write(self.path("policy").join(name), content).unwrap();
    }

    /// Commits this policy, and returns the commit.
    pub(crate) fn commit(&self, policy: &str) -> String {
        self.write_policy("orders.yaml", policy);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message=test"]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn join_token(&self, id: &SpiffeId) -> String {
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
    pub(crate) fn start_control(&self) -> Program {
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

    pub(crate) fn ops(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.loopback.address(1, 15013), path).ok()
    }

    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(
            &self
                .ops("/status")
                .expect("the control plane serves its status")
                .1,
        )
        .unwrap()
    }

    pub(crate) async fn until_ready(&self) {
        eventually("the control plane is ready", || {
            self.ops("/ready").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// An identity obtained from the CA.
    pub(crate) async fn identity(&self, namespace: &str, account: &str) -> Arc<IdentityStore> {
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

    pub(crate) async fn watch(&self, store: &Arc<IdentityStore>, workload: &str) -> Sidecar {
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
pub(crate) struct Sidecar {
    requests: mpsc::Sender<WatchRequest>,
    updates: Streaming<Update>,
}

impl Sidecar {
    pub(crate) async fn send(&self, message: Message) {
        self.requests
            .send(WatchRequest {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<Kind, Status> {
        let next = tokio::time::timeout(PATIENCE, self.updates.message());
        let update = next.await.expect("something comes in time")?;
        Ok(update.expect("the stream goes on").update.unwrap())
    }

    /// The next policy, whatever comes before it.
    pub(crate) async fn policy(&mut self) -> PolicySnapshot {
        loop {
            if let Kind::Policy(policy) = self.next().await.unwrap() {
                return policy;
            }
        }
    }
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        // Between one look and the next.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
