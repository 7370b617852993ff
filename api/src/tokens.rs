//! Asks the CA for what goes with an X.509-SVID: JWT-SVIDs for the same identity, and a newer bundle.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{Bundle, IdentityStore, StoreError, spiffe};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::bundle::InvalidBundle;
use crate::proto::certificate_authority_client::CertificateAuthorityClient;
use crate::proto::{GetBundleRequest, IssueJwtRequest};
use crate::transport::{ChannelError, channel, describe};

/// How long the CA may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why the CA gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum TokenClientError {
    /// There can be no connection to the CA.
    #[error("the CA: {0}")]
    Channel(#[from] ChannelError),
    /// The CA cannot be reached, or cannot answer now; another time it may.
    #[error("the CA at {address} does not answer: {reason}")]
    Unavailable {
        /// The CA's address.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The CA has refused.
    #[error("the CA at {address} refuses: {reason}")]
    Refused {
        /// The CA's address.
        address: String,
        /// Whether it is what was asked for that is wrong, and not who asked.
        invalid: bool,
        /// What it says.
        reason: String,
    },
    /// The CA's bundle is not one.
    #[error("the CA's answer: {0}")]
    Bundle(#[from] InvalidBundle),
    /// The bundle does not fit this process.
    #[error("the CA's answer: {0}")]
    Store(#[from] StoreError),
}

/// A JWT-SVID as it came from the CA.
#[derive(Clone)]
pub struct IssuedJwt {
    /// JWS compact serialisation. A bearer token: not to be logged.
    pub token: String,
    /// The claim `iat`.
    pub issued_at: SystemTime,
    /// The claim `exp`.
    pub expires_at: SystemTime,
}

impl std::fmt::Debug for IssuedJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedJwt")
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Asks the CA on behalf of an [`IdentityStore`]. Each call makes a connection of its own: it must show the SVID of the
/// moment, and calls are rare.
#[derive(Clone, Debug)]
pub struct TokenClient {
    store: Arc<IdentityStore>,
    address: String,
}

impl TokenClient {
    /// A client of the CA at `address` (`host:port`), which must be the one that the store's bundle vouches for.
    #[must_use]
    pub fn new(store: Arc<IdentityStore>, address: String) -> Self {
        Self { store, address }
    }

    /// Obtains a JWT-SVID for the identity of the store's SVID. The bundle that comes with it, which has the key that
    /// signed it, is put into the store.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn issue_jwt(&self, audience: Vec<String>) -> Result<IssuedJwt, TokenClientError> {
        let mut ca = self.connect()?;
        let request = request(IssueJwtRequest {
            audience,
            ttl_seconds: 0,
        });
        let answer = self.within_limit(ca.issue_jwt(request)).await?;
        self.take_bundle(answer.bundle)?;
        let time = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Ok(IssuedJwt {
            token: answer.token,
            // A date that no clock can show is in the past, so that it is asked for again.
            issued_at: time(answer.issued_at).unwrap_or(UNIX_EPOCH),
            expires_at: time(answer.expires_at).unwrap_or(UNIX_EPOCH),
        })
    }

    /// Fetches the bundle and puts it into the store; says whether it is a newer one.
    ///
    /// # Errors
    /// Why there is none. The store's stays.
    pub async fn refresh_bundle(&self) -> Result<bool, TokenClientError> {
        let mut ca = self.connect()?;
        let bundle = self
            .within_limit(ca.get_bundle(request(GetBundleRequest {})))
            .await?;
        self.take_bundle(Some(bundle))
    }

    fn connect(&self) -> Result<CertificateAuthorityClient<Channel>, TokenClientError> {
        let ca = spiffe::system::ca(self.store.bundle().trust_domain());
        let channel = channel(&self.address, &self.store, ExpectedPeer::Id(ca))?;
        Ok(CertificateAuthorityClient::new(channel))
    }

    fn take_bundle(&self, bundle: Option<crate::proto::Bundle>) -> Result<bool, TokenClientError> {
        let bundle: Bundle = bundle.ok_or(InvalidBundle::Missing)?.try_into()?;
        Ok(self.store.set_bundle(bundle)?)
    }

    async fn within_limit<T>(
        &self,
        answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, TokenClientError> {
        let address = self.address.clone();
        match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => {
                let reason = describe(&status);
                Err(match status.code() {
                    Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied => {
                        TokenClientError::Refused {
                            address,
                            invalid: status.code() == Code::InvalidArgument,
                            reason,
                        }
                    }
                    _ => TokenClientError::Unavailable { address, reason },
                })
            }
            Err(_) => Err(TokenClientError::Unavailable {
                address,
                reason: format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
            }),
        }
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_LIMIT);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_ca::{Asked, Serving, TestCa, bundle, orders, store_with};

    #[tokio::test]
    async fn a_jwt_is_asked_for_with_the_svid_and_brings_the_bundle() {
        let ca = TestCa::new();
        let serving = Serving::start(&ca).await;
        let store = store_with(&ca.authority, &ca.authority, &orders());
        ca.store.set_bundle(bundle(&ca.authority, 7)).unwrap();
        let client = TokenClient::new(Arc::clone(&store), serving.address.to_string());
        let issued = client.issue_jwt(vec!["db".to_owned()]).await.unwrap();
        assert_eq!(issued.token, "token 1");
        let life = issued.expires_at.duration_since(issued.issued_at).unwrap();
        assert_eq!(life, Duration::from_secs(300));
        assert_eq!(store.bundle().sequence(), 7);
        assert_eq!(
            ca.asked(),
            [Asked::JwtSvid(orders(), vec!["db".to_owned()])]
        );
        assert!(!format!("{issued:?}").contains("token 1"));
    }

    #[tokio::test]
    async fn a_refusal_says_whose_fault_it_is() {
        let ca = TestCa::new();
        let serving = Serving::start(&ca).await;
        let client = |store| TokenClient::new(store, serving.address.to_string());
        let store = store_with(&ca.authority, &ca.authority, &orders());
        let error = client(store).issue_jwt(Vec::new()).await.unwrap_err();
        assert!(
            matches!(error, TokenClientError::Refused { invalid: true, .. }),
            "{error}"
        );
        let anonymous = ca.new_store();
        let error = client(anonymous)
            .issue_jwt(vec!["db".to_owned()])
            .await
            .unwrap_err();
        assert!(
            matches!(error, TokenClientError::Refused { invalid: false, .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_newer_bundle_is_taken_and_an_unreachable_ca_changes_nothing() {
        let ca = TestCa::new();
        let serving = Serving::start(&ca).await;
        let store = store_with(&ca.authority, &ca.authority, &orders());
        let client = TokenClient::new(Arc::clone(&store), serving.address.to_string());
        assert!(!client.refresh_bundle().await.unwrap());
        ca.store.set_bundle(bundle(&ca.authority, 9)).unwrap();
        assert!(client.refresh_bundle().await.unwrap());
        drop(serving);
        let error = client.refresh_bundle().await.unwrap_err();
        assert!(
            matches!(error, TokenClientError::Unavailable { .. }),
            "{error}"
        );
        assert_eq!(store.bundle().sequence(), 9);
    }
}
