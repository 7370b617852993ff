//! A caller that is not of the mesh, with everything it can make by itself.

use std::{fs, io, net::SocketAddr, sync::Arc};

use countersign_identity::{
    Bundle, BundleError, IdentityStore, KeyError, SpiffeId, StoreError, SvidError, SvidKey,
    X509Svid,
    tls::{ExpectedPeer, TlsError, client_config, server_name},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::AlertDescription;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::mesh::Addresses;

/// What a stranger could not even try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StrangerError {
    #[error("the mesh's bundle cannot be read")]
    ReadBundle(#[source] io::Error),
    #[error("the mesh's bundle is not as expected")]
    Bundle(#[from] BundleError),
    #[error("no key could be made")]
    Key(#[from] KeyError),
    #[error("no certificate could be made")]
    Certificate(#[from] rcgen::Error),
    #[error("the forged certificate is not even in the form of an SVID")]
    Svid(#[from] SvidError),
    #[error("the forged certificate and its key do not fit")]
    Store(#[from] StoreError),
    #[error("no TLS configuration could be made")]
    Tls(#[from] TlsError),
    #[error("no connection to {to}")]
    Connect { to: SocketAddr, source: io::Error },
    #[error("the server did not prove to be {expected}")]
    Server {
        expected: SpiffeId,
        source: io::Error,
    },
}

/// How a connection ended that a stranger opened.
#[derive(Debug)]
pub(crate) enum End {
    /// It was answered these bytes.
    Answered(Vec<u8>),
    /// It was closed, or reset, without a byte of the application.
    Closed,
    /// It was refused with a TLS alert.
    Alert(AlertDescription),
}

/// An identity for a caller: the same name as a real one, from a CA that nobody knows.
pub(crate) fn forge(mesh: &Addresses, id: &SpiffeId) -> Result<Arc<IdentityStore>, StrangerError> {
    let store = nobody(mesh)?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let domain = format!("spiffe://{}", mesh.trust_domain);
    ca.subject_alt_names = vec![SanType::URI(domain.as_str().try_into()?)];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let key = SvidKey::generate()?;
    let mut request = CertificateSigningRequestParams::from_der(&key.csr_der()?.into())?;
    request.params.is_ca = IsCa::ExplicitNoCa;
    request.params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    request.params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let leaf = request.signed_by(&ca)?;
    store.set_svid(X509Svid::from_chain(vec![leaf.der().clone()])?, key)?;
    Ok(store)
}

/// A caller without an identity, who knows the mesh's roots: they are public.
pub(crate) fn nobody(mesh: &Addresses) -> Result<Arc<IdentityStore>, StrangerError> {
    let pem = fs::read_to_string(&mesh.bundle).map_err(StrangerError::ReadBundle)?;
    Ok(IdentityStore::new(Bundle::from_pem(
        mesh.trust_domain.clone(),
        &pem,
    )?))
}

/// Calls a sidecar over TLS 1.3 as sidecars do, demanding that it proves who it is.
pub(crate) async fn call_over_tls(
    store: &Arc<IdentityStore>,
    to: SocketAddr,
    expected: &SpiffeId,
) -> Result<End, StrangerError> {
    let config = client_config(store, ExpectedPeer::Id(expected.clone()), &[b"http/1.1"])?;
    let stream = TcpStream::connect(to)
        .await
        .map_err(|source| StrangerError::Connect { to, source })?;
    match TlsConnector::from(config)
        .connect(server_name(), stream)
        .await
    {
        // In TLS 1.3 a client is done before the server has looked at its certificate.
        Ok(stream) => Ok(say_hello(stream).await),
        Err(error) => match alert(&error) {
            Some(alert) => Ok(End::Alert(alert)),
            None => Err(StrangerError::Server {
                expected: expected.clone(),
                source: error,
            }),
        },
    }
}

/// Calls a sidecar's mutual-TLS port as if it were a plain one.
pub(crate) async fn call_in_plain_text(to: SocketAddr) -> Result<End, StrangerError> {
    let stream = TcpStream::connect(to)
        .await
        .map_err(|source| StrangerError::Connect { to, source })?;
    Ok(say_hello(stream).await)
}

/// Asks for an order, and listens until the other side closes.
async fn say_hello(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) -> End {
    let request = b"GET /orders/1 HTTP/1.1\r\nhost: orders.shop:8080\r\n\r\n";
    let mut answer = Vec::new();
    let sent = stream.write_all(request).await;
    let ended = match sent {
        Ok(()) => stream.read_to_end(&mut answer).await.map(drop),
        Err(error) => Err(error),
    };
    match ended {
        Err(error) => alert(&error).map_or(End::Closed, End::Alert),
        // A TLS alert is what a server of TLS says to somebody who does not speak it (RFC 8446, section 6).
        Ok(()) if answer.first().is_none_or(|kind| *kind == 0x15) => End::Closed,
        Ok(()) => End::Answered(answer),
    }
}

fn alert(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
