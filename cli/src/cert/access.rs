//! What opens a target: a password, a certificate of our own, a server's name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::args::AccessArguments;
use super::source::{Access, Client};

/// The environment variable that may hold the password.
const PASSWORD_VARIABLE: &str = "COUNTERSIGN_PASSWORD";

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    #[error("cannot read the password in {}", path.display())]
    Password { path: PathBuf, source: io::Error },
    #[error("the password in {PASSWORD_VARIABLE} is not UTF-8")]
    PasswordEncoding,
    #[error("cannot read the certificates to present in {}", path.display())]
    Certificate { path: PathBuf, source: pem::Error },
    #[error("cannot read the private key to present with in {}", path.display())]
    Key { path: PathBuf, source: pem::Error },
    #[error("{}: expected {expected}, and there is none", path.display())]
    Content {
        path: PathBuf,
        expected: &'static str,
    },
    #[error(
        "the key in {} is not that of the first certificate in {}: a chain starts with the certificate of its key",
        key.display(), cert.display()
    )]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("the certificate in {} and the key in {} cannot be presented", cert.display(), key.display())]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
}

/// Reads what the arguments name.
pub(super) fn access(arguments: &AccessArguments) -> Result<Access, AccessError> {
    let identity = match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => Some(Arc::new(identity(cert, key)?)),
        _ => None,
    };
    Ok(Access {
        client: Client {
            identity,
            server_name: arguments.server_name.clone(),
        },
        password: password(arguments.password_file.as_deref())?,
    })
}

fn password(file: Option<&Path>) -> Result<Option<Zeroizing<String>>, AccessError> {
    let Some(path) = file else {
        return match std::env::var(PASSWORD_VARIABLE) {
            Ok(password) => Ok(Some(Zeroizing::new(password))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(AccessError::PasswordEncoding),
        };
    };
    let text = std::fs::read_to_string(path).map_err(|source| AccessError::Password {
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(text);
    // An editor ends the line; a password does not.
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    Ok(Some(Zeroizing::new(password.to_owned())))
}

fn identity(cert: &Path, key: &Path) -> Result<CertifiedKey, AccessError> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| AccessError::Certificate {
            path: cert.to_owned(),
            source,
        })?;
    if chain.is_empty() {
        return Err(AccessError::Content {
            path: cert.to_owned(),
            expected: "certificates in PEM (--cert)",
        });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|source| match source {
        pem::Error::NoItemsFound => AccessError::Content {
            path: key.to_owned(),
            expected: "a private key in PEM, not encrypted (--key)",
        },
        source => AccessError::Key {
            path: key.to_owned(),
            source,
        },
    })?;
    let provider = aws_lc_rs::default_provider();
    let pair = || (cert.to_owned(), key.to_owned());
    CertifiedKey::from_der(chain, private, &provider).map_err(|source| match (source, pair()) {
        (rustls::Error::InconsistentKeys(_), (cert, key)) => AccessError::Mismatch { cert, key },
        (source, (cert, key)) => AccessError::Pair { cert, key, source },
    })
}
