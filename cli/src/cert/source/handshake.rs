//! The certificates that a TLS server presents, and what it asks of its clients.
//!
//! The server's certificate comes before it judges ours (RFC 8446 §2), so also a server that demands a
//! client certificate shows what it has. Nothing is trusted here, and nothing is sent after the
//! handshake; whether the certificates are any good is for `findings` to say.

mod capture;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConnection, ProtocolVersion};
use serde::Serialize;

use capture::Capture;

/// How long connecting, and each wait for the server, may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to object to the client certificate, or to its absence. It does so after
/// the handshake (RFC 8446 §4.4.2.4), so that silence means nothing.
const OBJECTION_TIMEOUT: Duration = Duration::from_millis(1500);
/// The version that sidecars do not speak, by the name that it is shown with.
pub(in crate::cert) const TLS12: &str = "TLS 1.2";

/// What a handshake showed besides certificates. Its JSON form is stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cert) struct Connection {
    /// Who answered, `ip:port`.
    pub(in crate::cert) address: String,
    /// The version of TLS, if the handshake got that far; the others likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cert) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cert) cipher_suite: Option<String>,
    /// The key exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cert) key_exchange: Option<String>,
    /// The application protocol that the server chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cert) alpn: Option<String>,
    /// What the server asks of clients; absent if it asks for no certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cert) client_certificate: Option<ClientCertificate>,
    /// Why the handshake did not come to a good end, if it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cert) failure: Option<String>,
    /// Whether the server signed the handshake with the leaf's key; if not, why.
    #[serde(skip)]
    pub(in crate::cert) possession: Result<(), String>,
}

/// A server's request for a client certificate (CertificateRequest, RFC 8446 §4.3.2, RFC 5246 §7.4.4), and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cert) struct ClientCertificate {
    /// Whether we presented one.
    pub(in crate::cert) presented: bool,
    /// What the server made of that.
    pub(in crate::cert) outcome: ClientOutcome,
    /// The authorities whose certificates the server says it takes; empty if it does not say.
    pub(in crate::cert) authorities: Vec<String>,
    pub(in crate::cert) signature_algorithms: Vec<String>,
}

/// What a server made of our certificate, or of there being none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cert) enum ClientOutcome {
    /// The connection goes on.
    Accepted,
    /// Without a certificate there is no connection.
    Required,
    /// The certificate that we presented was refused.
    Refused,
    /// The server has not said anything.
    Unknown,
}

/// Why a server presented no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(
        "{host}:{port}: cannot resolve the name: {source}; is it right, and known outside of its cluster?"
    )]
    Resolve {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error("{host}:{port}: cannot connect: {source}; {}", hint(source))]
    Connect {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error(
        "{host}:{port}: no TLS server certificate was presented; does it speak TLS, and at once?"
    )]
    NothingPresented {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error(
        "{host}:{port}: the server speaks nothing newer than TLS 1.1, which is not spoken here; \
         `openssl s_client -tls1_1 -cipher DEFAULT@SECLEVEL=0 -showcerts -connect {host}:{port} </dev/null | countersign cert inspect -` \
         shows its certificates"
    )]
    OldTls { host: String, port: u16 },
    #[error(
        "{host}:{port}: the server refuses every cipher suite and signature that is offered: those of TLS 1.3, and of TLS 1.2 with \
         ephemeral keys and AEAD; `openssl s_client -cipher ALL:@SECLEVEL=0 -showcerts -connect {host}:{port} </dev/null | \
         countersign cert inspect -` may show its certificates"
    )]
    NothingInCommon { host: String, port: u16 },
    #[error("{0:?} is not a server name")]
    ServerName(String),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// What to look at where no connection comes about.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: is the port right, and does the server run?"
        }
        io::ErrorKind::TimedOut => {
            "nobody answers: is the address right, and no firewall on the way?"
        }
        _ => "is the address right, and to be reached from here?",
    }
}

/// How to make the handshake.
#[derive(Clone, Debug, Default)]
pub(in crate::cert) struct Client {
    /// The certificate to present when asked for one.
    pub(in crate::cert) identity: Option<Arc<CertifiedKey>>,
    /// The name to ask for instead of the host's.
    pub(in crate::cert) server_name: Option<String>,
}

/// Makes a handshake and gives what the server presented, leaf first.
pub(super) fn present(
    host: &str,
    port: u16,
    client: &Client,
    patience: Duration,
) -> Result<(Vec<CertificateDer<'static>>, Connection), HandshakeError> {
    let failed = |source| HandshakeError::Connect {
        host: host.to_owned(),
        port,
        source,
    };
    let (mut socket, address) = connect(host, port, patience)?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    socket.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;

    let name = match &client.server_name {
        Some(name) => ServerName::try_from(name.clone())
            .map_err(|_| HandshakeError::ServerName(name.clone()))?,
        None => server_name(host),
    };
    let capture = Arc::new(Capture::new(client.identity.clone()));
    let mut connection = ClientConnection::new(capture.client_config()?, name)?;
    let mut outcome = Ok(());
    while connection.is_handshaking() && outcome.is_ok() {
        outcome = connection.complete_io(&mut socket).map(drop);
    }
    let Some(certificates) = capture.presented.get() else {
        return Err(nothing_presented(host, port, outcome));
    };
    let presented = client.identity.is_some();
    let version = connection.protocol_version();
    let mut failure = outcome.err();
    let client_certificate = capture.asked.get().map(|asked| {
        let outcome = match (&failure, version) {
            // Of TLS 1.2, the server has judged the client before the handshake ends (RFC 5246 §7.3).
            (None, Some(ProtocolVersion::TLSv1_2)) => ClientOutcome::Accepted,
            (None, _) => objection(&mut connection, &mut socket, presented),
            (Some(error), Some(ProtocolVersion::TLSv1_2)) => {
                tls_error(error).map_or(ClientOutcome::Unknown, |error| of_alert(error, presented))
            }
            (Some(_), _) => ClientOutcome::Unknown,
        };
        ClientCertificate {
            outcome,
            ..asked.clone()
        }
    });
    if let Some(asked) = &client_certificate
        && asked.outcome != ClientOutcome::Unknown
    {
        // It has been told.
        failure = None;
    }
    let connection = Connection {
        address: address.to_string(),
        version: version.map(|version| match version {
            ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
            ProtocolVersion::TLSv1_2 => TLS12.to_owned(),
            other => format!("{other:?}"),
        }),
        cipher_suite: connection
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)),
        key_exchange: connection
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name())),
        alpn: connection
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        client_certificate,
        failure: failure.map(|error| error.to_string()),
        possession: match capture.signature.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the server broke off before it proved possession of the key".to_owned()),
        },
    };
    Ok((certificates.clone(), connection))
}

fn nothing_presented(host: &str, port: u16, outcome: io::Result<()>) -> HandshakeError {
    let source = match outcome {
        // What a socket says whose timeout is over.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let waited = format!("no answer within {} s", TIMEOUT.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, waited)
        }
        Err(error) => error,
        Ok(()) => io::ErrorKind::UnexpectedEof.into(),
    };
    let host = host.to_owned();
    match tls_error(&source) {
        Some(
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(
                rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
                | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ),
        ) => HandshakeError::OldTls { host, port },
        Some(rustls::Error::AlertReceived(
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity,
        )) => HandshakeError::NothingInCommon { host, port },
        _ => HandshakeError::NothingPresented { host, port, source },
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Waits for what the server has to say of our certificate, or of there being none.
fn objection(
    connection: &mut ClientConnection,
    socket: &mut TcpStream,
    presented: bool,
) -> ClientOutcome {
    if socket.set_read_timeout(Some(OBJECTION_TIMEOUT)).is_err() {
        return ClientOutcome::Unknown;
    }
    match connection.read_tls(socket) {
        Ok(0) | Err(_) => return ClientOutcome::Unknown,
        Ok(_) => {}
    }
    match connection.process_new_packets() {
        // A session ticket, or data: the server is content.
        Ok(_) => ClientOutcome::Accepted,
        Err(error) => of_alert(&error, presented),
    }
}

/// What an alert says of our certificate, or of there being none.
fn of_alert(error: &rustls::Error, presented: bool) -> ClientOutcome {
    match error {
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            ClientOutcome::Required
        }
        rustls::Error::AlertReceived(_) if presented => ClientOutcome::Refused,
        // Servers that are older than the alert, or do not care for it, send another one.
        rustls::Error::AlertReceived(_) => ClientOutcome::Required,
        _ => ClientOutcome::Unknown,
    }
}

/// Connects to the first of the host's addresses that answers.
fn connect(
    host: &str,
    port: u16,
    patience: Duration,
) -> Result<(TcpStream, SocketAddr), HandshakeError> {
    let resolve = |source| HandshakeError::Resolve {
        host: host.to_owned(),
        port,
        source,
    };
    let mut source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs().map_err(resolve)? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(socket) => return Ok((socket, address)),
            Err(error) => source = error,
        }
    }
    Err(HandshakeError::Connect {
        host: host.to_owned(),
        port,
        source,
    })
}

/// The name to ask for; for what is no DNS name the address, which sends no SNI (RFC 6066 §3).
fn server_name(host: &str) -> ServerName<'static> {
    ServerName::try_from(host.to_owned())
        .unwrap_or_else(|_| ServerName::from(std::net::Ipv4Addr::LOCALHOST))
}
