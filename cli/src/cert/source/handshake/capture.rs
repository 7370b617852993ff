//! The client's side of a handshake that takes everything down and believes nothing.

use std::sync::{Arc, OnceLock};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::super::super::facts::distinguished;
use super::super::super::text::hexadecimal;
use super::{ClientCertificate, ClientOutcome};

/// The most names of authorities that are kept of a server's request.
const MOST_AUTHORITIES: usize = 200;

/// Takes down what the server presents. It lets every certificate pass, so it must never guard data.
#[derive(Debug)]
pub(super) struct Capture {
    provider: Arc<CryptoProvider>,
    /// What to present to a server that asks.
    identity: Option<Arc<CertifiedKey>>,
    pub(super) presented: OnceLock<Vec<CertificateDer<'static>>>,
    pub(super) asked: OnceLock<ClientCertificate>,
    pub(super) signature: OnceLock<Result<(), rustls::Error>>,
}

impl Capture {
    pub(super) fn new(identity: Option<Arc<CertifiedKey>>) -> Self {
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            identity,
            presented: OnceLock::new(),
            asked: OnceLock::new(),
            signature: OnceLock::new(),
        }
    }

    pub(super) fn client_config(self: &Arc<Self>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier: Arc<dyn ServerCertVerifier> = Arc::<Self>::clone(self);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Keeps whether the server has proved possession of the key.
    fn take_down(
        &self,
        verified: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature
            .get_or_init(|| verified.as_ref().map(drop).map_err(Clone::clone));
        verified
    }
}

impl ServerCertVerifier for Capture {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        self.presented.get_or_init(|| chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.take_down(verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.take_down(verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The name of a signature scheme; some that OpenSSL offers have none in rustls (RFC 8446 §4.2.3).
fn scheme_name(scheme: SignatureScheme) -> String {
    match u16::from(scheme) {
        0x0809 => "RSA_PSS_PSS_SHA256".to_owned(),
        0x080a => "RSA_PSS_PSS_SHA384".to_owned(),
        0x080b => "RSA_PSS_PSS_SHA512".to_owned(),
        0x081a => "ECDSA_BRAINPOOLP256R1_SHA256".to_owned(),
        0x081b => "ECDSA_BRAINPOOLP384R1_SHA384".to_owned(),
        0x081c => "ECDSA_BRAINPOOLP512R1_SHA512".to_owned(),
        _ => format!("{scheme:?}"),
    }
}

impl ResolvesClientCert for Capture {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.asked.get_or_init(|| ClientCertificate {
            presented: self.identity.is_some(),
            outcome: ClientOutcome::Unknown,
            authorities: root_hint_subjects
                .iter()
                .take(MOST_AUTHORITIES)
                .map(|der| match X509Name::from_der(der) {
                    Ok((_, name)) => distinguished(&name),
                    Err(_) => format!("(not a name) {}", hexadecimal(der)),
                })
                .collect(),
            signature_algorithms: schemes.iter().copied().map(scheme_name).collect(),
        });
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
