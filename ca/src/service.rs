//! The gRPC service: from messages to the CA's own types and back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_api::proto::attestation::Evidence as ProtoEvidence;
use countersign_api::proto::certificate_authority_server::CertificateAuthority;
use countersign_api::proto::{
    Bundle, GetBundleRequest, IssueJwtRequest, IssueJwtResponse, IssueRequest, IssueResponse,
    IssueWitRequest, IssueWitResponse,
};
use countersign_api::transport::Caller;
use tonic::{Code, Request, Response, Status};
use zeroize::Zeroizing;

use crate::attest::x509_proof::Proof;
use crate::attest::{Evidence, Kind};
use crate::issue::token::{Token, seconds};
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

    fn bundle(&self) -> Bundle {
        (&*self.issuance.authority.bundle()).into()
    }

    /// Tells everybody who should know of a token, and of a refusal to issue one.
    fn report_token(
        &self,
        result: Result<Token, Refusal>,
        caller: &Caller,
        started: Instant,
    ) -> Result<Token, Status> {
        match result {
            Ok(token) => {
                self.metrics
                    .token_issued(token.facts.usage, started.elapsed());
                let (kind, jti) = (token.facts.usage.name(), &token.facts.id);
                let id = caller.peer.as_ref().map(|peer| peer.id().to_string());
                tracing::info!(id, kind, jti, remote_addr = %caller.remote_addr, "token issued");
                Ok(token)
            }
            Err(refusal) => {
                self.report_refusal(&refusal, caller, started);
                Err(refusal.into())
            }
        }
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
                    bundle: Some(self.bundle()),
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
        Ok(Response::new(self.bundle()))
    }

    async fn issue_jwt(
        &self,
        request: Request<IssueJwtRequest>,
    ) -> Result<Response<IssueJwtResponse>, Status> {
        let started = Instant::now();
        let caller = Caller::of(&request)?.clone();
        let IssueJwtRequest {
            audience,
            ttl_seconds,
        } = request.into_inner();
        let ttl = Duration::from_secs(ttl_seconds.into());
        let issued = self
            .issuance
            .issue_jwt(audience, ttl, &caller, SystemTime::now())
            .await;
        let Token { token, facts } = self.report_token(issued, &caller, started)?;
        Ok(Response::new(IssueJwtResponse {
            token,
            issued_at: seconds(facts.issued_at),
            expires_at: seconds(facts.expires_at),
            bundle: Some(self.bundle()),
        }))
    }

    async fn issue_wit(
        &self,
        request: Request<IssueWitRequest>,
    ) -> Result<Response<IssueWitResponse>, Status> {
        let started = Instant::now();
        let caller = Caller::of(&request)?.clone();
        let IssueWitRequest { csr, ttl_seconds } = request.into_inner();
        let ttl = Duration::from_secs(ttl_seconds.into());
        let issued = self
            .issuance
            .issue_wit(&csr, ttl, &caller, SystemTime::now())
            .await;
        let Token { token, facts } = self.report_token(issued, &caller, started)?;
        Ok(Response::new(IssueWitResponse {
            token,
            issued_at: seconds(facts.issued_at),
            expires_at: seconds(facts.expires_at),
            bundle: Some(self.bundle()),
        }))
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
        ProtoEvidence::X509Proof(proof) => {
            let proof = Proof {
                chain: proof
                    .certificate_chain
                    .into_iter()
                    .map(Into::into)
                    .collect(),
                scheme: proof.signature_scheme,
                signature: proof.signature,
            };
            let csr = request.csr.clone();
            (Kind::X509Proof, Evidence::X509Proof { proof, csr })
        }
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
