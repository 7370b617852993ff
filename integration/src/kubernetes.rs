//! A real `kube-apiserver` on a real etcd, for one test: no node, no controller. ServiceAccounts, Pods and tokens that are
//! bound to them are as they are anywhere, since the API server alone makes and judges them.

mod client;

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use crate::loopback::Loopback;
use crate::mesh::eventually;
use crate::process::Program;
use crate::tools::cached;
use client::Client;

/// Built by `make kubernetes`; the version is that of `integration/kubernetes/go.mod`.
const API_SERVER: &str = "kubernetes-1.36.3/kube-apiserver";
const ETCD: &str = "/usr/bin/etcd";
/// Of a user who may do everything.
const ADMIN_TOKEN: &str = "admin-of-the-test-cluster";
/// The address of both processes, as the last byte.
const HOST: u8 = 9;

/// A cluster without nodes. Both processes are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    api_server: Option<Program>,
    _etcd: Program,
    directory: tempfile::TempDir,
    loopback: Loopback,
    client: Client,
}

impl Cluster {
    /// Starts one and waits until it is ready; none where `make kubernetes` has not been run, which is told on stderr.
    ///
    /// # Errors
    /// It does not start, or it is not there in CI.
    pub fn start() -> io::Result<Option<Self>> {
        let (Some(binary), etcd) = (cached(API_SERVER, "make kubernetes")?, Path::new(ETCD)) else {
            return Ok(None);
        };
        let (directory, loopback) = (tempfile::tempdir()?, Loopback::claim()?);
        let [client, peer, secure] = [2379, 2380, 6443].map(|port| loopback.address(HOST, port));
        write_pki(directory.path(), secure.ip()).map_err(io::Error::other)?;
        let etcd = start_etcd(etcd, directory.path(), client, peer)?;
        let ca = fs::read(directory.path().join("ca.der"))?;
        let mut cluster = Self {
            api_server: None,
            _etcd: etcd,
            client: Client::new(secure, ca, ADMIN_TOKEN).map_err(io::Error::other)?,
            directory,
            loopback,
        };
        cluster.start_api_server(&binary)?;
        Ok(Some(cluster))
    }

    fn start_api_server(&mut self, binary: &Path) -> io::Result<()> {
        let address = self.address();
        let file = |name: &str| self.path(name).display().to_string();
        let issuer = self.issuer();
        let arguments = [
            format!(
                "--etcd-servers=http://{}",
                self.loopback.address(HOST, 2379)
            ),
            format!("--bind-address={}", address.ip()),
            format!("--advertise-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--service-account-issuer={issuer}"),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!(
                "--service-account-signing-key-file={}",
                file("accounts.key")
            ),
            "--disable-admission-plugins=TaintNodesByCondition".to_owned(),
        ];
        let program = Program::start("kube-apiserver", binary, arguments, self.directory.path())?;
        self.api_server = Some(program);
        let client = &self.client;
        eventually("kube-apiserver to be ready", || {
            matches!(client.request("GET", "/readyz", None), Ok((200, _)))
        })
    }

    /// Kills the API server: an outage.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// Where the API server is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.loopback.address(HOST, 6443)
    }

    /// What its tokens name as their issuer; its discovery document is there.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("https://{}", self.address())
    }

    /// A file of the cluster's: `ca.pem`, the authority of the API server's certificate.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file for `kubectl`, as a user who may do everything.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn kubeconfig(&self) -> io::Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": self.issuer(), "certificate-authority": self.path("ca.pem"),
            }}],
            "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        });
        let path = self.path("kubeconfig");
        fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// Makes an object; returns it as the API server has it.
    ///
    /// # Errors
    /// It refuses.
    pub fn create(&self, path: &str, object: &Value) -> io::Result<Value> {
        let (status, answer) = self.client.request("POST", path, Some(object))?;
        match status {
            200..=202 => Ok(answer),
            _ => Err(refused("POST", path, status, &answer)),
        }
    }

    /// Gets what is at `path`.
    ///
    /// # Errors
    /// There is nothing.
    pub fn get(&self, path: &str) -> io::Result<Value> {
        match self.client.request("GET", path, None)? {
            (200, answer) => Ok(answer),
            (status, answer) => Err(refused("GET", path, status, &answer)),
        }
    }

    /// Deletes an object at once, as a kubelet would have it done.
    ///
    /// # Errors
    /// It refuses.
    pub fn delete(&self, path: &str) -> io::Result<()> {
        let now = json!({"gracePeriodSeconds": 0});
        match self.client.request("DELETE", path, Some(&now))? {
            (200 | 202, _) => Ok(()),
            (status, answer) => Err(refused("DELETE", path, status, &answer)),
        }
    }

    /// Replaces what `path` has of `patch` (RFC 7396).
    ///
    /// # Errors
    /// It refuses.
    pub fn patch(&self, path: &str, patch: &Value) -> io::Result<()> {
        match self.client.request("PATCH", path, Some(patch))? {
            (200, _) => Ok(()),
            (status, answer) => Err(refused("PATCH", path, status, &answer)),
        }
    }

    /// Makes a namespace with a service account.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn service_account(&self, namespace: &str, name: &str) -> io::Result<()> {
        let object = json!({"metadata": {"name": namespace}});
        // It may be there for another account.
        if self
            .get(&format!("/api/v1/namespaces/{namespace}"))
            .is_err()
        {
            self.create("/api/v1/namespaces", &object)?;
        }
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        self.create(&accounts, &json!({"metadata": {"name": name}}))?;
        Ok(())
    }

    /// Makes what a YAML document says, a `resource` of an API `group` (its path), in the namespace `countersign-system`.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn create_yaml(&self, group: &str, resource: &str, document: &str) -> io::Result<()> {
        let path = format!("{group}/namespaces/countersign-system/{resource}");
        let kind = "application/yaml";
        let (status, answer) = self.client.send("POST", &path, kind, document)?;
        match status {
            200..=202 => Ok(()),
            _ => Err(refused("POST", &path, status, &answer)),
        }
    }

    /// Makes a pod that runs as `account`, on `node` if there is one; returns its UID.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn pod(
        &self,
        namespace: &str,
        name: &str,
        account: &str,
        node: Option<&str>,
    ) -> io::Result<String> {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": account,
                "nodeName": node,
                "containers": [{"name": "app", "image": "app:1"}],
            },
        });
        let made = self.create(&format!("/api/v1/namespaces/{namespace}/pods"), &pod)?;
        text(&made, "/metadata/uid")
    }

    /// A token of a service account for `audience`, bound to the pod of this name and UID, or to nothing.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn token(
        &self,
        (namespace, account): (&str, &str),
        audience: &str,
        pod: Option<(&str, &str)>,
    ) -> io::Result<String> {
        let bound = pod.map(
            |(name, uid)| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}),
        );
        let request = json!({
            "spec": {"audiences": [audience], "expirationSeconds": 600, "boundObjectRef": bound},
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.create(&path, &request)?;
        text(&answer, "/status/token")
    }

    /// What the CA needs: a service account that may review tokens and see pods. Returns the file of its token.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn ca_account(&self) -> io::Result<PathBuf> {
        let (namespace, name) = ("countersign-system", "countersign-ca");
        self.service_account(namespace, name)?;
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        self.create(
            &format!("{rbac}/clusterroles"),
            &json!({
                "metadata": {"name": name},
                "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
            }),
        )?;
        for role in [name, "system:auth-delegator"] {
            self.create(
                &format!("{rbac}/clusterrolebindings"),
                &json!({
                    "metadata": {"generateName": "countersign-ca-"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                    "subjects": [{"kind": "ServiceAccount", "namespace": namespace, "name": name}],
                }),
            )?;
        }
        let file = self.path("ca-token");
        let token = self.token((namespace, name), &self.issuer(), None)?;
        fs::write(&file, token)?;
        Ok(file)
    }

    /// Lets everybody read the cluster's discovery document and keys.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn publish_keys(&self) -> io::Result<()> {
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
        let everybody = json!({
            "metadata": {"name": "issuer-discovery"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "system:service-account-issuer-discovery",
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}],
        });
        self.create(path, &everybody)?;
        Ok(())
    }
}

fn refused(method: &str, path: &str, status: u16, answer: &Value) -> io::Error {
    let message = answer.get("message").unwrap_or(answer);
    io::Error::other(format!("{method} {path}: {status}, {message}"))
}

fn text(value: &Value, pointer: &str) -> io::Result<String> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("expected {pointer} in {value}")))
}

fn start_etcd(
    binary: &Path,
    directory: &Path,
    client: SocketAddr,
    peer: SocketAddr,
) -> io::Result<Program> {
    let arguments = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls=http://{client}"),
        format!("--advertise-client-urls=http://{client}"),
        format!("--listen-peer-urls=http://{peer}"),
        format!("--initial-advertise-peer-urls=http://{peer}"),
        format!("--initial-cluster=default=http://{peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--logger=zap".to_owned(),
        "--log-level=warn".to_owned(),
    ];
    Program::start("etcd", binary, arguments, directory)
}

/// An authority, the API server's certificate, the key that service account tokens are signed with, and the administrator.
fn write_pki(
    directory: &Path,
    address: IpAddr,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "test cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    params.subject_alt_names = vec![SanType::IpAddress(address)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let server = params.signed_by(&key, &ca)?;
    let accounts = KeyPair::generate()?;
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("server.pem", server.pem()),
        ("server.key", key.serialize_pem()),
        ("accounts.key", accounts.serialize_pem()),
        ("accounts.pub", accounts.public_key_pem()),
        (
            "tokens.csv",
            format!("{ADMIN_TOKEN},admin,1,system:masters\n"),
        ),
    ] {
        fs::write(directory.join(name), text)?;
    }
    fs::write(directory.join("ca.der"), ca.der())?;
    Ok(())
}
