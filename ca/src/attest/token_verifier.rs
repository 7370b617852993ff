//! Verifies the tokens of one issuer with keys that are followed, or read from a file.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::jwt::{self, IssuerRules, TokenError, VerifiedToken};
use countersign_identity::keys::{FollowError, IssuerEndpoint, KeyFollower, KeyState};
use tokio::sync::watch;

/// How long a caller waits for keys that are being fetched.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a token is not good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    /// The token's own fault.
    #[error("issuer {issuer:?}: {error}")]
    Token {
        /// The issuer.
        issuer: String,
        /// What is wrong with it.
        error: TokenError,
    },
    /// The issuer's keys are not there.
    #[error("the keys of the issuer {issuer:?} are not available: {reason}; try again")]
    NoKeys {
        /// The issuer.
        issuer: String,
        /// The last error.
        reason: String,
    },
}

/// The rules of one issuer and its keys.
pub(crate) struct TokenVerifier {
    rules: IssuerRules,
    keys: KeyFollower,
}

impl TokenVerifier {
    /// Starts to follow the issuer's keys. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub(crate) fn start(endpoint: IssuerEndpoint, rules: IssuerRules) -> Result<Self, FollowError> {
        let keys = KeyFollower::spawn(endpoint)?;
        Ok(Self { rules, keys })
    }

    /// The issuer, as its tokens name it.
    pub(crate) fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    /// What is known of its keys, now and later.
    pub(crate) fn key_states(&self) -> watch::Receiver<Arc<KeyState>> {
        self.keys.changes()
    }

    /// Verifies with the keys that there are; if the token names another, with those that the issuer has now. There are no
    /// others: while none have been found, no token is good.
    ///
    /// # Errors
    /// When the token is not good, or there are no keys.
    pub(crate) async fn verify(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<VerifiedToken, VerifyError> {
        let known = tokio::time::timeout(PATIENCE, self.keys.settled())
            .await
            .unwrap_or_else(|_| self.keys.state());
        match self.verify_with(&known, token, now) {
            Err(VerifyError::Token {
                error:
                    TokenError::UnknownKey {
                        key_id: Some(key_id),
                    },
                ..
            }) => {
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
    ) -> Result<VerifiedToken, VerifyError> {
        let issuer = || self.rules.issuer.clone();
        let Some(keys) = &state.keys else {
            let reason = state.last_error.clone();
            return Err(VerifyError::NoKeys {
                issuer: issuer(),
                reason: reason.unwrap_or_else(|| "they are still being fetched".to_owned()),
            });
        };
        jwt::verify(token, &self.rules, keys, now).map_err(|error| VerifyError::Token {
            issuer: issuer(),
            error,
        })
    }
}
