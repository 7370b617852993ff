//! What a target gave: groups of certificates, and the keys that lie beside them.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::super::facts::KeyFacts;
use super::handshake::Connection;

/// The most certificates of one target that are looked at.
pub(in crate::cert) const MOST_CERTIFICATES: usize = 250;

/// Everything that a target gave.
pub(in crate::cert) struct Found {
    /// What was inspected, for people.
    pub(in crate::cert) origin: String,
    /// In what form the certificates were: "PEM", "PKCS#12", "TLS handshake".
    pub(in crate::cert) form: &'static str,
    pub(in crate::cert) groups: Vec<Group>,
    /// What the TLS handshake showed, if there was one.
    pub(in crate::cert) connection: Option<Connection>,
    /// What was there besides certificates, and what could not be read.
    pub(in crate::cert) remarks: Vec<Remark>,
    /// The permissions of the file, if it holds a private key that others may read.
    pub(in crate::cert) exposed_mode: Option<u32>,
}

/// Something to say about a target as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cert) enum Remark {
    /// Good to know.
    Note(String),
    /// A part that is damaged.
    Damaged(String),
}

/// Certificates that belong together.
pub(in crate::cert) struct Group {
    /// Which part of the target they are, if it has several.
    pub(in crate::cert) name: Option<String>,
    pub(in crate::cert) kind: Kind,
    pub(in crate::cert) certificates: Vec<CertificateDer<'static>>,
    pub(in crate::cert) keys: Vec<FoundKey>,
}

/// How certificates belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cert) enum Kind {
    /// Not told: a chain if there is a leaf, a bundle if there are authorities only.
    Unknown,
    /// A leaf and what leads from it to a root, in this order.
    Chain,
    /// A chain whose leaf has to be an X.509-SVID, of this ID if one is given.
    Svid(Option<String>),
    /// Trusted authorities, in any order.
    Bundle,
}

impl Group {
    pub(in crate::cert) fn new(
        name: Option<String>,
        kind: Kind,
        certificates: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self {
            name,
            kind,
            certificates,
            keys: Vec::new(),
        }
    }
}

/// A private key that was found. Of the key itself nothing is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cert) enum FoundKey {
    /// Its public part: a SubjectPublicKeyInfo, DER, and its name.
    Readable { public_key: Vec<u8>, name: String },
    /// It is encrypted, and no password opens it.
    Encrypted,
    /// It is of a kind that cannot be used here.
    Unusable,
}

impl FoundKey {
    /// Looks at a private key: PKCS #8, PKCS #1 or SEC 1.
    pub(super) fn of(der: &[u8]) -> Self {
        let Ok(key) = PrivateKeyDer::try_from(der) else {
            return Self::Unusable;
        };
        let provider = aws_lc_rs::default_provider();
        // The key is copied into the cryptographic library's memory, which clears it when it is freed.
        let loaded = provider.key_provider.load_private_key(key.clone_key());
        let Some(public_key) = loaded.ok().and_then(|key| {
            let public_key = key.public_key()?;
            Some(public_key.as_ref().to_vec())
        }) else {
            return Self::Unusable;
        };
        let name = match SubjectPublicKeyInfo::from_der(&public_key) {
            Ok((_, parsed)) => KeyFacts::of(&parsed).name,
            Err(_) => "unknown".to_owned(),
        };
        Self::Readable { public_key, name }
    }
}
