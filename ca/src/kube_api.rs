//! Requests of a Kubernetes API server.
//!
//! The few that there are do not need the `kube` crate, whose generated types of the whole API are most of its weight.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_identity::keys::{AddressRule, Content, FetchError, Fetcher, Outgoing};
use http::{Method, StatusCode};
use url::Url;
use zeroize::Zeroizing;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);
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
    #[error("{url} answered {status}{}", hint(*status, rights))]
    Status {
        /// The URL.
        url: Url,
        /// The status.
        status: StatusCode,
        /// What the CA's own service account needs.
        rights: &'static str,
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

fn hint(status: StatusCode, rights: &str) -> String {
    match status {
        StatusCode::UNAUTHORIZED => ": it does not accept the CA's own token".to_owned(),
        StatusCode::FORBIDDEN => {
            format!(": the CA's own service account may not ask; it needs {rights}")
        }
        _ => String::new(),
    }
}

/// What is asked for. Bodies are JSON.
#[derive(Debug)]
pub(crate) enum Call {
    Get,
    Post(Vec<u8>),
    Put(Vec<u8>),
}

/// One API server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    config: ApiServerConfig,
    fetcher: Fetcher,
    rights: &'static str,
}

impl ApiServer {
    /// `rights` are what the CA's service account needs there, for people.
    pub(crate) fn new(config: ApiServerConfig, rights: &'static str) -> Self {
        // Its address is the operator's choice, and inside.
        let fetcher = Fetcher::new(AddressRule::Any, Some(config.ca_file.clone()), LIMIT);
        Self {
            config,
            fetcher,
            rights,
        }
    }

    /// Makes one request: the status, and the body of a success.
    ///
    /// # Errors
    /// When there is no answer.
    pub(crate) async fn call(
        &self,
        call: Call,
        path: &[&str],
    ) -> Result<(StatusCode, Zeroizing<String>), ApiServerError> {
        let url = self.url(path)?;
        let token = own_token(&self.config.token_file).await?;
        let (method, json) = match call {
            Call::Get => (Method::GET, None),
            Call::Post(json) => (Method::POST, Some(json)),
            Call::Put(json) => (Method::PUT, Some(json)),
        };
        let outgoing = Outgoing {
            url: &url,
            bearer: Some(token.trim()),
            content: json.map(Content::Json),
        };
        let reply = self.fetcher.send_by(method, outgoing).await;
        let reply = reply.map_err(|error| ApiServerError::Fetch(Box::new(error)))?;
        Ok((reply.status, Zeroizing::new(reply.text)))
    }

    /// The error for a status that is none of those expected.
    pub(crate) fn bad_status(&self, path: &[&str], status: StatusCode) -> ApiServerError {
        match self.url(path) {
            Ok(url) => ApiServerError::Status {
                url,
                status,
                rights: self.rights,
            },
            Err(error) => error,
        }
    }

    /// The error for an answer that is not what was asked for.
    pub(crate) fn bad_answer(&self, path: &[&str], error: serde_json::Error) -> ApiServerError {
        match self.url(path) {
            Ok(url) => ApiServerError::Answer { url, error },
            Err(error) => error,
        }
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
