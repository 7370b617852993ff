//! A small mesh of real programs for one test: a CA, a control plane that reads a plain policy directory, and sidecars.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http;
use crate::issuer::Issuer;
use crate::loopback::Loopback;
use crate::process::Program;
use crate::programs::program;

/// How long something may take that is bound to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The address of the CA and the control plane, as the last byte.
const CORE: u8 = 1;

/// The trust domain of a test mesh that is given no other.
pub const TRUST_DOMAIN: &str = "shop.example";

/// The configuration files and addresses of one mesh. Programs run for as long as the test holds them.
#[derive(Debug)]
pub struct Mesh {
    trust_domain: &'static str,
    directory: tempfile::TempDir,
    loopback: Loopback,
}

/// One workload of a mesh, with one port.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// Name and service account; its namespace is `shop`.
    pub name: &'a str,
    /// The last byte of its address.
    pub host: u8,
    /// The port that its application listens on.
    pub port: u16,
    /// The services that it calls, each on the outbound listener of this port.
    pub calls: &'a [(u16, &'a str)],
}

impl Mesh {
    /// Claims addresses and writes the configuration of CA and control plane. `svid` is the CA's configuration of SVID
    /// lifetimes, such as `{defaultTtl: 1h}`.
    ///
    /// # Errors
    /// No addresses, or no place for files.
    pub fn new(svid: &str, workloads: &[Workload<'_>]) -> io::Result<Self> {
        Self::of(TRUST_DOMAIN, svid, workloads)
    }

    /// As [`new`](Self::new), of another trust domain.
    ///
    /// # Errors
    /// No addresses, or no place for files.
    pub fn of(
        trust_domain: &'static str,
        svid: &str,
        workloads: &[Workload<'_>],
    ) -> io::Result<Self> {
        let mesh = Self {
            trust_domain,
            directory: tempfile::tempdir()?,
            loopback: Loopback::claim()?,
        };
        let [ca, ca_ops, control, control_ops] =
            [15010, 15011, 15012, 15013].map(|port| mesh.address(CORE, port));
        fs::create_dir(mesh.path("policy"))?;
        mesh.write(
            "ca.yaml",
            &format!(
                "trustDomain: {trust_domain}\ndataDirectory: {}\nlisten: {ca}\nops: {ca_ops}\nsvid: {svid}\n",
                mesh.path("ca").display()
            ),
        )?;
        mesh.write(
            "control.yaml",
            &format!(
                "trustDomain: {trust_domain}\nlisten: {control}\nops: {control_ops}\nstateDirectory: control\n\
                 identity: {{ca: \"{ca}\", bundle: ca/bundle.pem, joinTokenFile: countersign-control.token}}\n\
                 policy: {{repository: policy, interval: 100ms}}\ndirectory: directory.yaml\n"
            ),
        )?;
        mesh.write("directory.yaml", &mesh.directory_of(workloads))?;
        for workload in workloads {
            mesh.write(
                &format!("{}.yaml", workload.name),
                &mesh.sidecar_config(workload),
            )?;
        }
        Ok(mesh)
    }

    /// A file of the mesh.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the mesh.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.path(name), text)
    }

    /// Adds to a file of the mesh.
    ///
    /// # Errors
    /// It is not there, or cannot be written.
    pub fn append(&self, name: &str, more: &str) -> io::Result<()> {
        let text = fs::read_to_string(self.path(name))?;
        self.write(name, &format!("{text}{more}"))
    }

    /// Has the CA believe an issuer, and these workloads show its tokens, from `NAME.jwt`, in place of join tokens.
    ///
    /// # Errors
    /// A configuration cannot be read or written.
    pub fn attest_by(&self, issuer: &Issuer, workloads: &[&str]) -> io::Result<()> {
        self.write("jwks.json", &issuer.jwks())?;
        let believed = Issuer::config(&self.path("jwks.json").to_string_lossy(), TRUST_DOMAIN);
        let issuers = believed.get("issuers").map(ToString::to_string);
        let issuers = issuers.unwrap_or_default();
        self.append("ca.yaml", &format!("issuers: {issuers}\n"))?;
        for workload in workloads {
            let config = format!("{workload}.yaml");
            let by_token = fs::read_to_string(self.path(&config))?;
            let [old, new] = [
                format!("joinTokenFile: {workload}.token"),
                format!("jwtFile: {workload}.jwt"),
            ];
            self.write(&config, &by_token.replace(&old, &new))?;
        }
        Ok(())
    }

    /// The CA, for its clients.
    #[must_use]
    pub fn ca(&self) -> SocketAddr {
        self.address(CORE, 15010)
    }

    /// The CA's operator endpoint.
    #[must_use]
    pub fn ca_ops(&self) -> SocketAddr {
        self.address(CORE, 15011)
    }

    /// An address of the mesh.
    #[must_use]
    pub fn address(&self, host: u8, port: u16) -> SocketAddr {
        self.loopback.address(host, port)
    }

    /// Starts the CA and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_ca(&self) -> io::Result<Program> {
        let config = self.path("ca.yaml");
        let ca = self.start(
            "countersign-ca",
            "ca",
            &["serve".as_ref(), "--config".as_ref(), &config],
        )?;
        until_ready("the CA", self.address(CORE, 15011))?;
        Ok(ca)
    }

    /// Starts the control plane with a new join token, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_control(&self) -> io::Result<Program> {
        self.join_token("countersign-system", "countersign-control")?;
        let config = self.path("control.yaml");
        let control = self.start(
            "countersign-control",
            "control",
            &["--config".as_ref(), &config],
        )?;
        until_ready("the control plane", self.control_ops())?;
        Ok(control)
    }

    /// Runs `countersign-ca root …`: whether it succeeded, and what it said, JSON on success.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn root(&self, arguments: &[&str]) -> io::Result<(bool, String)> {
        let output = Command::new(program("countersign-ca")?)
            .arg("root")
            .args(arguments)
            .args(["-o", "json", "--config"])
            .arg(self.path("ca.yaml"))
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok((output.status.success(), said))
    }

    /// The records of the issuance log, the oldest first.
    ///
    /// # Errors
    /// The CA's command fails.
    pub fn issuance_log(&self) -> io::Result<Vec<Value>> {
        let output = Command::new(program("countersign-ca")?)
            .args(["log", "export", "--config"])
            .arg(self.path("ca.yaml"))
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        let mut records = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut line: Value = serde_json::from_str(line)?;
            records.extend(line.get_mut("record").map(Value::take));
        }
        Ok(records)
    }

    /// The control plane's operator endpoint.
    #[must_use]
    pub fn control_ops(&self) -> SocketAddr {
        self.address(CORE, 15013)
    }

    /// Starts a workload's sidecar; its join token must have been made. Does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_sidecar(&self, workload: &str) -> io::Result<Program> {
        let config = self.path(&format!("{workload}.yaml"));
        self.start(
            "countersign-proxy",
            workload,
            &["--config".as_ref(), &config],
        )
    }

    /// Has the CA make a join token, in the file that the configuration names: `SERVICE-ACCOUNT.token`.
    ///
    /// # Errors
    /// The CA's command fails.
    pub fn join_token(&self, namespace: &str, service_account: &str) -> io::Result<PathBuf> {
        let trust_domain = self.trust_domain;
        let id = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}");
        let output = Command::new(program("countersign-ca")?)
            .args(["join-token", "--spiffe-id", &id, "--config"])
            .arg(self.path("ca.yaml"))
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        let path = self.path(&format!("{service_account}.token"));
        fs::write(&path, output.stdout)?;
        Ok(path)
    }

    fn start(&self, package: &str, name: &str, arguments: &[&Path]) -> io::Result<Program> {
        Program::start(name, &program(package)?, arguments, self.directory.path())
    }

    fn directory_of(&self, workloads: &[Workload<'_>]) -> String {
        let mut yaml = "workloads:\n".to_owned();
        for Workload {
            name, host, port, ..
        } in workloads
        {
            let application = self.address(*host, *port);
            yaml += &format!(
                "- {{name: {name}, namespace: shop, serviceAccount: {name}, labels: {{app: {name}}}, \
                 wireAddress: \"{}\", ports: [{{port: {port}, destination: \"{application}\", application: \"{application}\"}}]}}\n",
                self.address(*host, 15008)
            );
        }
        yaml += "services:\n";
        for Workload { name, port, .. } in workloads {
            yaml +=
                &format!("- {{name: \"{name}.shop:{port}\", port: {port}, workloads: [{name}]}}\n");
        }
        yaml
    }

    fn sidecar_config(&self, workload: &Workload<'_>) -> String {
        let Workload {
            name, host, calls, ..
        } = workload;
        let [ca, control] = [15010, 15012].map(|port| self.address(CORE, port));
        let [inbound, ops] = [15008, 15020].map(|port| self.address(*host, port));
        let outbound: Vec<String> = calls
            .iter()
            .map(|(port, service)| {
                format!(
                    "{{listen: \"{}\", service: \"{service}\"}}",
                    self.address(*host, *port)
                )
            })
            .collect();
        format!(
            "workload: {name}\ntrustDomain: {}\n\
             identity: {{ca: \"{ca}\", bundle: ca/bundle.pem, joinTokenFile: {name}.token}}\n\
             control: {control}\ninbound: {inbound}\nops: {ops}\noutbound: [{}]\n",
            self.trust_domain,
            outbound.join(", ")
        )
    }
}

/// Waits until a program's operator endpoint says that it is ready.
///
/// # Errors
/// It does not in time; what it said last.
pub fn until_ready(what: &str, ops: SocketAddr) -> io::Result<()> {
    let ready = || matches!(http::get(ops, "/ready"), Ok((200, _)));
    eventually(what, ready).map_err(|error| match http::get(ops, "/ready") {
        Ok((_, said)) => io::Error::other(format!("{error}; it says {said:?}")),
        Err(unreachable) => io::Error::other(format!("{error}; {unreachable}")),
    })
}

/// Waits until something is so.
///
/// # Errors
/// It is not in time.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) -> io::Result<()> {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > PATIENCE {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("waited for {what}"),
            ));
        }
        // Between one look and the next.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    Ok(())
}

/// The value of a metric, by its name and labels as they are written.
///
/// # Errors
/// No answer, or no such metric.
pub fn metric(ops: SocketAddr, name: &str) -> io::Result<f64> {
    let (_, text) = http::get(ops, "/metrics")?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.and_then(|value| value.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("no metric {name} in:\n{text}")))
}
