//! An authority for tests (feature `testing`): certificates good and bad, for any moment.
//!
//! It is shaped as the real one: a root, an issuing intermediate below it, leaves below that.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use crate::bundle::Bundle;
use crate::key::SvidKey;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::svid::X509Svid;
use crate::tls::PeerIdentity;

/// What can go wrong in a test's preparations.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A peer as a handshake would have proved it, without one.
#[must_use]
pub fn peer(svid: X509Svid) -> PeerIdentity {
    PeerIdentity::of_test(svid)
}

/// A trust domain's authority, with keys of its own.
pub struct TestAuthority {
    trust_domain: TrustDomain,
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl TestAuthority {
    /// A new authority, whose certificates are valid from 2020 to 2120.
    ///
    /// # Errors
    /// None that a test could do anything about.
    pub fn new(trust_domain: &TrustDomain) -> Result<Self, Error> {
        Self::with_path_length(trust_domain, 1)
    }

    /// An authority whose root allows `path_length` intermediates below it; there is one.
    ///
    /// # Errors
    /// See [`TestAuthority::new`].
    pub fn with_path_length(trust_domain: &TrustDomain, path_length: u8) -> Result<Self, Error> {
        let params = signing_params(trust_domain, "test root", path_length)?;
        let key = KeyPair::generate()?;
        let root = params.self_signed(&key)?.der().clone();
        let root_issuer = Issuer::new(params, key);

        let params = signing_params(trust_domain, "test intermediate", 0)?;
        let key = KeyPair::generate()?;
        let intermediate = params.signed_by(&key, &root_issuer)?.der().clone();
        let trust_domain = trust_domain.clone();
        Ok(Self {
            trust_domain,
            root,
            intermediate,
            issuer: Issuer::new(params, key),
        })
    }

    /// The bundle with this authority's root, of sequence 1.
    ///
    /// # Errors
    /// See [`TestAuthority::new`].
    pub fn bundle(&self) -> Result<Bundle, Error> {
        Ok(Bundle::new(
            self.trust_domain.clone(),
            vec![self.root.clone()],
            1,
        )?)
    }

    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The issuing intermediate's certificate.
    #[must_use]
    pub fn intermediate(&self) -> &CertificateDer<'static> {
        &self.intermediate
    }

    /// A good SVID for `id`, and its key.
    ///
    /// # Errors
    /// See [`TestAuthority::new`].
    pub fn svid(
        &self,
        id: &SpiffeId,
        validity: RangeInclusive<SystemTime>,
    ) -> Result<(X509Svid, SvidKey), Error> {
        let key = SvidKey::generate()?;
        let chain = self.chain(&leaf_params(id, validity)?, key.public_key_der())?;
        Ok((X509Svid::from_chain(chain)?, key))
    }

    /// The chain of whatever `params` describe, for a public key: SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// `params` cannot be encoded.
    pub fn chain(
        &self,
        params: &CertificateParams,
        public_key: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let public_key = SubjectPublicKeyInfo::from_der(public_key)?;
        let leaf = params.signed_by(&public_key, &self.issuer)?;
        Ok(vec![leaf.der().clone(), self.intermediate.clone()])
    }
}

/// The parameters of a good leaf, for a test to spoil.
///
/// # Errors
/// See [`TestAuthority::new`].
pub fn leaf_params(
    id: &SpiffeId,
    validity: RangeInclusive<SystemTime>,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = (*validity.start()).into();
    params.not_after = (*validity.end()).into();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    Ok(params)
}

/// The parameters of a good signing certificate, for a test to spoil.
///
/// # Errors
/// See [`TestAuthority::new`].
pub fn signing_params(
    trust_domain: &TrustDomain,
    name: &str,
    path_length: u8,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params.subject_alt_names = vec![SanType::URI(
        format!("spiffe://{trust_domain}").as_str().try_into()?,
    )];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
