//! How a caller proves which workload it is. One file per kind of evidence; [`Attestors::attest`] chooses.

pub(crate) mod allow;
pub(crate) mod certificate;
pub(crate) mod join_token;
pub(crate) mod jwt;
pub(crate) mod kubernetes;
pub(crate) mod renewal;
pub(crate) mod template;
pub(crate) mod token_verifier;
pub(crate) mod x509_proof;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use countersign_api::transport::Caller;
use countersign_identity::jwt::{self as tokens, TokenError};
use countersign_identity::spiffe::system;
use countersign_identity::{IdentityStore, SpiffeId};
use zeroize::Zeroizing;

use crate::refusal::Refusal;
use join_token::JoinTokens;
use jwt::JwtIssuers;
use kubernetes::Clusters;
use template::Template;
use token_verifier::TokenVerifier;
use x509_proof::{Proof, X509Proofs};

/// What a caller shows.
pub(crate) enum Evidence {
    /// A join token.
    JoinToken(Zeroizing<String>),
    /// A token of a configured issuer.
    Jwt(Zeroizing<String>),
    /// A certificate, and that its key is the caller's.
    X509Proof {
        /// The proof.
        proof: Proof,
        /// The certification request that it is for: the one that is issued for.
        csr: Vec<u8>,
    },
    /// The SVID of its connection.
    Renewal,
}

/// The kinds of attestation, as the log and the metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// See [`join_token`].
    JoinToken,
    /// See [`jwt`].
    Jwt,
    /// See [`kubernetes`].
    Kubernetes,
    /// See [`x509_proof`].
    X509Proof,
    /// See [`renewal`].
    Renewal,
    /// The CA's own SVID: nobody else can have it.
    Own,
}

impl Kind {
    /// A stable name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::JoinToken => "join-token",
            Self::Jwt => "jwt",
            Self::Kubernetes => "kubernetes",
            Self::X509Proof => "x509-proof",
            Self::Renewal => "renewal",
            Self::Own => "own",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A proved identity. Made by the attestors in this module only: what is issued, is issued on one of these.
#[derive(Debug)]
pub(crate) struct Attested {
    id: SpiffeId,
    kind: Kind,
    detail: String,
}

impl Attested {
    fn new(id: SpiffeId, kind: Kind, detail: String) -> Self {
        Self { id, kind, detail }
    }

    /// The CA itself, for its own server.
    pub(crate) fn own(authority: &crate::authority::Authority) -> Self {
        let id = system::ca(authority.trust_domain());
        Self::new(id, Kind::Own, String::new())
    }

    /// Who it is.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// How it was proved.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What the proof rests on, for the log. No secret.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

/// Why a token leads to nobody who could verify it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRouteError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] TokenError),
    /// Nobody configured its issuer.
    #[error(
        "the issuer {0:?} is not among the `issuers` and `kubernetes` of the CA's configuration"
    )]
    UnknownIssuer(String),
}

/// An ID of the mesh's own parts, made of what callers may choose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what was shown proves {0}, which is in the namespace of the mesh's own parts; for that, `spiffeId` must write the \
     namespace `{ns}` out, not take it from a placeholder", ns = system::NAMESPACE
)]
pub(crate) struct MeshPart(SpiffeId);

/// An issuer that lets its users choose a claim must not thereby let them become the control plane.
fn guard_mesh_parts(id: &SpiffeId, template: &Template) -> Result<(), MeshPart> {
    let system_path = format!("/ns/{}/", system::NAMESPACE);
    if id.path().starts_with(&system_path) && !template.writes_out(&system_path) {
        return Err(MeshPart(id.clone()));
    }
    Ok(())
}

/// Text from outside, short enough for a status and a log line. A subject has at most 255 characters (OpenID Connect §2).
fn shortened(text: &str) -> String {
    text.chars().take(255).collect()
}

/// All attestors.
pub(crate) struct Attestors {
    pub(crate) join_tokens: JoinTokens,
    pub(crate) jwt_issuers: JwtIssuers,
    pub(crate) clusters: Clusters,
    pub(crate) x509_proofs: X509Proofs,
    /// What the CA's server verifies clients by.
    pub(crate) store: Arc<IdentityStore>,
}

impl Attestors {
    /// Finds out whom `evidence` proves.
    ///
    /// # Errors
    /// When it proves nobody.
    pub(crate) async fn attest(
        &self,
        evidence: Evidence,
        caller: &Caller,
        now: SystemTime,
    ) -> Result<Attested, Refusal> {
        match evidence {
            Evidence::JoinToken(token) => {
                let attested = self.join_tokens.redeem(&token, now).await;
                attested.map_err(Refusal::JoinToken)
            }
            Evidence::Jwt(token) => self.attest_token(&token, now).await,
            Evidence::X509Proof { proof, csr } => {
                self.x509_proofs.attest(&proof, &caller.binding, &csr, now)
            }
            Evidence::Renewal => renewal::attest(caller, &self.store, now),
        }
    }

    /// The token says whose it is, and so who verifies it; nothing else of it is believed yet.
    async fn attest_token(&self, token: &str, now: SystemTime) -> Result<Attested, Refusal> {
        let issuer = tokens::unverified_issuer(token).map_err(TokenRouteError::from)?;
        if let Some(cluster) = self.clusters.find(&issuer) {
            return cluster.attest(token, now).await;
        }
        match self.jwt_issuers.find(&issuer) {
            Some(known) => known.attest(token, now).await,
            None => Err(TokenRouteError::UnknownIssuer(shortened(&issuer)).into()),
        }
    }

    /// The verifiers whose keys are followed.
    pub(crate) fn verifiers(&self) -> impl Iterator<Item = &TokenVerifier> {
        self.jwt_issuers
            .verifiers()
            .chain(self.clusters.verifiers())
    }
}
