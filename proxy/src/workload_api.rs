//! The SPIFFE Workload API: an unmodified SPIFFE client of the workload gets its identity here, and every newer one.
//!
//! Nothing of this is there unless a socket is configured. Whoever can open the socket is the workload: see
//! `docs/workload-api.md`.

mod authority;
mod incoming;
mod messages;
mod socket;
#[cfg(test)]
mod tests;
mod tokens;

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::tokens::{TokenClient, TokenClientError};
use countersign_api::workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use countersign_api::workload::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse,
    SECURITY_HEADER, ValidateJwtsvidRequest, ValidateJwtsvidResponse, X509BundlesRequest,
    X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use countersign_identity::IdentityStore;
use countersign_identity::jwt::svid::{self, JwtSvidError};
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use messages::{Identity, Update};
pub use socket::{Socket, SocketError};
use tokens::Tokens;

/// The longest request: a token and an audience fit many times.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// How many streams a connection may have: one of each kind, and calls beside them.
const STREAMS: u32 = 32;
/// The longest sleep before the wall clock is looked at again: a timer knows nothing of a clock that is set.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Where workloads find their identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadApiConfig {
    /// The UNIX socket.
    pub socket: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

/// Serves the API for ever.
///
/// # Errors
/// The server fails, which no client can bring about.
pub async fn serve(
    socket: Socket,
    store: Arc<IdentityStore>,
    client: TokenClient,
) -> Result<(), tonic::transport::Error> {
    tracing::info!(socket = %socket.path().display(), "workload api served");
    // The file is there for as long as this runs.
    let (listener, _file) = socket.into_parts();
    let api = WorkloadApi {
        store,
        tokens: Tokens::new(client),
    };
    let api = SpiffeWorkloadApiServer::new(api).max_decoding_message_size(MAX_REQUEST_BYTES);
    let api = tonic::service::interceptor::InterceptedService::new(api, check_security_header);
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .add_service(api)
        .serve_with_incoming(incoming::incoming(listener))
        .await
}

/// SPIFFE Workload Endpoint §4.3: without it, a request may be one that a program was tricked into sending.
fn check_security_header(request: Request<()>) -> Result<Request<()>, Status> {
    match request.metadata().get(SECURITY_HEADER) {
        Some(value) if value == "true" => Ok(request),
        _ => Err(Status::invalid_argument(format!(
            "security header missing from request: expected `{SECURITY_HEADER}: true`"
        ))),
    }
}

struct WorkloadApi {
    store: Arc<IdentityStore>,
    tokens: Tokens,
}

type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Updates<X509svidResponse>;
    type FetchX509BundlesStream = Updates<X509BundlesResponse>;
    type FetchJWTBundlesStream = Updates<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        Ok(Response::new(updates(&self.store)))
    }

    async fn fetch_x509_bundles(
        &self,
        _request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Ok(Response::new(updates(&self.store)))
    }

    async fn fetch_jwt_bundles(
        &self,
        _request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Ok(Response::new(updates(&self.store)))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        let JwtsvidRequest {
            audience,
            spiffe_id,
        } = request.into_inner();
        if audience.is_empty() || audience.iter().any(String::is_empty) {
            return Err(Status::invalid_argument("audience must be specified"));
        }
        let now = SystemTime::now();
        let identity = Identity::of(&self.store, now)?;
        let id = identity.svid().id().to_string();
        if !spiffe_id.is_empty() && spiffe_id != id {
            return Err(Status::permission_denied(format!(
                "this workload is {id} and no other"
            )));
        }
        let svid = self.tokens.get(audience, now).await.map_err(refused)?;
        Ok(Response::new(JwtsvidResponse {
            svids: vec![Jwtsvid {
                spiffe_id: id,
                svid,
                hint: String::new(),
            }],
        }))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let ValidateJwtsvidRequest { audience, svid } = request.into_inner();
        if audience.is_empty() || svid.is_empty() {
            return Err(Status::invalid_argument(
                "audience and svid must be specified",
            ));
        }
        Identity::of(&self.store, SystemTime::now())?;
        let verified = self.validate(&audience, &svid).await;
        let verified = verified.map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Response::new(ValidateJwtsvidResponse {
            spiffe_id: verified.id().to_string(),
            claims: Some(messages::claims(verified.into_claims())),
        }))
    }
}

impl WorkloadApi {
    /// Verifies by the bundle of the trust domain that the token names, or, if that is our own and lacks the key, by a newer
    /// one. Others' bundles come with the control plane's stream.
    async fn validate(&self, audience: &str, token: &str) -> Result<svid::JwtSvid, JwtSvidError> {
        let trust_domain = svid::unverified_trust_domain(token)?;
        let is_ours = trust_domain == *self.store.bundle().trust_domain();
        let verify = || {
            let bundle = self.store.bundle_of(&trust_domain);
            // Of a trust domain without a bundle, our own says that it cannot speak for it.
            let bundle = bundle.unwrap_or_else(|| self.store.bundle());
            svid::verify(token, audience, &bundle, SystemTime::now())
        };
        match verify() {
            Err(error) if is_ours && error.is_unknown_key() => {
                self.tokens.refresh_bundle().await;
                verify()
            }
            verified => verified,
        }
    }
}

/// The CA's answer as the workload is to take it.
fn refused(error: TokenClientError) -> Status {
    let code = match &error {
        TokenClientError::Refused { invalid: true, .. } => Code::InvalidArgument,
        TokenClientError::Refused { invalid: false, .. } => Code::PermissionDenied,
        _ => Code::Unavailable,
    };
    tracing::warn!(%error, "no jwt-svid");
    Status::new(code, error.to_string())
}

/// What is so now, at once, and again whenever it changes. Ends with an error when there is no identity (any more).
fn updates<T: Update>(store: &Arc<IdentityStore>) -> Updates<T> {
    let watching = Watching {
        changes: store.changes(),
        store: Arc::clone(store),
        told: None,
        ended: false,
    };
    Box::pin(stream::unfold(watching, |mut watching| async {
        if watching.ended {
            return None;
        }
        let update = watching.next().await;
        watching.ended = update.is_err();
        Some((update, watching))
    }))
}

struct Watching {
    store: Arc<IdentityStore>,
    changes: watch::Receiver<u64>,
    told: Option<Identity>,
    ended: bool,
}

impl Watching {
    async fn next<T: Update>(&mut self) -> Result<T, Status> {
        loop {
            // Before looking: a change from here on wakes us again.
            self.changes.mark_unchanged();
            let now = SystemTime::now();
            let identity = Identity::of(&self.store, now)?;
            let is_news = |told| !T::is_same(told, &identity);
            if self.told.as_ref().is_none_or(is_news) {
                let update = T::of(&identity)?;
                self.told = Some(identity);
                return Ok(update);
            }
            let left = identity.svid().not_after().duration_since(now);
            let wait = left.unwrap_or_default().min(LONGEST_SLEEP);
            tokio::select! {
                // Cannot fail: we hold the store, which holds the sender.
                _ = self.changes.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
