//! The certificate of a web endpoint: files that somebody else renews, and that are read again when they have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// A longer file is something else.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    /// The certificate and its intermediates, PEM.
    pub(crate) chain: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
}

/// Why an endpoint has no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A file holds something else. Of a key, not even the parser's words are told.
    #[error("{} holds no {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The key is not the certificate's.
    #[error("the key in {} is not that of the certificate in {}", key.display(), chain.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        chain: PathBuf,
    },
    /// No TLS.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// TLS with the certificate in these files.
///
/// # Errors
/// They cannot be used now. Later, what was read last stays in use.
pub(crate) fn server_config(
    files: CertificateFiles,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let current = read(&files, &provider)?;
    let resolver = Reloading {
        files,
        provider: Arc::clone(&provider),
        current: Mutex::new((Instant::now(), Arc::new(current))),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

struct Reloading {
    files: CertificateFiles,
    provider: Arc<CryptoProvider>,
    /// When the files were looked at last, and what they held.
    current: Mutex<(Instant, Arc<CertifiedKey>)>,
}

impl std::fmt::Debug for Reloading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0.elapsed() >= INTERVAL {
            current.0 = Instant::now();
            match read(&self.files, &self.provider) {
                Ok(read) if read.cert != current.1.cert => {
                    tracing::info!(path = %self.files.chain.display(), "web certificate replaced");
                    current.1 = Arc::new(read);
                }
                Ok(_) => {}
                // Halfway through a replacement, perhaps.
                Err(error) => tracing::warn!(%error, "web certificate not replaced"),
            }
        }
        Some(Arc::clone(&current.1))
    }
}

fn read(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, CertificateError> {
    let CertificateFiles { chain, key } = files;
    let content = |path: &Path, expected| CertificateError::Content {
        path: path.to_owned(),
        expected,
    };
    let pem = read_file(chain)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or_else(|| content(chain, "certificate in PEM"))?;
    let pem = read_file(key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem)
        .ok()
        .and_then(|der| provider.key_provider.load_private_key(der).ok())
        .ok_or_else(|| content(key, "private key in PEM"))?;
    let certified = CertifiedKey::new(certificates, private);
    certified
        .keys_match()
        .map_err(|_| CertificateError::Mismatch {
            key: key.clone(),
            chain: chain.clone(),
        })?;
    Ok(certified)
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    use std::io::Read as _;
    let mut bytes = Zeroizing::new(Vec::new());
    fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes))
        .map_err(|error| CertificateError::Read {
            path: path.to_owned(),
            error,
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn write(directory: &Path, certificate: &KeyPair, key: &KeyPair) -> CertificateFiles {
        let files = CertificateFiles {
            chain: directory.join("web.pem"),
            key: directory.join("web.key.pem"),
        };
        let params = CertificateParams::new(["ids.shop.example".to_owned()]).unwrap();
        let pem = params.self_signed(certificate).unwrap().pem();
        fs::write(&files.chain, pem).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn files_that_do_not_fit_are_named_and_show_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let error = |files| server_config(files).unwrap_err().to_string();
        let message = error(write(directory.path(), &a, &b));
        assert!(
            message.contains("web.key.pem is not that of the certificate"),
            "{message}"
        );
        let files = write(directory.path(), &a, &a);
        fs::write(
            &files.key,
            "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let message = error(files.clone());
        assert!(
            message.ends_with("web.key.pem holds no private key in PEM"),
            "{message}"
        );
        fs::remove_file(&files.chain).unwrap();
        assert!(error(files).starts_with("cannot read "));
    }

    #[test]
    fn a_replaced_certificate_is_read_and_a_broken_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let provider = aws_lc_rs::default_provider();
        let old = read(&write(directory.path(), &a, &a), &provider).unwrap();
        let new = read(&write(directory.path(), &b, &b), &provider).unwrap();
        assert_ne!(old.cert, new.cert);
        assert!(read(&write(directory.path(), &b, &a), &provider).is_err());
    }
}
