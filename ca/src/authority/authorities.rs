//! What the server and the commands do with the authorities alike: making roots and intermediates, and tidying up. Every
//! change is made under the ledger's lock, in this order: the private key, the state that names it, the public bundle file,
//! and only then the removal of what is of no use any more. Whatever is cut short, the state on the disk is one that can
//! be gone on from.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use countersign_identity::TrustDomain;
use rcgen::{CertificateParams, Issuer};
use rustls_pki_types::CertificateDer;

use super::AuthorityError;
use super::certificate;
use super::keys::{KeyHandle, KeyPlace, Keys};
use super::ledger::{Ledger, Locked};
use super::profile::{self, ProfileError};
use super::state::{IntermediateRecord, Phase, Root, State, seconds, time};
use super::tokens::{self, TokenLifetimes};
use crate::fault;
use crate::files::{PUBLIC, private_directory, read_public, write_atomically};
use crate::store::Store;

/// The roots, for everybody to read.
const BUNDLE: &str = "bundle.pem";
/// How long a replaced authority's key is kept: replicas that have not noticed yet may still use it.
const KEY_KEPT: Duration = Duration::from_mins(1);

/// What the configuration says of the authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityConfig {
    /// Whether the root is external, and signs the intermediate in a ceremony.
    pub(crate) upstream: bool,
    /// How long a root is valid that is made here. Roots are replaced by hand.
    pub(crate) root_ttl: Duration,
    /// How long an intermediate is valid that is made here. At half of that it is replaced by itself.
    pub(crate) intermediate_ttl: Duration,
    /// How long a new bundle may take until everybody has it.
    pub(crate) propagation: Duration,
    /// How long SVIDs are valid at most.
    pub(crate) longest_svid: Duration,
    /// Where the private keys of roots live.
    pub(crate) root_keys: KeyPlace,
    /// Where those of intermediates live.
    pub(crate) keys: KeyPlace,
}

/// The authorities of one trust domain, to be looked at and changed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authorities {
    pub(super) trust_domain: TrustDomain,
    pub(super) config: AuthorityConfig,
    pub(super) ledger: Ledger,
    pub(super) root_keys: Keys,
    pub(super) keys: Keys,
    directory: PathBuf,
}

impl Authorities {
    /// Gets at the authorities in `directory`, or, with a database, at those that all replicas have in common. Nothing is
    /// made yet.
    ///
    /// # Errors
    /// When the directory or the keys are out of reach.
    pub(crate) fn new(
        directory: &Path,
        trust_domain: &TrustDomain,
        config: &AuthorityConfig,
        shared: Option<&Store>,
    ) -> Result<Self, AuthorityError> {
        private_directory(directory)?;
        let keys = config.keys.open()?;
        Ok(Self {
            trust_domain: trust_domain.clone(),
            ledger: match shared {
                None => Ledger::file(directory, trust_domain),
                Some(store) => Ledger::shared(store.clone(), keys.clone(), trust_domain),
            },
            root_keys: config.root_keys.open()?,
            keys,
            config: config.clone(),
            directory: directory.to_owned(),
        })
    }

    /// Whose authorities they are.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Makes what a first start needs, and a new intermediate if the one that there is cannot be used any more.
    ///
    /// # Errors
    /// When something is damaged or out of reach, or the root is elsewhere and has to sign first.
    pub(super) async fn start(
        &self,
        lifetimes: &TokenLifetimes,
        now: SystemTime,
    ) -> Result<State, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let mut state = match locked.state.clone() {
            Some(state) => state,
            None => self.first_state()?,
        };
        if state.the(Phase::Active).is_none() {
            if self.config.upstream {
                return Err(AuthorityError::NotInstalled);
            }
            self.make_root(&mut state, Phase::Active, now).await?;
        }
        self.check_active(&state, now)?;
        if !self.can_sign(&state, now).await? {
            self.make_intermediate(&mut state, now).await?;
        }
        let retired = tokens::rotate(&mut state, &self.keys, lifetimes, now).await?;
        let state = self.put_in_force(locked, state).await?;
        self.remove_retired(&retired).await;
        Ok(state)
    }

    fn first_state(&self) -> Result<State, AuthorityError> {
        let old = self.directory.join("root.pem");
        if old.exists() {
            return Err(AuthorityError::Predecessor { path: old });
        }
        for name in [BUNDLE, "authority.json"] {
            let present = self.directory.join(name);
            if present.exists() {
                return Err(AuthorityError::Incomplete {
                    missing: self.ledger.place(),
                    present,
                });
            }
        }
        Ok(State::new(&self.trust_domain))
    }

    /// The active root is of this trust domain, and in its time.
    fn check_active(&self, state: &State, now: SystemTime) -> Result<(), AuthorityError> {
        let Some(root) = state.the(Phase::Active) else {
            return Ok(());
        };
        let der = self.root_der(root)?;
        let refused = |error| AuthorityError::Certificate {
            whose: format!("the root {} in {}", root.id, self.ledger.place()),
            error,
        };
        let parsed = certificate::parse(&der).map_err(refused)?;
        certificate::check_time(&parsed, now).map_err(refused)
    }

    /// Whether the intermediate is valid, and its key there.
    async fn can_sign(&self, state: &State, now: SystemTime) -> Result<bool, AuthorityError> {
        let Some(current) = state.current() else {
            return Ok(false);
        };
        let der = self.intermediate_der(current)?;
        let refused = |error| AuthorityError::Certificate {
            whose: format!("the intermediate {}", current.id),
            error,
        };
        let (_, not_after) = certificate::validity(&certificate::parse(&der).map_err(refused)?);
        if not_after <= now {
            return Ok(false);
        }
        Ok(self.key_of(current).await?.is_some())
    }

    /// The private key of an intermediate; none if it is not there.
    pub(super) async fn key_of(
        &self,
        record: &IntermediateRecord,
    ) -> Result<Option<KeyHandle>, AuthorityError> {
        let Some(name) = &record.key else {
            return Ok(None);
        };
        let Some(key) = self.keys.load(name).await? else {
            return Ok(None);
        };
        let place = self.keys.place(name);
        check_key(&key, &self.intermediate_der(record)?, &record.id, place)?;
        Ok(Some(key))
    }

    /// Replaces the intermediate at half its life. Returns whether that was done.
    ///
    /// # Errors
    /// When it is due and cannot be done. The old one stays.
    pub(super) async fn renew_if_due(&self, now: SystemTime) -> Result<bool, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let Some(mut state) = locked.state.clone() else {
            return Ok(false);
        };
        // Another replica may have been quicker.
        let due = match state.current() {
            Some(current) => half_life(current, &self.intermediate_der(current)?) <= now,
            None => true,
        };
        if !due {
            return Ok(false);
        }
        self.make_intermediate(&mut state, now).await?;
        self.put_in_force(locked, state).await?;
        Ok(true)
    }

    /// Makes and forgets token keys. What was forgotten has been published until its last token ended.
    ///
    /// # Errors
    /// When one is due and cannot be made. Nothing has changed then.
    pub(super) async fn rotate_token_keys(
        &self,
        lifetimes: &TokenLifetimes,
        now: SystemTime,
    ) -> Result<(), AuthorityError> {
        let locked = self.ledger.lock().await?;
        let Some(mut state) = locked.state.clone() else {
            return Ok(());
        };
        // Another replica may have been quicker: then nothing is due any more.
        let retired = tokens::rotate(&mut state, &self.keys, lifetimes, now).await?;
        self.put_in_force(locked, state).await?;
        self.remove_retired(&retired).await;
        Ok(())
    }

    /// A key that is gone from the state is not used any more; that it stays is untidy and no more.
    async fn remove_retired(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.keys.remove(name).await {
                tracing::warn!(%error, "an old token key is not removed");
            }
        }
    }

    /// Removes the keys of what signs no more, and forgets intermediates that have ended.
    ///
    /// # Errors
    /// When something is left to do. What is in force is not concerned.
    pub(super) async fn tidy(&self, now: SystemTime) -> Result<(), AuthorityError> {
        let is_over = |at: Option<u64>| at.is_some_and(|at| time(at) + KEY_KEPT <= now);
        let has_work = |state: &State| {
            let roots = state
                .roots
                .iter()
                .any(|root| root.key.is_some() && is_over(root.left_at));
            roots
                || state
                    .intermediates
                    .iter()
                    .any(|record| record.key.is_some() && is_over(record.replaced_at))
        };
        if !self
            .ledger
            .read()
            .await?
            .is_some_and(|state| has_work(&state))
        {
            return Ok(());
        }
        let locked = self.ledger.lock().await?;
        let Some(mut state) = locked.state.clone() else {
            return Ok(());
        };
        for root in &mut state.roots {
            if is_over(root.left_at)
                && let Some(name) = root.key.take()
            {
                self.root_keys.remove(&name).await?;
                tracing::info!(root = root.id, "private key of a root removed");
            }
        }
        for record in &mut state.intermediates {
            if is_over(record.replaced_at)
                && let Some(name) = record.key.take()
            {
                self.keys.remove(&name).await?;
            }
        }
        let current = state.current().map(|record| record.id.clone());
        state.intermediates.retain(|record| {
            let ended = record.der().is_ok_and(|der| {
                certificate::parse(&der).is_ok_and(|parsed| certificate::validity(&parsed).1 <= now)
            });
            Some(&record.id) == current.as_ref() || !ended || record.key.is_some()
        });
        locked.save(&state).await
    }

    /// Makes a root in the phase in which it begins: its key, and its certificate in `state`.
    pub(super) async fn make_root(
        &self,
        state: &mut State,
        phase: Phase,
        now: SystemTime,
    ) -> Result<(), AuthorityError> {
        let name = new_name("root")?;
        let key = self.root_keys.generate(&name).await?;
        fault::point("after-root-key");
        let params = profile::root(&self.trust_domain, now, now + self.config.root_ttl)?;
        let signer = key.clone();
        let root = key
            .signing(move || Ok(params.self_signed(&signer)?))
            .await?;
        let root = Root::new(root.der(), Some(name), phase, now);
        tracing::info!(trust_domain = %self.trust_domain, root = root.id, phase = phase.name(), "root made");
        state.roots.push(root);
        state.published(now);
        Ok(())
    }

    /// Makes an intermediate under the active root: its key, and its certificate in `state`, where it takes the place of
    /// the one before.
    pub(super) async fn make_intermediate(
        &self,
        state: &mut State,
        now: SystemTime,
    ) -> Result<(), AuthorityError> {
        let root = state
            .the(Phase::Active)
            .cloned()
            .ok_or(AuthorityError::NotInstalled)?;
        let root_der = self.root_der(&root)?;
        let root_key = self.root_key(&root, &root_der).await?;
        let refused = |error| AuthorityError::Certificate {
            whose: format!("the root {}", root.id),
            error,
        };
        let parsed = certificate::parse(&root_der).map_err(refused)?;
        certificate::check_time(&parsed, now).map_err(refused)?;
        let (_, root_ends) = certificate::validity(&parsed);
        let not_after = (now + self.config.intermediate_ttl).min(root_ends);
        let name = new_name("intermediate")?;
        let key = self.keys.generate(&name).await?;
        fault::point("after-intermediate-key");
        let params = profile::intermediate(&self.trust_domain, now, not_after)?;
        let certificate = sign_authority(params, key, root_der.clone(), root_key).await?;
        state.replace_intermediates(None, now);
        let record = IntermediateRecord::new(&certificate, name, &root.id, now);
        tracing::info!(trust_domain = %self.trust_domain, intermediate = record.id, root = root.id, "intermediate made");
        state.intermediates.push(record);
        Ok(())
    }

    async fn root_key(
        &self,
        root: &Root,
        der: &CertificateDer<'static>,
    ) -> Result<KeyHandle, AuthorityError> {
        let elsewhere = |place| AuthorityError::NoRootKey {
            root: root.id.clone(),
            place,
        };
        let Some(name) = &root.key else {
            return Err(elsewhere("it is an external root".to_owned()));
        };
        let place = self.root_keys.place(name);
        let key = self.root_keys.load(name).await?;
        let key = key.ok_or_else(|| elsewhere(place.clone()))?;
        check_key(&key, der, &root.id, place)?;
        Ok(key)
    }

    /// Writes the state, and the bundle for everybody to read.
    pub(super) async fn put_in_force(
        &self,
        locked: Locked,
        state: State,
    ) -> Result<State, AuthorityError> {
        if locked.state.as_ref() != Some(&state) {
            locked.save(&state).await?;
        }
        self.write_bundle(&state)?;
        Ok(state)
    }

    /// Writes the roots for everybody to read, unless they are there.
    pub(super) fn write_bundle(&self, state: &State) -> Result<(), AuthorityError> {
        let bundle = state.bundle(&self.trust_domain);
        let Some(bundle) = bundle.map_err(|error| self.bad_state(error))? else {
            return Ok(());
        };
        let (path, pem) = (self.directory.join(BUNDLE), bundle.to_pem());
        if read_public(&path)?.is_none_or(|present| *present != pem) {
            write_atomically(&path, &pem, PUBLIC)?;
            fault::point("after-bundle");
        }
        Ok(())
    }

    pub(super) fn root_der(&self, root: &Root) -> Result<CertificateDer<'static>, AuthorityError> {
        root.der().map_err(|error| self.bad_state(error))
    }

    pub(super) fn intermediate_der(
        &self,
        record: &IntermediateRecord,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        record.der().map_err(|error| self.bad_state(error))
    }

    pub(super) fn bad_state(&self, error: super::state::BadState) -> AuthorityError {
        self.ledger.bad(error)
    }
}

/// Half of the time from when it was made, or installed, to its end.
pub(super) fn half_life(record: &IntermediateRecord, der: &CertificateDer<'_>) -> SystemTime {
    let made = time(record.made_at);
    let ends = certificate::parse(der).map_or(made, |parsed| certificate::validity(&parsed).1);
    made + ends.duration_since(made).unwrap_or_default() / 2
}

/// Has an authority's key sign another one's certificate.
async fn sign_authority(
    params: CertificateParams,
    key: KeyHandle,
    issuer: CertificateDer<'static>,
    issuer_key: KeyHandle,
) -> Result<CertificateDer<'static>, ProfileError> {
    let signer = issuer_key.clone();
    issuer_key
        .signing(move || {
            let issuer = Issuer::from_ca_cert_der(&issuer, signer)?;
            Ok(params.signed_by(&key, &issuer)?.into())
        })
        .await
}

fn check_key(
    key: &KeyHandle,
    der: &CertificateDer<'_>,
    id: &str,
    place: String,
) -> Result<(), AuthorityError> {
    let whose = || AuthorityError::Mismatch {
        key: place.clone(),
        certificate: id.to_owned(),
    };
    let parsed = certificate::parse(der).map_err(|_| whose())?;
    if certificate::is_for(&parsed, key) {
        return Ok(());
    }
    Err(whose())
}

/// A name that no other key has.
pub(super) fn new_name(kind: &str) -> Result<String, ProfileError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ProfileError::NoRandomness)?;
    Ok(format!("{kind}-{}", hex::encode(bytes)))
}

/// The end of the last SVID that an intermediate of `root` can have signed.
pub(super) fn last_svid_ends(
    state: &State,
    root: &Root,
    longest_svid: Duration,
    notice: Duration,
) -> Option<SystemTime> {
    let ends = state
        .intermediates
        .iter()
        .filter(|record| record.root == root.id)
        .filter_map(|record| {
            let der = record.der().ok()?;
            let (_, ends) = certificate::validity(&certificate::parse(&der).ok()?);
            let replaced = record.replaced_at.map(time);
            Some(replaced.map_or(ends, |replaced| ends.min(replaced + notice + longest_svid)))
        });
    ends.max()
}

pub(super) fn is_due(at: SystemTime, now: SystemTime) -> bool {
    seconds(at) <= seconds(now)
}
