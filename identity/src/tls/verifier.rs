//! What a handshake asks: is the peer to be believed, and what do we present ourselves?

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{ClientAuth, ExpectedPeer, TlsError, verified_peer};
use crate::store::IdentityStore;
use crate::svid::SvidError;

/// Verifies that the peer's chain is an SVID that its trust domain's bundle of the moment vouches for,
/// and that its ID is an expected one.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    store: Arc<IdentityStore>,
    expected: ExpectedPeer,
    client_auth: ClientAuth,
    provider: Arc<CryptoProvider>,
}

impl PeerVerifier {
    /// A server's verifier: any member of a trust domain whose bundle the store has may connect.
    pub(super) fn of_clients(
        store: Arc<IdentityStore>,
        client_auth: ClientAuth,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            store,
            expected: ExpectedPeer::Known,
            client_auth,
            provider,
        }
    }

    /// A client's verifier.
    pub(super) fn of_servers(
        store: Arc<IdentityStore>,
        expected: ExpectedPeer,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            store,
            expected,
            client_auth: ClientAuth::Required,
            provider,
        }
    }

    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(end_entity.clone());
        chain.extend_from_slice(intermediates);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        verified_peer(&chain, &self.store, &self.expected, now)
            .map(drop)
            .map_err(|error| {
                // The alert tells the peer little, and rustls' own error not much more.
                tracing::debug!(%error, "peer's certificate refused");
                refusal(error, now)
            })
    }
}

/// The error for rustls: one that sends the alert which RFC 8446 §6.2 has for the case where there
/// is one, otherwise one that keeps our words.
fn refusal(error: TlsError, now: SystemTime) -> Error {
    let unix_time = |time: SystemTime| {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        UnixTime::since_unix_epoch(since)
    };
    Error::InvalidCertificate(match error {
        TlsError::Svid(SvidError::Malformed { .. } | SvidError::EmptyChain) => {
            CertificateError::BadEncoding
        }
        TlsError::Svid(SvidError::Expired { not_after, .. }) => CertificateError::ExpiredContext {
            time: unix_time(now),
            not_after: unix_time(not_after),
        },
        TlsError::Svid(SvidError::NotYetValid { not_before, .. }) => {
            CertificateError::NotValidYetContext {
                time: unix_time(now),
                not_before: unix_time(not_before),
            }
        }
        TlsError::Svid(SvidError::UnknownAuthority { .. } | SvidError::OtherTrustDomain { .. }) => {
            CertificateError::UnknownIssuer
        }
        other => CertificateError::Other(OtherError(Arc::new(InWords(other)))),
    })
}

/// An error whose debug form is its message, since that is the form in which rustls shows it.
struct InWords(TlsError);

impl fmt::Debug for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for InWords {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Both traits ask the same of handshake signatures.
macro_rules! verify_handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            // Not reached, since no configuration here speaks TLS 1.2; correct all the same.
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider
                .signature_verification_algorithms
                .supported_schemes()
        }
    };
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    verify_handshake_signatures!();
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A client has one SVID and sends it: hints would only tell strangers whom we believe.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    verify_handshake_signatures!();
}

/// Presents the SVID that the store has at the moment of the handshake.
#[derive(Debug)]
pub(super) struct OwnSvid(Arc<IdentityStore>);

impl OwnSvid {
    pub(super) fn new(store: Arc<IdentityStore>) -> Self {
        Self(store)
    }
}

impl ResolvesServerCert for OwnSvid {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.certified_key()
    }
}

impl ResolvesClientCert for OwnSvid {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        offered: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let certified_key = self.0.certified_key()?;
        // With a key that the server cannot verify, no certificate is better than a broken one.
        certified_key.key.choose_scheme(offered)?;
        Some(certified_key)
    }

    fn has_certs(&self) -> bool {
        self.0.certified_key().is_some()
    }
}
