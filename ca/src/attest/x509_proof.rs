//! X.509 proof: an existing certificate of a configured root, such as a VM's that its cloud or its TPM enrolment has issued.
//!
//! The caller sends the chain with a signature by the leaf's key over this connection and this certification request; see
//! [`countersign_api::x509_proof`] for why it can be neither replayed nor relayed. Whether the certificate has been revoked is
//! not asked: its roots are to issue for a short time, or allow rules are to name what is still good.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_api::x509_proof::{ChannelBinding, signed_content};
use rustls::SignatureScheme;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, aws_lc_rs as algorithms};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::allow::{AllowRules, NotAllowed};
use super::certificate::{facts, serial};
use super::template::{FieldError, Template};
use super::{Attested, Kind, MeshPart, guard_mesh_parts};
use crate::refusal::Refusal;

/// The longest chain, without its root, and the largest certificate in it.
const MAX_CHAIN: usize = 6;
const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;

/// One set of roots, as configured.
#[derive(Debug)]
pub(crate) struct RootsConfig {
    /// What the log and refusals call it.
    pub(crate) name: String,
    /// PEM file of the roots.
    pub(crate) file: PathBuf,
    /// Which of their certificates are let in.
    pub(crate) allow: AllowRules,
    /// Which SPIFFE ID they prove.
    pub(crate) template: Template,
}

/// Why configured roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsError {
    /// The file cannot be read.
    #[error("x509Proof {name:?}: cannot read roots from {file}: {error}")]
    File {
        /// Its name.
        name: String,
        /// The file.
        file: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// A certificate that is none.
    #[error("x509Proof {name:?}: {file} has a certificate that cannot be a root: {error}")]
    NotARoot {
        /// Its name.
        name: String,
        /// The file.
        file: PathBuf,
        /// Why.
        error: webpki::Error,
    },
    /// No certificate.
    #[error("x509Proof {name:?}: {file} has no certificate")]
    Empty {
        /// Its name.
        name: String,
        /// The file.
        file: PathBuf,
    },
    /// The mesh's own root.
    #[error(
        "x509Proof {name:?}: {file} has this CA's own root; its SVIDs are renewed, and prove no other identity"
    )]
    OwnRoot {
        /// Its name.
        name: String,
        /// The file.
        file: PathBuf,
    },
}

/// What a caller shows.
pub(crate) struct Proof {
    /// The leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// As TLS numbers them (RFC 8446 §4.2.3).
    pub(crate) scheme: u32,
    /// Over [`signed_content`].
    pub(crate) signature: Vec<u8>,
}

/// Why a certificate proves nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum X509ProofError {
    /// Nothing is configured.
    #[error(
        "no roots are configured for certificates: `x509Proof` of the CA's configuration is empty"
    )]
    NoRoots,
    /// No chain, or too much of one.
    #[error(
        "expected a chain of 1 to {MAX_CHAIN} certificates of at most {MAX_CERTIFICATE_BYTES} bytes, the leaf first"
    )]
    Chain,
    /// The leaf cannot be read.
    #[error("the leaf is not an X.509 certificate that can be read, names included")]
    Malformed,
    /// No root leads to it.
    #[error("the certificate is not accepted by the roots {tried}: {error}")]
    NotTrusted {
        /// The names of those that were tried.
        tried: String,
        /// What the last of them said.
        error: webpki::Error,
    },
    /// A certificate that does not say that it is for clients.
    #[error("the certificate does not say that it is for clients (extended key usage clientAuth)")]
    Purpose,
    /// A key that is not to sign.
    #[error("the certificate's key usage does not allow signatures (digitalSignature)")]
    KeyUsage,
    /// An algorithm that is not accepted.
    #[error(
        "the signature scheme {0:#06x} is not accepted; expected ECDSA on P-256 or P-384, Ed25519, or RSA-PSS of 2048 bits and more, \
         as TLS 1.3 has them"
    )]
    Scheme(u32),
    /// Not signed by the leaf's key, or for another connection or request.
    #[error(
        "the proof is not signed by the key of the certificate for this connection and this certification request"
    )]
    Signature,
    /// No rule lets it in.
    #[error("roots {name:?}: {error}")]
    NotAllowed {
        /// The roots.
        name: String,
        /// What became of each rule.
        error: NotAllowed,
    },
    /// Its fields make no SPIFFE ID.
    #[error("roots {name:?}: {error}")]
    Fields {
        /// The roots.
        name: String,
        /// Why not.
        error: FieldError,
    },
    /// It would be one of the mesh's own parts.
    #[error("roots {name:?}: {error}")]
    MeshPart {
        /// The roots.
        name: String,
        /// Which, and what to do.
        error: MeshPart,
    },
}

impl X509ProofError {
    /// Whether the certificate is good, and may not be what it asks for.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::NotAllowed { .. } | Self::Fields { .. } | Self::MeshPart { .. }
        )
    }
}

/// Every configured set of roots.
pub(crate) struct X509Proofs(Vec<Roots>);

struct Roots {
    name: String,
    anchors: Vec<TrustAnchor<'static>>,
    allow: AllowRules,
    template: Template,
}

impl X509Proofs {
    /// Reads the roots.
    ///
    /// # Errors
    /// A file that cannot be used, or has one of `own`: the mesh's roots.
    pub(crate) fn read(
        configs: Vec<RootsConfig>,
        own: &[CertificateDer<'static>],
    ) -> Result<Self, RootsError> {
        let roots = configs.into_iter().map(|config| Roots::read(config, own));
        Ok(Self(roots.collect::<Result<_, _>>()?))
    }

    /// The identity that `proof` proves. The steps: the chain leads to configured roots, now, and is for clients; its key has
    /// signed this connection and this request; then the allow rules, and the SPIFFE ID.
    ///
    /// # Errors
    /// When it proves none.
    pub(crate) fn attest(
        &self,
        proof: &Proof,
        binding: &ChannelBinding,
        csr: &[u8],
        now: SystemTime,
    ) -> Result<Attested, Refusal> {
        Ok(self.identify(proof, binding, csr, now)?)
    }

    fn identify(
        &self,
        proof: &Proof,
        binding: &ChannelBinding,
        csr: &[u8],
        now: SystemTime,
    ) -> Result<Attested, X509ProofError> {
        if self.0.is_empty() {
            return Err(X509ProofError::NoRoots);
        }
        let (leaf, intermediates) = split(&proof.chain)?;
        let end_entity = EndEntityCert::try_from(leaf).map_err(|_| X509ProofError::Malformed)?;
        let roots = self.trusting(&end_entity, intermediates, now)?;
        let Ok(([], certificate)) = X509Certificate::from_der(leaf) else {
            return Err(X509ProofError::Malformed);
        };
        check_key_usage(&certificate)?;
        let algorithm = algorithm(proof.scheme)?;
        end_entity
            .verify_signature(algorithm, &signed_content(binding, csr), &proof.signature)
            .map_err(|_| X509ProofError::Signature)?;
        roots.identify(&certificate)
    }

    /// The first roots that accept the chain.
    fn trusting(
        &self,
        leaf: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<&Roots, X509ProofError> {
        let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(since_1970);
        let mut last = webpki::Error::UnknownIssuer;
        for roots in &self.0 {
            let verified = leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &roots.anchors,
                intermediates,
                now,
                // Of the whole path, where it says; that the leaf has to say it is checked below.
                KeyUsage::client_auth(),
                None,
                None,
            );
            match verified {
                Ok(_) => return Ok(roots),
                Err(error) => last = error,
            }
        }
        let names: Vec<String> = self
            .0
            .iter()
            .map(|roots| format!("{:?}", roots.name))
            .collect();
        Err(X509ProofError::NotTrusted {
            tried: names.join(", "),
            error: last,
        })
    }
}

impl Roots {
    fn read(config: RootsConfig, own: &[CertificateDer<'static>]) -> Result<Self, RootsError> {
        let RootsConfig {
            name,
            file,
            allow,
            template,
        } = config;
        let read = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
        let certificates: Vec<CertificateDer<'static>> = match read {
            Ok(certificates) => certificates,
            Err(error) => return Err(RootsError::File { name, file, error }),
        };
        if certificates.is_empty() {
            return Err(RootsError::Empty { name, file });
        }
        if certificates.iter().any(|root| own.contains(root)) {
            return Err(RootsError::OwnRoot { name, file });
        }
        let anchors = certificates
            .iter()
            .map(|root| webpki::anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned()));
        match anchors.collect() {
            Ok(anchors) => Ok(Self {
                name,
                anchors,
                allow,
                template,
            }),
            Err(error) => Err(RootsError::NotARoot { name, file, error }),
        }
    }

    fn identify(&self, certificate: &X509Certificate<'_>) -> Result<Attested, X509ProofError> {
        let name = || self.name.clone();
        let facts = facts(certificate).ok_or(X509ProofError::Malformed)?;
        self.allow
            .check(&facts)
            .map_err(|error| X509ProofError::NotAllowed {
                name: name(),
                error,
            })?;
        let id = self
            .template
            .apply(&facts)
            .map_err(|error| X509ProofError::Fields {
                name: name(),
                error,
            })?;
        guard_mesh_parts(&id, &self.template).map_err(|error| X509ProofError::MeshPart {
            name: name(),
            error,
        })?;
        let detail = format!("roots {:?}, serial {}", self.name, serial(certificate));
        Ok(Attested::new(id, Kind::X509Proof, detail))
    }
}

fn split<'a>(
    chain: &'a [CertificateDer<'static>],
) -> Result<(&'a CertificateDer<'static>, &'a [CertificateDer<'static>]), X509ProofError> {
    let fits = |certificate: &CertificateDer<'_>| certificate.len() <= MAX_CERTIFICATE_BYTES;
    match chain.split_first() {
        Some(split) if chain.len() <= MAX_CHAIN && chain.iter().all(fits) => Ok(split),
        _ => Err(X509ProofError::Chain),
    }
}

/// RFC 5280 §4.2.1.12, which must be there, and §4.2.1.3: where it is, it says what the key is for.
fn check_key_usage(certificate: &X509Certificate<'_>) -> Result<(), X509ProofError> {
    match certificate.extended_key_usage() {
        Ok(Some(purposes)) if purposes.value.client_auth => {}
        Ok(_) => return Err(X509ProofError::Purpose),
        Err(_) => return Err(X509ProofError::Malformed),
    }
    match certificate.key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.digital_signature() => Ok(()),
        Ok(Some(_)) => Err(X509ProofError::KeyUsage),
        Err(_) => Err(X509ProofError::Malformed),
    }
}

/// The schemes of TLS 1.3 (RFC 8446 §4.2.3): no SHA-1, and no PKCS #1 v1.5.
fn algorithm(scheme: u32) -> Result<&'static dyn SignatureVerificationAlgorithm, X509ProofError> {
    let unknown = || X509ProofError::Scheme(scheme);
    let number = u16::try_from(scheme).map_err(|_| unknown())?;
    match SignatureScheme::from(number) {
        SignatureScheme::ECDSA_NISTP256_SHA256 => Ok(algorithms::ECDSA_P256_SHA256),
        SignatureScheme::ECDSA_NISTP384_SHA384 => Ok(algorithms::ECDSA_P384_SHA384),
        SignatureScheme::ED25519 => Ok(algorithms::ED25519),
        SignatureScheme::RSA_PSS_SHA256 => Ok(algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY),
        SignatureScheme::RSA_PSS_SHA384 => Ok(algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY),
        SignatureScheme::RSA_PSS_SHA512 => Ok(algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests;
