//! What is signed to prove an existing X.509 certificate, such as a VM's, to the CA.
//!
//! The signature covers three things, so that it is of use to nobody else, nowhere else and for no other key:
//! - a context of its own, in the form of TLS 1.3's signatures (RFC 8446 §4.4.3): what is signed for TLS, or for anything else
//!   with that key, is never such a proof, nor the other way round;
//! - the channel binding of the TLS connection on which it is sent ([`ChannelBinding`]): the same bytes on another connection
//!   prove nothing, so they can be neither replayed nor relayed;
//! - the certification request: whoever changes the key that is asked for, breaks the signature.

use std::fmt;
use std::path::PathBuf;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, ServerConnection, SignatureScheme};

use crate::proto::X509Proof;

/// The form's version: another one is another context.
const CONTEXT: &[u8] = b"Countersign, X.509 proof v1";
/// RFC 8446 §4.4.3: no text of an earlier protocol begins so.
const PADDING: [u8; 64] = [0x20; 64];
/// RFC 9266 §4.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const BINDING_BYTES: usize = 32;

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
        let bytes = [0; BINDING_BYTES];
        Ok(Self(connection.export_keying_material(
            bytes,
            LABEL,
            Some(&[]),
        )?))
    }

    /// Of a connection that this process has made.
    ///
    /// # Errors
    /// The handshake is not complete.
    pub fn of_connected(connection: &ClientConnection) -> Result<Self, rustls::Error> {
        let bytes = [0; BINDING_BYTES];
        Ok(Self(connection.export_keying_material(
            bytes,
            LABEL,
            Some(&[]),
        )?))
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

/// Why no proof can be made of a certificate.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file cannot be read.
    #[error("cannot read {what} from {path}: {error}")]
    File {
        /// The certificate chain, or the key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// The key cannot sign so.
    #[error(
        "the key in {path} cannot prove a certificate: expected a key on P-256, P-384 or Ed25519, or RSA of 2048 bits and more"
    )]
    Key {
        /// The file.
        path: PathBuf,
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
    /// Proves the certificate on a connection, for a CSR. Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or the key not be used.
    pub fn prove(&self, binding: &ChannelBinding, csr: &[u8]) -> Result<X509Proof, ProofError> {
        let failed = |what, path: &PathBuf| {
            let path = path.clone();
            move |error| ProofError::File { what, path, error }
        };
        let read = CertificateDer::pem_file_iter(&self.chain).and_then(Iterator::collect);
        let chain: Vec<CertificateDer<'static>> =
            read.map_err(failed("the certificate chain", &self.chain))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(failed("the key", &self.key))?;
        let unfit = || ProofError::Key {
            path: self.key.clone(),
        };
        let key = any_supported_type(&key).map_err(|_| unfit())?;
        let signer = key.choose_scheme(&SCHEMES).ok_or_else(unfit)?;
        let signature = signer
            .sign(&signed_content(binding, csr))
            .map_err(|_| unfit())?;
        Ok(X509Proof {
            certificate_chain: chain.iter().map(|der| der.to_vec()).collect(),
            signature_scheme: u16::from(signer.scheme()).into(),
            signature,
        })
    }
}
