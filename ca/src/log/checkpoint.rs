//! Checkpoints: at every commit, the head of the log, signed by the intermediate that signs the certificates. Who can
//! write to the database, and has none of the CA's keys, cannot make another log pass for this one; but can cut the newest
//! entries off together with their checkpoints, which only an anchor kept elsewhere shows.
//!
//! Version 1. What is signed, with ECDSA on P-256 and SHA-256, in ASN.1 (RFC 3279 §2.2.3), is this text:
//! ```text
//! countersign-issuance-log/1 checkpoint
//! TRUST DOMAIN
//! NUMBER:HASH
//! MILLISECONDS SINCE 1970
//! ```
//! It begins like no certificate does, so that a signature on one never is a signature on the other.

use std::collections::HashMap;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use chrono::DateTime;
use countersign_identity::{Bundle, TrustDomain};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::chain::Head;
use crate::authority::Intermediate;
use crate::authority::profile::ProfileError;
use crate::store::issuance_log::Checkpoint;
use crate::store::milliseconds;

/// Signs what the head is.
pub(crate) async fn sign(
    head: &Head,
    trust_domain: &TrustDomain,
    signer: &Intermediate,
    now: SystemTime,
) -> Result<Checkpoint, ProfileError> {
    let time = milliseconds(now);
    let signature = signer
        .sign_checkpoint(message(head, trust_domain, time).as_bytes())
        .await?;
    Ok(Checkpoint {
        sequence: head.row(),
        hash: head.hash().to_vec(),
        time,
        signer: fingerprint(signer.certificate()),
        signature,
    })
}

/// How the database names a certificate: SHA-256.
pub(crate) fn fingerprint(certificate: &[u8]) -> Vec<u8> {
    digest(&SHA256, certificate).as_ref().to_vec()
}

fn message(head: &Head, trust_domain: &TrustDomain, time: i64) -> String {
    format!("countersign-issuance-log/1 checkpoint\n{trust_domain}\n{head}\n{time}\n")
}

/// Why a checkpoint proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// The hash of another entry.
    #[error(
        "its checkpoint is of another hash, {found}: this entry, or one before it, was changed after it was signed"
    )]
    OtherHash {
        /// The checkpoint's.
        found: String,
    },
    /// Nobody's.
    #[error("the signer of its checkpoint, {0}, has no certificate in the database")]
    UnknownSigner(String),
    /// A certificate that is none, or of another purpose.
    #[error(
        "the signer of its checkpoint, {0}, has a certificate that is not one of an authority of this trust domain"
    )]
    NoAuthority(String),
    /// Not ours.
    #[error(
        "the signer of its checkpoint, {0}, was certified by none of the roots of the bundle. If a root was replaced, give \
         the bundle with the old one too: --bundle"
    )]
    OtherRoot(String),
    /// Signed before or after the time of the certificate.
    #[error(
        "its checkpoint says that it was signed when the certificate of its signer, {0}, was not valid"
    )]
    OutOfTime(String),
    /// Not signed.
    #[error("the signature of its checkpoint is not good")]
    Signature,
}

/// Who may have signed.
pub(crate) struct Signers<'a> {
    trust_domain: &'a TrustDomain,
    certificates: HashMap<Vec<u8>, Result<Signer, CheckpointError>>,
}

struct Signer {
    public_key: Vec<u8>,
    /// Seconds since 1970.
    not_before: i64,
    not_after: i64,
}

impl<'a> Signers<'a> {
    /// Those that the database knows, judged by the roots of `bundle`.
    pub(crate) fn new(
        known: Vec<(Vec<u8>, Vec<u8>)>,
        bundle: &Bundle,
        trust_domain: &'a TrustDomain,
    ) -> Self {
        let judge = |(named, certificate): (Vec<u8>, Vec<u8>)| {
            let signer = if fingerprint(&certificate) == named {
                Signer::read(&certificate, &hex::encode(&named), bundle)
            } else {
                Err(CheckpointError::NoAuthority(hex::encode(&named)))
            };
            (named, signer)
        };
        Self {
            trust_domain,
            certificates: known.into_iter().map(judge).collect(),
        }
    }

    /// Whether one of them signed that the log's head was `head`.
    ///
    /// # Errors
    /// When not.
    pub(crate) fn verify(
        &self,
        checkpoint: &Checkpoint,
        head: &Head,
    ) -> Result<(), CheckpointError> {
        if checkpoint.hash != head.hash() {
            return Err(CheckpointError::OtherHash {
                found: hex::encode(&checkpoint.hash),
            });
        }
        let name = || hex::encode(&checkpoint.signer);
        let signer = self
            .certificates
            .get(&checkpoint.signer)
            .ok_or_else(|| CheckpointError::UnknownSigner(name()))?
            .as_ref()
            .map_err(Clone::clone)?;
        let message = message(head, self.trust_domain, checkpoint.time);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &signer.public_key)
            .verify(message.as_bytes(), &checkpoint.signature)
            .map_err(|_| CheckpointError::Signature)?;
        let seconds = DateTime::from_timestamp_millis(checkpoint.time).map(|time| time.timestamp());
        if seconds.is_none_or(|time| time < signer.not_before || time > signer.not_after) {
            return Err(CheckpointError::OutOfTime(name()));
        }
        Ok(())
    }
}

impl Signer {
    fn read(certificate: &[u8], name: &str, bundle: &Bundle) -> Result<Self, CheckpointError> {
        let no_authority = || CheckpointError::NoAuthority(name.to_owned());
        let Ok(([], parsed)) = X509Certificate::from_der(certificate) else {
            return Err(no_authority());
        };
        if !parsed.is_ca() {
            return Err(no_authority());
        }
        let of_root = |root: &[u8]| {
            X509Certificate::from_der(root).is_ok_and(|(_, root)| {
                parsed.issuer() == root.subject()
                    && parsed.verify_signature(Some(root.public_key())).is_ok()
            })
        };
        if !bundle.x509_authorities().iter().any(|root| of_root(root)) {
            return Err(CheckpointError::OtherRoot(name.to_owned()));
        }
        Ok(Self {
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
        })
    }
}
