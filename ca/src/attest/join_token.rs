//! Join tokens: each proves one SPIFFE ID, once, until it expires.
//!
//! A token is 256 random bits. The database holds only its SHA-256 hash, with the ID and the expiry. To redeem it is one
//! conditional update, which the database does for one caller only, whatever else happens at the same time.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use countersign_identity::{SpiffeId, TrustDomain, spiffe};
use zeroize::Zeroizing;

use super::{Attested, Kind};
use crate::store::join_token::{self, Row, Spent};
use crate::store::{self, Store, StoreError};

/// What every token starts with, so that people and secret scanners know one when they see it.
const PREFIX: &str = "csjoin_";
const RANDOM_BYTES: usize = 32;
/// The longest life of a token.
pub(crate) const MAX_TTL: Duration = Duration::from_hours(24);
/// How long an expired or used token is remembered, for the sake of its error message.
const REMEMBERED: Duration = Duration::from_hours(24 * 7);

/// Why a join token proves nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinTokenError {
    /// Not of the form of a token.
    #[error(
        "this is not a join token: expected {PREFIX} and 43 characters, as `countersign-ca join-token` prints it"
    )]
    Malformed,
    /// Never made here, or long ago.
    #[error("this CA knows no such join token; make one with `countersign-ca join-token`")]
    Unknown,
    /// Redeemed before.
    #[error(
        "this join token has been used; it is good for one SVID. Make a new one with `countersign-ca join-token`, and if \
         it was not you who used it, find out who with `countersign-ca log search --attestation join-token`"
    )]
    Used,
    /// Too late.
    #[error("this join token expired at {0}; make a new one with `countersign-ca join-token`")]
    Expired(String),
    /// The row is not what was written.
    #[error(
        "the CA's record of this join token is damaged; make a new one with `countersign-ca join-token`"
    )]
    Damaged,
    /// The database fails.
    #[error("the CA cannot look the join token up: {0}")]
    Store(#[from] StoreError),
}

/// Why no join token was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MintError {
    /// An ID of somebody else's.
    #[error("{id} is not of the trust domain {trust_domain}, which this CA issues for")]
    OtherTrustDomain {
        /// The ID.
        id: SpiffeId,
        /// The CA's.
        trust_domain: TrustDomain,
    },
    /// No workload's ID.
    #[error("{0} has no path, and so names no workload")]
    NoPath(SpiffeId),
    /// The CA's own ID.
    #[error("{0} is the CA's own ID, which no other process may have")]
    Reserved(SpiffeId),
    /// Never valid, or too long.
    #[error("a join token lives for 1 s to {} h", MAX_TTL.as_secs() / 3600)]
    Ttl,
    /// No randomness.
    #[error("the system has no randomness")]
    NoRandomness,
    /// The database fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The join tokens of one database.
pub(crate) struct JoinTokens {
    store: Store,
    trust_domain: TrustDomain,
}

impl JoinTokens {
    /// Those in `store`.
    pub(crate) fn new(store: Store, trust_domain: TrustDomain) -> Self {
        Self {
            store,
            trust_domain,
        }
    }

    /// Makes a token for `id`.
    ///
    /// # Errors
    /// When `id` is not this CA's to give, or the token cannot be kept.
    pub(crate) async fn mint(
        &self,
        id: &SpiffeId,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Zeroizing<String>, MintError> {
        if id.trust_domain() != &self.trust_domain {
            let trust_domain = self.trust_domain.clone();
            return Err(MintError::OtherTrustDomain {
                id: id.clone(),
                trust_domain,
            });
        }
        if id.path().is_empty() {
            return Err(MintError::NoPath(id.clone()));
        }
        if *id == spiffe::system::ca(&self.trust_domain) {
            return Err(MintError::Reserved(id.clone()));
        }
        if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
            return Err(MintError::Ttl);
        }
        let mut random = Zeroizing::new([0; RANDOM_BYTES]);
        aws_lc_rs::rand::fill(&mut *random).map_err(|_| MintError::NoRandomness)?;
        let token = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*random)));
        let row = Row {
            hash: hash(&token),
            spiffe_id: id.to_string(),
            created_at: store::milliseconds(now),
            expires_at: store::milliseconds(now + ttl),
        };
        let mut tx = self.store.write().await?;
        join_token::forget(&mut tx, store::milliseconds(now - REMEMBERED)).await?;
        join_token::insert(&mut tx, &row).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// Redeems a token: of all who try, now and later, one gets the identity.
    ///
    /// # Errors
    /// When the token is not good, or not good any more.
    pub(crate) async fn redeem(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<Attested, JoinTokenError> {
        let random = token
            .strip_prefix(PREFIX)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        if random.is_none_or(|random| random.len() != RANDOM_BYTES) {
            return Err(JoinTokenError::Malformed);
        }
        let hash = hash(token);
        let mut tx = self.store.write().await?;
        let Some(id) = join_token::redeem(&mut tx, &hash, store::milliseconds(now)).await? else {
            return Err(match join_token::spent(&mut tx, &hash).await? {
                None => JoinTokenError::Unknown,
                Some(Spent { used: true, .. }) => JoinTokenError::Used,
                Some(Spent { expires_at, .. }) => {
                    let time = DateTime::<Utc>::from(store::time(expires_at));
                    JoinTokenError::Expired(time.to_rfc3339())
                }
            });
        };
        // Before anything is issued for it: after a crash it must still be used.
        tx.commit().await?;
        let id = SpiffeId::parse(&id).map_err(|_| JoinTokenError::Damaged)?;
        let detail = format!("token {}", hex::encode(hash.get(..8).unwrap_or_default()));
        Ok(Attested::new(id, Kind::JoinToken, detail))
    }
}

fn hash(token: &str) -> Vec<u8> {
    digest(&SHA256, token.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use tokio::task::JoinSet;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn orders() -> SpiffeId {
        SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap()
    }

    async fn tokens(directory: &Path) -> JoinTokens {
        let shop = TrustDomain::parse("shop.example").unwrap();
        let store = Store::open(directory, None, &shop).await.unwrap();
        JoinTokens::new(store, shop)
    }

    const TTL: Duration = Duration::from_mins(10);

    #[tokio::test]
    async fn a_token_proves_its_identity_once_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let before = tokens(directory.path()).await;
        let token = before.mint(&orders(), TTL, now()).await.unwrap();
        let tokens = tokens(directory.path()).await;
        let attested = tokens.redeem(&token, now()).await.unwrap();
        assert_eq!(
            (attested.id(), attested.kind()),
            (&orders(), Kind::JoinToken)
        );
        assert!(!attested.detail().contains(token.as_str()));
        for tokens in [before, tokens] {
            let again = tokens.redeem(&token, now()).await;
            assert!(matches!(again, Err(JoinTokenError::Used)));
        }
    }

    #[tokio::test]
    async fn of_many_at_once_one_gets_the_identity() {
        let directory = tempfile::tempdir().unwrap();
        // Two, as in two processes.
        let here = Arc::new(tokens(directory.path()).await);
        let there = Arc::new(tokens(directory.path()).await);
        for _ in 0..10 {
            let token = here.mint(&orders(), TTL, now()).await.unwrap();
            let mut tries = JoinSet::new();
            for number in 0..8 {
                let tokens = Arc::clone(if number % 2 == 0 { &here } else { &there });
                let token = token.clone();
                tries.spawn(async move { tokens.redeem(&token, now()).await });
            }
            let tries = tries.join_all().await;
            assert_eq!(tries.iter().filter(|result| result.is_ok()).count(), 1);
            for refused in tries.into_iter().filter_map(Result::err) {
                assert!(matches!(refused, JoinTokenError::Used), "{refused}");
            }
        }
    }

    #[tokio::test]
    async fn an_expired_token_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path()).await;
        let token = tokens.mint(&orders(), TTL, now()).await.unwrap();
        for late in [now() + TTL, now() + TTL * 2] {
            let error = tokens.redeem(&token, late).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "this join token expired at 2027-01-15T08:10:00+00:00; make a new one with `countersign-ca join-token`"
            );
        }
    }

    #[tokio::test]
    async fn what_was_not_minted_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path()).await;
        let stranger = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; 32]));
        let unknown = tokens.redeem(&stranger, now()).await;
        assert!(matches!(unknown, Err(JoinTokenError::Unknown)));
        for text in [
            "",
            "csjoin_",
            "../../etc/passwd",
            "csjoin_' OR 1 = 1",
            "csjoin_AAAA",
        ] {
            let malformed = tokens.redeem(text, now()).await;
            assert!(
                matches!(malformed, Err(JoinTokenError::Malformed)),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn the_data_directory_holds_no_token() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path()).await;
        let token = tokens.mint(&orders(), TTL, now()).await.unwrap();
        tokens.redeem(&token, now()).await.unwrap();
        tokens.store.close().await;
        let secret = token.strip_prefix(PREFIX).unwrap();
        let random = URL_SAFE_NO_PAD.decode(secret).unwrap();
        let mut bytes = Vec::new();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
        }
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(holds(&hash(&token)), "its hash, in this form");
        assert!(!holds(secret.as_bytes()) && !holds(&random));
    }

    #[tokio::test]
    async fn only_this_trust_domains_workloads_can_have_one() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path()).await;
        let mint =
            async |id: &str, ttl| tokens.mint(&SpiffeId::parse(id).unwrap(), ttl, now()).await;
        assert!(matches!(
            mint("spiffe://other.example/ns/a/sa/b", TTL).await,
            Err(MintError::OtherTrustDomain { .. })
        ));
        assert!(matches!(
            mint("spiffe://shop.example", TTL).await,
            Err(MintError::NoPath(_))
        ));
        assert!(matches!(
            mint(
                "spiffe://shop.example/ns/countersign-system/sa/countersign-ca",
                TTL
            )
            .await,
            Err(MintError::Reserved(_))
        ));
        for ttl in [MAX_TTL * 2, Duration::ZERO] {
            assert!(matches!(
                mint(orders().as_str(), ttl).await,
                Err(MintError::Ttl)
            ));
        }
    }

    #[tokio::test]
    async fn what_expired_long_ago_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path()).await;
        let old = tokens.mint(&orders(), TTL, now()).await.unwrap();
        let later = now() + REMEMBERED + TTL + TTL;
        tokens.mint(&orders(), TTL, later).await.unwrap();
        let forgotten = tokens.redeem(&old, later).await;
        assert!(matches!(forgotten, Err(JoinTokenError::Unknown)));
    }
}
