//! The authorities: a root, which is believed, and an intermediate, which signs SVIDs.
//!
//! They live in the data directory:
//! - `root.key.pem` — the root's private key. Needed for a new intermediate only: it may be kept elsewhere in between.
//! - `root.pem` — the root's certificate.
//! - `intermediate.key.pem` — the intermediate's private key *and* certificate: one file, so that both are replaced at once.
//! - `bundle.pem` — the roots for everybody to read, for the first contact with this CA.
//! - the keys that sign tokens: see [`tokens`].
//!
//! What is missing at the first start is made. What is there and not right stops the start: a CA that went on with a
//! new root, because the old one's file was damaged, would cut off every workload.

mod error;
pub(crate) mod files;
mod key;
pub(crate) mod profile;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::{Bundle, SpiffeId, TrustDomain};
use rcgen::{Issuer, PublicKeyData, SigningKey as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::watch;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

pub(crate) use error::AuthorityError;
use files::{PRIVATE, PUBLIC, private_directory, read_private, read_public, write_atomically};
use key::AuthorityKey;
use profile::{INTERMEDIATE_TTL, ProfileError};
use tokens::TokenKeys;
use tokens::schedule::Lifetimes;

/// An intermediate is replaced when less than this is left of it.
const RENEW_BEFORE: Duration = Duration::from_secs(INTERMEDIATE_TTL.as_secs() / 3);

/// How long the keys for each kind of token live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenLifetimes {
    /// JWT-SVIDs.
    pub(crate) jwt: Lifetimes,
    /// WIT-SVIDs.
    pub(crate) wit: Lifetimes,
}

/// The authorities of one trust domain.
pub(crate) struct Authority {
    trust_domain: TrustDomain,
    paths: Paths,
    root: CertificateDer<'static>,
    published: watch::Sender<Arc<Published>>,
    intermediate: watch::Sender<Arc<Intermediate>>,
}

/// What is published, and the token keys that it vouches for: replaced together.
pub(crate) struct Published {
    /// The roots, and the public keys for tokens.
    pub(crate) bundle: Arc<Bundle>,
    /// The keys.
    pub(crate) token_keys: TokenKeys,
}

/// The intermediate that signs now.
pub(crate) struct Intermediate {
    issuer: Issuer<'static, AuthorityKey>,
    certificate: CertificateDer<'static>,
    not_after: SystemTime,
}

impl Intermediate {
    /// Signs an SVID for `public_key`; returns the chain up to, and without, the root.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub(crate) fn sign(
        &self,
        id: &SpiffeId,
        public_key: &impl PublicKeyData,
        (not_before, not_after): (SystemTime, SystemTime),
    ) -> Result<Vec<CertificateDer<'static>>, ProfileError> {
        let leaf = profile::leaf(id, not_before, not_after)?.signed_by(public_key, &self.issuer)?;
        Ok(vec![leaf.into(), self.certificate.clone()])
    }

    /// Signs a checkpoint of the issuance log, whose text is unlike any certificate.
    ///
    /// # Errors
    /// When the key does not sign.
    pub(crate) fn sign_checkpoint(&self, text: &[u8]) -> Result<Vec<u8>, ProfileError> {
        Ok(self.issuer.key().sign(text)?)
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

#[derive(Clone)]
struct Paths {
    root_key: PathBuf,
    root: PathBuf,
    intermediate: PathBuf,
    bundle: PathBuf,
}

impl Authority {
    /// Opens the authorities in `directory`, and makes what a first start needs.
    ///
    /// # Errors
    /// When a file is damaged, does not fit the others, or can be read by others than its owner.
    pub(crate) fn open(
        directory: &Path,
        trust_domain: &TrustDomain,
        lifetimes: TokenLifetimes,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        private_directory(directory)?;
        let paths = Paths {
            root_key: directory.join("root.key.pem"),
            root: directory.join("root.pem"),
            intermediate: directory.join("intermediate.key.pem"),
            bundle: directory.join("bundle.pem"),
        };
        let root_key = load_root_key(&paths)?;
        let (root, root_key) = match read_public(&paths.root)? {
            Some(pem) => (
                load_root(&pem, &paths, trust_domain, root_key.as_ref(), now)?,
                root_key,
            ),
            None => make_root(&paths, trust_domain, root_key, now)?,
        };
        let roots = Bundle::new(trust_domain.clone(), vec![root.clone()], 0)?;
        let intermediate = match read_private(&paths.intermediate)? {
            Some(pem) => load_intermediate(&pem, &paths, trust_domain, &root, now)?,
            None => None,
        };
        let intermediate = match intermediate {
            Some(intermediate) => intermediate,
            None => make_intermediate(&paths, trust_domain, &root, root_key, now)?,
        };
        let bundle_pem = roots.to_pem();
        if read_public(&paths.bundle)?.is_none_or(|pem| *pem != bundle_pem) {
            write_atomically(&paths.bundle, &bundle_pem, PUBLIC)?;
        }
        let TokenLifetimes { jwt, wit } = lifetimes;
        let token_keys = TokenKeys::open(directory, jwt, wit, now)?;
        let published = Published {
            bundle: Arc::new(token_keys.bundle_of(&roots)?),
            token_keys,
        };
        Ok(Self {
            trust_domain: trust_domain.clone(),
            paths,
            root,
            published: watch::Sender::new(Arc::new(published)),
            intermediate: watch::Sender::new(Arc::new(intermediate)),
        })
    }

    /// The trust domain that is issued for.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The bundle in force, and the token keys that go with it.
    pub(crate) fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow())
    }

    /// The bundle in force.
    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.published.borrow().bundle)
    }

    /// Makes and forgets token keys, when that is due. Returns whether there was anything to do.
    ///
    /// # Errors
    /// When something is due and cannot be done. What is published stays.
    pub(crate) fn rotate_token_keys_if_due(&self, now: SystemTime) -> Result<bool, AuthorityError> {
        let published = self.published();
        let Some(token_keys) = published.token_keys.rotated(now)? else {
            return Ok(false);
        };
        let bundle = Arc::new(token_keys.bundle_of(&published.bundle)?);
        self.published
            .send_replace(Arc::new(Published { bundle, token_keys }));
        Ok(true)
    }

    /// The intermediate that signs now.
    pub(crate) fn intermediate(&self) -> Arc<Intermediate> {
        Arc::clone(&self.intermediate.borrow())
    }

    /// Makes a new intermediate when a third of the old one's life is left. SVIDs of the old one stay good: their chains
    /// carry it. Returns whether one was made.
    ///
    /// # Errors
    /// When one is due and cannot be made. The old one stays.
    pub(crate) fn renew_intermediate_if_due(
        &self,
        now: SystemTime,
    ) -> Result<bool, AuthorityError> {
        if now + RENEW_BEFORE < self.intermediate().not_after {
            return Ok(false);
        }
        let root_key = load_root_key(&self.paths)?;
        let renewed =
            make_intermediate(&self.paths, &self.trust_domain, &self.root, root_key, now)?;
        self.intermediate.send_replace(Arc::new(renewed));
        Ok(true)
    }
}

fn load_root_key(paths: &Paths) -> Result<Option<AuthorityKey>, AuthorityError> {
    read_private(&paths.root_key)?
        .map(|pem| AuthorityKey::from_pem(&pem, &paths.root_key))
        .transpose()
}

/// Checks the root's certificate against its key, if that is there, and the configuration.
fn load_root(
    pem: &str,
    paths: &Paths,
    trust_domain: &TrustDomain,
    key: Option<&AuthorityKey>,
    now: SystemTime,
) -> Result<CertificateDer<'static>, AuthorityError> {
    let root = certificate(pem, &paths.root)?;
    let parsed = parse(&root, &paths.root)?;
    check_trust_domain(&parsed, &paths.root, trust_domain)?;
    check_time(&parsed, &paths.root, now)?;
    if parsed.verify_signature(None).is_err() {
        return Err(damaged(
            &paths.root,
            "a self-signed root certificate",
            "another certificate",
        ));
    }
    if key.is_some_and(|key| !belongs(key, &parsed)) {
        return Err(AuthorityError::Mismatch {
            key: paths.root_key.clone(),
            certificate: paths.root.clone(),
        });
    }
    Ok(root)
}

/// Makes a root. The key is written first: a start that was cut short between the two goes on with it.
fn make_root(
    paths: &Paths,
    trust_domain: &TrustDomain,
    key: Option<AuthorityKey>,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, Option<AuthorityKey>), AuthorityError> {
    for later in [&paths.intermediate, &paths.bundle] {
        if later.exists() {
            let (missing, present) = (paths.root.clone(), later.clone());
            return Err(AuthorityError::Incomplete { missing, present });
        }
    }
    let key = match key {
        Some(key) => key,
        None => {
            let key = AuthorityKey::generate()?;
            write_atomically(&paths.root_key, &key.to_pem(), PRIVATE)?;
            key
        }
    };
    let root = profile::root(trust_domain, now)?.self_signed(&key)?;
    write_atomically(&paths.root, &root.pem(), PUBLIC)?;
    tracing::info!(%trust_domain, path = %paths.root.display(), "root made");
    Ok((root.into(), Some(key)))
}

/// Checks the intermediate; none if its time is over, so that a new one is needed.
fn load_intermediate(
    pem: &str,
    paths: &Paths,
    trust_domain: &TrustDomain,
    root: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<Option<Intermediate>, AuthorityError> {
    let path = &paths.intermediate;
    let key = AuthorityKey::from_pem(pem, path)?;
    let certificate = certificate(pem, path)?;
    let parsed = parse(&certificate, path)?;
    check_trust_domain(&parsed, path, trust_domain)?;
    if !belongs(&key, &parsed) {
        return Err(AuthorityError::Mismatch {
            key: path.clone(),
            certificate: path.clone(),
        });
    }
    let root = parse(root, &paths.root)?;
    if parsed.verify_signature(Some(root.public_key())).is_err()
        || parsed.issuer() != root.subject()
    {
        return Err(AuthorityError::OtherRoot {
            intermediate: path.clone(),
            root: paths.root.clone(),
        });
    }
    let not_after = time(parsed.validity().not_after);
    if not_after <= now {
        return Ok(None);
    }
    check_time(&parsed, path, now)?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    Ok(Some(Intermediate {
        issuer,
        certificate,
        not_after,
    }))
}

fn make_intermediate(
    paths: &Paths,
    trust_domain: &TrustDomain,
    root: &CertificateDer<'static>,
    root_key: Option<AuthorityKey>,
    now: SystemTime,
) -> Result<Intermediate, AuthorityError> {
    let Some(root_key) = root_key else {
        return Err(AuthorityError::NoRootKey {
            path: paths.root_key.clone(),
        });
    };
    let root_not_after = time(parse(root, &paths.root)?.validity().not_after);
    let root = Issuer::from_ca_cert_der(root, root_key)?;
    let key = AuthorityKey::generate()?;
    let mut params = profile::intermediate(trust_domain, now)?;
    let not_after = (now + INTERMEDIATE_TTL).min(root_not_after);
    params.not_after = not_after.into();
    let certificate = params.signed_by(&key, &root)?;
    let pem = zeroize::Zeroizing::new(format!("{}{}", key.to_pem().as_str(), certificate.pem()));
    write_atomically(&paths.intermediate, &pem, PRIVATE)?;
    tracing::info!(%trust_domain, path = %paths.intermediate.display(), "intermediate made");
    Ok(Intermediate {
        issuer: Issuer::new(params, key),
        certificate: certificate.into(),
        not_after,
    })
}

fn damaged(path: &Path, expected: &'static str, found: impl Into<String>) -> AuthorityError {
    AuthorityError::Damaged {
        path: path.to_owned(),
        expected,
        found: found.into(),
    }
}

fn certificate(pem: &str, path: &Path) -> Result<CertificateDer<'static>, AuthorityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
        damaged(
            path,
            "a certificate in PEM",
            format!("{} bytes without one ({error})", pem.len()),
        )
    })
}

fn parse<'a>(
    der: &'a CertificateDer<'_>,
    path: &Path,
) -> Result<X509Certificate<'a>, AuthorityError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if certificate.is_ca() => Ok(certificate),
        Ok(_) => Err(damaged(
            path,
            "a signing certificate",
            "a certificate that may not sign",
        )),
        Err(error) => Err(damaged(path, "an X.509 certificate", error.to_string())),
    }
}

fn check_trust_domain(
    certificate: &X509Certificate<'_>,
    path: &Path,
    expected: &TrustDomain,
) -> Result<(), AuthorityError> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| {
            if let GeneralName::URI(uri) = name {
                Some(*uri)
            } else {
                None
            }
        })
        .collect();
    if uris == [format!("spiffe://{expected}")] {
        return Ok(());
    }
    Err(AuthorityError::OtherTrustDomain {
        path: path.to_owned(),
        found: uris.join(" "),
        expected: expected.clone(),
    })
}

fn check_time(
    certificate: &X509Certificate<'_>,
    path: &Path,
    now: SystemTime,
) -> Result<(), AuthorityError> {
    let validity = certificate.validity();
    let problem = if now < time(validity.not_before) {
        "is not valid yet"
    } else if time(validity.not_after) <= now {
        "has expired"
    } else {
        return Ok(());
    };
    Err(AuthorityError::OutOfTime {
        path: path.to_owned(),
        problem,
    })
}

fn belongs(key: &AuthorityKey, certificate: &X509Certificate<'_>) -> bool {
    key.subject_public_key_info() == certificate.public_key().raw
}

fn time(time: x509_parser::time::ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
