//! Join tokens: each proves one SPIFFE ID, once, until it expires.
//!
//! A token is 256 random bits. The data directory holds only its SHA-256 hash, as the name of a file with the ID and the
//! expiry: `join-tokens/<hash>.json`. To redeem it is to rename that file to `<hash>.used`, which the file system does
//! for one caller only, whatever else happens at the same time; the name tells a second caller why it is refused. So the
//! `join-token` command and the server need not speak with one another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use countersign_identity::{SpiffeId, TrustDomain, spiffe};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Attested, Kind};
use crate::authority::files::{
    FileError, PRIVATE, cannot, private_directory, read_private, sync_directory, write_atomically,
};

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
         it was not you who used it, find out who in issuance.jsonl"
    )]
    Used,
    /// Too late.
    #[error("this join token expired at {0}; make a new one with `countersign-ca join-token`")]
    Expired(String),
    /// The file is not what was written.
    #[error(
        "the CA's record of this join token is damaged; make a new one with `countersign-ca join-token`"
    )]
    Damaged,
    /// The data directory fails.
    #[error("the CA cannot look the join token up: {0}")]
    File(#[from] FileError),
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
    /// The record cannot be written.
    #[error("the record of the join token: {0}")]
    Encode(#[from] serde_json::Error),
    /// The data directory fails.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is kept of a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    spiffe_id: SpiffeId,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

/// The join tokens of one data directory.
pub(crate) struct JoinTokens {
    directory: PathBuf,
    trust_domain: TrustDomain,
}

impl JoinTokens {
    /// Those below `data_directory`, whose permissions are checked.
    ///
    /// # Errors
    /// When the directory cannot be made, or is open to others.
    pub(crate) fn open(
        data_directory: &Path,
        trust_domain: &TrustDomain,
    ) -> Result<Self, FileError> {
        private_directory(data_directory)?;
        let directory = data_directory.join("join-tokens");
        private_directory(&directory)?;
        Ok(Self {
            directory,
            trust_domain: trust_domain.clone(),
        })
    }

    /// Makes a token for `id`.
    ///
    /// # Errors
    /// When `id` is not this CA's to give, or the token cannot be kept.
    pub(crate) fn mint(
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
        let record = Record {
            spiffe_id: id.clone(),
            created_at: now.into(),
            expires_at: (now + ttl).into(),
        };
        write_atomically(
            &self.fresh(&token),
            &serde_json::to_string(&record)?,
            PRIVATE,
        )?;
        self.forget_old(now);
        Ok(token)
    }

    /// Redeems a token: of all who try, now and later, one gets the identity.
    ///
    /// # Errors
    /// When the token is not good, or not good any more.
    pub(crate) fn redeem(&self, token: &str, now: SystemTime) -> Result<Attested, JoinTokenError> {
        let random = token
            .strip_prefix(PREFIX)
            .and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        if random.is_none_or(|random| random.len() != RANDOM_BYTES) {
            return Err(JoinTokenError::Malformed);
        }
        let (fresh, used) = (self.fresh(token), self.used(token));
        match fs::rename(&fresh, &used) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(if used.exists() {
                    JoinTokenError::Used
                } else {
                    JoinTokenError::Unknown
                });
            }
            Err(error) => return Err(cannot("redeem", &fresh)(error).into()),
        }
        // Before anything is issued for it: after a crash it must still be used.
        sync_directory(&self.directory)?;
        let record = read_private(&used)?.ok_or(JoinTokenError::Damaged)?;
        let record: Record = serde_json::from_str(&record).map_err(|_| JoinTokenError::Damaged)?;
        if SystemTime::from(record.expires_at) <= now {
            return Err(JoinTokenError::Expired(record.expires_at.to_rfc3339()));
        }
        let detail = format!("token {}", hash(token).get(..16).unwrap_or_default());
        Ok(Attested::new(record.spiffe_id, Kind::JoinToken, detail))
    }

    fn fresh(&self, token: &str) -> PathBuf {
        self.directory.join(format!("{}.json", hash(token)))
    }

    fn used(&self, token: &str) -> PathBuf {
        self.directory.join(format!("{}.used", hash(token)))
    }

    /// Removes what expired long ago. What cannot be read is left for people to look at.
    fn forget_old(&self, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let Ok(Some(text)) = read_private(&path) else {
                continue;
            };
            let Ok(record) = serde_json::from_str::<Record>(&text) else {
                continue;
            };
            if SystemTime::from(record.expires_at) + REMEMBERED < now
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old join token");
            }
        }
    }
}

fn hash(token: &str) -> String {
    hex::encode(digest(&SHA256, token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};
    use std::time::UNIX_EPOCH;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn orders() -> SpiffeId {
        SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap()
    }

    fn tokens(directory: &Path) -> JoinTokens {
        JoinTokens::open(directory, &TrustDomain::parse("shop.example").unwrap()).unwrap()
    }

    const TTL: Duration = Duration::from_mins(10);

    #[test]
    fn a_token_proves_its_identity_once_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let token = tokens(directory.path())
            .mint(&orders(), TTL, now())
            .unwrap();
        let attested = tokens(directory.path()).redeem(&token, now()).unwrap();
        assert_eq!(
            (attested.id(), attested.kind()),
            (&orders(), Kind::JoinToken)
        );
        assert!(!attested.detail().contains(token.as_str()));
        let again = tokens(directory.path()).redeem(&token, now());
        assert!(matches!(again, Err(JoinTokenError::Used)));
    }

    #[test]
    fn of_many_at_once_one_gets_the_identity() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Arc::new(tokens(directory.path()));
        for _ in 0..20 {
            let token = tokens.mint(&orders(), TTL, now()).unwrap();
            let start = Arc::new(Barrier::new(8));
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let (tokens, token, start) =
                        (Arc::clone(&tokens), token.clone(), Arc::clone(&start));
                    std::thread::spawn(move || {
                        start.wait();
                        tokens.redeem(&token, now()).is_ok()
                    })
                })
                .collect();
            let won = threads.into_iter().map(|thread| thread.join().unwrap());
            assert_eq!(won.filter(|won| *won).count(), 1);
        }
    }

    #[test]
    fn an_expired_token_is_used_up() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path());
        let token = tokens.mint(&orders(), TTL, now()).unwrap();
        let error = tokens.redeem(&token, now() + TTL).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this join token expired at 2027-01-15T08:10:00+00:00; make a new one with `countersign-ca join-token`"
        );
        assert!(matches!(
            tokens.redeem(&token, now()),
            Err(JoinTokenError::Used)
        ));
    }

    #[test]
    fn what_was_not_minted_proves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path());
        let stranger = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; 32]));
        assert!(matches!(
            tokens.redeem(&stranger, now()),
            Err(JoinTokenError::Unknown)
        ));
        for text in [
            "",
            "csjoin_",
            "../../etc/passwd",
            "csjoin_../x",
            "csjoin_AAAA",
        ] {
            assert!(
                matches!(tokens.redeem(text, now()), Err(JoinTokenError::Malformed)),
                "{text}"
            );
        }
    }

    #[test]
    fn the_directory_holds_no_token() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path());
        let token = tokens.mint(&orders(), TTL, now()).unwrap();
        for entry in fs::read_dir(&tokens.directory).unwrap() {
            let path = entry.unwrap().path();
            let (name, text) = (
                path.display().to_string(),
                fs::read_to_string(&path).unwrap(),
            );
            let secret = token.strip_prefix(PREFIX).unwrap();
            assert!(!name.contains(secret) && !text.contains(secret));
        }
    }

    #[test]
    fn only_this_trust_domains_workloads_can_have_one() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path());
        let mint = |id: &str| tokens.mint(&SpiffeId::parse(id).unwrap(), TTL, now());
        assert!(matches!(
            mint("spiffe://other.example/ns/a/sa/b"),
            Err(MintError::OtherTrustDomain { .. })
        ));
        assert!(matches!(
            mint("spiffe://shop.example"),
            Err(MintError::NoPath(_))
        ));
        assert!(matches!(
            mint("spiffe://shop.example/ns/countersign-system/sa/countersign-ca"),
            Err(MintError::Reserved(_))
        ));
        assert!(matches!(
            tokens.mint(&orders(), MAX_TTL * 2, now()),
            Err(MintError::Ttl)
        ));
        assert!(matches!(
            tokens.mint(&orders(), Duration::ZERO, now()),
            Err(MintError::Ttl)
        ));
    }

    #[test]
    fn what_expired_long_ago_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = tokens(directory.path());
        let old = tokens.mint(&orders(), TTL, now()).unwrap();
        let later = now() + REMEMBERED + TTL + TTL;
        tokens.mint(&orders(), TTL, later).unwrap();
        assert!(matches!(
            tokens.redeem(&old, later),
            Err(JoinTokenError::Unknown)
        ));
        assert_eq!(fs::read_dir(&tokens.directory).unwrap().count(), 1);
    }
}
