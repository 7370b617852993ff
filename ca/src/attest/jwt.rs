//! Tokens of configured issuers: a CI job, a VM, another cloud.

use std::time::SystemTime;

use countersign_identity::SpiffeId;
use countersign_identity::jwt::IssuerRules;
use countersign_identity::keys::{FollowError, IssuerEndpoint};
use countersign_policy::ObjectShape;

use super::allow::{AllowRules, NotAllowed};
use super::template::{FieldError, Template};
use super::token_verifier::{TokenVerifier, VerifyError};
use super::{Attested, Kind, MeshPart, guard_mesh_parts, shortened};
use crate::refusal::Refusal;

/// What allow rules of an issuer ask about: any claim may be there or not.
pub(crate) const CLAIMS: ObjectShape = ObjectShape {
    variable: "claims",
    fields: None,
};

/// One issuer, as configured.
#[derive(Debug)]
pub(crate) struct IssuerConfig {
    /// Where its keys are.
    pub(crate) endpoint: IssuerEndpoint,
    /// What its tokens must satisfy.
    pub(crate) rules: IssuerRules,
    /// Which of its good tokens are let in.
    pub(crate) allow: AllowRules,
    /// Which SPIFFE ID they prove.
    pub(crate) template: Template,
}

/// Why a token proves nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwtError {
    /// The token is not good.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// No rule lets it in.
    #[error("issuer {issuer:?}: {error}")]
    NotAllowed {
        /// The issuer.
        issuer: String,
        /// What became of each rule.
        error: NotAllowed,
    },
    /// Its claims make no SPIFFE ID.
    #[error("issuer {issuer:?}: {error}")]
    Claims {
        /// The issuer.
        issuer: String,
        /// Why not.
        error: FieldError,
    },
    /// Its claims make an ID of this mesh's own parts.
    #[error("issuer {issuer:?}: {error}")]
    MeshPart {
        /// The issuer.
        issuer: String,
        /// Which, and what to do.
        error: MeshPart,
    },
}

/// Every configured issuer.
pub(crate) struct JwtIssuers(Vec<JwtIssuer>);

/// One configured issuer.
pub(crate) struct JwtIssuer {
    verifier: TokenVerifier,
    allow: AllowRules,
    template: Template,
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
                allow,
                template,
            } = config;
            Ok(JwtIssuer {
                verifier: TokenVerifier::start(endpoint, rules)?,
                allow,
                template,
            })
        };
        issuers
            .into_iter()
            .map(start)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The issuer that tokens name so.
    pub(crate) fn find(&self, issuer: &str) -> Option<&JwtIssuer> {
        self.0
            .iter()
            .find(|candidate| candidate.verifier.issuer() == issuer)
    }

    /// The verifiers of all issuers.
    pub(crate) fn verifiers(&self) -> impl Iterator<Item = &TokenVerifier> {
        self.0.iter().map(|issuer| &issuer.verifier)
    }
}

impl JwtIssuer {
    /// The identity that `token` proves. The steps: verify it, ask the allow rules, make the SPIFFE ID, guard the mesh's own.
    ///
    /// # Errors
    /// When it proves none.
    pub(crate) async fn attest(&self, token: &str, now: SystemTime) -> Result<Attested, Refusal> {
        let issuer = || self.verifier.issuer().to_owned();
        let verified = self
            .verifier
            .verify(token, now)
            .await
            .map_err(JwtError::from)?;
        let claims = verified.claims();
        self.allow
            .check(claims)
            .map_err(|error| JwtError::NotAllowed {
                issuer: issuer(),
                error,
            })?;
        let id: SpiffeId = self
            .template
            .apply(claims)
            .map_err(|error| JwtError::Claims {
                issuer: issuer(),
                error,
            })?;
        guard_mesh_parts(&id, &self.template).map_err(|error| JwtError::MeshPart {
            issuer: issuer(),
            error,
        })?;
        let detail = match verified.subject() {
            Some(subject) => format!("issuer {:?}, subject {:?}", issuer(), shortened(subject)),
            None => format!("issuer {:?}", issuer()),
        };
        Ok(Attested::new(id, Kind::Jwt, detail))
    }
}

#[cfg(test)]
mod tests;
