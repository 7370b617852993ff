//! Why nothing is issued: each reason with its gRPC status, its name in the metrics, and what to do about it.

use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use countersign_identity::{SpiffeId, SvidError, TrustDomain};
use tonic::{Code, Status};

use crate::attest::TokenRouteError;
use crate::attest::join_token::JoinTokenError;
use crate::attest::jwt::JwtError;
use crate::attest::kubernetes::{KubernetesError, PodError};
use crate::attest::renewal::RenewalError;
use crate::attest::token_verifier::VerifyError;
use crate::attest::x509_proof::X509ProofError;
use crate::authority::profile::ProfileError;
use crate::authority::tokens::SignError;
use crate::csr::CsrError;
use crate::issue::token::{MAX_AUDIENCE_BYTES, MAX_AUDIENCES};
use crate::log::LogError;

/// Why nothing is issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The certification request.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The lifetime.
    #[error("a lifetime of {} s is asked for; this CA issues for {} s to {} s, or, asked for 0, {} s",
        asked.as_secs(), min.as_secs(), max.as_secs(), default.as_secs())]
    Ttl {
        /// What is asked for.
        asked: Duration,
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
        /// Unless asked.
        default: Duration,
    },
    /// No evidence.
    #[error(
        "the request has no attestation; send a join token or a JWT, or renew over a connection with an SVID"
    )]
    NoEvidence,
    /// A join token that is not good.
    #[error(transparent)]
    JoinToken(JoinTokenError),
    /// A JWT that is nobody's here.
    #[error(transparent)]
    TokenRoute(#[from] TokenRouteError),
    /// A JWT that is not good.
    #[error(transparent)]
    Jwt(#[from] JwtError),
    /// A service account token that is not good.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// A certificate that is not good.
    #[error(transparent)]
    X509Proof(#[from] X509ProofError),
    /// An SVID that is not good.
    #[error(transparent)]
    Renewal(#[from] RenewalError),
    /// Another trust domain's identity.
    #[error(
        "the attestation proves {id}, which is not of the trust domain {trust_domain} that this CA issues for"
    )]
    OtherTrustDomain {
        /// Whom it proves.
        id: SpiffeId,
        /// The CA's.
        trust_domain: TrustDomain,
    },
    /// The CA's own ID.
    #[error("the attestation proves {0}, which is the CA's own ID and is given to nobody")]
    Reserved(SpiffeId),
    /// The intermediate ends too soon.
    #[error(
        "the CA's intermediate is valid until {} only, which is too short for an SVID; its operator has to \
         have the root sign a new one (`countersign-ca csr`), or put the root's key back", DateTime::<Utc>::from(*not_after).to_rfc3339()
    )]
    IntermediateEnds {
        /// Its end.
        not_after: SystemTime,
    },
    /// The certificate cannot be made.
    #[error(transparent)]
    Certificate(#[from] ProfileError),
    /// What was made is not what it should be.
    #[error("the CA made a certificate that is not a good SVID, and does not hand it out: {0}")]
    Product(SvidError),
    /// Nobody, or too many, for a token to be for.
    #[error(
        "a JWT-SVID is for 1 to {MAX_AUDIENCES} audiences, each of 1 to {MAX_AUDIENCE_BYTES} bytes; {0}"
    )]
    Audience(String),
    /// A key that a WIT-SVID cannot be bound to.
    #[error(
        "a WIT-SVID is bound to a key on P-256 or P-384, or an RSA key; the request is for {0}"
    )]
    WitKey(String),
    /// A token cannot be made.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A token that is not what it should be.
    #[error("the CA made a token that is not a good one, and does not hand it out: {0}")]
    TokenProduct(String),
    /// Something that cannot happen.
    #[error("internal error: {0}")]
    Internal(String),
    /// The log.
    #[error("the issuance cannot be logged, and so is not done: {0}; try again")]
    Log(#[from] LogError),
}

impl Refusal {
    /// A stable name, for the metrics.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Csr(_) | Self::WitKey(_) => "csr",
            Self::Audience(_) => "audience",
            Self::Ttl { .. } => "ttl",
            Self::NoEvidence => "no-evidence",
            Self::JoinToken(_) => "join-token",
            Self::Jwt(JwtError::Verify(VerifyError::NoKeys { .. }))
            | Self::Kubernetes(KubernetesError::Verify(VerifyError::NoKeys { .. })) => {
                "issuer-keys"
            }
            Self::Jwt(JwtError::NotAllowed { .. }) => "not-allowed",
            Self::Kubernetes(error) if matches!(error.denied(), Some(PodError::NotAllowed(_))) => {
                "not-allowed"
            }
            Self::TokenRoute(_) | Self::Jwt(_) => "jwt",
            Self::Kubernetes(KubernetesError::ApiServer { .. }) => "api-server",
            Self::Kubernetes(_) => "kubernetes",
            Self::X509Proof(X509ProofError::NotAllowed { .. }) => "not-allowed",
            Self::X509Proof(_) => "x509-proof",
            Self::Renewal(_) => "renewal",
            Self::OtherTrustDomain { .. } => "other-trust-domain",
            Self::Reserved(_) => "reserved-id",
            Self::IntermediateEnds { .. } => "intermediate-ends",
            Self::Log(_) => "log",
            Self::Certificate(_)
            | Self::Product(_)
            | Self::Sign(_)
            | Self::TokenProduct(_)
            | Self::Internal(_) => "internal",
        }
    }

    /// The status as `ca.proto` documents it.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Csr(_) | Self::WitKey(_) | Self::Audience(_) | Self::Ttl { .. } => {
                Code::InvalidArgument
            }
            Self::Kubernetes(error) if error.is_outage() => Code::Unavailable,
            Self::Kubernetes(error) if error.denied().is_some() => Code::PermissionDenied,
            Self::X509Proof(error) if error.is_denied() => Code::PermissionDenied,
            Self::Jwt(JwtError::Verify(VerifyError::NoKeys { .. }))
            | Self::JoinToken(JoinTokenError::Store(_))
            | Self::IntermediateEnds { .. }
            | Self::Log(_) => Code::Unavailable,
            Self::Jwt(
                JwtError::NotAllowed { .. } | JwtError::Claims { .. } | JwtError::MeshPart { .. },
            )
            | Self::OtherTrustDomain { .. }
            | Self::Reserved(_) => Code::PermissionDenied,
            Self::NoEvidence
            | Self::JoinToken(_)
            | Self::TokenRoute(_)
            | Self::Jwt(_)
            | Self::Kubernetes(_)
            | Self::X509Proof(_)
            | Self::Renewal(_) => Code::Unauthenticated,
            Self::Certificate(_)
            | Self::Product(_)
            | Self::Sign(_)
            | Self::TokenProduct(_)
            | Self::Internal(_) => Code::Internal,
        }
    }
}

impl Refusal {
    /// What the caller is told. Files, addresses and internals of the CA are for its log only.
    fn public_message(&self) -> String {
        match self {
            Self::Kubernetes(KubernetesError::ApiServer { cluster, .. }) => format!(
                "the API server of the cluster {cluster:?} cannot be asked by the CA, whose log says why; try again"
            ),
            Self::Jwt(JwtError::Verify(VerifyError::NoKeys { issuer, .. }))
            | Self::Kubernetes(KubernetesError::Verify(VerifyError::NoKeys { issuer, .. })) => {
                format!(
                    "the keys of the issuer {issuer:?} are not available to the CA, whose log says why; try again"
                )
            }
            Self::JoinToken(JoinTokenError::Store(_))
            | Self::Log(_)
            | Self::Certificate(_)
            | Self::Product(_)
            | Self::Sign(_)
            | Self::TokenProduct(_)
            | Self::Internal(_) => format!(
                "the CA cannot issue now, for a reason that its log tells ({}); try again",
                self.class()
            ),
            told => told.to_string(),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code(), refusal.public_message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileError;
    use crate::kube_api::ApiServerError;
    use crate::store::StoreError;

    #[test]
    fn callers_are_not_told_about_the_cas_inside() {
        let file = || {
            StoreError::File(FileError::NotAFile {
                path: "/var/ca/ca.db".into(),
            })
        };
        for refusal in [
            Refusal::Log(file().into()),
            Refusal::JoinToken(JoinTokenError::Store(file())),
            Refusal::Internal("/var/ca".to_owned()),
            Refusal::Kubernetes(KubernetesError::ApiServer {
                cluster: "https://kubernetes.default.svc".to_owned(),
                error: Box::new(ApiServerError::TokenFile {
                    path: "/var/ca/token".into(),
                    error: std::io::Error::other("10.0.0.1"),
                }),
            }),
            Refusal::Jwt(JwtError::Verify(VerifyError::NoKeys {
                issuer: "https://ci.example".to_owned(),
                reason: "cannot connect to 10.0.0.1:443, see /var/ca".to_owned(),
            })),
        ] {
            assert!(refusal.to_string().contains("/var/ca"), "the log is");
            let status = Status::from(refusal);
            assert!(matches!(status.code(), Code::Unavailable | Code::Internal));
            for inside in ["/var/ca", "10.0.0.1"] {
                assert!(!status.message().contains(inside), "{status}");
            }
        }
    }
}
