//! Where certificates come from: a file, standard input, or a TLS handshake.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

use super::handshake::{self, Handshake, HandshakeError};

/// The certificates of a target, leaf first if it is a chain.
pub(super) struct Presented {
    /// What was inspected, for people.
    pub(super) origin: String,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// What the TLS handshake showed, if there was one.
    pub(super) handshake: Option<Handshake>,
}

/// Why there are no certificates to inspect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot read standard input")]
    Stdin(#[source] io::Error),
    #[error("{0}: no such file, and not host:port either")]
    UnknownTarget(String),
    #[error("{origin}: damaged PEM: {problem}")]
    DamagedPem { origin: String, problem: pem::Error },
    #[error("{0}: PEM without a CERTIFICATE section")]
    NoCertificate(String),
    #[error("{0}: empty; expected a certificate as PEM or DER")]
    Empty(String),
    #[error("{origin}: certificate {position} is not X.509: {problem}")]
    NotX509 {
        origin: String,
        position: usize,
        problem: String,
    },
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Gets the certificates of what the user named.
pub(super) fn target(target: &str) -> Result<Presented, ReadError> {
    let presented = if target == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(ReadError::Stdin)?;
        from_bytes("standard input", bytes)?
    } else if Path::new(target).exists() {
        let path = Path::new(target);
        let bytes = std::fs::read(path).map_err(|source| ReadError::File {
            path: path.to_owned(),
            source,
        })?;
        from_bytes(target, bytes)?
    } else if let Some((host, port)) = host_and_port(target) {
        let (certificates, handshake) = handshake::present(host, port)?;
        Presented {
            origin: target.to_owned(),
            certificates,
            handshake: Some(handshake),
        }
    } else {
        return Err(ReadError::UnknownTarget(target.to_owned()));
    };
    for (index, certificate) in presented.certificates.iter().enumerate() {
        if let Err(error) = x509_parser::parse_x509_certificate(certificate) {
            let (origin, position) = (presented.origin.clone(), index + 1);
            return Err(ReadError::NotX509 {
                origin,
                position,
                problem: error.to_string(),
            });
        }
    }
    Ok(presented)
}

/// `host:port`, `[v6]:port`.
fn host_and_port(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() || host.contains('/') {
        return None;
    }
    Some((host, port.parse().ok()?))
}

fn from_bytes(origin: &str, bytes: Vec<u8>) -> Result<Presented, ReadError> {
    let origin = origin.to_owned();
    let certificates = if bytes.is_empty() {
        return Err(ReadError::Empty(origin));
    } else if bytes.windows(10).any(|window| window == b"-----BEGIN") {
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(none) if none.is_empty() => return Err(ReadError::NoCertificate(origin)),
            Ok(certificates) => certificates,
            Err(problem) => return Err(ReadError::DamagedPem { origin, problem }),
        }
    } else {
        vec![CertificateDer::from(bytes)]
    };
    Ok(Presented {
        origin,
        certificates,
        handshake: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        assert_eq!(
            host_and_port("127.1.2.11:15008"),
            Some(("127.1.2.11", 15008))
        );
        assert_eq!(host_and_port("[::1]:15008"), Some(("::1", 15008)));
        assert_eq!(
            host_and_port("orders.shop:15008"),
            Some(("orders.shop", 15008))
        );
        for path in ["leaf.pem", "a:b", ":15008", "dir:1/leaf:2", "orders:70000"] {
            assert_eq!(host_and_port(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_told_apart() {
        let error = |bytes: &[u8]| from_bytes("f", bytes.to_vec()).map(|_| ()).unwrap_err();
        assert_eq!(
            error(b"").to_string(),
            "f: empty; expected a certificate as PEM or DER"
        );
        let key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            error(key).to_string(),
            "f: PEM without a CERTIFICATE section"
        );
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(
            error(cut).to_string().starts_with("f: damaged PEM: "),
            "{}",
            error(cut)
        );
    }

    #[test]
    fn a_target_that_is_nothing_is_refused() {
        let error = target("no/such/file").map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no/such/file: no such file, and not host:port either"
        );
    }
}
