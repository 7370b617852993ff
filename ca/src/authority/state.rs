//! What is known of the authorities, without their keys: which roots there are, in which phase of their life each is, and
//! which intermediate signs. One document, replaced whole, so that every change is made or not made.
//!
//! ```text
//!            activate            another is activated       taint          revoke
//! prepared ───────────▶ active ───────────────────────▶ old ───────▶ tainted ───────▶ revoked
//!     │ abandon
//!     └─────────▶ abandoned           in the bundle: prepared, active, old and tainted
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_identity::{Bundle, TrustDomain};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::certificate::{self, CertificateError};
use super::tokens::state::Record as TokenKeyRecord;

/// All that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct State {
    /// Whose authorities they are.
    pub(crate) trust_domain: String,
    /// Of the bundle; grows with every change of what is published.
    pub(crate) sequence: u64,
    /// In the order in which they were made.
    pub(crate) roots: Vec<Root>,
    /// In the order in which they were made.
    pub(crate) intermediates: Vec<IntermediateRecord>,
    /// The keys that sign tokens; those of one use in the order in which they sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) token_keys: Vec<TokenKeyRecord>,
    /// The key of a certification request that has no answer yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requested_key: Option<String>,
}

/// The phases of a root's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// In the bundle; signs nothing yet.
    Prepared,
    /// Its intermediate signs.
    Active,
    /// Another one signs; what it signed is good.
    Old,
    /// What it signed is to be renewed at once.
    Tainted,
    /// Not in the bundle any more.
    Revoked,
    /// Prepared, and then not wanted. Not in the bundle any more.
    Abandoned,
}

impl Phase {
    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether a root in it is believed.
    pub(crate) const fn is_published(self) -> bool {
        !matches!(self, Self::Revoked | Self::Abandoned)
    }
}

/// One root. Times in seconds of UNIX time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Root {
    /// The beginning of its certificate's SHA-256.
    pub(crate) id: String,
    pub(crate) phase: Phase,
    /// PEM.
    pub(crate) certificate: String,
    /// The name of its private key; none of an external root, and of one whose key has been removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    pub(crate) prepared_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) activated_at: Option<u64>,
    /// When another one was activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tainted_at: Option<u64>,
    /// When it left the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) left_at: Option<u64>,
}

/// One intermediate. Times in seconds of UNIX time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct IntermediateRecord {
    /// The beginning of its certificate's SHA-256.
    pub(crate) id: String,
    /// The root that signed it.
    pub(crate) root: String,
    /// PEM.
    pub(crate) certificate: String,
    /// The name of its private key; none if that has been removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    pub(crate) made_at: u64,
    /// When it ceased to sign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced_at: Option<u64>,
}

impl State {
    /// Of a CA that was never started.
    pub(crate) fn new(trust_domain: &TrustDomain) -> Self {
        Self {
            trust_domain: trust_domain.to_string(),
            sequence: 0,
            roots: Vec::new(),
            intermediates: Vec::new(),
            token_keys: Vec::new(),
            requested_key: None,
        }
    }

    /// To be called with every change of what is published. Also after the state was lost, the sequence is more than any
    /// that was ever given out.
    pub(crate) fn published(&mut self, now: SystemTime) {
        self.sequence = self.sequence.saturating_add(1).max(seconds(now));
    }

    /// The root in this phase, of those of which there is at most one: prepared and active.
    pub(crate) fn the(&self, phase: Phase) -> Option<&Root> {
        self.roots.iter().find(|root| root.phase == phase)
    }

    /// As [`State::the`], to be changed.
    pub(crate) fn the_mut(&mut self, phase: Phase) -> Option<&mut Root> {
        self.roots.iter_mut().find(|root| root.phase == phase)
    }

    /// The intermediate of a root that has not been replaced.
    pub(crate) fn current_of(&self, root: &Root) -> Option<&IntermediateRecord> {
        self.intermediates
            .iter()
            .rev()
            .find(|record| record.root == root.id && record.replaced_at.is_none())
    }

    /// The intermediate that signs.
    pub(crate) fn current(&self) -> Option<&IntermediateRecord> {
        self.current_of(self.the(Phase::Active)?)
    }

    /// Has the intermediates of `root`, or of all roots, sign no more.
    pub(crate) fn replace_intermediates(&mut self, root: Option<&str>, now: SystemTime) {
        for record in &mut self.intermediates {
            if root.is_none_or(|root| record.root == root) {
                record.replaced_at.get_or_insert(seconds(now));
            }
        }
    }

    /// The bundle that is published; none before the first root.
    ///
    /// # Errors
    /// When a root cannot be in one.
    pub(crate) fn bundle(&self, trust_domain: &TrustDomain) -> Result<Option<Bundle>, BadState> {
        let mut authorities = Vec::new();
        let mut tainted = Vec::new();
        for root in &self.roots {
            if root.phase.is_published() {
                let der = root.der()?;
                if root.phase == Phase::Tainted {
                    tainted.push(der.clone());
                }
                authorities.push(der);
            }
        }
        if authorities.is_empty() {
            return Ok(None);
        }
        let bundle = Bundle::new(trust_domain.clone(), authorities, self.sequence)?;
        Ok(Some(bundle.with_tainted(&tainted)))
    }

    /// The names of all private keys.
    fn key_names(&self) -> impl Iterator<Item = &str> {
        let roots = self.roots.iter().filter_map(|root| root.key.as_deref());
        let intermediates = self
            .intermediates
            .iter()
            .filter_map(|record| record.key.as_deref());
        let tokens = self.token_keys.iter().map(TokenKeyRecord::key);
        let requested = self.requested_key.as_deref();
        roots.chain(intermediates).chain(tokens).chain(requested)
    }

    /// Whether it is a state that the steps lead to.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self, trust_domain: &TrustDomain) -> Result<(), BadState> {
        if self.trust_domain != trust_domain.as_str() {
            return Err(BadState::OtherTrustDomain {
                found: self.trust_domain.clone(),
                expected: trust_domain.clone(),
            });
        }
        for phase in [Phase::Active, Phase::Prepared] {
            let count = self.roots.iter().filter(|root| root.phase == phase).count();
            if count > 1 {
                return Err(BadState::Several(phase.name()));
            }
        }
        self.token_keys.iter().try_for_each(TokenKeyRecord::check)?;
        self.key_names().try_for_each(check_name)?;
        for root in &self.roots {
            let der = root.der()?;
            let of_root = |error| BadState::Root(root.id.clone(), error);
            certificate::parse(&der).map_err(of_root)?;
            if id_of(&der) != root.id {
                return Err(BadState::OtherId(root.id.clone()));
            }
        }
        for record in &self.intermediates {
            let of = |error| BadState::Intermediate(record.id.clone(), error);
            let der = record.der()?;
            let parsed = certificate::parse(&der).map_err(of)?;
            if id_of(&der) != record.id {
                return Err(BadState::OtherId(record.id.clone()));
            }
            let root = self.roots.iter().find(|root| root.id == record.root);
            let other_root = || BadState::OtherRoot {
                intermediate: record.id.clone(),
                root: record.root.clone(),
            };
            let root = root.ok_or_else(other_root)?.der()?;
            let root = certificate::parse(&root).map_err(of)?;
            if !certificate::is_signed_by(&parsed, &root) {
                return Err(other_root());
            }
        }
        Ok(())
    }
}

impl Root {
    /// Of a certificate, in the phase in which it begins.
    pub(crate) fn new(
        certificate: &CertificateDer<'_>,
        key: Option<String>,
        phase: Phase,
        now: SystemTime,
    ) -> Self {
        Self {
            id: id_of(certificate),
            phase,
            certificate: pem_of(certificate),
            key,
            prepared_at: seconds(now),
            activated_at: (phase == Phase::Active).then(|| seconds(now)),
            replaced_at: None,
            tainted_at: None,
            left_at: None,
        }
    }

    /// The end of its certificate; none of a damaged one.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        let der = self.der().ok()?;
        Some(certificate::validity(&certificate::parse(&der).ok()?).1)
    }

    /// Its certificate.
    ///
    /// # Errors
    /// When it is damaged.
    pub(crate) fn der(&self) -> Result<CertificateDer<'static>, BadState> {
        certificate::from_pem(&self.certificate)
            .map_err(|error| BadState::Root(self.id.clone(), error))
    }
}

impl IntermediateRecord {
    /// Of a certificate.
    pub(crate) fn new(
        certificate: &CertificateDer<'_>,
        key: String,
        root: &str,
        now: SystemTime,
    ) -> Self {
        Self {
            id: id_of(certificate),
            root: root.to_owned(),
            certificate: pem_of(certificate),
            key: Some(key),
            made_at: seconds(now),
            replaced_at: None,
        }
    }

    /// Its certificate.
    ///
    /// # Errors
    /// When it is damaged.
    pub(crate) fn der(&self) -> Result<CertificateDer<'static>, BadState> {
        certificate::from_pem(&self.certificate)
            .map_err(|error| BadState::Intermediate(self.id.clone(), error))
    }
}

/// Why a state is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadState {
    /// Not JSON, or other fields.
    #[error("expected the state of the authorities in JSON, found something else ({0})")]
    Json(#[from] serde_json::Error),
    /// Of another trust domain.
    #[error(
        "it is of the trust domain {found}; the configuration says {expected}. Correct `trustDomain`, or use another \
         `dataDirectory`"
    )]
    OtherTrustDomain {
        /// What it says.
        found: String,
        /// What is configured.
        expected: TrustDomain,
    },
    /// Two where there is one.
    #[error("expected at most one root that is {0}, found several")]
    Several(&'static str),
    /// The certificate of a root.
    #[error("the certificate of the root {0}: {1}")]
    Root(String, CertificateError),
    /// The certificate of an intermediate.
    #[error("the certificate of the intermediate {0}: {1}")]
    Intermediate(String, CertificateError),
    /// A certificate under another one's name.
    #[error("the certificate {0} is another one than its id says")]
    OtherId(String),
    /// An intermediate of a root that is not its.
    #[error("the intermediate {intermediate} is not signed by the root {root}")]
    OtherRoot {
        /// The intermediate.
        intermediate: String,
        /// The root that it names.
        root: String,
    },
    /// Nobody can have signed it.
    #[error("it has roots, and no intermediate with a key that vouches for it")]
    NoSigner,
    /// Not by one of ours.
    #[error(
        "its signature is not by the key of the intermediate in it: others than this CA have changed it"
    )]
    Signature,
    /// Put back.
    #[error(
        "it is older than the one that was there before: expected a sequence of at least {had}, found {found}"
    )]
    Older {
        /// What it says.
        found: u64,
        /// What the one before said.
        had: u64,
    },
    /// A name that no key is given.
    #[error("expected the name of a private key such as root-1a2b3c4d, found {0:?}")]
    KeyName(String),
    /// A token key under another one's name.
    #[error("the public token key {0} is another one than its thumbprint says")]
    TokenKey(String),
    /// A root that cannot be in a bundle.
    #[error(transparent)]
    Bundle(#[from] countersign_identity::BundleError),
}

/// Names become those of files: none leads out of its directory.
fn check_name(name: &str) -> Result<(), BadState> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.is_empty() && name.len() <= 64 && name.chars().all(is_of_name) {
        return Ok(());
    }
    Err(BadState::KeyName(name.to_owned()))
}

/// How people name a certificate: the beginning of its SHA-256.
pub(crate) fn id_of(certificate: &CertificateDer<'_>) -> String {
    let mut id = hex::encode(digest(&SHA256, certificate));
    id.truncate(12);
    id
}

fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----".to_owned();
    for (position, character) in text.chars().enumerate() {
        if position % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// A time as the state has it.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// The time that the state has. One that no clock can show is as good as the year 9999: sums stay within the clock's range.
pub(crate) fn time(seconds: u64) -> SystemTime {
    const LAST: u64 = 253_402_300_799;
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}
