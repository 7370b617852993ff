//! The proof of who asks.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use countersign_api::proto::attestation::Evidence;
use countersign_api::x509_proof::{Certificate, CertificateFiles, ProofError};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::IssueArguments;
use super::device::{self, DeviceError};
use crate::provider::{Client, ProviderError, checked_url};

/// The longest proof that is read, in bytes.
const LONGEST: u64 = 64 * 1024;
/// GitLab's tokens where the job names no `id_tokens` of its own, the newer first.
const GITLAB_VARIABLES: [&str; 3] = ["COUNTERSIGN_ID_TOKEN", "CI_JOB_JWT_V2", "CI_JOB_JWT"];

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    #[error("cannot read the token in {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot read the token on standard input")]
    Stdin(#[source] io::Error),
    #[error("{0}: expected a token, one line without spaces")]
    NoToken(String),
    #[error("the environment variable {0} is not set; is this a CI job that has it?")]
    NoVariable(String),
    #[error(
        "this is no CI job that can prove who it is: in GitHub Actions the job needs `permissions: {{id-token: write}}`; in GitLab CI give it `id_tokens: {{COUNTERSIGN_ID_TOKEN: {{aud: …}}}}`"
    )]
    NoCi,
    #[error("GitHub gives no token for this job")]
    GitHub(#[source] ProviderError),
    #[error("GitHub gives no token for this job: it answered {0}")]
    GitHubStatus(http::StatusCode),
    #[error("GitHub's answer is not a token")]
    GitHubAnswer(#[source] serde_json::Error),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Proof(#[from] ProofError),
    #[error("cannot start")]
    Runtime(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A proof that is ready to be sent, or to be made for a connection.
pub(super) enum Shown {
    Token(Evidence),
    Certificate(Certificate),
}

/// Obtains the proof that the arguments name.
pub(super) async fn obtain(arguments: &IssueArguments) -> Result<Shown, EvidenceError> {
    if let Some(path) = &arguments.join_token_file {
        return Ok(Shown::Token(Evidence::JoinToken(read(path)?.to_string())));
    }
    if let (Some(chain), Some(key)) = (&arguments.x509_proof, &arguments.x509_key) {
        let (chain, key) = (chain.clone(), key.clone());
        return Ok(Shown::Certificate(CertificateFiles { chain, key }.read()?));
    }
    let jwt = if let Some(path) = &arguments.jwt_file {
        read(path)?
    } else if let Some(name) = &arguments.jwt_env {
        let value = variable(name).ok_or_else(|| EvidenceError::NoVariable(name.clone()))?;
        token(name, &value)?
    } else if let (Some(issuer), Some(client)) = (&arguments.device, &arguments.client_id) {
        let authorities = arguments.provider_ca.as_deref();
        let jwt = device::log_in(issuer, client, &arguments.scope, authorities).await?;
        token("the OpenID provider's answer", &jwt)?
    } else {
        ci_job(&arguments.audience, arguments.provider_ca.as_deref()).await?
    };
    Ok(Shown::Token(Evidence::Jwt(jwt.to_string())))
}

fn read(path: &Path) -> Result<Zeroizing<String>, EvidenceError> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(LONGEST)
            .read_to_string(&mut text)
            .map_err(EvidenceError::Stdin)?;
        return token("standard input", &text);
    }
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_string(&mut text))
        .map_err(|source| EvidenceError::File {
            path: path.to_owned(),
            source,
        })?;
    token(&path.display().to_string(), &text)
}

/// A token, without the white space around it. What is no token is not shown: it may be a secret.
fn token(origin: &str, text: &str) -> Result<Zeroizing<String>, EvidenceError> {
    let token = text.trim();
    match !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Zeroizing::new(token.to_owned())),
        false => Err(EvidenceError::NoToken(origin.to_owned())),
    }
}

fn variable(name: &str) -> Option<Zeroizing<String>> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.map(Zeroizing::new)
}

/// The token of the CI job that this runs in.
async fn ci_job(
    audience: &str,
    authorities: Option<&Path>,
) -> Result<Zeroizing<String>, EvidenceError> {
    let url = variable("ACTIONS_ID_TOKEN_REQUEST_URL");
    if let (Some(url), Some(bearer)) = (url, variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")) {
        return github(&url, &bearer, audience, authorities).await;
    }
    let found = GITLAB_VARIABLES
        .into_iter()
        .find_map(|name| Some((name, variable(name)?)));
    let (name, value) = found.ok_or(EvidenceError::NoCi)?;
    token(name, &value)
}

/// As GitHub documents it: the job's own credential is exchanged for a token for an audience.
async fn github(
    url: &str,
    bearer: &str,
    audience: &str,
    authorities: Option<&Path>,
) -> Result<Zeroizing<String>, EvidenceError> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    let mut url = checked_url(url).map_err(EvidenceError::GitHub)?;
    url.query_pairs_mut().append_pair("audience", audience);
    let answer = Client::new(authorities)
        .get_as(&url, bearer)
        .await
        .map_err(EvidenceError::GitHub)?;
    if !answer.status.is_success() {
        return Err(EvidenceError::GitHubStatus(answer.status));
    }
    let answer: Answer = serde_json::from_str(&answer.text).map_err(EvidenceError::GitHubAnswer)?;
    token("GitHub's answer", &answer.value)
}
