//! The gRPC service: from messages to the CA's own types and back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_api::proto::attestation::Evidence as ProtoEvidence;
use countersign_api::proto::certificate_authority_server::CertificateAuthority;
use countersign_api::proto::{Bundle, GetBundleRequest, IssueRequest, IssueResponse};
use countersign_api::transport::Caller;
use tonic::{Code, Request, Response, Status};
use zeroize::Zeroizing;

use crate::attest::{Evidence, Kind};
use crate::issue::{self, Issuance};
use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// Answers callers.
pub(crate) struct Service {
    issuance: Arc<Issuance>,
    metrics: Metrics,
}

impl Service {
    /// A service on top of `issuance`.
    pub(crate) fn new(issuance: Arc<Issuance>, metrics: Metrics) -> Self {
        Self { issuance, metrics }
    }

    /// Tells everybody who should know: the log for people, and the metrics.
    fn report_refusal(&self, refusal: &Refusal, caller: &Caller, started: Instant) {
        self.metrics.refused(refusal, started.elapsed());
        let remote_addr = caller.remote_addr;
        let peer = caller.peer.as_ref().map(|peer| peer.id().to_string());
        let reason = refusal.class();
        match refusal.code() {
            Code::Internal | Code::Unavailable => {
                tracing::error!(%remote_addr, peer, reason, error = %refusal, "nothing issued");
            }
            _ => tracing::warn!(%remote_addr, peer, reason, error = %refusal, "nothing issued"),
        }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Service {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let started = Instant::now();
        let caller = Caller::of(&request)?.clone();
        let (kind, asked) = match read_request(request.into_inner(), caller.clone()) {
            Ok(asked) => asked,
            Err(refusal) => {
                self.report_refusal(&refusal, &caller, started);
                return Err(refusal.into());
            }
        };
        match self.issuance.issue(asked, SystemTime::now()).await {
            Ok(svid) => {
                self.metrics.issued(kind, started.elapsed());
                let (id, serial, attestation) = (svid.id(), svid.serial(), kind.name());
                tracing::info!(%id, serial, attestation, remote_addr = %caller.remote_addr, "svid issued");
                Ok(Response::new(IssueResponse {
                    certificate_chain: svid.chain().iter().map(|der| der.to_vec()).collect(),
                    bundle: Some(self.issuance.authority.bundle().into()),
                }))
            }
            Err(refusal) => {
                self.report_refusal(&refusal, &caller, started);
                Err(refusal.into())
            }
        }
    }

    async fn get_bundle(
        &self,
        _request: Request<GetBundleRequest>,
    ) -> Result<Response<Bundle>, Status> {
        Ok(Response::new(self.issuance.authority.bundle().into()))
    }
}

fn read_request(request: IssueRequest, caller: Caller) -> Result<(Kind, issue::Request), Refusal> {
    let evidence = request
        .attestation
        .and_then(|attestation| attestation.evidence);
    let (kind, evidence) = match evidence.ok_or(Refusal::NoEvidence)? {
        ProtoEvidence::JoinToken(token) => {
            (Kind::JoinToken, Evidence::JoinToken(Zeroizing::new(token)))
        }
        ProtoEvidence::Jwt(token) => (Kind::Jwt, Evidence::Jwt(Zeroizing::new(token))),
        ProtoEvidence::Renewal(_) => (Kind::Renewal, Evidence::Renewal),
    };
    let ttl = Duration::from_secs(request.ttl_seconds.into());
    Ok((
        kind,
        issue::Request {
            csr: request.csr,
            ttl,
            evidence,
            caller,
        },
    ))
}
