//! The request to the CA, and the check of its answer.

use std::time::{Duration, SystemTime};

use countersign_api::bundle::InvalidBundle;
use countersign_api::proto::attestation::Evidence;
use countersign_api::proto::certificate_authority_client::CertificateAuthorityClient;
use countersign_api::proto::{Attestation, IssueRequest};
use countersign_api::transport::{ChannelError, channel, channel_over_one_connection, describe};
use countersign_api::x509_proof::ProofError;
use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{Bundle, IdentityStore, SvidError, X509Svid, spiffe};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData as _};
use tonic::Code;
use zeroize::Zeroizing;

use super::super::source::write_pem;
use super::evidence::Shown;

/// How long the CA may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why the CA gave no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no key and request can be made")]
    Key(#[from] rcgen::Error),
    #[error("the CA: {0}")]
    Channel(#[from] ChannelError),
    #[error(
        "the CA at {address} does not answer: {reason}; is that its address (`listen` of its configuration), and does it run?"
    )]
    Unavailable { address: String, reason: String },
    #[error(transparent)]
    Proof(#[from] ProofError),
    #[error("the CA at {address} issues nothing: {reason}")]
    Refused { address: String, reason: String },
    #[error("the CA at {address} did not answer within {} s", PATIENCE.as_secs())]
    Silent { address: String },
    #[error("the CA's answer: {0}")]
    Bundle(#[from] InvalidBundle),
    #[error("the CA's answer: {0}")]
    Svid(#[from] SvidError),
    #[error("the CA's answer: the certificate is for another key than was asked for")]
    OtherKey,
}

/// The CA, and how to know it.
pub(super) struct Authority {
    pub(super) address: String,
    pub(super) bundle: Bundle,
}

/// What came.
pub(super) struct Issued {
    pub(super) svid: X509Svid,
    pub(super) bundle: Bundle,
    /// PKCS #8, PEM.
    pub(super) key: Zeroizing<String>,
}

impl Issued {
    /// The certificate chain, PEM, the leaf first.
    pub(super) fn chain(&self) -> String {
        let chain = self.svid.chain().iter();
        chain.map(|der| write_pem("CERTIFICATE", der)).collect()
    }
}

/// Makes a new key and has it certified.
pub(super) async fn ask(
    authority: &Authority,
    evidence: Shown,
    ttl_seconds: u32,
) -> Result<Issued, AskError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // The CA takes the name from the proof.
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?.der().to_vec();

    let store = IdentityStore::new(authority.bundle.clone());
    let ca = spiffe::system::ca(authority.bundle.trust_domain());
    let expected = ExpectedPeer::Id(ca);
    let (channel, evidence) = match evidence {
        Shown::Token(evidence) => (channel(&authority.address, &store, expected)?, evidence),
        Shown::Certificate(certificate) => {
            let connect = channel_over_one_connection(&authority.address, &store, expected);
            let (channel, binding) = connect.await.map_err(|error| match error {
                ChannelError::Connection { reason } => AskError::Unavailable {
                    address: authority.address.clone(),
                    reason,
                },
                other => other.into(),
            })?;
            let proof = certificate.prove(&binding, &csr)?;
            (channel, Evidence::X509Proof(proof))
        }
    };
    let mut client = CertificateAuthorityClient::new(channel);
    let call = client.issue(IssueRequest {
        csr,
        attestation: Some(Attestation {
            evidence: Some(evidence),
        }),
        ttl_seconds,
    });
    let address = || authority.address.clone();
    let answer = tokio::time::timeout(PATIENCE, call)
        .await
        .map_err(|_| AskError::Silent { address: address() })?
        .map_err(|status| {
            let (address, reason) = (address(), describe(&status));
            match status.code() {
                Code::Unavailable | Code::Unknown => AskError::Unavailable { address, reason },
                _ => AskError::Refused { address, reason },
            }
        })?
        .into_inner();
    // What is not understood or does not verify is not written.
    let bundle: Bundle = answer.bundle.ok_or(InvalidBundle::Missing)?.try_into()?;
    let chain = answer.certificate_chain.into_iter().map(Into::into);
    let svid = X509Svid::from_chain(chain.collect())?;
    svid.verify(&bundle, SystemTime::now())?;
    let spki = key.subject_public_key_info();
    let certified = svid
        .chain()
        .first()
        .and_then(super::super::entry::public_key);
    if certified.as_deref() != Some(spki.as_slice()) {
        return Err(AskError::OtherKey);
    }
    Ok(Issued {
        svid,
        bundle,
        key: Zeroizing::new(key.serialize_pem()),
    })
}
