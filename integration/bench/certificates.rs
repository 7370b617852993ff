//! Certificates for the proxies that Countersign is compared with: a CA, and an identity for each of the two hops.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::process::{ProcessError, write};

/// The identity of the first hop, as the second one's policy names it.
pub(crate) const CLIENT_ID: &str = "spiffe://bench.example/ns/bench/sa/client";
/// The identity of the second hop.
pub(crate) const SERVER_ID: &str = "spiffe://bench.example/ns/bench/sa/server";
/// What nginx, which knows no URI names, verifies the second hop by.
pub(crate) const SERVER_NAME: &str = "server.bench.example";

/// The files of a small PKI, ECDSA P-256 as Countersign's own.
pub(crate) struct Pki {
    pub(crate) ca: PathBuf,
    pub(crate) client: Pair,
    pub(crate) server: Pair,
}

/// A certificate and its key, PEM.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A certificate that could not be made or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// By rcgen.
    #[error("a certificate for the comparison could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// To the benchmark's directory.
    #[error(transparent)]
    Write(#[from] ProcessError),
}

impl Pki {
    /// Makes everything anew in `directory`.
    pub(crate) fn make(directory: &Path) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "bench");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let ca = directory.join("ca.pem");
        write(&ca, issuer.pem())?;

        let pair = |name: &str, id: &str, dns: &str| -> Result<Pair, PkiError> {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![
                SanType::URI(id.try_into()?),
                SanType::DnsName(dns.try_into()?),
            ];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            let pair = Pair {
                certificate: directory.join(format!("{name}.pem")),
                key: directory.join(format!("{name}.key.pem")),
            };
            write(&pair.certificate, params.signed_by(&key, &issuer)?.pem())?;
            write(&pair.key, key.serialize_pem())?;
            Ok(pair)
        };
        Ok(Self {
            client: pair("client", CLIENT_ID, "client.bench.example")?,
            server: pair("server", SERVER_ID, SERVER_NAME)?,
            ca,
        })
    }
}
