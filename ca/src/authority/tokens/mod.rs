//! The keys that sign tokens: JWT-SVIDs and WIT-SVIDs.
//!
//! They live in the data directory, beside the authorities:
//! - `token-keys.json` — which keys there are, their public part, and when each signs ([`state`]);
//! - `token-KID.key.pem` — the private key, a file each.
//!
//! The key is written first and read by its name only if the state knows it: whatever is cut short leaves no key that signs
//! and is not published. [`schedule`] says when keys come and go.

pub(crate) mod schedule;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_identity::Bundle;
use countersign_identity::jwt::{KeySet, jwk};
use rcgen::PublicKeyData as _;
use serde_json::{Map, Value, json};

use super::AuthorityError;
use super::files::{PRIVATE, cannot, read_private, sync_directory, write_atomically};
use super::key::AuthorityKey;
use schedule::{Lifetimes, Times, current, due};
pub(crate) use state::Use;
use state::{Record, State};

/// Why a token is not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// No key is there; one is made at the start, and whenever it is due.
    #[error("there is no key to sign a {0} with")]
    NoKey(&'static str),
    /// The key fails.
    #[error("the token cannot be signed: {0}")]
    Key(#[from] rcgen::Error),
}

/// The token keys, as of one moment.
pub(crate) struct TokenKeys {
    directory: PathBuf,
    jwt: Lifetimes,
    wit: Lifetimes,
    state: State,
    /// By `kid`. Those of keys that sign no more are left out.
    private: HashMap<String, Arc<AuthorityKey>>,
}

impl TokenKeys {
    /// Opens the keys in `directory`, and makes what a first start needs.
    ///
    /// # Errors
    /// When a file is damaged, or can be read by others than its owner.
    pub(super) fn open(
        directory: &Path,
        jwt: Lifetimes,
        wit: Lifetimes,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let mut keys = Self {
            directory: directory.to_owned(),
            jwt,
            wit,
            state: state::read(&state_path(directory))?,
            private: HashMap::new(),
        };
        for record in &keys.state.keys {
            match load(directory, record)? {
                Some(key) => {
                    keys.private.insert(record.kid.clone(), Arc::new(key));
                }
                None if record.times().signs_until <= now => {}
                None => {
                    let path = key_path(directory, &record.kid);
                    tracing::error!(
                        path = %path.display(),
                        "a token key is missing: tokens are signed by another one, which is not known everywhere yet"
                    );
                }
            }
        }
        Ok(match keys.rotated(now)? {
            Some(rotated) => rotated,
            None => keys,
        })
    }

    /// The keys after what is due now has been done: new keys made, old ones forgotten. `None`: nothing is due.
    ///
    /// # Errors
    /// When a file cannot be written. Nothing has changed then.
    pub(super) fn rotated(&self, now: SystemTime) -> Result<Option<Self>, AuthorityError> {
        let mut next = Self {
            directory: self.directory.clone(),
            jwt: self.jwt,
            wit: self.wit,
            state: self.state.clone(),
            private: self.private.clone(),
        };
        let mut retired = Vec::new();
        let mut changed = false;
        for usage in Use::ALL {
            changed |= next.rotate(usage, now, &mut retired)?;
        }
        if !changed {
            return Ok(None);
        }
        // Also after the file was lost, it is more than any that was ever given out.
        next.state.sequence = (self.state.sequence + 1).max(state::seconds(now));
        state::write(&state_path(&next.directory), &next.state)?;
        for kid in retired {
            next.private.remove(&kid);
            remove(&next.directory, &kid);
        }
        Ok(Some(next))
    }

    fn rotate(
        &mut self,
        usage: Use,
        now: SystemTime,
        retired: &mut Vec<String>,
    ) -> Result<bool, AuthorityError> {
        // Without its private part a key signs no more, and is as good as over.
        let can_sign = |record: &Record| self.private.contains_key(&record.kid);
        let (mut ours, others): (Vec<Record>, Vec<Record>) = std::mem::take(&mut self.state.keys)
            .into_iter()
            .partition(|record| record.usage == usage);
        let mut lost: Vec<Record> = Vec::new();
        while let Some(record) = ours.pop_if(|record| !can_sign(record)) {
            lost.insert(0, record);
        }
        let times: Vec<Times> = ours.iter().map(Record::times).collect();
        let due = due(&times, self.lifetimes(usage), now);
        retired.extend(ours.drain(..due.retire).map(|record| record.kid));
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
            let (record, key) = make(&self.directory, usage, times)?;
            tracing::info!(usage = usage.name(), kid = record.kid, "token key made");
            self.private.insert(record.kid.clone(), Arc::new(key));
            ours.push(record);
        }
        self.state.keys = others;
        self.state.keys.append(&mut ours);
        Ok(due.make.is_some() || due.retire > 0)
    }

    fn lifetimes(&self, usage: Use) -> Lifetimes {
        match usage {
            Use::JwtSvid => self.jwt,
            Use::WitSvid => self.wit,
        }
    }

    /// Signs a token with these claims by the key whose turn it is: JWS compact serialisation (RFC 7515 §3.1), ES256.
    ///
    /// # Errors
    /// There is no key, or it fails.
    pub(crate) fn sign(
        &self,
        usage: Use,
        kind: &str,
        claims: &Value,
        now: SystemTime,
    ) -> Result<String, SignError> {
        let candidates: Vec<(&Record, &Arc<AuthorityKey>)> = self
            .records(usage)
            .filter_map(|record| Some((record, self.private.get(&record.kid)?)))
            .collect();
        let turn = current(candidates.iter().map(|(record, _)| record.times()), now);
        let (record, key) = candidates.get(turn).ok_or(SignError::NoKey(usage.name()))?;
        let header = json!({"alg": "ES256", "kid": record.kid, "typ": kind});
        let [header, claims] =
            [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(key.sign_jws(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
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

    /// A bundle with these keys, and the sequence that goes with them.
    pub(super) fn bundle_of(&self, roots: &Bundle) -> Result<Bundle, AuthorityError> {
        let damaged = |found: String| AuthorityError::Damaged {
            path: state_path(&self.directory),
            expected: "public keys",
            found,
        };
        let keys = |usage| {
            let keys = json!({"keys": self.jwks(usage)}).to_string();
            KeySet::parse(&keys).map_err(|error| damaged(error.to_string()))
        };
        let bundle = Bundle::new(
            roots.trust_domain().clone(),
            roots.x509_authorities().to_vec(),
            // Each of the two grows with every change of its own, and so does their sum with either.
            self.state.sequence.saturating_add(roots.sequence()),
        )?
        .with_tainted(roots.tainted());
        Ok(bundle.with_token_keys(Some(keys(Use::JwtSvid)?), Some(keys(Use::WitSvid)?))?)
    }

    fn records(&self, usage: Use) -> impl Iterator<Item = &Record> {
        self.state
            .keys
            .iter()
            .filter(move |record| record.usage == usage)
    }
}

fn state_path(directory: &Path) -> PathBuf {
    directory.join("token-keys.json")
}

fn key_path(directory: &Path, kid: &str) -> PathBuf {
    directory.join(format!("token-{kid}.key.pem"))
}

/// The private key of a record; none if its file is not there.
fn load(directory: &Path, record: &Record) -> Result<Option<AuthorityKey>, AuthorityError> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !record.kid.chars().all(is_name) {
        return Err(AuthorityError::Damaged {
            path: state_path(directory),
            expected: "thumbprints as the names of keys",
            found: format!("{:?}", record.kid),
        });
    }
    let path = key_path(directory, &record.kid);
    let Some(pem) = read_private(&path)? else {
        return Ok(None);
    };
    let key = AuthorityKey::from_pem(&pem, &path)?;
    let (kid, _) = public(&key)?;
    if kid != record.kid {
        return Err(AuthorityError::Damaged {
            path,
            expected: "the key that the file is named for",
            found: format!("the key {kid}"),
        });
    }
    Ok(Some(key))
}

/// Makes a key, and writes it.
fn make(
    directory: &Path,
    usage: Use,
    times: Times,
) -> Result<(Record, AuthorityKey), AuthorityError> {
    let key = AuthorityKey::generate()?;
    let (kid, jwk) = public(&key)?;
    write_atomically(&key_path(directory, &kid), &key.to_pem(), PRIVATE)?;
    Ok((Record::new(usage, kid, jwk, times), key))
}

/// A key that is gone from the state is not read any more; that its file stays is untidy and no more.
fn remove(directory: &Path, kid: &str) {
    let path = key_path(directory, kid);
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(cannot("remove", &path)(error))
        }
        _ => sync_directory(directory),
    };
    if let Err(error) = removed {
        tracing::warn!(%error, "an old token key is not removed");
    }
}

/// The public part: its thumbprint (RFC 7638: the members in the order of their names, without white space), and its JWK.
fn public(key: &AuthorityKey) -> Result<(String, Map<String, Value>), AuthorityError> {
    let jwk = jwk::from_spki(&key.subject_public_key_info())?.members;
    let ordered: std::collections::BTreeMap<_, _> = jwk.iter().collect();
    let text = json!(ordered).to_string();
    let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()));
    Ok((kid, jwk))
}
