//! By what a server is known that something is fetched from: a certificate of its name, or an X.509-SVID.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::{Host, Url};

use super::fetch::FetchError;
use crate::bundle::Bundle;
use crate::spiffe::SpiffeId;
use crate::store::IdentityStore;
use crate::tls::{self, ExpectedPeer, peer_of_connected};

/// What the server has to present.
#[derive(Clone, Debug)]
pub(super) enum KnownBy {
    /// A certificate of the URL's host, of an authority of this PEM file or else of the system's.
    Name { ca_file: Option<PathBuf> },
    /// An X.509-SVID of this ID, verified by this bundle.
    SpiffeId { bundle: Box<Bundle>, id: SpiffeId },
}

impl KnownBy {
    /// Finishes the TLS handshake with the server that the URL names, or fails.
    pub(super) async fn handshake(
        &self,
        url: &Url,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, FetchError> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        };
        match self {
            Self::Name { ca_file } => by_name(host, ca_file.as_deref(), tcp).await,
            Self::SpiffeId { bundle, id } => by_id(host, bundle, id, tcp).await,
        }
    }
}

async fn by_name(
    host: String,
    ca_file: Option<&Path>,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, FetchError> {
    let name = ServerName::try_from(host.clone())
        .map_err(|error| FetchError::ServerName(host.clone(), error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities(ca_file)?)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|error| FetchError::Tls { host, error })
}

/// The URL's host says nothing here: whoever is there must prove the ID.
async fn by_id(
    host: String,
    bundle: &Bundle,
    id: &SpiffeId,
    tcp: TcpStream,
) -> Result<TlsStream<TcpStream>, FetchError> {
    let peer = |error| FetchError::Peer {
        host: host.clone(),
        error,
    };
    // Without an SVID of our own: whoever asks for a public document need not say who it is.
    let store = IdentityStore::new(bundle.clone());
    let expected = ExpectedPeer::Id(id.clone());
    let config = tls::client_config(&store, expected.clone(), &[]).map_err(peer)?;
    let stream = TlsConnector::from(config)
        .connect(tls::server_name(), tcp)
        .await
        .map_err(|error| FetchError::Tls {
            host: host.clone(),
            error,
        })?;
    let (_, session) = stream.get_ref();
    peer_of_connected(session, &store, &expected, SystemTime::now()).map_err(peer)?;
    Ok(stream)
}

/// Read for every request: a change of the file or of the system's store needs no restart.
fn authorities(ca_file: Option<&Path>) -> Result<RootCertStore, FetchError> {
    let (certificates, place) = match ca_file {
        Some(path) => {
            let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
            let certificates = read().map_err(|error| FetchError::CaFile {
                path: path.to_owned(),
                error,
            })?;
            (certificates, path.display().to_string())
        }
        None => (
            rustls_native_certs::load_native_certs().certs,
            "the system's store".to_owned(),
        ),
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        Err(FetchError::NoAuthorities { place })
    } else {
        Ok(store)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::keys::{AddressRule, Fetcher, Outgoing, Reply};
    use crate::spiffe::TrustDomain;
    use crate::testing::TestAuthority;
    use crate::tls::ClientAuth;

    const ID: &str = "spiffe://partner.example/bundle";

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    fn authority() -> TestAuthority {
        TestAuthority::new(&TrustDomain::parse("partner.example").unwrap()).unwrap()
    }

    /// Fetches from a server of this authority, which presents an SVID of [`ID`].
    async fn fetched(
        of: &TestAuthority,
        bundle: Bundle,
        expected: &str,
    ) -> Result<Reply, FetchError> {
        let store = IdentityStore::new(of.bundle().unwrap());
        let hour = Duration::from_secs(3600);
        let validity = SystemTime::now() - hour..=SystemTime::now() + hour;
        let (svid, key) = of.svid(&id(ID), validity).unwrap();
        store.set_svid(svid, key).unwrap();
        let config = tls::server_config(&store, ClientAuth::Optional, &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(config).accept(tcp).await else {
                return;
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let limit = Duration::from_secs(10);
        let fetcher = Fetcher::of_spiffe(AddressRule::Any, bundle, id(expected), limit);
        let reply = fetcher
            .send(Outgoing {
                url: &Url::parse(&url).unwrap(),
                bearer: None,
                content: None,
            })
            .await;
        server.abort();
        reply
    }

    #[tokio::test]
    async fn a_server_is_known_by_its_spiffe_id_and_its_own_trust_domain_s_bundle() {
        let (partner, stranger) = (authority(), authority());
        let bundle = || partner.bundle().unwrap();
        let reply = fetched(&partner, bundle(), ID).await.unwrap();
        assert_eq!(reply.text, "{}");
        for (server, expected, told) in [
            // Another authority of the same name, another ID, and an ID that this bundle says nothing of.
            (&stranger, ID, "UnknownIssuer"),
            (&partner, "spiffe://partner.example/other", "was expected"),
            (&partner, "spiffe://other.example/bundle", "was expected"),
        ] {
            let error = fetched(server, bundle(), expected).await.unwrap_err();
            assert!(matches!(error, FetchError::Tls { .. }), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
