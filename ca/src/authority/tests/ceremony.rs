//! An external root signs the intermediate.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CustomExtension, DnType,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};

use super::*;
use crate::authority::ceremony::InstallError;

/// A root of an existing PKI, which knows nothing of SPIFFE.
struct External {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl External {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Offline Root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = (now() - DAY).into();
        params.not_after = (now() + 3650 * DAY).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Signs what is asked for, after `spoil`.
    fn sign(&self, request: &str, spoil: impl FnOnce(&mut CertificateParams)) -> String {
        let request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let mut params = request.params.clone();
        params.not_before = (now() - DAY).into();
        params.not_after = (now() + 365 * DAY).into();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        spoil(&mut params);
        params
            .signed_by(&request.public_key, &self.issuer)
            .unwrap()
            .pem()
    }
}

fn upstream(directory: &Path) -> AuthorityConfig {
    AuthorityConfig {
        upstream: true,
        ..config(directory)
    }
}

fn steps(directory: &Path) -> Authorities {
    Authorities::new(directory, &shop(), &upstream(directory), None).unwrap()
}

async fn open_upstream(directory: &Path) -> Result<Authority, AuthorityError> {
    open_with(directory, &upstream(directory), now()).await
}

#[tokio::test]
async fn an_external_root_signs_the_first_intermediate_and_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let (data, root) = (directory.path(), External::new());
    let waiting = open_upstream(data).await.err().unwrap();
    assert!(matches!(waiting, AuthorityError::NotInstalled), "{waiting}");

    let request = steps(data).request().await.unwrap();
    assert_eq!(
        public_key(&steps(data).request().await.unwrap()),
        public_key(&request)
    );
    let chain = root.sign(&request, |_| {}) + &root.pem;
    steps(data).install(&chain, now()).await.unwrap();
    let running = open_upstream(data).await.unwrap();
    let first = issue(&running, now()).await;
    first.verify(&running.bundle(), now()).unwrap();
    assert_eq!(
        running.bundle().x509_authorities(),
        std::slice::from_ref(&root.der)
    );
    let again = steps(data).install(&chain, now()).await.unwrap();
    assert!(again.contains("installed already"), "{again}");

    // The next one needs no root in the file.
    let request = steps(data).request().await.unwrap();
    let sequence = running.bundle().sequence();
    steps(data)
        .install(&root.sign(&request, |_| {}), now())
        .await
        .unwrap();
    assert!(running.reload().await.unwrap());
    let second = issue(&running, now()).await;
    assert_ne!(first.chain()[1], second.chain()[1]);
    for svid in [first, second] {
        svid.verify(&running.bundle(), now()).unwrap();
    }
    assert_eq!(
        running.bundle().sequence(),
        sequence,
        "the bundle is the same"
    );
    let late = now() + 300 * DAY;
    let error = running.renew_intermediate_if_due(late).await.unwrap_err();
    assert!(error.to_string().contains("countersign-ca csr"), "{error}");
}

fn public_key(request: &str) -> Vec<u8> {
    let request = CertificateSigningRequestParams::from_pem(request).unwrap();
    request.public_key.subject_public_key_info()
}

#[tokio::test]
async fn what_is_not_an_intermediate_for_this_ca_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (data, root) = (directory.path(), External::new());
    let nothing_asked = steps(data).install(&root.pem, now()).await.unwrap_err();
    assert!(matches!(
        nothing_asked,
        AuthorityError::Install(InstallError::NoRequest)
    ));
    let request = steps(data).request().await.unwrap();
    let before = fs::read(data.join("authority.json")).unwrap();

    let spoiled = |spoil: fn(&mut CertificateParams)| root.sign(&request, spoil) + &root.pem;
    let other = External::new();
    let other_request = {
        let other = tempfile::tempdir().unwrap();
        steps(other.path()).request().await.unwrap()
    };
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let cases: Vec<(&str, String)> = vec![
        ("found none", String::new()),
        (
            "missing section end marker",
            "-----BEGIN CERTIFICATE-----\n?\n".to_owned(),
        ),
        (
            "does not belong here",
            spoiled(|_| {}) + &KeyPair::generate().unwrap().serialize_pem(),
        ),
        (
            "answer to another request",
            root.sign(&other_request, |_| {}) + &root.pem,
        ),
        ("CA:TRUE", spoiled(|p| p.is_ca = IsCa::ExplicitNoCa)),
        (
            "no pathlen",
            spoiled(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        (
            "pathlen:1",
            spoiled(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
        ),
        (
            "keyCertSign",
            spoiled(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
        ),
        ("found neither", spoiled(|p| p.subject_alt_names.clear())),
        ("spiffe://other.example", {
            let names = vec![uri("spiffe://other.example")];
            root.sign(&request, |p| p.subject_alt_names = names) + &root.pem
        }),
        (
            "permitted;URI:other.example",
            spoiled(|p| {
                p.subject_alt_names.clear();
                // permittedSubtrees [0] { { uniformResourceIdentifier [6] } } (RFC 5280 §4.2.1.10)
                let name = b"other.example";
                let der = [&[0x30, 19, 0xa0, 17, 0x30, 15, 0x86, 13][..], name].concat();
                p.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 30], der)];
            }),
        ),
        (
            "not valid yet",
            spoiled(|p| p.not_before = (now() + DAY).into()),
        ),
        (
            "has expired",
            spoiled(|p| p.not_after = (now() - Duration::from_secs(1)).into()),
        ),
        (
            "twice the longest SVID",
            spoiled(|p| p.not_after = (now() + DAY).into()),
        ),
        (
            "valid for longer than its root",
            spoiled(|p| p.not_after = (now() + 4000 * DAY).into()),
        ),
        ("signed by no root", root.sign(&request, |_| {})),
        (
            "signed by no root",
            root.sign(&request, |_| {}) + &other.pem,
        ),
    ];
    for (expected, chain) in cases {
        let error = steps(data)
            .install(&chain, now())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(
            fs::read(data.join("authority.json")).unwrap(),
            before,
            "{expected}"
        );
    }
    assert!(!data.join("bundle.pem").exists());
    steps(data).install(&spoiled(|_| {}), now()).await.unwrap();
}

#[tokio::test]
async fn an_external_root_is_replaced_by_another() {
    let directory = tempfile::tempdir().unwrap();
    let (data, old, new) = (directory.path(), External::new(), External::new());
    let request = steps(data).request().await.unwrap();
    steps(data)
        .install(&(old.sign(&request, |_| {}) + &old.pem), now())
        .await
        .unwrap();
    let running = open_upstream(data).await.unwrap();
    let before = issue(&running, now()).await;

    // A root that nobody believes yet must not sign.
    let request = steps(data).request().await.unwrap();
    let chain = new.sign(&request, |_| {}) + &new.pem;
    let error = steps(data)
        .install(&chain, now())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("root prepare --certificate"), "{error}");
    let error = steps(data)
        .prepare(None, now())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("--certificate"), "{error}");

    steps(data)
        .prepare(Some(new.der.clone()), now())
        .await
        .unwrap();
    let late = now() + DAY;
    let error = steps(data)
        .activate(false, late)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("has signed no intermediate"), "{error}");
    let installed = steps(data).install(&chain, now()).await.unwrap();
    assert!(installed.contains("root activate"), "{installed}");
    running.reload().await.unwrap();
    assert_eq!(issue(&running, now()).await.chain()[1], before.chain()[1]);
    steps(data).activate(false, late).await.unwrap();
    running.reload().await.unwrap();
    let after = issue(&running, late).await;
    assert_ne!(after.chain()[1], before.chain()[1]);
    before.verify(&running.bundle(), now()).unwrap();
    after.verify(&running.bundle(), late).unwrap();
}
