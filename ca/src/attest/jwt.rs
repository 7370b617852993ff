//! Tokens of configured issuers: a CI job, a VM, another cluster.

use std::time::{Duration, SystemTime};

use countersign_identity::SpiffeId;
use countersign_identity::jwt::{self, IssuerRules, TokenError, VerifiedToken};
use countersign_identity::keys::{FollowError, IssuerEndpoint, KeyFollower, KeyState};
use countersign_identity::spiffe::system;

use super::template::{ClaimError, Template};
use super::{Attested, Kind};
use crate::refusal::Refusal;

/// How long a caller waits for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(5);

/// One issuer, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IssuerConfig {
    /// Where its keys are.
    pub(crate) endpoint: IssuerEndpoint,
    /// What its tokens must satisfy.
    pub(crate) rules: IssuerRules,
    /// Which SPIFFE ID they prove.
    pub(crate) template: Template,
}

/// Why a token proves nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    /// The token is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Nobody configured its issuer.
    #[error("the issuer {0:?} is not among the `issuers` of the CA's configuration")]
    UnknownIssuer(String),
    /// The issuer's keys are not there.
    #[error("the keys of the issuer {issuer:?} are not available: {reason}; try again")]
    NoKeys {
        /// The issuer.
        issuer: String,
        /// The last error.
        reason: String,
    },
    /// Its claims make no SPIFFE ID.
    #[error(transparent)]
    Claims(#[from] ClaimError),
    /// Its claims make an ID of this mesh's own parts.
    #[error(
        "the token proves {0}, which is in the namespace of the mesh's own parts; for that, the issuer's `spiffeId` must \
         write the namespace `{ns}` out, not take it from a claim", ns = system::NAMESPACE
    )]
    SystemNamespace(SpiffeId),
}

/// Every configured issuer.
pub(crate) struct JwtIssuers(Vec<JwtIssuer>);

struct JwtIssuer {
    rules: IssuerRules,
    template: Template,
    keys: KeyFollower,
}

impl JwtIssuers {
    /// Starts to follow the issuers' keys. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When an issuer's configuration cannot work.
    pub(crate) fn start(issuers: Vec<IssuerConfig>) -> Result<Self, FollowError> {
        let start = |config: IssuerConfig| {
            let IssuerConfig {
                endpoint,
                rules,
                template,
            } = config;
            Ok(JwtIssuer {
                rules,
                template,
                keys: KeyFollower::spawn(endpoint)?,
            })
        };
        issuers
            .into_iter()
            .map(start)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The identity that `token` proves.
    ///
    /// # Errors
    /// When it proves none.
    pub(crate) async fn attest(&self, token: &str, now: SystemTime) -> Result<Attested, Refusal> {
        let named = jwt::unverified_issuer(token).map_err(JwtError::Token)?;
        let Some(issuer) = self.0.iter().find(|issuer| issuer.rules.issuer == named) else {
            return Err(JwtError::UnknownIssuer(shortened(&named)).into());
        };
        let verified = issuer.verify(token, now).await?;
        let id = issuer
            .template
            .apply(verified.claims())
            .map_err(JwtError::Claims)?;
        // An issuer that lets its users choose a claim must not thereby let them become the control plane.
        let system_path = format!("/ns/{}/", system::NAMESPACE);
        if id.path().starts_with(&system_path) && !issuer.template.writes_out(&system_path) {
            return Err(JwtError::SystemNamespace(id).into());
        }
        let detail = match verified.subject() {
            Some(subject) => format!("issuer {named:?}, subject {:?}", shortened(subject)),
            None => format!("issuer {named:?}"),
        };
        Ok(Attested::new(id, Kind::Jwt, detail))
    }
}

/// Text from outside, short enough for a status and a log line. A subject has at most 255 characters (OpenID Connect §2).
fn shortened(text: &str) -> String {
    text.chars().take(255).collect()
}

impl JwtIssuer {
    /// Verifies with the keys that there are; if the token names another, with those that the issuer has now.
    async fn verify(&self, token: &str, now: SystemTime) -> Result<VerifiedToken, JwtError> {
        let known = tokio::time::timeout(PATIENCE, self.keys.settled())
            .await
            .unwrap_or_else(|_| self.keys.state());
        match self.verify_with(&known, token, now) {
            Err(JwtError::Token(TokenError::UnknownKey {
                key_id: Some(key_id),
            })) => {
                let fresh = self.keys.look_for_key(&key_id, PATIENCE).await;
                self.verify_with(&fresh, token, now)
            }
            verdict => verdict,
        }
    }

    fn verify_with(
        &self,
        state: &KeyState,
        token: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, JwtError> {
        let Some(keys) = &state.keys else {
            let reason = state.last_error.clone();
            return Err(JwtError::NoKeys {
                issuer: self.rules.issuer.clone(),
                reason: reason.unwrap_or_else(|| "they are still being fetched".to_owned()),
            });
        };
        Ok(jwt::verify(token, &self.rules, keys, now)?)
    }
}
