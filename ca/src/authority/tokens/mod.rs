//! The keys that sign tokens: JWT-SVIDs and WIT-SVIDs.
//!
//! Their public part, and when each signs, is in the state of the authorities ([`state`]); the private keys live where those
//! of intermediates do. The key is made first and used only if the state names it: whatever is cut short leaves no key that
//! signs and is not published. [`schedule`] says when keys come and go.

pub(crate) mod schedule;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_identity::Bundle;
use countersign_identity::jwt::{KeySet, jwk};
use rcgen::PublicKeyData as _;
use serde_json::{Map, Value, json};

use super::AuthorityError;
use super::authorities::new_name;
use super::key::jws_signature;
use super::keys::{KeyHandle, Keys};
use super::profile::ProfileError;
use super::state::State;
use schedule::{Lifetimes, Times, current, due};
use state::Record;
pub(crate) use state::Use;

/// Why a token is not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// No key is there; one is made at the start, and whenever it is due.
    #[error("there is no key to sign a {0} with")]
    NoKey(&'static str),
    /// The key fails.
    #[error("the token cannot be signed: {0}")]
    Key(#[from] ProfileError),
}

/// How long the keys for each kind of token live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenLifetimes {
    /// JWT-SVIDs.
    pub(crate) jwt: Lifetimes,
    /// WIT-SVIDs.
    pub(crate) wit: Lifetimes,
}

impl TokenLifetimes {
    fn of(&self, usage: Use) -> Lifetimes {
        match usage {
            Use::JwtSvid => self.jwt,
            Use::WitSvid => self.wit,
        }
    }
}

/// The token keys, as of one moment.
pub(crate) struct TokenKeys {
    /// Those of one use in the order in which they sign.
    records: Vec<Record>,
    /// By `kid`.
    private: HashMap<String, KeyHandle>,
}

impl TokenKeys {
    /// Gets at the keys of the state.
    ///
    /// # Errors
    /// When a private key is damaged, another one's, or can be read by others than its owner. One that is missing is told,
    /// and its turn is the turn of another one.
    pub(super) async fn load(state: &State, keys: &Keys) -> Result<Self, AuthorityError> {
        let mut private = HashMap::new();
        for record in &state.token_keys {
            match load(record, keys).await? {
                Some(key) => {
                    private.insert(record.kid.clone(), key);
                }
                None => tracing::error!(
                    key = %keys.place(&record.key),
                    "a token key is missing: tokens are signed by another one, which is not known everywhere yet"
                ),
            }
        }
        Ok(Self {
            records: state.token_keys.clone(),
            private,
        })
    }

    /// Whether a key has to be made or forgotten.
    pub(super) fn is_due(&self, lifetimes: &TokenLifetimes, now: SystemTime) -> bool {
        Use::ALL.into_iter().any(|usage| {
            let records = self.records(usage).cloned().collect();
            let (_, ours) = split_lost(records, |record| self.private.contains_key(&record.kid));
            let times: Vec<Times> = ours.iter().map(Record::times).collect();
            let due = due(&times, lifetimes.of(usage), now);
            due.make.is_some() || due.retire > 0
        })
    }

    /// Signs a token with these claims by the key whose turn it is: JWS compact serialisation (RFC 7515 §3.1), ES256.
    ///
    /// # Errors
    /// There is no key, or it fails.
    pub(crate) async fn sign(
        &self,
        usage: Use,
        kind: &str,
        claims: &Value,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let candidates: Vec<(&Record, &KeyHandle)> = self
            .records(usage)
            .filter_map(|record| Some((record, self.private.get(&record.kid)?)))
            .collect();
        let turn = current(candidates.iter().map(|(record, _)| record.times()), now);
        let (record, key) = candidates.get(turn).ok_or(SignError::NoKey(usage.name()))?;
        let header = json!({"alg": "ES256", "kid": record.kid, "typ": kind});
        let [header, claims] =
            [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signer = (*key).clone();
        let sign = move || {
            let signature = URL_SAFE_NO_PAD.encode(jws_signature(&signer, signed.as_bytes())?);
            Ok(format!("{signed}.{signature}"))
        };
        Ok(key.signing(sign).await?)
    }

    /// The public keys of one use, each as a JWK with its `kid` and `alg`.
    pub(crate) fn jwks(&self, usage: Use) -> Vec<Map<String, Value>> {
        let with_name = |record: &Record| {
            let mut jwk = record.jwk.clone();
            jwk.insert("kid".to_owned(), record.kid.clone().into());
            jwk.insert("alg".to_owned(), "ES256".into());
            jwk
        };
        self.records(usage).map(with_name).collect()
    }

    /// A bundle with these keys.
    pub(super) fn bundle_of(&self, roots: Bundle) -> Result<Bundle, AuthorityError> {
        let keys = |usage| {
            let keys = json!({"keys": self.jwks(usage)}).to_string();
            KeySet::parse(&keys).map_err(AuthorityError::TokenKeys)
        };
        Ok(roots.with_token_keys(Some(keys(Use::JwtSvid)?), Some(keys(Use::WitSvid)?))?)
    }

    fn records(&self, usage: Use) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(move |record| record.usage == usage)
    }
}

/// Does to the state what is due: new keys are made, old ones forgotten. Returns the names of those that are of no use any
/// more once the state is saved.
///
/// # Errors
/// When a key cannot be made, or is damaged.
pub(super) async fn rotate(
    state: &mut State,
    keys: &Keys,
    lifetimes: &TokenLifetimes,
    now: SystemTime,
) -> Result<Vec<String>, AuthorityError> {
    let present = TokenKeys::load(state, keys).await?;
    let mut retired = Vec::new();
    let mut changed = false;
    for usage in Use::ALL {
        let (ours, others): (Vec<Record>, Vec<Record>) = std::mem::take(&mut state.token_keys)
            .into_iter()
            .partition(|record| record.usage == usage);
        state.token_keys = others;
        let is_there = |record: &Record| present.private.contains_key(&record.kid);
        let (mut lost, mut ours) = split_lost(ours, is_there);
        let times: Vec<Times> = ours.iter().map(Record::times).collect();
        let due = due(&times, lifetimes.of(usage), now);
        changed |= due.make.is_some() || due.retire > 0;
        retired.extend(ours.drain(..due.retire).map(|record| record.key));
        // Published first, since they may have signed already.
        lost.append(&mut ours);
        let mut ours = lost;
        if let Some(times) = due.make {
            if let Some(last) = ours.last_mut() {
                let signs_until = times.signs_from;
                last.set_times(Times {
                    signs_until,
                    ..last.times()
                });
            }
            ours.push(make(keys, usage, times).await?);
        }
        state.token_keys.append(&mut ours);
    }
    if changed {
        state.published(now);
    }
    Ok(retired)
}

/// Without its private part a key signs no more, and is as good as over: the last ones are set apart, which would sign next.
fn split_lost(
    mut records: Vec<Record>,
    is_there: impl Fn(&Record) -> bool,
) -> (Vec<Record>, Vec<Record>) {
    let there = records.iter().rposition(is_there);
    let lost = records.split_off(there.map_or(0, |last| last + 1));
    (lost, records)
}

/// The private key of a record; none if it is not there.
async fn load(record: &Record, keys: &Keys) -> Result<Option<KeyHandle>, AuthorityError> {
    let Some(key) = keys.load(&record.key).await? else {
        return Ok(None);
    };
    if thumbprint(&public(&key)?) == record.kid {
        return Ok(Some(key));
    }
    Err(AuthorityError::OtherTokenKey {
        key: keys.place(&record.key),
        kid: record.kid.clone(),
    })
}

async fn make(keys: &Keys, usage: Use, times: Times) -> Result<Record, AuthorityError> {
    let name = new_name("token")?;
    let key = keys.generate(&name).await?;
    let record = Record::new(usage, name, public(&key)?, times);
    tracing::info!(usage = usage.name(), kid = record.kid, "token key made");
    Ok(record)
}

fn public(key: &KeyHandle) -> Result<Map<String, Value>, AuthorityError> {
    Ok(jwk::from_spki(&key.subject_public_key_info())?.members)
}

/// RFC 7638: the members in the order of their names, without white space.
fn thumbprint(jwk: &Map<String, Value>) -> String {
    let ordered: BTreeMap<_, _> = jwk.iter().collect();
    let text = json!(ordered).to_string();
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
