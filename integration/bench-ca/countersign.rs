//! Our CA, and its clients with connections that they keep.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_api::proto::attestation::Evidence;
use countersign_api::proto::certificate_authority_client::CertificateAuthorityClient;
use countersign_api::proto::{Attestation, GetBundleRequest, IssueRequest, RenewalBySvid};
use countersign_api::svid::{self, SvidClient};
use countersign_api::transport::channel;
use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{Bundle, IdentityStore, SvidKey, TrustDomain, spiffe};
use countersign_integration::issuer::Issuer;
use serde_json::Value;
use tonic::transport::Channel;

use crate::BenchError;
use crate::process::{Process, free_address, write};
use crate::rates::{Client, Cycle};

pub(crate) const TRUST_DOMAIN: &str = "bench.example";
/// Connections of the load. On one each, a renewal is proved by the SVID that it was made with.
const CONNECTIONS: usize = 8;
/// Requests are made before: that is the clients' work.
const REQUESTS: usize = 256;
/// How long tokens are good: longer than any run.
const LONG: Duration = Duration::from_secs(24 * 3600);
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A CA that runs.
pub(crate) struct Ca {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) bundle: Bundle,
    /// A file with a good token.
    pub(crate) token: PathBuf,
    /// From its start until it answered.
    pub(crate) started_in: Duration,
}

/// A program that is built beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf, BenchError> {
    Ok(env::current_exe()?.with_file_name(name))
}

impl Ca {
    /// Starts one whose data is in `directory`, where it may have been before.
    pub(crate) async fn start(directory: &Path) -> Result<Self, BenchError> {
        let config_file = directory.join("ca.yaml");
        if !config_file.exists() {
            configure(directory, &config_file)?;
        }
        let config: Value =
            serde_json::from_slice(&fs::read(&config_file)?).map_err(BenchError::failed)?;
        let address = config.get("listen").and_then(Value::as_str);
        let address: SocketAddr = address
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| BenchError::failed("ca.yaml says nothing of `listen`"))?;
        let start = Instant::now();
        let mut command = Command::new(program("countersign-ca")?);
        command.args(["serve", "--config"]).arg(&config_file);
        let process = Process::start("countersign-ca", &mut command, directory)?;
        let bundle = until_it_answers(address, &directory.join("ca/bundle.pem"), start).await?;
        Ok(Self {
            started_in: start.elapsed(),
            process,
            address,
            bundle,
            token: directory.join("client.jwt"),
        })
    }

    fn client(
        &self,
        store: &Arc<IdentityStore>,
    ) -> Result<CertificateAuthorityClient<Channel>, BenchError> {
        client(self.address, store)
    }
}

fn configure(directory: &Path, config_file: &Path) -> Result<(), BenchError> {
    let issuer = Issuer::new()?;
    write(&directory.join("jwks.json"), issuer.jwks())?;
    write(&directory.join("client.jwt"), issuer.token("client", LONG)?)?;
    let keys = directory.join("jwks.json");
    let mut config = Issuer::config(&keys.to_string_lossy(), TRUST_DOMAIN);
    if let Some(config) = config.as_object_mut() {
        let data = directory.join("ca");
        config.insert("trustDomain".to_owned(), TRUST_DOMAIN.into());
        config.insert("dataDirectory".to_owned(), data.to_string_lossy().into());
        config.insert("listen".to_owned(), free_address()?.to_string().into());
        config.insert("ops".to_owned(), "127.0.0.1:0".into());
    }
    Ok(write(config_file, config.to_string())?)
}

fn trust_domain() -> Result<TrustDomain, BenchError> {
    TrustDomain::parse(TRUST_DOMAIN).map_err(BenchError::failed)
}

fn client(
    address: SocketAddr,
    store: &Arc<IdentityStore>,
) -> Result<CertificateAuthorityClient<Channel>, BenchError> {
    let expected = ExpectedPeer::Id(spiffe::system::ca(&trust_domain()?));
    let channel = channel(&address.to_string(), store, expected).map_err(BenchError::failed)?;
    Ok(CertificateAuthorityClient::new(channel))
}

/// Asks it for its bundle again and again, over mutual TLS, until it answers.
async fn until_it_answers(
    address: SocketAddr,
    bundle: &Path,
    start: Instant,
) -> Result<Bundle, BenchError> {
    let mut last = "it has written no bundle".to_owned();
    while start.elapsed() < PATIENCE {
        if let Ok(pem) = fs::read_to_string(bundle) {
            let bundle = Bundle::from_pem(trust_domain()?, &pem).map_err(BenchError::failed)?;
            let store = IdentityStore::new(bundle.clone());
            match client(address, &store)?
                .get_bundle(GetBundleRequest {})
                .await
            {
                Ok(_) => return Ok(bundle),
                Err(status) => last = countersign_api::transport::describe(&status),
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(BenchError::failed(format!("no answer: {last}")))
}

/// Asks for certificates over one connection.
#[derive(Clone)]
pub(crate) struct Connected {
    client: CertificateAuthorityClient<Channel>,
    requests: Arc<Cycle<IssueRequest>>,
}

impl Client for Connected {
    async fn ask(&self) -> Result<(), BenchError> {
        let request = self.requests.next().cloned();
        let request = request.ok_or_else(|| BenchError::failed("no request"))?;
        let answer = self.client.clone().issue(request).await;
        let answer = answer.map_err(BenchError::failed)?.into_inner();
        if answer.certificate_chain.len() < 2 {
            return Err(BenchError::failed("a chain without an intermediate"));
        }
        Ok(())
    }
}

/// Clients that have an SVID, and show it.
pub(crate) async fn renewals(ca: &Ca) -> Result<Vec<Connected>, BenchError> {
    let requests = requests(Evidence::Renewal(RenewalBySvid {}))?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let store = IdentityStore::new(ca.bundle.clone());
        let evidence = svid::Evidence::JwtFile(ca.token.clone());
        let mut first = SvidClient::new(Arc::clone(&store), ca.address.to_string(), evidence);
        first.obtain().await.map_err(BenchError::failed)?;
        clients.push(Connected {
            client: ca.client(&store)?,
            requests: Arc::clone(&requests),
        });
    }
    Ok(clients)
}

/// Clients that show a token each time.
pub(crate) async fn attestations(ca: &Ca) -> Result<Vec<Connected>, BenchError> {
    let token = fs::read_to_string(&ca.token)?;
    let requests = requests(Evidence::Jwt(token))?;
    let store = IdentityStore::new(ca.bundle.clone());
    let connect = |_| {
        Ok(Connected {
            client: ca.client(&store)?,
            requests: Arc::clone(&requests),
        })
    };
    (0..CONNECTIONS).map(connect).collect()
}

fn requests(evidence: Evidence) -> Result<Arc<Cycle<IssueRequest>>, BenchError> {
    let request = |_| {
        let csr = SvidKey::generate().and_then(|key| key.csr_der());
        Ok(IssueRequest {
            csr: csr.map_err(BenchError::failed)?,
            attestation: Some(Attestation {
                evidence: Some(evidence.clone()),
            }),
            ttl_seconds: 0,
        })
    };
    let requests: Result<Vec<_>, BenchError> = (0..REQUESTS).map(request).collect();
    Ok(Cycle::new(requests?))
}
