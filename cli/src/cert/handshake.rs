//! The certificates that a TLS server presents.
//!
//! The server's certificate comes before it judges ours (RFC 8446 §2), so also a server that demands a
//! client certificate shows what it has. Nothing is trusted here, and nothing is sent after the
//! handshake; whether the certificates are any good is for [`super::examine`] to say.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
};
use serde::Serialize;

/// How long connecting, and each wait for the server, may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a handshake showed besides certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Handshake {
    /// The key exchange, if the handshake got that far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_exchange: Option<String>,
    /// The application protocol that the server chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alpn: Option<String>,
    /// Whether the server signed the handshake with the leaf's key; if not, why.
    #[serde(skip)]
    pub(super) possession: Result<(), String>,
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
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// Makes a handshake and gives what the server presented, leaf first.
pub(super) fn present(
    host: &str,
    port: u16,
) -> Result<(Vec<CertificateDer<'static>>, Handshake), HandshakeError> {
    let failed = |source| HandshakeError::Connect {
        host: host.to_owned(),
        port,
        source,
    };
    let mut socket = connect(host, port)?;
    socket.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    socket.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;

    let capture = Arc::new(Capture::new());
    let mut connection = ClientConnection::new(capture.client_config()?, server_name(host))?;
    let mut outcome = Ok(());
    while connection.is_handshaking() && outcome.is_ok() {
        outcome = connection.complete_io(&mut socket).map(drop);
    }

    let Some(certificates) = capture.presented.get() else {
        let source = match outcome {
            // What a socket says whose timeout is over.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let waited = format!("no answer within {} s", TIMEOUT.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, waited)
            }
            Err(error) => error,
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
        };
        return Err(HandshakeError::NothingPresented {
            host: host.to_owned(),
            port,
            source,
        });
    };
    let handshake = Handshake {
        key_exchange: connection
            .negotiated_key_exchange_group()
            .map(|group| format!("{:?}", group.name())),
        alpn: connection
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        possession: match capture.signature.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the server broke off before it proved possession of the key".to_owned()),
        },
    };
    Ok((certificates.clone(), handshake))
}

/// Connects to the first of the host's addresses that answers.
fn connect(host: &str, port: u16) -> Result<TcpStream, HandshakeError> {
    let resolve = |source| HandshakeError::Resolve {
        host: host.to_owned(),
        port,
        source,
    };
    let mut source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs().map_err(resolve)? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(socket) => return Ok(socket),
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
    presented: OnceLock<Vec<CertificateDer<'static>>>,
    signature: OnceLock<Result<(), rustls::Error>>,
}

impl Capture {
    fn new() -> Self {
        Self {
            provider: Arc::new(aws_lc_rs::default_provider()),
            presented: OnceLock::new(),
            signature: OnceLock::new(),
        }
    }

    fn client_config(self: &Arc<Self>) -> Result<Arc<ClientConfig>, rustls::Error> {
        let verifier: Arc<dyn ServerCertVerifier> = Arc::<Self>::clone(self);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
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

    #[test]
    fn a_server_that_demands_a_certificate_shows_its_own() {
        let (certificate, port) = demanding_server();
        let (presented, handshake) = present("127.0.0.1", port).unwrap();
        assert_eq!(presented, [certificate]);
        assert_eq!(handshake.possession, Ok(()));
        assert_eq!(handshake.alpn.as_deref(), Some("h2"));
        assert_eq!(handshake.key_exchange.as_deref(), Some("X25519MLKEM768"));
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
        let error = present("127.0.0.1", port).unwrap_err();
        assert!(
            matches!(error, HandshakeError::NothingPresented { .. }),
            "{error:?}"
        );
    }
}
