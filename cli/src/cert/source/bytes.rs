//! Certificates out of the bytes of a file, whatever its form.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::der::Elements;
use super::found::{FoundKey, Group, Kind, MOST_CERTIFICATES, Remark};
use super::pem::{self, Content};
use super::pkcs12::{self, Pkcs12Error};
use super::{bundle, kubernetes};

/// The most PEM blocks that are looked at.
const MOST_BLOCKS: usize = 2000;
/// What to do with a key that has no certificate beside it.
const KEY_ALONE: &str = "its certificate is elsewhere, and `cat CERTIFICATE KEY | countersign cert inspect -` tells whether they \
                         belong together";

/// What a file's bytes are.
pub(super) struct Read {
    pub(super) form: &'static str,
    pub(super) groups: Vec<Group>,
    pub(super) remarks: Vec<Remark>,
}

/// Why bytes hold no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BytesError {
    #[error("empty; expected certificates as PEM, DER, PKCS#12, SPIFFE bundle or Kubernetes YAML")]
    Empty,
    #[error("no certificate in it: {0}")]
    NoCertificate(String),
    #[error(
        "neither PEM, DER, PKCS#12, a SPIFFE bundle, nor a kubeconfig or Secret of Kubernetes; it starts with {0}"
    )]
    Unknown(String),
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
    #[error("a SPIFFE bundle that cannot be used: {0}")]
    Bundle(#[from] bundle::BundleError),
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::KubernetesError),
}

/// How to open what is encrypted, and where files lie that are named by others.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) password: Option<&'a str>,
    /// The directory of the file that is read.
    pub(super) directory: Option<&'a std::path::Path>,
}

/// Finds out the form, and reads it.
pub(super) fn read(bytes: &[u8], context: Context<'_>) -> Result<Read, BytesError> {
    let trimmed = bytes.trim_ascii_start();
    if trimmed.is_empty() {
        return Err(BytesError::Empty);
    }
    if trimmed.first() == Some(&b'{')
        && let Ok(value) = serde_json::from_slice(trimmed)
        && let Some(read) = bundle::read(&value)?
    {
        return Ok(read);
    }
    // Before PEM: a Secret or kubeconfig may hold PEM in the clear.
    if let Some(read) = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| kubernetes::read(text, context).transpose())
    {
        return Ok(read?);
    }
    if pem::is_pem(bytes) {
        return from_pem(bytes, context);
    }
    if bytes.first() == Some(&0x30) {
        return from_der(bytes, context);
    }
    let start: Vec<u8> = trimmed.iter().copied().take(16).collect();
    Err(BytesError::Unknown(format!("\"{}\"", start.escape_ascii())))
}

fn from_pem(bytes: &[u8], context: Context<'_>) -> Result<Read, BytesError> {
    let (group, remarks) = pem_group(bytes, context);
    if group.certificates.is_empty() {
        let mut why: Vec<_> = remarks.into_iter().map(Remark::into_text).collect();
        let keys = group.keys.len();
        if keys > 0 {
            why.push(format!("{}; {KEY_ALONE}", count(keys, "private key")));
        }
        if why.is_empty() {
            why.push("PEM without a CERTIFICATE section".to_owned());
        }
        return Err(BytesError::NoCertificate(why.join("; ")));
    }
    Ok(Read {
        form: "PEM",
        groups: vec![group],
        remarks,
    })
}

/// The certificates and keys of a PEM text, and what else is in it.
pub(super) fn pem_group(bytes: &[u8], context: Context<'_>) -> (Group, Vec<Remark>) {
    let mut group = Group::new(None, Kind::Unknown, Vec::new());
    let mut remarks = Vec::new();
    for block in pem::blocks(bytes, MOST_BLOCKS) {
        let at = format!("PEM block {} ({})", block.index, block.label);
        match (block.label.as_str(), block.content) {
            (label, Content::Encrypted) if label.ends_with("PRIVATE KEY") => {
                group.keys.push(FoundKey::Encrypted);
            }
            (_, Content::Encrypted) => remarks.push(Remark::Note(format!("{at}: encrypted"))),
            (_, Content::Damaged(why)) => remarks.push(Remark::Damaged(format!("{at}: {why}"))),
            ("CERTIFICATE" | "X509 CERTIFICATE", Content::Der(der)) => {
                group.certificates.push(der.to_vec().into());
            }
            // OpenSSL's: a certificate, and after it what it is trusted for.
            ("TRUSTED CERTIFICATE", Content::Der(der)) => {
                let whole = Elements::of(&der).any().map(|element| element.whole);
                let certificate = whole.unwrap_or(&der).to_vec();
                group.certificates.push(certificate.into());
            }
            ("ENCRYPTED PRIVATE KEY", Content::Der(der)) => {
                let opened = context
                    .password
                    .and_then(|password| pkcs12::decrypt_key(&der, password).ok());
                group.keys.push(match opened {
                    Some(key) => FoundKey::of(&key),
                    None => FoundKey::Encrypted,
                });
            }
            ("PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY", Content::Der(der)) => {
                group.keys.push(FoundKey::of(&der));
            }
            (label, Content::Der(_)) if label.ends_with("PRIVATE KEY") => {
                group.keys.push(FoundKey::Unusable);
            }
            // The curve of the key that follows.
            ("EC PARAMETERS", _) => {}
            (label, Content::Der(_)) => remarks.push(Remark::Note(format!(
                "PEM block {}: {}",
                block.index,
                in_words(label)
            ))),
        }
    }
    (group, remarks)
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("a {what}"),
        number => format!("{number} {what}s"),
    }
}

fn in_words(label: &str) -> String {
    match label {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "a certificate request, out of which a CA makes the certificate".to_owned()
        }
        "X509 CRL" => "a certificate revocation list".to_owned(),
        "PUBLIC KEY" => "a public key".to_owned(),
        "PKCS7" => "a PKCS#7 container, which is not looked into".to_owned(),
        other => format!("{other}, which is not looked at"),
    }
}

fn from_der(bytes: &[u8], context: Context<'_>) -> Result<Read, BytesError> {
    if pkcs12::is_pkcs12(bytes) {
        return from_pkcs12(bytes, context);
    }
    let certificates = concatenated(bytes);
    if certificates.is_empty() {
        return Err(BytesError::NoCertificate(other_der(bytes)));
    }
    Ok(Read {
        form: "DER",
        groups: vec![Group::new(None, Kind::Unknown, certificates)],
        remarks: Vec::new(),
    })
}

/// What DER is that is no certificate.
fn other_der(bytes: &[u8]) -> String {
    if X509CertificationRequest::from_der(bytes).is_ok() {
        "it is a certificate request (PKCS#10)".to_owned()
    } else if CertificateRevocationList::from_der(bytes).is_ok() {
        "it is a certificate revocation list".to_owned()
    } else if rustls::pki_types::PrivateKeyDer::try_from(bytes).is_ok() {
        format!("it is a private key; {KEY_ALONE}")
    } else {
        match X509Certificate::from_der(bytes) {
            Err(error) => format!("as a DER certificate it cannot be read ({error})"),
            Ok(_) => "as a DER certificate it cannot be read".to_owned(),
        }
    }
}

pub(super) fn from_pkcs12(bytes: &[u8], context: Context<'_>) -> Result<Read, BytesError> {
    let contents = pkcs12::open(bytes, context.password.unwrap_or_default())?;
    let mut group = Group::new(None, Kind::Unknown, contents.certificates);
    group.keys = contents.keys.iter().map(|key| FoundKey::of(key)).collect();
    if group.certificates.is_empty() {
        let keys = group.keys.len();
        return Err(BytesError::NoCertificate(format!(
            "a PKCS#12 file with {}",
            count(keys, "key")
        )));
    }
    leaf_first(&mut group);
    Ok(Read {
        form: "PKCS#12",
        groups: vec![group],
        remarks: Vec::new(),
    })
}

/// The order of bags means nothing: the certificate of the key comes first, its issuers after it.
fn leaf_first(group: &mut Group) {
    let [FoundKey::Readable { public_key, .. }] = group.keys.as_slice() else {
        return;
    };
    let parsed = |der: &CertificateDer<'_>, test: &dyn Fn(&X509Certificate<'_>) -> bool| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| test(&certificate))
    };
    let mut left = std::mem::take(&mut group.certificates);
    let mut next = left.iter().position(|der| {
        parsed(der, &|found| {
            found.public_key().raw == public_key.as_slice()
        })
    });
    while let Some(index) = next {
        let der = left.remove(index);
        let issuer = match X509Certificate::from_der(&der) {
            Ok((_, certificate)) => certificate.issuer().as_raw().to_vec(),
            Err(_) => Vec::new(),
        };
        group.certificates.push(der);
        next = left
            .iter()
            .position(|der| parsed(der, &|found| found.subject().as_raw() == issuer));
    }
    group.certificates.append(&mut left);
}

/// Certificates that follow one another without anything between them. What cannot be read as one is
/// kept as one where others came before it, so that the damage shows.
pub(super) fn concatenated(bytes: &[u8]) -> Vec<CertificateDer<'static>> {
    let mut elements = Elements::of(bytes);
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    while !elements.is_empty() && certificates.len() <= MOST_CERTIFICATES {
        let Ok(element) = elements.any() else { break };
        let readable = X509Certificate::from_der(element.whole).is_ok();
        if !readable && certificates.is_empty() {
            break;
        }
        certificates.push(element.whole.to_vec().into());
    }
    certificates
}

impl Remark {
    fn into_text(self) -> String {
        match self {
            Self::Note(text) | Self::Damaged(text) => text,
        }
    }
}
