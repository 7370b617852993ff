//! What a TLS handshake showed.

use super::super::source::{ClientOutcome, Connection, TLS12};
use super::super::text::shown;
use super::{Findings, Severity};

pub(super) fn judge(connection: Option<&Connection>, findings: &mut Findings) {
    let Some(connection) = connection else { return };
    if let Err(problem) = &connection.possession {
        findings.add(
            Severity::Error,
            "key-possession",
            None,
            format!(
                "the server did not prove that it has the leaf's key: {}",
                shown(problem)
            ),
            "whoever answers may only have copied the certificate",
        );
    }
    if let Some(failure) = &connection.failure {
        findings.add(
            Severity::Warning,
            "handshake-failed",
            None,
            format!("the handshake did not come to its end: {}", shown(failure)),
            "what the server presented until then is shown",
        );
    }
    if connection.version.as_deref() == Some(TLS12) {
        findings.add(
            Severity::Warning,
            "tls-version-old",
            None,
            "the server speaks TLS 1.2, where TLS 1.3 was offered",
            "sidecars speak TLS 1.3 alone: as a peer in the mesh it cannot be reached",
        );
    }
    if let Some(asked) = &connection.client_certificate
        && asked.outcome == ClientOutcome::Refused
    {
        findings.add(
            Severity::Error,
            "client-certificate-refused",
            None,
            "the server refuses the certificate that was presented to it",
            "is it expired, or of an authority that the server does not take?",
        );
    }
}
