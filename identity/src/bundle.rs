//! The roots and token keys that are believed for one trust domain (SPIFFE Trust Domain and Bundle).

mod json;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::jwt::KeySet;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::svid::X509Svid;
use crate::x509;

pub use json::{BundleJsonError, SpiffeBundle};

/// Why a bundle is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// A bundle without authorities could verify nobody.
    #[error("the bundle of {trust_domain} has no X.509 authority")]
    Empty {
        /// Whose bundle it is.
        trust_domain: TrustDomain,
    },
    /// The text is not PEM (RFC 7468).
    #[error("the bundle is not PEM: {reason}")]
    Pem {
        /// What is wrong with it.
        reason: String,
    },
    /// A bundle is public and holds certificates only; a private key in it was put there by mistake.
    #[error(
        "PEM block {index} of the bundle is not a certificate ({kind}); remove it from the file"
    )]
    NotACertificate {
        /// Which PEM block, from 1.
        index: usize,
        /// What it is instead.
        kind: String,
    },
    /// An authority cannot be read.
    #[error("authority {index} of the bundle: {reason}")]
    Malformed {
        /// Which authority, from 1.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// An authority's certificate does not allow it to sign certificates (X509-SVID §3.2, §4.1,
    /// §4.3).
    #[error("authority {index} of the bundle is not a signing certificate: {reason}")]
    NotAnAuthority {
        /// Which authority, from 1.
        index: usize,
        /// What it lacks.
        reason: &'static str,
    },
    /// JWT-SVID §6.1: every token key has a `kid` of its own, so that a token says which one signed it.
    #[error("the {kind} keys of the bundle: each needs a `kid` that no other one has")]
    KeyIds {
        /// jwt-svid or wit-svid.
        kind: &'static str,
    },
    /// A signing certificate's SPIFFE ID has no path (X509-SVID §3.2).
    #[error("authority {index} of the bundle has the SPIFFE ID {id:?}, which may have no path")]
    AuthorityId {
        /// Which authority, from 1.
        index: usize,
        /// Its ID as written.
        id: String,
    },
}

/// What verifies the identities of one trust domain: X.509 authorities, of which there is at least one, and the keys that
/// sign its tokens.
#[derive(Clone)]
pub struct Bundle {
    trust_domain: TrustDomain,
    authorities: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// What each anchor's certificate says beyond the anchor.
    terms: Vec<Terms>,
    /// Shared: bundles are cloned with an identity, keys do not change.
    jwt_keys: Option<Arc<KeySet>>,
    wit_keys: Option<Arc<KeySet>>,
    /// Those of the authorities that will leave.
    tainted: Vec<CertificateDer<'static>>,
    sequence: u64,
}

/// What an authority's certificate says of itself that path validation (RFC 5280 §6.1) does not ask
/// of a trust anchor. We do ask: an authority's word ends where it says itself that it ends.
#[derive(Clone, Copy, Debug)]
struct Terms {
    not_before: SystemTime,
    not_after: SystemTime,
    /// How many signing certificates may be between it and a leaf.
    path_length: Option<u32>,
}

impl Terms {
    fn valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

impl PartialEq for Bundle {
    // The anchors and their terms follow from the authorities.
    fn eq(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain
            && self.authorities == other.authorities
            && self.tainted == other.tainted
            && self.jwt_keys == other.jwt_keys
            && self.wit_keys == other.wit_keys
            && self.sequence == other.sequence
    }
}

impl Eq for Bundle {}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("trust_domain", &self.trust_domain)
            .field("sequence", &self.sequence)
            .field("authorities", &self.authorities.len())
            .field("tainted", &self.tainted.len())
            .field("jwt_keys", &key_ids(self.jwt_keys()))
            .field("wit_keys", &key_ids(self.wit_keys()))
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// A bundle of these authorities. `sequence` grows with every change; 0 is "not known".
    ///
    /// # Errors
    /// There is no authority, or one of them is not a signing certificate.
    pub fn new(
        trust_domain: TrustDomain,
        authorities: Vec<CertificateDer<'static>>,
        sequence: u64,
    ) -> Result<Self, BundleError> {
        if authorities.is_empty() {
            return Err(BundleError::Empty { trust_domain });
        }
        let mut anchors = Vec::with_capacity(authorities.len());
        let mut terms = Vec::with_capacity(authorities.len());
        for (index, authority) in (1..).zip(&authorities) {
            terms.push(check_authority(index, authority)?);
            let anchor = webpki::anchor_from_trusted_cert(authority).map_err(|error| {
                BundleError::Malformed {
                    index,
                    reason: error.to_string(),
                }
            })?;
            anchors.push(anchor.to_owned());
        }
        Ok(Self {
            trust_domain,
            authorities,
            anchors,
            terms,
            jwt_keys: None,
            wit_keys: None,
            tainted: Vec::new(),
            sequence,
        })
    }

    /// This bundle with these of its authorities tainted: they are believed, but about to leave, so that what they have
    /// signed is to be renewed at once. Others than its authorities are left out.
    #[must_use]
    pub fn with_tainted(mut self, tainted: &[CertificateDer<'_>]) -> Self {
        let is_tainted = |authority: &&CertificateDer<'static>| tainted.contains(*authority);
        self.tainted = self
            .authorities
            .iter()
            .filter(is_tainted)
            .cloned()
            .collect();
        self
    }

    /// This bundle with the keys that sign JWT-SVIDs and WIT-SVIDs; `None` for a trust domain that has no such tokens.
    ///
    /// # Errors
    /// A key has no `kid` of its own.
    pub fn with_token_keys(
        self,
        jwt_keys: Option<KeySet>,
        wit_keys: Option<KeySet>,
    ) -> Result<Self, BundleError> {
        for (kind, keys) in [(json::JWT_SVID, &jwt_keys), (json::WIT_SVID, &wit_keys)] {
            if keys.as_ref().is_some_and(|keys| !keys.names_each_key()) {
                return Err(BundleError::KeyIds { kind });
            }
        }
        Ok(Self {
            jwt_keys: jwt_keys.map(Arc::new),
            wit_keys: wit_keys.map(Arc::new),
            ..self
        })
    }

    /// Reads a bundle from PEM text of one or more certificates. Its sequence is 0, "not known".
    ///
    /// # Errors
    /// The text is not PEM, holds something other than certificates, or see [`Bundle::new`].
    pub fn from_pem(trust_domain: TrustDomain, pem: &str) -> Result<Self, BundleError> {
        let mut authorities = Vec::new();
        for (index, block) in (1..).zip(<(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes())) {
            match block.map_err(|error| BundleError::Pem {
                reason: error.to_string(),
            })? {
                (SectionKind::Certificate, der) => authorities.push(der.into()),
                (kind, _) => {
                    return Err(BundleError::NotACertificate {
                        index,
                        kind: format!("{kind:?}"),
                    });
                }
            }
        }
        Self::new(trust_domain, authorities, 0)
    }

    /// The authorities as PEM text (RFC 7468).
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut pem = String::new();
        for authority in &self.authorities {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            let text = base64::engine::general_purpose::STANDARD.encode(authority);
            for (position, character) in text.chars().enumerate() {
                if position > 0 && position % 64 == 0 {
                    pem.push('\n');
                }
                pem.push(character);
            }
            pem.push_str("\n-----END CERTIFICATE-----\n");
        }
        pem
    }

    /// Whose authorities they are.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authorities' certificates.
    #[must_use]
    pub fn x509_authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// The keys that sign JWT-SVIDs, if there are any.
    #[must_use]
    pub fn jwt_keys(&self) -> Option<&KeySet> {
        self.jwt_keys.as_deref()
    }

    /// The keys that sign WIT-SVIDs, if there are any.
    #[must_use]
    pub fn wit_keys(&self) -> Option<&KeySet> {
        self.wit_keys.as_deref()
    }

    /// Those of the authorities that are tainted.
    #[must_use]
    pub fn tainted(&self) -> &[CertificateDer<'static>] {
        &self.tainted
    }

    /// Whether an SVID is believed at `now` by the word of tainted authorities alone, and so is to be renewed at once.
    #[must_use]
    pub fn is_tainted(&self, svid: &X509Svid, now: SystemTime) -> bool {
        if self.tainted.is_empty() || svid.verify(self, now).is_err() {
            return false;
        }
        let lasting = self
            .authorities
            .iter()
            .filter(|authority| !self.tainted.contains(*authority));
        // A bundle of none, when all are tainted, could verify nobody.
        match Self::new(
            self.trust_domain.clone(),
            lasting.cloned().collect(),
            self.sequence,
        ) {
            Ok(lasting) => svid.verify(&lasting, now).is_err(),
            Err(_) => true,
        }
    }

    /// Whether any of the authorities' own certificates is valid at `now`: without one, it verifies nobody.
    #[must_use]
    pub fn is_current(&self, now: SystemTime) -> bool {
        self.terms.iter().any(|terms| terms.valid_at(now))
    }

    /// Grows with every change; 0 is "not known".
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Hands `verify` the trust anchors whose own certificates are valid at `now`.
    pub(crate) fn with_anchors_at<T>(
        &self,
        now: SystemTime,
        verify: impl FnOnce(&[TrustAnchor<'static>]) -> T,
    ) -> T {
        if self.terms.iter().all(|terms| terms.valid_at(now)) {
            return verify(&self.anchors);
        }
        let anchors = self.anchors.iter().zip(&self.terms);
        let current: Vec<_> = anchors
            .filter(|(_, terms)| terms.valid_at(now))
            .map(|(anchor, _)| anchor.clone())
            .collect();
        verify(&current)
    }

    /// When each of the anchors that are valid at `now` is.
    pub(crate) fn anchors_valid_around(
        &self,
        now: SystemTime,
    ) -> impl Iterator<Item = RangeInclusive<SystemTime>> {
        let valid = self.terms.iter().filter(move |terms| terms.valid_at(now));
        valid.map(|terms| terms.not_before..=terms.not_after)
    }

    /// Whether `anchor`, one of this bundle's, allows so many signing certificates below it
    /// (RFC 5280 §4.2.1.9).
    pub(crate) fn allows_path(
        &self,
        anchor: &TrustAnchor<'_>,
        signing_certificates: usize,
    ) -> bool {
        let is_same = |other: &TrustAnchor<'_>| {
            anchor.subject == other.subject
                && anchor.subject_public_key_info == other.subject_public_key_info
        };
        let allows = |terms: &Terms| {
            terms.path_length.is_none_or(|length| {
                usize::try_from(length).is_ok_and(|length| signing_certificates <= length)
            })
        };
        let mut anchors = self.anchors.iter().zip(&self.terms);
        anchors.any(|(other, terms)| is_same(other) && allows(terms))
    }
}

fn key_ids(keys: Option<&KeySet>) -> Vec<&str> {
    keys.map(|keys| keys.key_ids().collect())
        .unwrap_or_default()
}

/// Checks that a certificate may sign others, and gives its terms.
fn check_authority(index: usize, authority: &CertificateDer<'_>) -> Result<Terms, BundleError> {
    let malformed = |reason| BundleError::Malformed { index, reason };
    let certificate = x509::parse(authority).map_err(malformed)?;
    let constraints = certificate
        .basic_constraints()
        .map_err(|error| malformed(error.to_string()))?;
    let Some(constraints) = constraints.filter(|constraints| constraints.value.ca) else {
        let reason = "its basic constraints do not say CA";
        return Err(BundleError::NotAnAuthority { index, reason });
    };
    // X509-SVID §4.3 demands the extension; but roots of an existing PKI, which many trust domains
    // have, may be of a time before it, and RFC 5280 §6.1.4 (n) checks it only where it is.
    let usage = certificate
        .key_usage()
        .map_err(|error| malformed(error.to_string()))?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        let reason = "its key usage does not include keyCertSign";
        return Err(BundleError::NotAnAuthority { index, reason });
    }
    for uri in x509::uri_names(&certificate).map_err(malformed)? {
        if uri.starts_with("spiffe:") && !SpiffeId::parse(uri).is_ok_and(|id| id.path().is_empty())
        {
            return Err(BundleError::AuthorityId {
                index,
                id: uri.to_owned(),
            });
        }
    }
    let validity = certificate.validity();
    Ok(Terms {
        not_before: x509::system_time(validity.not_before),
        not_after: x509::system_time(validity.not_after),
        path_length: constraints.value.path_len_constraint,
    })
}

#[cfg(test)]
mod tests;
