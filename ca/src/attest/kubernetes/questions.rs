//! The two questions that a cluster's API server is asked: is this token good, and what pod is there of this name?
//!
//! Two requests do not need the `kube` crate, whose generated types of the whole API are most of its weight.

use std::collections::BTreeMap;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::kube_api::{ApiServer, ApiServerConfig, ApiServerError, Call};

/// How long a question waits for its turn.
const LIMIT: Duration = Duration::from_secs(5);
/// What it takes to ask them.
const RIGHTS: &str = "the cluster role system:auth-delegator, and to get pods";
/// How many attestations may ask one API server at once: strangers must not make the CA a load on it.
const AT_ONCE: usize = 32;

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

/// Who asks one API server.
pub(super) struct Questions {
    api_server: ApiServer,
    turns: Semaphore,
}

impl Questions {
    pub(super) fn new(config: ApiServerConfig) -> Self {
        Self {
            api_server: ApiServer::new(config, RIGHTS),
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
        let call = Call::Post(review.to_string().into_bytes());
        let answer: Option<TokenReview> = self.ask(call, &path).await?;
        // Only of a pod is it an answer that it is not there.
        let answer = answer.ok_or_else(|| self.api_server.bad_status(&path, StatusCode::NOT_FOUND));
        Ok(answer?.status)
    }

    /// The pod of this name, if there is one.
    pub(super) async fn pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<FoundPod>, ApiServerError> {
        let path = ["api", "v1", "namespaces", namespace, "pods", name];
        self.ask(Call::Get, &path).await
    }

    /// The answer; none for 404.
    async fn ask<T: DeserializeOwned>(
        &self,
        call: Call,
        path: &[&str],
    ) -> Result<Option<T>, ApiServerError> {
        let turn = tokio::time::timeout(LIMIT, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(ApiServerError::Busy);
        };
        let (status, text) = self.api_server.call(call, path).await?;
        match status {
            StatusCode::OK | StatusCode::CREATED => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.api_server.bad_status(path, status)),
        }
        let answer = serde_json::from_str(&text);
        answer
            .map(Some)
            .map_err(|error| self.api_server.bad_answer(path, error))
    }
}
