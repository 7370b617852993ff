//! An upstream root: an external one, which only signs the intermediate. Here a request is made, the root signs it wherever
//! it is kept, and what it signed is checked and installed.

use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_identity::svid::SigningChain;
use countersign_identity::{Bundle, SpiffeId, SvidError, SvidKey, TrustDomain};
use rcgen::PublicKeyData as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::authorities::{Authorities, new_name};
use super::certificate::{self, CertificateError};
use super::keys::KeyHandle;
use super::profile;
use super::state::{IntermediateRecord, Phase, Root, State, id_of};
use super::{AuthorityError, Intermediate};
use crate::csr;

/// Why a certificate is not installed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// Not a chain.
    #[error("expected certificates in PEM, the intermediate first, then its root: {0}")]
    Chain(String),
    /// Nothing was asked for.
    #[error("no request is waiting for an answer: make one with `countersign-ca csr`")]
    NoRequest,
    /// The key of the request is gone.
    #[error(
        "the private key of the request is not there any more ({0}): make another one with `countersign-ca csr`"
    )]
    NoKey(String),
    /// An answer to another request.
    #[error(
        "the certificate is for the public key {found}…, the request is for {expected}… (SHA-256 of SubjectPublicKeyInfo): \
         it is the answer to another request. `countersign-ca csr` prints the one that is waiting"
    )]
    OtherKey {
        /// The certificate's.
        found: String,
        /// The request's.
        expected: String,
    },
    /// A certificate cannot be read, or is of another kind.
    #[error("the {which}: {error}")]
    Certificate {
        /// Intermediate or root.
        which: &'static str,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// It may do less, or more, than an intermediate of this CA.
    #[error(
        "the intermediate: expected {expected}, found {found}; have the root sign it with these extensions"
    )]
    Extension {
        /// What it has to say.
        expected: String,
        /// What it says.
        found: String,
    },
    /// It ends too late or too soon.
    #[error("the intermediate: {0}")]
    Validity(String),
    /// Signed by nobody that is known.
    #[error(
        "the intermediate is signed by no root of the bundle, nor by one in the file. Add the root's certificate to the \
         file, after the intermediate"
    )]
    NoRoot,
    /// Signed by a root that nobody believes yet.
    #[error(
        "the intermediate is signed by the root {0}, which is not in the bundle yet, so that nobody could verify what it \
         signs. Publish it first: `countersign-ca root prepare --certificate ROOT.pem`, then install the chain again, then \
         `countersign-ca root activate`"
    )]
    UnknownRoot(String),
    /// Signed by a root of the past.
    #[error(
        "the intermediate is signed by the root {id}, which is {phase}: expected the active or the prepared one"
    )]
    PastRoot {
        /// The root.
        id: String,
        /// Its phase.
        phase: &'static str,
    },
    /// Peers would not believe it.
    #[error("an SVID that this intermediate signs is not believed: {0}")]
    NotBelieved(SvidError),
}

impl Authorities {
    /// A certification request in PEM (RFC 2986) for an intermediate; the same one until its answer is installed.
    ///
    /// # Errors
    /// When there is no place for its key.
    pub(crate) async fn request(&self) -> Result<String, AuthorityError> {
        let locked = self.ledger.lock().await?;
        let mut state = locked
            .state
            .clone()
            .unwrap_or_else(|| State::new(&self.trust_domain));
        let waiting = match &state.requested_key {
            Some(name) => self.keys.load(name).await?,
            None => None,
        };
        let key = match waiting {
            Some(key) => key,
            None => {
                let name = new_name("intermediate")?;
                let key = self.keys.generate(&name).await?;
                state.requested_key = Some(name);
                locked.save(&state).await?;
                key
            }
        };
        let params = profile::intermediate_request(&self.trust_domain)?;
        let signer = key.clone();
        let request = key
            .signing(move || Ok(params.serialize_request(&signer)?.pem()?))
            .await?;
        Ok(request)
    }

    /// Checks what the root signed, and puts it in force: at once if its root is active, else as soon as that is.
    ///
    /// # Errors
    /// When it is not an intermediate for this CA.
    pub(crate) async fn install(
        &self,
        chain: &str,
        now: SystemTime,
    ) -> Result<String, AuthorityError> {
        let (intermediate, rest) = read_chain(chain)?;
        let locked = self.ledger.lock().await?;
        let mut state = locked
            .state
            .clone()
            .unwrap_or_else(|| State::new(&self.trust_domain));
        let id = id_of(&intermediate);
        if state.intermediates.iter().any(|record| record.id == id) {
            self.put_in_force(locked, state).await?;
            return Ok(format!("the intermediate {id} is installed already"));
        }
        let name = state.requested_key.clone().ok_or(InstallError::NoRequest)?;
        let key = self.keys.load(&name).await?;
        let key = key.ok_or_else(|| InstallError::NoKey(self.keys.place(&name)))?;
        let parsed = certificate::parse(&intermediate).map_err(of("intermediate"))?;
        check_key(&parsed, &key)?;
        self.check_intermediate(&parsed, now)?;
        let (root, phase) = self.root_of(&state, &parsed, &rest, now)?;
        check_ends(&parsed, &root)?;
        self.check_as_peers_do(&intermediate, key, &root, now)
            .await?;

        let record = IntermediateRecord::new(&intermediate, name, &id_of(&root), now);
        state.requested_key = None;
        state.replace_intermediates(Some(&record.root), now);
        let message = match phase {
            Some(Phase::Prepared) => format!(
                "the intermediate {id} is installed; it signs when its root {} is activated: `countersign-ca root activate`",
                record.root
            ),
            _ => format!("the intermediate {id} is installed, and signs from now on"),
        };
        if phase.is_none() {
            state.roots.push(Root::new(&root, None, Phase::Active, now));
            state.published(now);
        }
        state.intermediates.push(record);
        self.put_in_force(locked, state).await?;
        Ok(message)
    }

    fn check_intermediate(
        &self,
        parsed: &X509Certificate<'_>,
        now: SystemTime,
    ) -> Result<(), InstallError> {
        check_extensions(parsed)?;
        check_names(parsed, &self.trust_domain)?;
        certificate::check_time(parsed, now).map_err(of("intermediate"))?;
        let (_, not_after) = certificate::validity(parsed);
        let needed = self.config.longest_svid * 2;
        if not_after < now + needed {
            return Err(InstallError::Validity(format!(
                "expected it to be valid for at least {} s, twice the longest SVID, found {} s",
                needed.as_secs(),
                not_after.duration_since(now).unwrap_or_default().as_secs()
            )));
        }
        Ok(())
    }

    /// The root that signed, and its phase; none if it is the first one of this CA.
    fn root_of(
        &self,
        state: &State,
        intermediate: &X509Certificate<'_>,
        given: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<(CertificateDer<'static>, Option<Phase>), AuthorityError> {
        let signed = |root: &CertificateDer<'_>| {
            certificate::parse(root)
                .is_ok_and(|root| certificate::is_signed_by(intermediate, &root))
        };
        for root in &state.roots {
            let der = self.root_der(root)?;
            if signed(&der) {
                return match root.phase {
                    Phase::Active | Phase::Prepared => Ok((der, Some(root.phase))),
                    phase => Err(InstallError::PastRoot {
                        id: root.id.clone(),
                        phase: phase.name(),
                    }
                    .into()),
                };
            }
        }
        let root = given.iter().find(|root| signed(root));
        let root = root.ok_or(InstallError::NoRoot)?;
        check_external_root(root, &self.trust_domain, now)?;
        if state.the(Phase::Active).is_some() {
            return Err(InstallError::UnknownRoot(id_of(root)).into());
        }
        Ok((root.clone(), None))
    }

    /// What counts in the end: whether a peer that has only the root believes an SVID of it.
    async fn check_as_peers_do(
        &self,
        intermediate: &CertificateDer<'static>,
        key: KeyHandle,
        root: &CertificateDer<'static>,
        now: SystemTime,
    ) -> Result<(), AuthorityError> {
        let not_believed = |error| AuthorityError::from(InstallError::NotBelieved(error));
        SigningChain::new(vec![intermediate.clone()]).map_err(not_believed)?;
        let signer = Intermediate::new(intermediate.clone(), key)?;
        let id = format!(
            "spiffe://{}/ns/countersign-system/sa/test",
            self.trust_domain
        );
        let request = SvidKey::generate().and_then(|key| key.csr_der());
        let (Ok(id), Ok(request)) = (SpiffeId::parse(&id), request) else {
            return Err(profile::ProfileError::NoRandomness.into());
        };
        let Ok(proved) = csr::check(&request) else {
            return Err(profile::ProfileError::NoRandomness.into());
        };
        let validity = (now, now + std::time::Duration::from_mins(1));
        let leaf = signer.sign(&id, proved.public_key(), validity).await?;
        let bundle = Bundle::new(self.trust_domain.clone(), vec![root.clone()], 0)?;
        signer
            .svid(leaf)
            .and_then(|svid| svid.verify(&bundle, now))
            .map_err(not_believed)
    }
}

/// Whether a certificate can be an external root of this trust domain.
///
/// # Errors
/// When not.
pub(super) fn check_external_root(
    der: &CertificateDer<'static>,
    trust_domain: &TrustDomain,
    now: SystemTime,
) -> Result<(), AuthorityError> {
    let root = certificate::parse(der).map_err(of("root"))?;
    certificate::check_time(&root, now).map_err(of("root"))?;
    // Roots of an existing PKI need not name the trust domain; one that names another is a mistake.
    let is_other =
        |uri: &&str| uri.starts_with("spiffe:") && **uri != format!("spiffe://{trust_domain}");
    if let Some(other) = certificate::uris(&root).iter().find(|uri| is_other(uri)) {
        let error = CertificateError::OtherTrustDomain {
            found: (*other).to_owned(),
            expected: trust_domain.clone(),
        };
        return Err(of("root")(error).into());
    }
    if !certificate::is_signed_by(&root, &root) {
        let error = CertificateError::Der("it is not signed by itself".to_owned());
        return Err(of("root")(error).into());
    }
    Bundle::new(trust_domain.clone(), vec![der.clone()], 0)?;
    Ok(())
}

fn of(which: &'static str) -> impl Fn(CertificateError) -> InstallError {
    move |error| InstallError::Certificate { which, error }
}

/// Reads a chain: certificates, and nothing else.
pub(crate) fn read_chain(
    pem: &str,
) -> Result<(CertificateDer<'static>, Vec<CertificateDer<'static>>), InstallError> {
    let mut certificates = Vec::new();
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        match block.map_err(|error| InstallError::Chain(error.to_string()))? {
            (SectionKind::Certificate, der) => certificates.push(CertificateDer::from(der)),
            (kind, _) => {
                return Err(InstallError::Chain(format!(
                    "found a {kind:?}, which does not belong here"
                )));
            }
        }
    }
    let mut certificates = certificates.into_iter();
    let first = certificates
        .next()
        .ok_or_else(|| InstallError::Chain("found none".to_owned()))?;
    Ok((first, certificates.collect()))
}

fn check_key(parsed: &X509Certificate<'_>, key: &KeyHandle) -> Result<(), InstallError> {
    if certificate::is_for(parsed, key) {
        return Ok(());
    }
    let shown = |spki: &[u8]| {
        let mut hash = hex::encode(digest(&SHA256, spki));
        hash.truncate(16);
        hash
    };
    Err(InstallError::OtherKey {
        found: shown(parsed.public_key().raw),
        expected: shown(&key.subject_public_key_info()),
    })
}

fn check_extensions(parsed: &X509Certificate<'_>) -> Result<(), InstallError> {
    let constraints = parsed.basic_constraints().ok().flatten();
    let length = constraints.and_then(|constraints| constraints.value.path_len_constraint);
    if length != Some(0) {
        return Err(InstallError::Extension {
            expected: "basicConstraints = critical, CA:TRUE, pathlen:0".to_owned(),
            found: length.map_or("no pathlen".to_owned(), |length| {
                format!("pathlen:{length}")
            }),
        });
    }
    let usage = parsed.key_usage().ok().flatten();
    if !usage
        .as_ref()
        .is_some_and(|usage| usage.value.key_cert_sign())
    {
        return Err(InstallError::Extension {
            expected: "keyUsage = critical, keyCertSign, cRLSign".to_owned(),
            found: usage.map_or("no key usage".to_owned(), |usage| usage.value.to_string()),
        });
    }
    Ok(())
}

/// The trust domain must stand in it: as its URI name, or as the only name that it may sign for.
fn check_names(
    parsed: &X509Certificate<'_>,
    trust_domain: &TrustDomain,
) -> Result<(), InstallError> {
    let expected = format!(
        "subjectAltName = URI:spiffe://{trust_domain}, or nameConstraints = critical, permitted;URI:{trust_domain}"
    );
    let is_ours = |uri: &str| uri == format!("spiffe://{trust_domain}");
    let uris = certificate::uris(parsed);
    if let Some(other) = uris
        .iter()
        .find(|uri| uri.starts_with("spiffe:") && !is_ours(uri))
    {
        let found = format!("URI:{other}");
        return Err(InstallError::Extension { expected, found });
    }
    let constraints =
        parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::NameConstraints(constraints) => Some(constraints),
                _ => None,
            });
    let permitted: Vec<&str> = constraints
        .and_then(|constraints| constraints.permitted_subtrees.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|subtree| match &subtree.base {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let constrained = permitted.contains(&trust_domain.as_str());
    if !permitted.is_empty() && !constrained {
        let found = format!("permitted;URI:{}", permitted.join(", URI:"));
        return Err(InstallError::Extension { expected, found });
    }
    if constrained || uris.iter().any(|uri| is_ours(uri)) {
        return Ok(());
    }
    let found = "neither".to_owned();
    Err(InstallError::Extension { expected, found })
}

fn check_ends(
    intermediate: &X509Certificate<'_>,
    root: &CertificateDer<'_>,
) -> Result<(), InstallError> {
    let root = certificate::parse(root).map_err(of("root"))?;
    let (_, ends) = certificate::validity(intermediate);
    let (_, root_ends) = certificate::validity(&root);
    if ends <= root_ends {
        return Ok(());
    }
    Err(InstallError::Validity(
        "it is valid for longer than its root; have the root sign it for less".to_owned(),
    ))
}
