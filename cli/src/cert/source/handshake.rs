//! The certificates that a TLS server presents, and what it asks of its clients.
//!
//! The server's certificate comes before it judges ours (RFC 8446 §2), so also a server that demands a
//! client certificate shows what it has. Nothing is trusted here, and nothing is sent after the
//! handshake; whether the certificates are any good is for `findings` to say.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    SignatureScheme,
};
use serde::Serialize;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

use super::super::facts::distinguished;
use super::super::text::hexadecimal;

/// How long connecting, and each wait for the server, may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to object to the client certificate, or to its absence. It does so after
/// the handshake (RFC 8446 §4.4.2.4), so that silence means nothing.
const OBJECTION_TIMEOUT: Duration = Duration::from_millis(1500);
/// The most names of authorities that are kept of a server's request.
const MOST_AUTHORITIES: usize = 200;

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

/// A server's request for a client certificate (CertificateRequest, RFC 8446 §4.3.2), and what came of it.
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
    #[error("{host}:{port}: cannot resolve the name")]
    Resolve {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error("{host}:{port}: cannot connect")]
    Connect {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error("{host}:{port}: no TLS 1.3 server certificate was presented")]
    NothingPresented {
        host: String,
        port: u16,
        source: io::Error,
    },
    #[error(
        "{host}:{port}: the server speaks no TLS 1.3, and Countersign speaks nothing older; \
         `openssl s_client -showcerts -connect {host}:{port} </dev/null | countersign cert inspect -` shows its certificates"
    )]
    OldTls { host: String, port: u16 },
    #[error("{0:?} is not a server name")]
    ServerName(String),
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
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
    let client_certificate = capture.asked.get().map(|asked| ClientCertificate {
        outcome: match &outcome {
            Ok(()) => objection(&mut connection, &mut socket, client.identity.is_some()),
            Err(_) => ClientOutcome::Unknown,
        },
        ..asked.clone()
    });
    let connection = Connection {
        address: address.to_string(),
        version: connection.protocol_version().map(|version| match version {
            rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
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
        failure: outcome.err().map(|error| error.to_string()),
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
    let tls = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let host = host.to_owned();
    match tls {
        Some(
            rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(
                rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
                | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ),
        ) => HandshakeError::OldTls { host, port },
        _ => HandshakeError::NothingPresented { host, port, source },
    }
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
        Err(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
            ClientOutcome::Required
        }
        Err(rustls::Error::AlertReceived(_)) if presented => ClientOutcome::Refused,
        // Servers that are older than the alert, or do not care for it, send another one.
        Err(rustls::Error::AlertReceived(_)) => ClientOutcome::Required,
        Err(_) => ClientOutcome::Unknown,
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

/// Takes down what the server presents. It lets every certificate pass, so it must never guard data.
#[derive(Debug)]
struct Capture {
    provider: Arc<CryptoProvider>,
    /// What to present to a server that asks.
    identity: Option<Arc<CertifiedKey>>,
    presented: OnceLock<Vec<CertificateDer<'static>>>,
    asked: OnceLock<ClientCertificate>,
    signature: OnceLock<Result<(), rustls::Error>>,
}

impl Capture {
    fn new(identity: Option<Arc<CertifiedKey>>) -> Self {
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            identity,
            presented: OnceLock::new(),
            asked: OnceLock::new(),
            signature: OnceLock::new(),
        }
    }

    fn client_config(self: &Arc<Self>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier: Arc<dyn ServerCertVerifier> = Arc::<Self>::clone(self);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::<Self>::clone(self));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
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
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = verify_tls13_signature(message, cert, dss, algorithms);
        self.signature
            .get_or_init(|| verified.as_ref().map(drop).map_err(Clone::clone));
        verified
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig, ServerConnection};

    use super::*;

    /// A server that demands a client certificate; gives its certificate and where it listens.
    fn demanding_server() -> (CertificateDer<'static>, u16) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut socket).is_ok() {}
        });
        (cert.der().clone(), port)
    }

    fn inspect(port: u16) -> Result<(Vec<CertificateDer<'static>>, Connection), HandshakeError> {
        present("127.0.0.1", port, &Client::default(), TIMEOUT)
    }

    #[test]
    fn a_server_that_demands_a_certificate_shows_its_own_and_what_it_demands() {
        let (certificate, port) = demanding_server();
        let (presented, connection) = inspect(port).unwrap();
        assert_eq!(presented, [certificate]);
        assert_eq!(connection.possession, Ok(()));
        assert_eq!(connection.alpn.as_deref(), Some("h2"));
        assert_eq!(connection.version.as_deref(), Some("TLS 1.3"));
        assert_eq!(connection.key_exchange.as_deref(), Some("X25519MLKEM768"));
        assert_eq!(
            connection.cipher_suite.as_deref(),
            Some("TLS_AES_256_GCM_SHA384")
        );
        let asked = connection.client_certificate.unwrap();
        assert!(!asked.presented);
        assert_eq!(asked.outcome, ClientOutcome::Required);
        assert_eq!(asked.authorities, ["CN=rcgen self signed cert"]);
        let schemes = asked.signature_algorithms;
        assert!(
            schemes.contains(&"ECDSA_NISTP256_SHA256".to_owned()),
            "{schemes:?}"
        );
    }

    #[test]
    fn a_server_that_does_not_speak_tls_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use std::io::Write as _;
            let (mut socket, _) = listener.accept().unwrap();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        });
        let error = inspect(port).unwrap_err();
        assert!(
            matches!(error, HandshakeError::NothingPresented { .. }),
            "{error:?}"
        );
    }

    #[test]
    fn a_server_of_old_tls_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 4096]).unwrap();
            // A fatal alert: protocol_version (RFC 8446 §6).
            socket.write_all(&[21, 3, 3, 0, 2, 2, 70]).unwrap();
        });
        let error = inspect(port).unwrap_err();
        assert!(matches!(error, HandshakeError::OldTls { .. }), "{error:?}");
    }
}
