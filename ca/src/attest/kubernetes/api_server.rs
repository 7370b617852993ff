//! The two questions that a cluster's API server is asked: is this token good, and what pod is there of this name?
//!
//! Two requests do not need the `kube` crate, whose generated types of the whole API are most of its weight.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_identity::keys::{AddressRule, FetchError, Fetcher, Outgoing};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;
use url::Url;
use zeroize::Zeroizing;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How many attestations may ask one API server at once: strangers must not make the CA a load on it.
const AT_ONCE: usize = 32;
/// The longest token of the CA's own that is read.
const MAX_TOKEN: u64 = 64 * 1024;

/// How an API server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiServerConfig {
    /// `https`.
    pub(crate) url: Url,
    /// PEM file of the only certificate authorities that are believed.
    pub(crate) ca_file: PathBuf,
    /// The CA's own token, read anew each time, since the kubelet replaces it.
    pub(crate) token_file: PathBuf,
}

/// Why an API server cannot be asked. For the CA's log: callers are not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiServerError {
    /// The CA's own token.
    #[error("cannot read the CA's own token from {path}: {error}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No connection, or no answer.
    #[error(transparent)]
    Fetch(Box<FetchError>),
    /// An answer of another kind.
    #[error("{url} answered {status}{}", hint(*status))]
    Status {
        /// The URL.
        url: Url,
        /// The status.
        status: StatusCode,
    },
    /// Not the JSON that is expected.
    #[error("{url}: not the answer of a Kubernetes API server: {error}")]
    Answer {
        /// The URL.
        url: Url,
        /// Why.
        error: serde_json::Error,
    },
    /// The URL cannot be extended.
    #[error("{0} cannot be the URL of an API server")]
    Url(Url),
    /// Others are asking.
    #[error("too many attestations are waiting for it")]
    Busy,
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": it does not accept the CA's own token",
        StatusCode::FORBIDDEN => {
            ": the CA's own service account may not ask; it needs the cluster role system:auth-delegator, and to get pods"
        }
        _ => "",
    }
}

/// `status` of a TokenReview (authentication.k8s.io/v1).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenReviewStatus {
    pub(super) authenticated: bool,
    pub(super) error: String,
    pub(super) audiences: Vec<String>,
    pub(super) user: User,
}

/// Whose the token is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    pub(super) username: String,
    pub(super) uid: String,
    pub(super) extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct TokenReview {
    status: TokenReviewStatus,
}

/// What is used of a Pod (v1).
#[derive(Debug, Deserialize)]
pub(super) struct FoundPod {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

/// `metadata`.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub(super) uid: String,
}

/// `spec`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) service_account_name: String,
}

/// `status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodStatus {
    pub(super) phase: String,
}

/// One API server.
pub(super) struct ApiServer {
    config: ApiServerConfig,
    fetcher: Fetcher,
    turns: Semaphore,
}

impl ApiServer {
    pub(super) fn new(config: ApiServerConfig) -> Self {
        // Its address is the operator's choice, and inside.
        let fetcher = Fetcher::new(AddressRule::Any, Some(config.ca_file.clone()), LIMIT);
        Self {
            config,
            fetcher,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// What the API server says of a token.
    pub(super) async fn review(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<TokenReviewStatus, ApiServerError> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences},
        });
        let path = ["apis", "authentication.k8s.io", "v1", "tokenreviews"];
        let url = self.url(&path)?;
        let body = review.to_string().into_bytes();
        let answer: Option<TokenReview> = self.ask(&url, Some(body)).await?;
        // Only of a pod is it an answer that it is not there.
        let status = StatusCode::NOT_FOUND;
        Ok(answer.ok_or(ApiServerError::Status { url, status })?.status)
    }

    /// The pod of this name, if there is one.
    pub(super) async fn pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<FoundPod>, ApiServerError> {
        let url = self.url(&["api", "v1", "namespaces", namespace, "pods", name])?;
        self.ask(&url, None).await
    }

    fn url(&self, path: &[&str]) -> Result<Url, ApiServerError> {
        let mut url = self.config.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(path);
            }
            Err(()) => return Err(ApiServerError::Url(self.config.url.clone())),
        }
        Ok(url)
    }

    /// The answer; none for 404.
    async fn ask<T: DeserializeOwned>(
        &self,
        url: &Url,
        json: Option<Vec<u8>>,
    ) -> Result<Option<T>, ApiServerError> {
        let turn = tokio::time::timeout(LIMIT, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(ApiServerError::Busy);
        };
        let token = own_token(&self.config.token_file).await?;
        let outgoing = Outgoing {
            url,
            bearer: Some(token.trim()),
            json,
        };
        let reply = self.fetcher.send(outgoing).await;
        let reply = reply.map_err(|error| ApiServerError::Fetch(Box::new(error)))?;
        match reply.status {
            StatusCode::OK | StatusCode::CREATED => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => {
                let url = url.clone();
                return Err(ApiServerError::Status { url, status });
            }
        }
        let answer = serde_json::from_str(&reply.text);
        answer.map(Some).map_err(|error| ApiServerError::Answer {
            url: url.clone(),
            error,
        })
    }
}

async fn own_token(path: &Path) -> Result<Zeroizing<String>, ApiServerError> {
    use tokio::io::AsyncReadExt as _;
    let mut token = Zeroizing::new(String::new());
    let read = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(MAX_TOKEN).read_to_string(&mut token).await
    };
    match read.await {
        Ok(_) => Ok(token),
        Err(error) => Err(ApiServerError::TokenFile {
            path: path.to_owned(),
            error,
        }),
    }
}
