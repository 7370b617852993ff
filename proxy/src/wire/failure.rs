//! Why a handshake came to nothing, as one of a few words for metrics.

use std::io;

use countersign_identity::tls::TlsError;
use rustls::{CertificateError, Error};

use crate::telemetry::HandshakeFailure;

/// The word for an error that ended a TLS handshake.
pub(super) fn of_handshake(error: &io::Error) -> HandshakeFailure {
    let tls = error
        .get_ref()
        .and_then(|source| source.downcast_ref::<Error>());
    match tls {
        Some(Error::InvalidMessage(_)) => HandshakeFailure::NotTls,
        Some(Error::NoCertificatesPresented) => HandshakeFailure::NoCertificate,
        Some(Error::InvalidCertificate(error)) => of_certificate(error),
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => {
            HandshakeFailure::Incompatible
        }
        Some(Error::AlertReceived(_)) => HandshakeFailure::Refused,
        _ => HandshakeFailure::Broken,
    }
}

/// The word for a certificate that did not stand the check after the handshake.
pub(super) fn of_peer(error: &TlsError) -> HandshakeFailure {
    match error {
        TlsError::NoCertificate => HandshakeFailure::NoCertificate,
        TlsError::UnexpectedPeer { .. } => HandshakeFailure::WrongIdentity,
        TlsError::Svid(_) => HandshakeFailure::Untrusted,
        TlsError::Configuration(_) | TlsError::HandshakeIncomplete => {
            HandshakeFailure::Incompatible
        }
    }
}

fn of_certificate(error: &CertificateError) -> HandshakeFailure {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => HandshakeFailure::Expired,
        CertificateError::ApplicationVerificationFailure => HandshakeFailure::WrongIdentity,
        // Ours, in words that rustls shows.
        CertificateError::Other(other) => other
            .0
            .source()
            .and_then(|source| source.downcast_ref::<TlsError>())
            .map_or(HandshakeFailure::Untrusted, of_peer),
        _ => HandshakeFailure::Untrusted,
    }
}
