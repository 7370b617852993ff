//! The SPIFFE Workload API on a UNIX socket: what a workload on this machine is given.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_api::transport::describe;
use countersign_api::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use countersign_api::workload::{
    SECURITY_HEADER, X509BundlesRequest, X509svidRequest, X509svidResponse,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::super::text::shown;
use super::bytes::concatenated;
use super::found::{Found, FoundKey, Group, Kind, Remark};

/// How long the socket may take to answer. The first answer may wait for the first SVID.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the Workload API gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkloadApiError {
    #[error("cannot connect to {}: {reason}; is a sidecar or SPIRE agent running there?", path.display())]
    Connect { path: PathBuf, reason: String },
    #[error(
        "the Workload API on {} has no identity for this process (it runs as user {user}): {reason}",
        path.display()
    )]
    NoIdentity {
        path: PathBuf,
        user: u32,
        reason: String,
    },
    #[error("the Workload API on {} refuses: {reason}", path.display())]
    Refused { path: PathBuf, reason: String },
    #[error("the Workload API on {} did not answer within {} s", path.display(), PATIENCE.as_secs())]
    Silent { path: PathBuf },
    #[error("the Workload API on {} has closed the stream", path.display())]
    Closed { path: PathBuf },
}

/// What has happened, below all that tonic calls it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A connection.
pub(in crate::cert) struct WorkloadApi {
    path: PathBuf,
    client: SpiffeWorkloadApiClient<Channel>,
}

/// SVIDs as they come, whenever they change.
pub(in crate::cert) struct Updates {
    path: PathBuf,
    stream: Streaming<X509svidResponse>,
}

impl WorkloadApi {
    /// Connects to a socket.
    pub(in crate::cert) async fn connect(path: &Path) -> Result<Self, WorkloadApiError> {
        let socket = path.to_owned();
        // Of the URI, only the authority is sent, and it has no meaning on a UNIX socket.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(PATIENCE)
            .connect_with_connector(tower::service_fn(move |_uri| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            }))
            .await
            .map_err(|error| WorkloadApiError::Connect {
                path: path.to_owned(),
                reason: innermost(&error),
            })?;
        Ok(Self {
            path: path.to_owned(),
            client: SpiffeWorkloadApiClient::new(channel),
        })
    }

    /// Everything that there is now: SVIDs, their bundles, and those of other trust domains.
    pub(in crate::cert) async fn fetch(&mut self) -> Result<Found, WorkloadApiError> {
        let first = self.updates().await?.next().await;
        match first {
            Err(WorkloadApiError::NoIdentity { path, user, reason }) => {
                // Bundles may be had without an identity.
                self.bundles()
                    .await
                    .map_err(|_| WorkloadApiError::NoIdentity { path, user, reason })
            }
            other => other,
        }
    }

    /// The SVIDs now, and whenever they change.
    pub(in crate::cert) async fn updates(&mut self) -> Result<Updates, WorkloadApiError> {
        let call = self.client.fetch_x509svid(with_header(X509svidRequest {}));
        let stream = in_time(&self.path, call).await?;
        Ok(Updates {
            path: self.path.clone(),
            stream,
        })
    }

    async fn bundles(&mut self) -> Result<Found, WorkloadApiError> {
        let call = self
            .client
            .fetch_x509_bundles(with_header(X509BundlesRequest {}));
        let mut stream = in_time(&self.path, call).await?;
        let message = tokio::time::timeout(PATIENCE, stream.message()).await;
        let path = || self.path.clone();
        let answer = message
            .map_err(|_| WorkloadApiError::Silent { path: path() })?
            .map_err(|status| refusal(&self.path, &status))?
            .ok_or_else(|| WorkloadApiError::Closed { path: path() })?;
        let mut found = empty(&self.path);
        let text = "there is no X.509-SVID for this process, only bundles";
        found.remarks.push(Remark::Note(text.to_owned()));
        for (domain, der) in sorted(answer.bundles) {
            found.groups.push(bundle(&domain, &der));
        }
        Ok(found)
    }
}

async fn in_time<T>(
    path: &Path,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, WorkloadApiError> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(refusal(path, &status)),
        Err(_) => Err(WorkloadApiError::Silent {
            path: path.to_owned(),
        }),
    }
}

impl Updates {
    /// The next answer; the first has to come soon.
    async fn next(&mut self) -> Result<Found, WorkloadApiError> {
        let path = self.path.clone();
        tokio::time::timeout(PATIENCE, self.wait())
            .await
            .map_err(|_| WorkloadApiError::Silent { path })?
    }

    /// The next answer, whenever it comes.
    pub(in crate::cert) async fn wait(&mut self) -> Result<Found, WorkloadApiError> {
        match self.stream.message().await {
            Ok(Some(answer)) => Ok(read(&self.path, answer)),
            Ok(None) => Err(WorkloadApiError::Closed {
                path: self.path.clone(),
            }),
            Err(status) => Err(refusal(&self.path, &status)),
        }
    }
}

fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(SECURITY_HEADER, MetadataValue::from_static("true"));
    request
}

fn refusal(path: &Path, status: &Status) -> WorkloadApiError {
    let (path, reason) = (path.to_owned(), shown(&describe(status)));
    match status.code() {
        Code::PermissionDenied => WorkloadApiError::NoIdentity {
            path,
            user: nix::unistd::geteuid().as_raw(),
            reason,
        },
        _ => WorkloadApiError::Refused { path, reason },
    }
}

fn empty(path: &Path) -> Found {
    Found {
        origin: format!("unix:{}", path.display()),
        form: "Workload API",
        groups: Vec::new(),
        connection: None,
        remarks: Vec::new(),
        exposed_mode: None,
    }
}

fn read(path: &Path, answer: X509svidResponse) -> Found {
    let mut found = empty(path);
    let mut bundles: Vec<(String, Vec<u8>)> = Vec::new();
    let count = answer.svids.len();
    for (index, svid) in answer.svids.into_iter().enumerate() {
        let name = match (count, svid.hint.as_str()) {
            (1, "") => None,
            (_, "") => Some(format!("SVID {}", index + 1)),
            (_, hint) => Some(format!("SVID {} ({})", index + 1, shown(hint))),
        };
        let kind = Kind::Svid(Some(svid.spiffe_id.clone()));
        let mut group = Group::new(name, kind, concatenated(&svid.x509_svid));
        // The one place where a key is seen: what it is to be compared with is taken, and it is cleared.
        let key = zeroize::Zeroizing::new(svid.x509_svid_key);
        group.keys.push(FoundKey::of(&key));
        found.groups.push(group);
        let domain = trust_domain(&svid.spiffe_id);
        if !svid.bundle.is_empty() && !bundles.iter().any(|(known, _)| *known == domain) {
            bundles.push((domain, svid.bundle));
        }
    }
    bundles.extend(sorted(answer.federated_bundles));
    for (domain, der) in bundles {
        found.groups.push(bundle(&domain, &der));
    }
    if !answer.crl.is_empty() {
        let text = format!("{} revocation list(s), not looked at", answer.crl.len());
        found.remarks.push(Remark::Note(text));
    }
    found
}

fn sorted(bundles: HashMap<String, Vec<u8>>) -> Vec<(String, Vec<u8>)> {
    let mut bundles: Vec<_> = bundles.into_iter().collect();
    bundles.sort();
    bundles
}

/// `spiffe://shop.example` of `spiffe://shop.example/ns/…`.
fn trust_domain(id: &str) -> String {
    let after = id.strip_prefix("spiffe://").unwrap_or(id);
    let domain = after.split('/').next().unwrap_or(after);
    format!("spiffe://{domain}")
}

fn bundle(domain: &str, der: &[u8]) -> Group {
    let name = domain.strip_prefix("spiffe://").unwrap_or(domain);
    let name = format!("bundle of {}", shown(name));
    Group::new(Some(name), Kind::Bundle, concatenated(der))
}
