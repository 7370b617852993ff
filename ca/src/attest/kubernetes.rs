//! Kubernetes: a projected service account token that is bound to a pod proves `spiffe://TD/ns/NAMESPACE/sa/ACCOUNT`.
//!
//! With the cluster's API server configured, it is asked about every token (TokenReview) and about the pod; when it cannot
//! answer, nothing is issued, and nothing else is tried. With the cluster's keys configured, a token is verified with them:
//! before the API server is asked, which keeps forged tokens away from it, or, without an API server, instead. The latter
//! cannot know that a pod is gone.

mod bound_pod;
mod questions;

use std::time::SystemTime;

use countersign_identity::jwt::IssuerRules;
use countersign_identity::keys::{FollowError, IssuerEndpoint};
use countersign_identity::spiffe::system;
use countersign_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use countersign_policy::{FieldType, ObjectShape};

use super::allow::{AllowRules, NotAllowed};
use super::token_verifier::{TokenVerifier, VerifyError};
use super::{Attested, Kind};
use crate::kube_api::{ApiServerConfig, ApiServerError};
use crate::refusal::Refusal;
use bound_pod::{BoundPod, UnboundError};
use questions::Questions;

/// What allow rules of a cluster ask about.
pub(crate) const POD: ObjectShape = ObjectShape {
    variable: "pod",
    fields: Some(&[
        ("namespace", FieldType::Text),
        ("serviceAccount", FieldType::Text),
        ("name", FieldType::Text),
        ("node", FieldType::Text),
    ]),
};

/// One cluster, as configured.
#[derive(Debug)]
pub(crate) struct ClusterConfig {
    /// What its tokens must satisfy.
    pub(crate) rules: IssuerRules,
    /// Where the keys are that its tokens are signed with.
    pub(crate) keys: Option<IssuerEndpoint>,
    /// Who is asked whether tokens and pods are still good.
    pub(crate) api_server: Option<ApiServerConfig>,
    /// Which of its pods are let in.
    pub(crate) allow: AllowRules,
    /// Whether its service accounts in the system's namespace are the mesh's own parts.
    pub(crate) allow_system_namespace: bool,
}

/// Why a service account token proves nobody.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubernetesError {
    /// The token is not good.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// What is wrong with what it is bound to.
    #[error("cluster {cluster:?}: {error}")]
    Refused {
        /// The cluster's issuer.
        cluster: String,
        /// Why.
        error: Box<PodError>,
    },
    /// The API server does not answer, or not so that it can be understood.
    #[error("the API server of the cluster {cluster:?} cannot be asked: {error}; try again")]
    ApiServer {
        /// The cluster's issuer.
        cluster: String,
        /// Why.
        error: Box<ApiServerError>,
    },
}

impl KubernetesError {
    /// Whether another try may do: the token has not been found wrong.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::ApiServer { .. } | Self::Verify(VerifyError::NoKeys { .. })
        )
    }

    /// What became of the allow rules and the like, if it is these that refuse a good token.
    pub(crate) fn denied(&self) -> Option<&PodError> {
        match self {
            Self::Refused { error, .. } => match &**error {
                denied @ (PodError::NotAllowed(_)
                | PodError::SystemNamespace
                | PodError::SpiffeId(_)) => Some(denied),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Why a token that was issued by the cluster proves nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PodError {
    /// The API server says no.
    #[error("its API server does not accept the token: {0}")]
    NotAuthenticated(String),
    /// A token for others.
    #[error("the token is for {found}; expected {expected}")]
    WrongAudience {
        /// What the API server says it is for.
        found: String,
        /// The configured ones.
        expected: String,
    },
    /// Not bound, or not to a pod.
    #[error(transparent)]
    Unbound(#[from] UnboundError),
    /// The signature's claims and the API server's answer tell of two pods.
    #[error("its API server says that the token is of another pod than its claims do")]
    Contradiction,
    /// The pod is gone.
    #[error(
        "the pod {namespace}/{pod} does not exist any more; its token is not accepted without it"
    )]
    NoPod {
        /// Where it was.
        namespace: String,
        /// Its name.
        pod: String,
    },
    /// A later pod of the same name.
    #[error(
        "the pod {pod} of the token has the UID {expected}; the one that exists now has {found}"
    )]
    OtherPod {
        /// Its name.
        pod: String,
        /// The token's.
        expected: String,
        /// The API server's.
        found: String,
    },
    /// The pod has the token of another account.
    #[error("the token is of the service account {expected}; the pod {pod} runs as {found}")]
    OtherServiceAccount {
        /// Its name.
        pod: String,
        /// The token's.
        expected: String,
        /// The API server's.
        found: String,
    },
    /// The pod has run.
    #[error("the pod {pod} has ended ({phase})")]
    Ended {
        /// Its name.
        pod: String,
        /// Succeeded or Failed.
        phase: String,
    },
    /// No rule lets it in.
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// Not this cluster's to give.
    #[error(
        "the token is of the namespace `{ns}`, which is for the mesh's own parts; set `allowSystemNamespace: true` for the \
         one cluster that they run in", ns = system::NAMESPACE
    )]
    SystemNamespace,
    /// Names that make no SPIFFE ID.
    #[error("its namespace and service account make no SPIFFE ID: {0}")]
    SpiffeId(#[from] SpiffeIdError),
}

/// Every configured cluster.
pub(crate) struct Clusters(Vec<Cluster>);

/// One configured cluster.
pub(crate) struct Cluster {
    trust_domain: TrustDomain,
    rules: IssuerRules,
    verifier: Option<TokenVerifier>,
    api_server: Option<Questions>,
    allow: AllowRules,
    allow_system_namespace: bool,
}

impl Clusters {
    /// Starts to follow the clusters' keys. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When a configuration cannot work.
    pub(crate) fn start(
        clusters: Vec<ClusterConfig>,
        trust_domain: &TrustDomain,
    ) -> Result<Self, FollowError> {
        let start = |config: ClusterConfig| {
            let verifier = config
                .keys
                .map(|keys| TokenVerifier::start(keys, config.rules.clone()))
                .transpose()?;
            Ok(Cluster {
                trust_domain: trust_domain.clone(),
                rules: config.rules,
                verifier,
                api_server: config.api_server.map(Questions::new),
                allow: config.allow,
                allow_system_namespace: config.allow_system_namespace,
            })
        };
        let clusters = clusters.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Self(clusters))
    }

    /// The cluster whose tokens name this issuer.
    pub(crate) fn find(&self, issuer: &str) -> Option<&Cluster> {
        self.0
            .iter()
            .find(|candidate| candidate.rules.issuer == issuer)
    }

    /// The verifiers of the clusters whose keys are configured.
    pub(crate) fn verifiers(&self) -> impl Iterator<Item = &TokenVerifier> {
        self.0
            .iter()
            .filter_map(|cluster| cluster.verifier.as_ref())
    }
}

impl Cluster {
    /// The identity that `token` proves. The steps, each where it is configured: verify with the cluster's keys; have the API
    /// server review the token; look at the pod; then the allow rules, the namespace of the mesh's parts, and the SPIFFE ID.
    ///
    /// # Errors
    /// When it proves none, or the API server cannot be asked.
    pub(crate) async fn attest(&self, token: &str, now: SystemTime) -> Result<Attested, Refusal> {
        let pod = self.bound_pod(token, now).await?;
        let id = self.identify(&pod).map_err(|error| self.refused(error))?;
        let detail = format!("cluster {:?}, {pod}", self.rules.issuer);
        Ok(Attested::new(id, Kind::Kubernetes, detail))
    }

    async fn bound_pod(&self, token: &str, now: SystemTime) -> Result<BoundPod, KubernetesError> {
        let claimed = match &self.verifier {
            Some(verifier) => {
                let verified = verifier.verify(token, now).await?;
                let pod = BoundPod::of_claims(verified.claims());
                Some(pod.map_err(|error| self.refused(error.into()))?)
            }
            None => None,
        };
        let reviewed = match &self.api_server {
            Some(server) => Some(self.review(server, token).await?),
            None => None,
        };
        match (claimed, reviewed) {
            (Some(claimed), Some(reviewed)) if !claimed.is_same(&reviewed) => {
                Err(self.refused(PodError::Contradiction))
            }
            (_, Some(pod)) | (Some(pod), None) => Ok(pod),
            // The configuration has one or the other.
            (None, None) => Err(self.refused(PodError::NotAuthenticated(
                "neither an API server nor keys are configured".to_owned(),
            ))),
        }
    }

    /// Asks the API server: about the token, and about the pod that it is bound to. The first answer may be some seconds old,
    /// since the API server remembers tokens that it has accepted; the second is not.
    async fn review(&self, server: &Questions, token: &str) -> Result<BoundPod, KubernetesError> {
        let failed = |error| KubernetesError::ApiServer {
            cluster: self.rules.issuer.clone(),
            error: Box::new(error),
        };
        let audiences = &self.rules.audiences;
        let review = server.review(token, audiences).await.map_err(failed)?;
        let pod = BoundPod::of_review(&review, audiences).map_err(|error| self.refused(error))?;
        let found = server
            .pod(&pod.namespace, &pod.name)
            .await
            .map_err(failed)?;
        pod.check_found(found)
            .map_err(|error| self.refused(error))?;
        Ok(pod)
    }

    fn identify(&self, pod: &BoundPod) -> Result<SpiffeId, PodError> {
        self.allow.check(&pod.facts())?;
        if pod.namespace == system::NAMESPACE && !self.allow_system_namespace {
            return Err(PodError::SystemNamespace);
        }
        Ok(SpiffeId::for_workload(
            &self.trust_domain,
            &pod.namespace,
            &pod.service_account,
        )?)
    }

    fn refused(&self, error: PodError) -> KubernetesError {
        KubernetesError::Refused {
            cluster: self.rules.issuer.clone(),
            error: Box::new(error),
        }
    }
}
