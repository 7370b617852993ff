//! What is signed to prove an existing X.509 certificate, such as a VM's, to the CA.
//!
//! The signature covers three things, so that it is of use to nobody else, nowhere else and for no other key:
//! - a context of its own, in the form of TLS 1.3's signatures (RFC 8446 §4.4.3): what is signed for TLS, or for anything else
//!   with that key, is never such a proof, nor the other way round;
//! - the channel binding of the TLS connection on which it is sent ([`ChannelBinding`]): the same bytes on another connection
//!   prove nothing, so they can be neither replayed nor relayed;
//! - the certification request: whoever changes the key that is asked for, breaks the signature.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, Signer};
use rustls::{
    ClientConnection, ConnectionCommon, InconsistentKeys, ServerConnection, SignatureScheme,
};
use zeroize::Zeroizing;

use crate::proto::X509Proof;

/// The form's version: another one is another context.
const CONTEXT: &[u8] = b"Countersign, X.509 proof v1";
/// RFC 8446 §4.4.3: no text of an earlier protocol begins so.
const PADDING: [u8; 64] = [0x20; 64];
/// RFC 9266 §4.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const BINDING_BYTES: usize = 32;
/// The most that is read of a file, in bytes: a chain has a few kilobytes.
const MAX_FILE: u64 = 1024 * 1024;

/// `tls-exporter` (RFC 9266): 32 bytes that both ends of one TLS 1.3 connection know, that no other connection has, and that
/// nobody can choose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChannelBinding([u8; BINDING_BYTES]);

impl ChannelBinding {
    /// Of a connection that this process has accepted.
    ///
    /// # Errors
    /// The handshake is not complete.
    pub fn of_accepted(connection: &ServerConnection) -> Result<Self, rustls::Error> {
        Self::of(connection)
    }

    /// Of a connection that this process has made.
    ///
    /// # Errors
    /// The handshake is not complete.
    pub fn of_connected(connection: &ClientConnection) -> Result<Self, rustls::Error> {
        Self::of(connection)
    }

    fn of<Side>(connection: &ConnectionCommon<Side>) -> Result<Self, rustls::Error> {
        let bytes = [0; BINDING_BYTES];
        let bytes = connection.export_keying_material(bytes, LABEL, Some(&[]))?;
        Ok(Self(bytes))
    }

    /// One that a test has made up.
    #[doc(hidden)]
    #[must_use]
    pub const fn made_up(bytes: [u8; BINDING_BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ChannelBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelBinding")
    }
}

/// The bytes to be signed. All parts but the last have a fixed length, so that no two proofs have the same bytes.
#[must_use]
pub fn signed_content(binding: &ChannelBinding, csr: &[u8]) -> Vec<u8> {
    [&PADDING, CONTEXT, &[0], &binding.0, csr].concat()
}

/// The schemes in which proofs are made: those of TLS 1.3 that the CA accepts.
const SCHEMES: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
];

/// Why no proof can be made of a certificate. Of a key, nothing is told but where it is.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{}: expected {expected}, and there is none", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A certificate that is none.
    #[error("{}: the first certificate cannot be read: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key cannot sign so.
    #[error(
        "the key in {} cannot prove a certificate: expected a key on P-256, P-384 or Ed25519, or RSA of 2048 bits and more",
        path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The key is not the certificate's.
    #[error(
        "the key in {} is not that of the first certificate in {}: the chain starts with the certificate of the key",
        key.display(), chain.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        chain: PathBuf,
    },
}

/// A certificate with its intermediates, the leaf first, and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain.
    pub chain: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, the key not be used, or it is another certificate's.
    pub fn read(&self) -> Result<Certificate, ProofError> {
        let content = |path: &Path, expected| ProofError::Content {
            path: path.to_owned(),
            expected,
        };
        let chain = CertificateDer::pem_slice_iter(&read_file(&self.chain)?)
            .collect::<Result<Vec<_>, _>>()
            .ok()
            .filter(|chain| !chain.is_empty())
            .ok_or_else(|| content(&self.chain, "certificates in PEM, the leaf first"))?;
        let key = PrivateKeyDer::from_pem_slice(&read_file(&self.key)?)
            .map_err(|_| content(&self.key, "a private key in PEM, not encrypted"))?;
        let unfit = || ProofError::Key {
            path: self.key.clone(),
        };
        let key = any_supported_type(&key).map_err(|_| unfit())?;
        let signer = key.choose_scheme(&SCHEMES).ok_or_else(unfit)?;
        match CertifiedKey::new(chain.clone(), key).keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(ProofError::Mismatch {
                    key: self.key.clone(),
                    chain: self.chain.clone(),
                });
            }
            Err(source) => {
                return Err(ProofError::Certificate {
                    path: self.chain.clone(),
                    source,
                });
            }
        }
        Ok(Certificate {
            chain,
            signer,
            key_file: self.key.clone(),
        })
    }
}

/// The files' bytes; those of a key leave nothing behind in memory.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, ProofError> {
    let mut bytes = Zeroizing::new(Vec::new());
    fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|source| ProofError::Read {
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

/// A certificate whose key is at hand.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    signer: Box<dyn Signer>,
    /// For errors.
    key_file: PathBuf,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

impl Certificate {
    /// Proves the certificate on a connection, for a CSR.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn prove(&self, binding: &ChannelBinding, csr: &[u8]) -> Result<X509Proof, ProofError> {
        let signature = self
            .signer
            .sign(&signed_content(binding, csr))
            .map_err(|_| ProofError::Key {
                path: self.key_file.clone(),
            })?;
        Ok(X509Proof {
            certificate_chain: self.chain.iter().map(|der| der.to_vec()).collect(),
            signature_scheme: u16::from(self.signer.scheme()).into(),
            signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> CertificateFiles {
            fs::write(self.path(name), text).unwrap();
            self.files()
        }

        fn files(&self) -> CertificateFiles {
            CertificateFiles {
                chain: self.path("vm.pem"),
                key: self.path("vm.key"),
            }
        }
    }

    #[test]
    fn what_cannot_prove_a_certificate_is_told_without_the_key() {
        let place = Place(tempfile::tempdir().unwrap());
        let told = |files: CertificateFiles| files.read().unwrap_err().to_string();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        assert!(told(place.files()).contains("vm.pem: No such file"));
        let empty = told(place.write("vm.pem", ""));
        assert!(
            empty.contains("vm.pem: expected certificates in PEM"),
            "{empty}"
        );
        place.write("vm.pem", &certificate.pem());
        let missing = told(place.files());
        assert!(missing.contains("vm.key: No such file"), "{missing}");
        let wrong = told(place.write("vm.key", &certificate.pem()));
        assert!(
            wrong.contains("vm.key: expected a private key in PEM"),
            "{wrong}"
        );
        let small = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let unfit = told(place.write("vm.key", &small.serialize_pem()));
        assert!(
            unfit.contains("vm.key cannot prove a certificate"),
            "{unfit}"
        );
        let other = KeyPair::generate().unwrap();
        let mismatch = told(place.write("vm.key", &other.serialize_pem()));
        assert!(
            mismatch.contains("is not that of the first certificate"),
            "{mismatch}"
        );

        let files = place.write("vm.key", &key.serialize_pem());
        let read = files.read().unwrap();
        let secret = key.serialize_pem();
        let secret = secret.lines().nth(1).unwrap();
        assert!(!format!("{read:?} {files:?}").contains(secret));
        let proof = read
            .prove(&ChannelBinding::made_up([7; 32]), b"csr")
            .unwrap();
        assert_eq!(proof.certificate_chain, [certificate.der().to_vec()]);
    }
}
