//! Two Countersign sidecars, with a CA and a control plane behind them, and a policy with a rule that matches.
//!
//! They run as they ship: mutual TLS, a decision on every request, and a line in the decision log for each (written to
//! `/dev/null`; nginx and Envoy, beside them, write no access log).

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{Setup, SetupError};
use crate::{
    certificates::{CLIENT_ID, SERVER_ID},
    load,
    process::{Process, ProcessError, free_address, wait_until, write},
};

const TRUST_DOMAIN: &str = "bench.example";
const CONTROL_ID: &str = "spiffe://bench.example/ns/countersign-system/sa/countersign-control";
const SERVICE: &str = "server.bench:80";

/// Allows what the load generator does, and nothing else; the same as the RBAC rule of the Envoys.
const POLICY: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: server, namespace: bench}
spec:
  target: {labels: {app: server}}
  rules:
  - name: the client reads the page
    action: allow
    from: [{workload: bench/client}]
    to: [{methods: [GET], paths: [\"/\"]}]
";

/// Starts all four.
pub(crate) fn hops(server: SocketAddr, directory: &Path) -> Result<Setup, SetupError> {
    let mesh = Mesh::new(server, directory)?;
    let ca = mesh.start_ca()?;
    let control = mesh.start("control", CONTROL_ID, &mesh.control())?;
    let hops = vec![
        mesh.start("client", CLIENT_ID, &mesh.sidecar("client", mesh.entry))?,
        mesh.start("server", SERVER_ID, &mesh.sidecar("server", mesh.unused))?,
    ];
    let mut setup = Setup::ready("Countersign ×2", mesh.entry, hops, &mesh.directory)?;
    setup.behind = vec![ca, control];
    Ok(setup)
}

/// Where everything is.
struct Mesh {
    directory: PathBuf,
    programs: PathBuf,
    server: SocketAddr,
    ca: SocketAddr,
    control: SocketAddr,
    /// Where the load goes in: the first sidecar's outbound listener.
    entry: SocketAddr,
    /// The other one's, which nobody calls.
    unused: SocketAddr,
    wires: [SocketAddr; 2],
}

impl Mesh {
    fn new(server: SocketAddr, directory: &Path) -> Result<Self, SetupError> {
        let directory = directory.join("countersign");
        let programs = env::current_exe().map(|path| path.with_file_name(""));
        let failed = |path: &Path, source| ProcessError::File {
            path: path.display().to_string(),
            source,
        };
        let mesh = Self {
            programs: programs.map_err(|source| failed(Path::new("this program"), source))?,
            server,
            ca: free_address()?,
            control: free_address()?,
            entry: free_address()?,
            unused: free_address()?,
            wires: [free_address()?, free_address()?],
            directory,
        };
        for path in ["policy", "ca", "state"].map(|name| mesh.directory.join(name)) {
            fs::create_dir_all(&path).map_err(|source| failed(&path, source))?;
        }
        write(&mesh.directory.join("policy/server.yaml"), POLICY)?;
        write(
            &mesh.directory.join("directory.yaml"),
            mesh.workloads().to_string(),
        )?;
        Ok(mesh)
    }

    fn workloads(&self) -> Value {
        let [client, server] = self.wires;
        json!({
            "workloads": [
                {"name": "client", "namespace": "bench", "serviceAccount": "client",
                 "labels": {"app": "client"}, "wireAddress": client, "ports": []},
                {"name": "server", "namespace": "bench", "serviceAccount": "server",
                 "labels": {"app": "server"}, "wireAddress": server,
                 "ports": [{"port": 80, "protocol": "http1",
                            "destination": self.server, "application": self.server}]},
            ],
            "services": [{"name": SERVICE, "port": 80, "workloads": ["server"]}],
        })
    }

    fn control(&self) -> Value {
        json!({
            "trustDomain": TRUST_DOMAIN,
            "listen": self.control,
            "ops": "127.0.0.1:0",
            "stateDirectory": self.directory.join("state"),
            "identity": self.identity("control"),
            "policy": {"repository": self.directory.join("policy"), "interval": "1s"},
            "directory": self.directory.join("directory.yaml"),
        })
    }

    fn sidecar(&self, workload: &str, outbound: SocketAddr) -> Value {
        let [client, server] = self.wires;
        json!({
            "workload": workload,
            "trustDomain": TRUST_DOMAIN,
            "identity": self.identity(workload),
            "control": self.control,
            "inbound": if workload == "client" { client } else { server },
            "outbound": [{"listen": outbound, "service": SERVICE, "protocol": "http1"}],
            "ops": "127.0.0.1:0",
        })
    }

    fn identity(&self, name: &str) -> Value {
        json!({
            "ca": self.ca,
            "bundle": self.directory.join("ca/bundle.pem"),
            "joinTokenFile": self.directory.join(format!("{name}.token")),
        })
    }

    fn start_ca(&self) -> Result<Process, SetupError> {
        let config = json!({
            "trustDomain": TRUST_DOMAIN,
            "dataDirectory": self.directory.join("ca"),
            "listen": self.ca,
            "ops": "127.0.0.1:0",
        });
        let path = self.directory.join("ca.yaml");
        write(&path, config.to_string())?;
        let ca = Process::start(
            "countersign-ca",
            Command::new(self.programs.join("countersign-ca"))
                .args(["serve", "--config"])
                .arg(&path),
            &self.directory,
        )?;
        let log = self.directory.join("countersign-ca.log");
        wait_until("the CA", &log, || load::listens(self.ca))?;
        Ok(ca)
    }

    /// Starts a program that has an identity, which it gets for a join token.
    fn start(&self, name: &str, id: &str, config: &Value) -> Result<Process, SetupError> {
        let token = Command::new(self.programs.join("countersign-ca"))
            .args(["join-token", "--spiffe-id", id, "--config"])
            .arg(self.directory.join("ca.yaml"))
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ProcessError::Start {
                program: "countersign-ca".to_owned(),
                source,
            })?;
        write(
            &self.directory.join(format!("{name}.token")),
            token.stdout.trim_ascii(),
        )?;
        let path = self.directory.join(format!("{name}.yaml"));
        write(&path, config.to_string())?;
        let program = if name == "control" {
            "countersign-control"
        } else {
            "countersign-proxy"
        };
        let process = Process::start(
            &format!("countersign-{name}"),
            Command::new(self.programs.join(program))
                .arg("--config")
                .arg(&path),
            &self.directory,
        )?;
        Ok(process)
    }
}
