//! JSON over HTTP/1.1 over mutual TLS, on a connection that is kept: what step-ca speaks.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::BenchError;

/// The name in step-ca's certificate.
pub(crate) const SERVER: &str = "localhost";

/// A connection.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Mutex<SendRequest<Full<Bytes>>>>);

impl Connection {
    /// Connects, with this certificate, or none.
    pub(crate) async fn open(
        address: SocketAddr,
        root: &CertificateDer<'static>,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self, BenchError> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).map_err(BenchError::failed)?;
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let config = match own {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(BenchError::failed)?,
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from(SERVER).map_err(BenchError::failed)?;
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await?;
        let (sender, connection) = handshake(TokioIo::new(tls))
            .await
            .map_err(BenchError::failed)?;
        // Ends with the connection, which ends with its last sender.
        tokio::spawn(connection);
        Ok(Self(Arc::new(Mutex::new(sender))))
    }

    /// Posts JSON; one after the other, as HTTP/1.1 has it.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, BenchError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, SERVER)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(BenchError::failed)?;
        let mut sender = self.0.lock().await;
        let answer = sender
            .send_request(request)
            .await
            .map_err(BenchError::failed)?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.map_err(BenchError::failed)?.to_bytes();
        drop(sender);
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body).into_owned();
            return Err(BenchError::failed(format!("{path}: {status}: {said}")));
        }
        serde_json::from_slice(&body).map_err(BenchError::failed)
    }
}
