//! A client of the API server: one request per connection, as a user who may do everything.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    token: &'static str,
}

impl Client {
    pub(super) fn new(
        address: SocketAddr,
        ca: Vec<u8>,
        token: &'static str,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.into())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            address,
            tls: Arc::new(tls),
            token,
        })
    }

    /// The status and the JSON of the answer; text is a string.
    pub(super) fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<(u16, Value)> {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send(method, path, kind, &body)
    }

    /// As [`Client::request`], with a body of another kind.
    pub(super) fn send(
        &self,
        method: &str,
        path: &str,
        kind: &str,
        body: &str,
    ) -> io::Result<(u16, Value)> {
        let name = self.address.ip().into();
        let connection =
            ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        let tcp = TcpStream::connect_timeout(&self.address, LIMIT)?;
        tcp.set_read_timeout(Some(LIMIT))?;
        let mut stream = StreamOwned::new(connection, tcp);
        // Of HTTP/1.0, so that the answer is not in chunks.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        )?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            // Go's server closes TCP without a farewell of TLS to clients of HTTP/1.0.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        let answer = String::from_utf8_lossy(&answer);
        let malformed = || io::Error::other(format!("expected an HTTP answer, got {answer:?}"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let body = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        Ok((status.ok_or_else(malformed)?, body))
    }
}
