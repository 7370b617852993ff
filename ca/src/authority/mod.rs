//! The authorities: roots, which are believed, and an intermediate, which signs SVIDs.
//!
//! - [`Authority`] is what the server has of them: the bundle and the intermediate in force, as of the last look.
//! - [`authorities`] makes and replaces them, [`rotation`] and [`ceremony`] are the commands' steps.
//! - [`state`] is what is known of them, [`ledger`] keeps it, [`keys`] has the private keys, [`tokens`] those of tokens.
//!
//! In the data directory are `bundle.pem`, the roots for everybody to read, for the first contact with this CA; unless
//! replicas share a database, `authority.json`, the state; and, unless they live elsewhere, the keys in `keys/`.
//!
//! What is missing at the first start is made. What is there and not right stops the start: a CA that went on with a
//! new root, because the old one's file was damaged, would cut off every workload.

pub(crate) mod authorities;
mod ceremony;
mod certificate;
mod error;

mod key;
pub(crate) mod keys;
mod ledger;
pub(crate) mod profile;
pub(crate) mod replicas;
pub(crate) mod rotation;
pub(crate) mod state;
pub(crate) mod step;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod tokens;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::svid::{SigningChain, SvidError};
use countersign_identity::{Bundle, SpiffeId, TrustDomain, X509Svid};
use rcgen::{Issuer, SigningKey as _, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateDer;
use tokio::sync::{Mutex, watch};

pub(crate) use authorities::{Authorities, AuthorityConfig};
pub(crate) use ceremony::read_chain;
pub(crate) use error::AuthorityError;
use keys::KeyHandle;
use profile::ProfileError;
use state::{Phase, State};
use tokens::TokenKeys;
pub(crate) use tokens::TokenLifetimes;

/// The authorities of one trust domain, as the server has them.
pub(crate) struct Authority {
    authorities: Authorities,
    lifetimes: TokenLifetimes,
    in_force: watch::Sender<Arc<InForce>>,
    /// Held while what is in force is replaced, so that what was read first does not come last.
    replacing: Mutex<()>,
}

/// What is published, and the token keys that it vouches for: replaced together.
pub(crate) struct Published {
    /// The roots, and the public keys for tokens.
    pub(crate) bundle: Arc<Bundle>,
    /// The keys.
    pub(crate) token_keys: Arc<TokenKeys>,
}

/// What is in force, as the state says: replaced together.
struct InForce {
    state: State,
    published: Arc<Published>,
    intermediate: Arc<Intermediate>,
    root_not_after: SystemTime,
}

/// The intermediate that signs now.
pub(crate) struct Intermediate {
    issuer: Arc<Issuer<'static, KeyHandle>>,
    key: KeyHandle,
    certificate: CertificateDer<'static>,
    /// The certificate again, as what is above a leaf.
    above: SigningChain,
    not_after: SystemTime,
}

impl Intermediate {
    /// Of its certificate and its private key, which must fit.
    ///
    /// # Errors
    /// When the certificate is not one of an authority.
    fn new(certificate: CertificateDer<'static>, key: KeyHandle) -> Result<Self, AuthorityError> {
        let refused = |error| AuthorityError::Certificate {
            whose: "the intermediate".to_owned(),
            error,
        };
        let parsed = certificate::parse(&certificate).map_err(refused)?;
        let (_, not_after) = certificate::validity(&parsed);
        let above =
            SigningChain::new(vec![certificate.clone()]).map_err(|error| refused(error.into()))?;
        Ok(Self {
            issuer: Arc::new(Issuer::from_ca_cert_der(&certificate, key.clone())?),
            key,
            certificate,
            above,
            not_after,
        })
    }

    /// Signs a leaf for `public_key`.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub(crate) async fn sign(
        &self,
        id: &SpiffeId,
        public_key: &SubjectPublicKeyInfo,
        (not_before, not_after): (SystemTime, SystemTime),
    ) -> Result<CertificateDer<'static>, ProfileError> {
        let params = profile::leaf(id, not_before, not_after)?;
        let (issuer, public_key) = (Arc::clone(&self.issuer), public_key.clone());
        let sign = move || Ok(params.signed_by(&public_key, &*issuer)?.into());
        self.key.signing(sign).await
    }

    /// The SVID of a leaf that was signed here: its chain goes up to, and without, the root. Checked as
    /// [`X509Svid::from_chain`] does; whether a peer believes it is another question.
    ///
    /// # Errors
    /// The rule that the leaf breaks.
    pub(crate) fn svid(&self, leaf: CertificateDer<'static>) -> Result<X509Svid, SvidError> {
        self.above.svid(leaf)
    }

    /// Signs a checkpoint of the issuance log, whose text is unlike any certificate.
    ///
    /// # Errors
    /// When the key does not sign.
    pub(crate) async fn sign_checkpoint(&self, text: &[u8]) -> Result<Vec<u8>, ProfileError> {
        let (key, text) = (self.key.clone(), text.to_owned());
        self.key.signing(move || Ok(key.sign(&text)?)).await
    }

    /// How people name it.
    pub(crate) fn id(&self) -> String {
        state::id_of(&self.certificate)
    }

    /// Its certificate, DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The end of its validity, which no SVID may outlive.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// How things stand with the authorities, for the metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// The end of the intermediate.
    pub(crate) intermediate: SystemTime,
    /// The end of the active root.
    pub(crate) root: SystemTime,
}

impl Authority {
    /// Opens the authorities, and makes what a first start needs.
    ///
    /// # Errors
    /// When something is damaged, does not fit the rest, or can be read by others than its owner; or when an external root
    /// has to sign first ([`AuthorityError::NotInstalled`]).
    pub(crate) async fn open(
        authorities: Authorities,
        lifetimes: TokenLifetimes,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let state = authorities.start(&lifetimes, now).await?;
        let in_force = InForce::of(&authorities, state).await?;
        Ok(Self {
            authorities,
            lifetimes,
            in_force: watch::Sender::new(Arc::new(in_force)),
            replacing: Mutex::default(),
        })
    }

    /// The trust domain that is issued for.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.authorities.trust_domain
    }

    /// The bundle in force.
    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.in_force.borrow().published.bundle)
    }

    /// The bundle in force, and the token keys that go with it.
    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.in_force.borrow().published)
    }

    /// Makes and forgets token keys, when that is due. Returns whether what is published has changed.
    ///
    /// # Errors
    /// When something is due and cannot be done. What is published stays.
    pub(crate) async fn rotate_token_keys_if_due(
        &self,
        now: SystemTime,
    ) -> Result<bool, AuthorityError> {
        if !self.published().token_keys.is_due(&self.lifetimes, now) {
            return Ok(false);
        }
        self.authorities
            .rotate_token_keys(&self.lifetimes, now)
            .await?;
        self.reload().await
    }

    /// The intermediate that signs now.
    pub(crate) fn intermediate(&self) -> Arc<Intermediate> {
        Arc::clone(&self.in_force.borrow().intermediate)
    }

    /// How long the authorities last.
    pub(crate) fn expiry(&self) -> Expiry {
        let in_force = self.in_force.borrow();
        Expiry {
            intermediate: in_force.intermediate.not_after,
            root: in_force.root_not_after,
        }
    }

    /// Looks whether a command, or another replica, has changed the authorities, and goes on with what there is then.
    /// Returns whether it was so.
    ///
    /// # Errors
    /// When the change cannot be read. What was in force stays.
    pub(crate) async fn reload(&self) -> Result<bool, AuthorityError> {
        let _replacing = self.replacing.lock().await;
        let Some(state) = self.authorities.ledger.read().await? else {
            return Ok(false);
        };
        if state == self.in_force.borrow().state {
            return Ok(false);
        }
        let in_force = InForce::of(&self.authorities, state).await?;
        // Of what another replica did; a command has written it already.
        if let Err(error) = self.authorities.write_bundle(&in_force.state) {
            tracing::error!(%error, "the bundle in the data directory is not replaced");
        }
        self.in_force.send_replace(Arc::new(in_force));
        Ok(true)
    }

    /// Replaces the intermediate at half its life. SVIDs of the old one stay good: their chains carry it. Returns whether
    /// one was made.
    ///
    /// # Errors
    /// When one is due and cannot be made. The old one stays.
    pub(crate) async fn renew_intermediate_if_due(
        &self,
        now: SystemTime,
    ) -> Result<bool, AuthorityError> {
        if !self.is_renewal_due(now) {
            return Ok(false);
        }
        self.authorities.renew_if_due(now).await?;
        self.reload().await
    }

    /// Whether the intermediate has lived half its life.
    pub(crate) fn is_renewal_due(&self, now: SystemTime) -> bool {
        let in_force = self.in_force.borrow();
        in_force.state.current().is_none_or(|current| {
            authorities::half_life(current, &in_force.intermediate.certificate) <= now
        })
    }

    /// Removes keys that are of no use any more.
    ///
    /// # Errors
    /// When something is left to do.
    pub(crate) async fn tidy(&self, now: SystemTime) -> Result<(), AuthorityError> {
        self.authorities.tidy(now).await
    }

    /// How long an intermediate may have left before an operator must be told aloud.
    pub(crate) fn is_urgent(&self, now: SystemTime) -> bool {
        let left = self.expiry().intermediate.duration_since(now);
        left.unwrap_or_default()
            < self
                .authorities
                .config
                .longest_svid
                .max(Duration::from_mins(1))
                * 2
    }
}

impl InForce {
    async fn of(authorities: &Authorities, state: State) -> Result<Self, AuthorityError> {
        let roots = state.bundle(&authorities.trust_domain);
        let roots = roots.map_err(|error| authorities.bad_state(error))?;
        let roots = roots.ok_or(AuthorityError::NotInstalled)?;
        let current = state.current().ok_or(AuthorityError::NotInstalled)?;
        let key = authorities.key_of(current).await?;
        let key = key.ok_or_else(|| AuthorityError::Mismatch {
            key: current.key.as_ref().map_or_else(String::new, |name| {
                format!("{} (missing)", authorities.keys.place(name))
            }),
            certificate: current.id.clone(),
        })?;
        let intermediate = Intermediate::new(authorities.intermediate_der(current)?, key)?;
        let root = state
            .the(Phase::Active)
            .ok_or(AuthorityError::NotInstalled)?;
        let root = authorities.root_der(root)?;
        let root_not_after = certificate::parse(&root).map_or(SystemTime::UNIX_EPOCH, |root| {
            certificate::validity(&root).1
        });
        let token_keys = TokenKeys::load(&state, &authorities.keys).await?;
        let published = Published {
            bundle: Arc::new(token_keys.bundle_of(roots)?),
            token_keys: Arc::new(token_keys),
        };
        Ok(Self {
            state,
            published: Arc::new(published),
            intermediate: Arc::new(intermediate),
            root_not_after,
        })
    }
}
