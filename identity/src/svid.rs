//! X.509-SVIDs: certificates that prove a SPIFFE ID (SPIFFE X509-SVID).
//!
//! [`X509Svid::from_chain`] checks what a certificate says of itself; [`X509Svid::verify`] whether
//! somebody who is believed says so, today.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext,
};
use x509_parser::certificate::X509Certificate;

use crate::bundle::Bundle;
use crate::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
use crate::x509;

/// Why a certificate chain is not an X.509-SVID, or not one that is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// There is no certificate.
    #[error("the certificate chain is empty")]
    EmptyChain,
    /// A certificate cannot be read.
    #[error("certificate {index} of the chain: {reason}")]
    Malformed {
        /// Which certificate of the chain; 0 is the leaf.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// X509-SVID §2: exactly one URI SAN.
    #[error(
        "the certificate has no URI in its subject alternative name, so that it names no SPIFFE ID"
    )]
    NoUriSan,
    /// X509-SVID §2: exactly one URI SAN.
    #[error(
        "certificate {index} of the chain has {count} URIs in its subject alternative name; an X.509-SVID has exactly one"
    )]
    SeveralUriSans {
        /// Which certificate of the chain; 0 is the leaf.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The URI SAN is not a SPIFFE ID.
    #[error("the certificate's URI {uri:?} is not a SPIFFE ID: {source}")]
    SpiffeId {
        /// The URI as written.
        uri: String,
        /// The rule that it breaks.
        source: SpiffeIdError,
    },
    /// X509-SVID §3.1: a leaf names a workload, not a whole trust domain.
    #[error("the leaf certificate's SPIFFE ID {id} has no path, so that it names no workload")]
    NoPath {
        /// The ID.
        id: SpiffeId,
    },
    /// X509-SVID §3.1: critical if the subject is omitted.
    #[error(
        "the certificate of {id} has no subject, and its subject alternative name is not marked critical"
    )]
    SanNotCritical {
        /// The ID.
        id: SpiffeId,
    },
    /// X509-SVID §4.1, §5.2: signing certificates are not for authentication.
    #[error("the certificate of {id} is a CA's, which may sign but not authenticate")]
    LeafIsCa {
        /// The ID.
        id: SpiffeId,
    },
    /// X509-SVID §4.3.
    #[error("the certificate of {id}: its key usage {problem}")]
    KeyUsage {
        /// The ID.
        id: SpiffeId,
        /// The rule that it breaks.
        problem: &'static str,
    },
    /// X509-SVID §4.4: if there is an extended key usage, it has both.
    #[error("the certificate of {id}: its extended key usage lacks {lacks}")]
    ExtendedKeyUsage {
        /// The ID.
        id: SpiffeId,
        /// What it lacks: `serverAuth` or `clientAuth`.
        lacks: &'static str,
    },
    /// X509-SVID §3.2, §4.1, §4.3: the rest of the chain are signing certificates.
    #[error("certificate {index} of the chain is not a signing certificate: {problem}")]
    NotSigning {
        /// Which certificate of the chain; 0 is the leaf.
        index: usize,
        /// The rule that it breaks.
        problem: String,
    },
    /// The bundle is of another trust domain, so that it can say nothing of this ID.
    #[error("{id} is of another trust domain than {trust_domain}, whose bundle was to verify it")]
    OtherTrustDomain {
        /// The ID.
        id: SpiffeId,
        /// The bundle's trust domain.
        trust_domain: TrustDomain,
    },
    /// The leaf is past its validity.
    #[error("the certificate of {id} has expired: it was valid until {}", x509::rfc3339(*not_after))]
    Expired {
        /// The ID.
        id: SpiffeId,
        /// The end of its validity.
        not_after: SystemTime,
    },
    /// The leaf is before its validity.
    #[error("the certificate of {id} is not valid before {}", x509::rfc3339(*not_before))]
    NotYetValid {
        /// The ID.
        id: SpiffeId,
        /// The start of its validity.
        not_before: SystemTime,
    },
    /// No chain of valid signatures leads to an authority of the bundle.
    #[error(
        "the certificate of {id} is not signed by an authority in the bundle of {trust_domain} \
         (sequence {sequence})"
    )]
    UnknownAuthority {
        /// The ID.
        id: SpiffeId,
        /// The bundle's trust domain.
        trust_domain: TrustDomain,
        /// The bundle's sequence.
        sequence: u64,
    },
    /// An intermediate signs deeper than its, or its issuer's, path length allows (RFC 5280
    /// §4.2.1.9).
    #[error("the certificate of {id}: its chain is longer than a path length constraint allows")]
    PathLength {
        /// The ID.
        id: SpiffeId,
    },
    /// A signing certificate of the chain is not valid at this time.
    #[error(
        "the certificate of {id}: a signing certificate of its chain has expired or is not yet valid"
    )]
    SigningCertificateNotValid {
        /// The ID.
        id: SpiffeId,
    },
    /// Another rule of path validation (RFC 5280 §6.1).
    #[error("the certificate of {id}: its chain is not valid ({})", rule(reason))]
    Path {
        /// The ID.
        id: SpiffeId,
        /// The rule that it breaks.
        reason: webpki::Error,
    },
}

/// A rule of path validation, in a few words: some of webpki's come with all that it would have accepted.
fn rule(reason: &webpki::Error) -> String {
    use webpki::Error as Webpki;
    let words = match reason {
        Webpki::UnsupportedSignatureAlgorithmContext(_)
        | Webpki::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "a signature is of an algorithm that is not accepted"
        }
        Webpki::RequiredEkuNotFoundContext(_) => "an extended key usage does not allow it",
        Webpki::NameConstraintViolation => "a name is not among those that its issuer may certify",
        reason => return reason.to_string(),
    };
    words.to_owned()
}

/// A certificate chain whose leaf obeys the rules of an X.509-SVID. Whether it is to be believed
/// is what [`X509Svid::verify`] says.
#[derive(Clone, PartialEq, Eq)]
pub struct X509Svid {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// When the leaf and all that is above it in the chain are valid.
    chain_valid: RangeInclusive<SystemTime>,
    serial: String,
    thumbprint: [u8; 32],
}

/// What is above the leaves that one intermediate signs, checked once for all of them.
#[derive(Clone, Debug)]
pub struct SigningChain {
    certificates: Vec<CertificateDer<'static>>,
    /// When all of them are valid; none if there is none.
    valid: Option<RangeInclusive<SystemTime>>,
}

impl SigningChain {
    /// The certificate that signs leaves, and those above it up to the root, which is not among them.
    ///
    /// # Errors
    /// One of them is not a signing certificate (X509-SVID §3.2, §4.1, §4.3).
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, SvidError> {
        let valid = check_signing_certificates(&certificates)?;
        Ok(Self {
            certificates,
            valid,
        })
    }

    /// The SVID of a leaf under this chain, as [`X509Svid::from_chain`] reads it.
    ///
    /// # Errors
    /// The first rule that the leaf breaks.
    pub fn svid(&self, leaf: CertificateDer<'static>) -> Result<X509Svid, SvidError> {
        let mut chain = Vec::with_capacity(1 + self.certificates.len());
        chain.push(leaf);
        chain.extend_from_slice(&self.certificates);
        X509Svid::under(self.valid.clone(), chain)
    }
}

impl X509Svid {
    /// Reads a chain, the leaf first, and checks it by the rules of X509-SVID §2 to §4.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn from_chain(chain: Vec<CertificateDer<'static>>) -> Result<Self, SvidError> {
        let (leaf, above) = chain.split_first().ok_or(SvidError::EmptyChain)?;
        // The leaf first: what is wrong with it concerns the reader more.
        let read = Leaf::read(leaf)?;
        let above = check_signing_certificates(above)?;
        Ok(read.svid(above, chain))
    }

    /// The SVID of a chain of which all but the leaf has been checked, and is valid at `above`.
    fn under(
        above: Option<RangeInclusive<SystemTime>>,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Self, SvidError> {
        let leaf = Leaf::read(chain.first().ok_or(SvidError::EmptyChain)?)?;
        Ok(leaf.svid(above, chain))
    }

    /// Verifies the chain up to an authority of `bundle`, valid at `now` (X509-SVID §5.1).
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, bundle: &Bundle, now: SystemTime) -> Result<(), SvidError> {
        self.verified_when(bundle, now).map(drop)
    }

    /// As [`X509Svid::verify`]; says in addition when the answer is the same for this bundle. Signatures do not depend on the
    /// time, and within that span no certificate of the chain and no authority that was believed begins or ends to be valid.
    ///
    /// # Errors
    /// As [`X509Svid::verify`].
    pub(crate) fn verified_when(
        &self,
        bundle: &Bundle,
        now: SystemTime,
    ) -> Result<RangeInclusive<SystemTime>, SvidError> {
        let id = || self.id.clone();
        if self.id.trust_domain() != bundle.trust_domain() {
            let trust_domain = bundle.trust_domain().clone();
            return Err(SvidError::OtherTrustDomain {
                id: id(),
                trust_domain,
            });
        }
        // Path validation checks these too, but cannot say which certificate it was.
        if now < self.not_before {
            return Err(SvidError::NotYetValid {
                id: id(),
                not_before: self.not_before,
            });
        }
        if now > self.not_after {
            return Err(SvidError::Expired {
                id: id(),
                not_after: self.not_after,
            });
        }
        let (leaf, intermediates) = self.chain.split_first().ok_or(SvidError::EmptyChain)?;
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let leaf =
            EndEntityCert::try_from(leaf).map_err(|reason| SvidError::Path { id: id(), reason })?;
        bundle
            .with_anchors_at(now, |anchors| {
                leaf.verify_for_usage(
                    webpki::ALL_VERIFICATION_ALGS,
                    anchors,
                    intermediates,
                    UnixTime::since_unix_epoch(since_epoch),
                    BothDirections,
                    None,
                    Some(&|path| {
                        let signing_certificates = path.intermediate_certificates().count();
                        match bundle.allows_path(path.anchor(), signing_certificates) {
                            true => Ok(()),
                            false => Err(webpki::Error::PathLenConstraintViolated),
                        }
                    }),
                )
                .map(drop)
            })
            .map_err(|reason| self.path_error(reason, bundle))?;
        let authorities = bundle.anchors_valid_around(now);
        Ok(authorities.fold(self.chain_valid.clone(), |span, valid| {
            intersection(&span, &valid)
        }))
    }

    /// Whom it names.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, the leaf first. There is at least one.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The start of the leaf's validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// The end of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The leaf's serial number, in lower-case hexadecimal digits.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The SHA-256 digest of the leaf's DER, as `x5t#S256` has it (RFC 8705 §3.1).
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }

    fn path_error(&self, reason: webpki::Error, bundle: &Bundle) -> SvidError {
        use webpki::Error as Webpki;
        let id = self.id.clone();
        match reason {
            // A signature that does not fit an authority of the right name is another authority's.
            Webpki::UnknownIssuer | Webpki::InvalidSignatureForPublicKey => {
                SvidError::UnknownAuthority {
                    id,
                    trust_domain: bundle.trust_domain().clone(),
                    sequence: bundle.sequence(),
                }
            }
            Webpki::PathLenConstraintViolated => SvidError::PathLength { id },
            // The leaf's own validity has been checked before.
            Webpki::CertExpired { .. } | Webpki::CertNotValidYet { .. } => {
                SvidError::SigningCertificateNotValid { id }
            }
            reason => SvidError::Path { id, reason },
        }
    }
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Svid")
            .field("id", &self.id)
            .field("serial", &self.serial)
            .field("not_before", &x509::rfc3339(self.not_before))
            .field("not_after", &x509::rfc3339(self.not_after))
            .finish_non_exhaustive()
    }
}

/// What a good leaf says of itself.
struct Leaf {
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    thumbprint: [u8; 32],
}

impl Leaf {
    fn read(leaf: &CertificateDer<'_>) -> Result<Self, SvidError> {
        let malformed = |reason| SvidError::Malformed { index: 0, reason };
        let certificate = x509::parse(leaf).map_err(malformed)?;
        let id = leaf_id(&certificate)?;
        check_leaf_usage(&certificate, &id)?;
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, leaf).as_ref());
        Ok(Self {
            id,
            not_before: x509::system_time(certificate.validity().not_before),
            not_after: x509::system_time(certificate.validity().not_after),
            serial: hex::encode(certificate.raw_serial()),
            thumbprint,
        })
    }

    fn svid(
        self,
        above: Option<RangeInclusive<SystemTime>>,
        chain: Vec<CertificateDer<'static>>,
    ) -> X509Svid {
        let Self {
            id,
            not_before,
            not_after,
            serial,
            thumbprint,
        } = self;
        let own = not_before..=not_after;
        X509Svid {
            chain_valid: above.map_or_else(|| own.clone(), |above| intersection(&own, &above)),
            id,
            chain,
            not_before,
            not_after,
            serial,
            thumbprint,
        }
    }
}

fn intersection(
    one: &RangeInclusive<SystemTime>,
    other: &RangeInclusive<SystemTime>,
) -> RangeInclusive<SystemTime> {
    *one.start().max(other.start())..=*one.end().min(other.end())
}

/// The leaf's SPIFFE ID (X509-SVID §2, §3.1).
fn leaf_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let uris =
        x509::uri_names(certificate).map_err(|reason| SvidError::Malformed { index: 0, reason })?;
    let uri = match uris.as_slice() {
        [] => return Err(SvidError::NoUriSan),
        [uri] => *uri,
        several => {
            return Err(SvidError::SeveralUriSans {
                index: 0,
                count: several.len(),
            });
        }
    };
    let id = SpiffeId::parse(uri).map_err(|source| SvidError::SpiffeId {
        uri: uri.to_owned(),
        source,
    })?;
    if id.path().is_empty() {
        return Err(SvidError::NoPath { id });
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| SvidError::Malformed {
            index: 0,
            reason: error.to_string(),
        })?;
    let has_subject = certificate.subject().iter().next().is_some();
    if !has_subject && !names.is_some_and(|names| names.critical) {
        return Err(SvidError::SanNotCritical { id });
    }
    Ok(id)
}

/// What the leaf's key may be used for (X509-SVID §4.1, §4.3, §4.4).
fn check_leaf_usage(certificate: &X509Certificate<'_>, id: &SpiffeId) -> Result<(), SvidError> {
    let malformed = |error: x509_parser::error::X509Error| SvidError::Malformed {
        index: 0,
        reason: error.to_string(),
    };
    let constraints = certificate.basic_constraints().map_err(malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(SvidError::LeafIsCa { id: id.clone() });
    }
    let problem = match certificate.key_usage().map_err(malformed)? {
        None => Some("is missing"),
        Some(usage) if !usage.critical => Some("is not marked critical"),
        Some(usage) if usage.value.key_cert_sign() => Some("includes keyCertSign"),
        Some(usage) if usage.value.crl_sign() => Some("includes cRLSign"),
        Some(usage) if !usage.value.digital_signature() => Some("lacks digitalSignature"),
        Some(_) => None,
    };
    if let Some(problem) = problem {
        return Err(SvidError::KeyUsage {
            id: id.clone(),
            problem,
        });
    }
    let lacks = match certificate.extended_key_usage().map_err(malformed)? {
        Some(usage) if !usage.value.server_auth => Some("serverAuth"),
        Some(usage) if !usage.value.client_auth => Some("clientAuth"),
        _ => None,
    };
    lacks.map_or(Ok(()), |lacks| {
        Err(SvidError::ExtendedKeyUsage {
            id: id.clone(),
            lacks,
        })
    })
}

/// Checks what is above a leaf; says when all of it is valid.
fn check_signing_certificates(
    certificates: &[CertificateDer<'_>],
) -> Result<Option<RangeInclusive<SystemTime>>, SvidError> {
    let mut all: Option<RangeInclusive<SystemTime>> = None;
    for (index, certificate) in (1..).zip(certificates) {
        let valid = check_signing_certificate(index, certificate)?;
        all = Some(all.map_or_else(|| valid.clone(), |all| intersection(&all, &valid)));
    }
    Ok(all)
}

/// What a signing certificate below the bundle's authorities is (X509-SVID §3.2, §4.1, §4.3); says when it is valid.
fn check_signing_certificate(
    index: usize,
    der: &CertificateDer<'_>,
) -> Result<RangeInclusive<SystemTime>, SvidError> {
    let malformed = |reason| SvidError::Malformed { index, reason };
    let not_signing = |problem| Err(SvidError::NotSigning { index, problem });
    let certificate = x509::parse(der).map_err(malformed)?;
    let constraints = certificate
        .basic_constraints()
        .map_err(|error| malformed(error.to_string()))?;
    if !constraints.is_some_and(|constraints| constraints.value.ca) {
        return not_signing("its basic constraints do not say CA".to_owned());
    }
    let usage = certificate
        .key_usage()
        .map_err(|error| malformed(error.to_string()))?;
    if !usage.is_some_and(|usage| usage.critical && usage.value.key_cert_sign()) {
        return not_signing("it has no critical key usage that includes keyCertSign".to_owned());
    }
    let uris = x509::uri_names(&certificate).map_err(malformed)?;
    let validity = certificate.validity();
    let valid = x509::system_time(validity.not_before)..=x509::system_time(validity.not_after);
    // Without a SPIFFE ID it is no SVID, which is allowed, and its other URIs are its own affair.
    let Some(uri) = uris.iter().find(|uri| uri.starts_with("spiffe:")) else {
        return Ok(valid);
    };
    if uris.len() > 1 {
        return Err(SvidError::SeveralUriSans {
            index,
            count: uris.len(),
        });
    }
    match SpiffeId::parse(uri) {
        Ok(id) if id.path().is_empty() => Ok(valid),
        Ok(id) => not_signing(format!("its SPIFFE ID {id} has a path")),
        Err(error) => not_signing(format!("its URI {uri:?} is not a SPIFFE ID: {error}")),
    }
}

/// An SVID authenticates both servers and clients: where an extended key usage is present it has
/// both purposes (X509-SVID §4.4), in the leaf as in what signs it.
struct BothDirections;

impl ExtendedKeyUsageValidator for BothDirections {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present = Vec::new();
        for purpose in purposes {
            present.push(purpose?.to_decoded_oid());
        }
        let includes = |oid: &[usize]| present.iter().any(|purpose| purpose == oid);
        for (oid, required) in [
            (KeyUsage::SERVER_AUTH_REPR, KeyUsage::server_auth()),
            (KeyUsage::CLIENT_AUTH_REPR, KeyUsage::client_auth()),
        ] {
            if !present.is_empty() && !includes(oid) {
                return Err(webpki::Error::RequiredEkuNotFoundContext(
                    RequiredEkuNotFoundContext { required, present },
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
