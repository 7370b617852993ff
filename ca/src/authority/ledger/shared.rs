//! The state in the database, where all replicas find it.
//!
//! Who can write to a database is not thereby the CA: the state is signed by the key of the intermediate that it says is in
//! force, and believed only if that private key is among ours. A replica that does not have the others' keys therefore does
//! not start, rather than put an intermediate of its own in the place of theirs. What is signed is the text
//! `countersign-ca-state/1`, a line feed, and the document: like no certificate, checkpoint or token begins.
//!
//! An older document with its signature would pass; a running replica takes none whose sequence is less than that of the one
//! it has.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use countersign_identity::TrustDomain;
use rcgen::{PublicKeyData as _, SigningKey as _};

use super::{parse, text};
use crate::authority::AuthorityError;
use crate::authority::certificate;
use crate::authority::keys::{KeyHandle, Keys};
use crate::authority::state::{BadState, State};
use crate::fault;
use crate::store::authority_state::{self, Row};
use crate::store::{Store, Tx};

const PREFIX: &str = "countersign-ca-state/1\n";

/// The state in the database.
pub(crate) struct SharedLedger {
    store: Store,
    keys: Keys,
    trust_domain: TrustDomain,
    /// The last state that was read, with its version, which grows with every change.
    last: Mutex<Option<(i64, State)>>,
}

/// The lock is a row's, and ends with the transaction.
pub(super) struct SharedLock {
    ledger: Arc<SharedLedger>,
    tx: Tx,
}

impl SharedLedger {
    pub(super) fn new(store: Store, keys: Keys, trust_domain: &TrustDomain) -> Self {
        Self {
            store,
            keys,
            trust_domain: trust_domain.clone(),
            last: Mutex::default(),
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) async fn read(&self) -> Result<Option<State>, AuthorityError> {
        let mut tx = self.store.read().await?;
        let version = authority_state::version(&mut tx).await?;
        if let Some((last, state)) = self.last()
            && last == version
        {
            return Ok(Some(state));
        }
        let row = authority_state::read(&mut tx).await?;
        tx.commit().await?;
        self.believe(row).await
    }

    fn last(&self) -> Option<(i64, State)> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// The state of a row, if it is one, and vouched for.
    async fn believe(&self, row: Row) -> Result<Option<State>, AuthorityError> {
        let last = self.last();
        let Some(document) = row.document else {
            return match last {
                None => Ok(None),
                Some((_, last)) => Err(bad(BadState::Older {
                    found: 0,
                    had: last.sequence,
                })),
            };
        };
        let state = parse(&document, &self.trust_domain).map_err(bad)?;
        // Of a request for the first intermediate: nobody is believed for it.
        let is_blank = state.roots.is_empty() && state.token_keys.is_empty();
        if !is_blank {
            let key = self.signer(&state).await?;
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes())
                .verify(
                    signed_text(&document).as_bytes(),
                    &row.signature.unwrap_or_default(),
                )
                .map_err(|_| bad(BadState::Signature))?;
        }
        if let Some((_, last)) = last
            && state.sequence < last.sequence
        {
            return Err(bad(BadState::Older {
                found: state.sequence,
                had: last.sequence,
            }));
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((row.version, state.clone()));
        Ok(Some(state))
    }

    /// The private key of the intermediate that signs by this state.
    async fn signer(&self, state: &State) -> Result<KeyHandle, AuthorityError> {
        let current = state.current().ok_or_else(|| bad(BadState::NoSigner))?;
        let name = current
            .key
            .as_ref()
            .ok_or_else(|| bad(BadState::NoSigner))?;
        let place = self.keys.place(name);
        let Some(key) = self.keys.load(name).await? else {
            return Err(AuthorityError::NotShared { key: place });
        };
        let der = current.der().map_err(bad)?;
        if certificate::parse(&der).is_ok_and(|parsed| certificate::is_for(&parsed, &key)) {
            return Ok(key);
        }
        Err(AuthorityError::Mismatch {
            key: place,
            certificate: current.id.clone(),
        })
    }
}

impl SharedLock {
    pub(super) async fn take(
        ledger: &Arc<SharedLedger>,
    ) -> Result<(Self, Option<State>), AuthorityError> {
        let mut tx = ledger.store.write().await?;
        let row = authority_state::lock(&mut tx).await?;
        let state = ledger.believe(row).await?;
        let ledger = Arc::clone(ledger);
        Ok((Self { ledger, tx }, state))
    }

    pub(super) async fn save(mut self, state: &State) -> Result<(), AuthorityError> {
        let document = text(state).map_err(bad)?;
        let signature = if state.roots.is_empty() {
            None
        } else {
            let key = self.ledger.signer(state).await?;
            let (signer, text) = (key.clone(), signed_text(&document));
            let sign = move || Ok(signer.sign(text.as_bytes())?);
            Some(key.signing(sign).await?)
        };
        authority_state::replace(&mut self.tx, &document, signature.as_deref()).await?;
        fault::point("before-authority-state");
        self.tx.commit().await?;
        fault::point("after-authority-state");
        Ok(())
    }
}

fn signed_text(document: &str) -> String {
    format!("{PREFIX}{document}")
}

fn bad(error: BadState) -> AuthorityError {
    AuthorityError::State {
        place: "the state of the authorities in the database".to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests;
