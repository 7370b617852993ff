use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use countersign_identity::TrustDomain;
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm, SigningKey,
};

use super::*;
use crate::attest::certificate::CERTIFICATE;
use crate::attest::template::Source;

const HERE: ChannelBinding = ChannelBinding::made_up([1; 32]);
const CSR: &[u8] = b"a certification request";
const P256: u32 = 0x0403;

/// The authority of a cloud, with an intermediate.
struct Cloud {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Cloud {
    fn new() -> Self {
        static CLOUDS: AtomicU32 = AtomicU32::new(0);
        let number = CLOUDS.fetch_add(1, Ordering::Relaxed);
        let params = |path| {
            let mut params = CertificateParams::default();
            let name = format!("cloud {number}, {path}");
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let root = CertifiedIssuer::self_signed(params(1), KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let intermediate = CertifiedIssuer::signed_by(params(0), key, &root).unwrap();
        Self { root, intermediate }
    }

    fn vm(
        &self,
        algorithm: &'static SignatureAlgorithm,
        spoil: impl FnOnce(&mut CertificateParams),
    ) -> Vm {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names = vec!["vm7.acme.example".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "vm7");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Acme");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        spoil(&mut params);
        let leaf = params.signed_by(&key, &self.intermediate).unwrap();
        let chain = vec![leaf.der().clone(), self.intermediate.der().clone()];
        Vm { key, chain }
    }
}

struct Vm {
    key: KeyPair,
    chain: Vec<CertificateDer<'static>>,
}

impl Vm {
    fn proof(&self, scheme: u32, binding: &ChannelBinding, csr: &[u8]) -> Proof {
        Proof {
            chain: self.chain.clone(),
            scheme,
            signature: self.key.sign(&signed_content(binding, csr)).unwrap(),
        }
    }
}

fn config(directory: &Path, roots: &str, template: &str) -> RootsConfig {
    let file = directory.join("roots.pem");
    std::fs::write(&file, roots).unwrap();
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    let rule = r#"certificate.subject.organization == "Acme" && "vm7.acme.example" in certificate.dnsNames"#;
    RootsConfig {
        name: "vms".to_owned(),
        file,
        allow: AllowRules::new(vec![AllowRules::compile(rule, &CERTIFICATE).unwrap()]),
        template: Template::parse(template, &trust_domain, Source::Certificate).unwrap(),
    }
}

const TEMPLATE: &str = "spiffe://shop.example/vm/{certificate.subject.commonName}";

fn proofs(cloud: &Cloud) -> X509Proofs {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), &cloud.root.pem(), TEMPLATE);
    X509Proofs::read(vec![config], &[]).unwrap()
}

fn identify(proofs: &X509Proofs, proof: &Proof) -> Result<String, X509ProofError> {
    let attested = proofs.identify(proof, &HERE, CSR, SystemTime::now())?;
    Ok(attested.id().to_string())
}

#[test]
fn a_certificate_of_a_configured_root_proves_its_holder() {
    let cloud = Cloud::new();
    let proofs = proofs(&cloud);
    for (algorithm, scheme) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, P256),
        (&PKCS_ECDSA_P384_SHA384, 0x0503),
        (&PKCS_ED25519, 0x0807),
    ] {
        let vm = cloud.vm(algorithm, |_| {});
        let proof = vm.proof(scheme, &HERE, CSR);
        assert_eq!(
            identify(&proofs, &proof).unwrap(),
            "spiffe://shop.example/vm/vm7"
        );
        let attested = proofs
            .identify(&proof, &HERE, CSR, SystemTime::now())
            .unwrap();
        assert_eq!(attested.kind(), Kind::X509Proof);
        assert!(attested.detail().starts_with("roots \"vms\", serial "));
    }
}

#[test]
fn a_proof_is_of_no_use_elsewhere_or_for_another_key() {
    let cloud = Cloud::new();
    let proofs = proofs(&cloud);
    let vm = cloud.vm(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {});
    let other_connection = ChannelBinding::made_up([2; 32]);
    for stolen in [
        vm.proof(P256, &other_connection, CSR),
        vm.proof(P256, &HERE, b"another request"),
        // Of another holder, with this one's certificate.
        Proof {
            chain: vm.chain.clone(),
            ..cloud
                .vm(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
                .proof(P256, &HERE, CSR)
        },
        // What the key has signed for something else.
        Proof {
            signature: vm.key.sign(CSR).unwrap(),
            ..vm.proof(P256, &HERE, CSR)
        },
    ] {
        assert_eq!(identify(&proofs, &stolen), Err(X509ProofError::Signature));
    }
    for scheme in [0, 0x0401, 0x0201, 0x0804_0000, u32::MAX] {
        let proof = vm.proof(scheme, &HERE, CSR);
        assert_eq!(
            identify(&proofs, &proof),
            Err(X509ProofError::Scheme(scheme))
        );
    }
    // The scheme of another kind of key.
    let mixed = vm.proof(0x0807, &HERE, CSR);
    assert_eq!(identify(&proofs, &mixed), Err(X509ProofError::Signature));
}

#[test]
fn certificates_that_are_not_good_prove_nobody() {
    let (cloud, stranger) = (Cloud::new(), Cloud::new());
    let proofs = proofs(&cloud);
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    let refused = |vm: Vm| identify(&proofs, &vm.proof(P256, &HERE, CSR)).unwrap_err();
    let not_trusted = |error: X509ProofError, expected: &str| {
        let told = error.to_string();
        assert!(matches!(error, X509ProofError::NotTrusted { .. }), "{told}");
        assert!(
            told.contains(expected) && told.contains("\"vms\""),
            "{told}"
        );
    };
    not_trusted(refused(stranger.vm(p256, |_| {})), "UnknownIssuer");
    let past = SystemTime::now() - Duration::from_hours(1);
    not_trusted(
        refused(cloud.vm(p256, |params| params.not_after = past.into())),
        "CertExpired",
    );
    let future = SystemTime::now() + Duration::from_hours(1);
    not_trusted(
        refused(cloud.vm(p256, |params| params.not_before = future.into())),
        "CertNotValidYet",
    );
    let vm = cloud.vm(p256, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    not_trusted(refused(vm), "RequiredEku");
    let vm = cloud.vm(p256, |params| params.extended_key_usages = Vec::new());
    assert_eq!(refused(vm), X509ProofError::Purpose);
    let vm = cloud.vm(p256, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    not_trusted(refused(vm), "CaUsedAsEndEntity");
    let vm = cloud.vm(p256, |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
    });
    assert_eq!(refused(vm), X509ProofError::KeyUsage);

    let vm = cloud.vm(p256, |_| {});
    for chain in [
        vec![],
        vec![vm.chain[0].clone(); 7],
        vec![vec![0; 20_000].into()],
    ] {
        let proof = Proof {
            chain,
            ..vm.proof(P256, &HERE, CSR)
        };
        assert_eq!(identify(&proofs, &proof), Err(X509ProofError::Chain));
    }
    let proof = Proof {
        chain: vec![b"no certificate".to_vec().into()],
        ..vm.proof(P256, &HERE, CSR)
    };
    assert_eq!(identify(&proofs, &proof), Err(X509ProofError::Malformed));
    // Without the intermediate.
    let proof = Proof {
        chain: vec![vm.chain[0].clone()],
        ..vm.proof(P256, &HERE, CSR)
    };
    not_trusted(identify(&proofs, &proof).unwrap_err(), "UnknownIssuer");
    assert_eq!(
        identify(&X509Proofs(Vec::new()), &vm.proof(P256, &HERE, CSR)),
        Err(X509ProofError::NoRoots)
    );
}

#[test]
fn names_decide_who_it_is_and_whether_it_is_let_in() {
    let cloud = Cloud::new();
    let proofs = proofs(&cloud);
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    let other = cloud.vm(p256, |params| {
        params.distinguished_name.remove(DnType::OrganizationName);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Evil");
    });
    let error = identify(&proofs, &other.proof(P256, &HERE, CSR)).unwrap_err();
    assert!(
        matches!(error, X509ProofError::NotAllowed { .. }),
        "{error}"
    );
    let nested = cloud.vm(p256, |params| {
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, "a/../b");
    });
    let error = identify(&proofs, &nested.proof(P256, &HERE, CSR)).unwrap_err();
    assert!(
        error.is_denied() && error.to_string().contains("`subject.commonName`"),
        "{error}"
    );

    let directory = tempfile::tempdir().unwrap();
    let template = "spiffe://shop.example/ns/{certificate.subject.commonName}/sa/x";
    let config = config(directory.path(), &cloud.root.pem(), template);
    let proofs = X509Proofs::read(vec![config], &[]).unwrap();
    let control = cloud.vm(p256, |params| {
        params.distinguished_name.remove(DnType::CommonName);
        params
            .distinguished_name
            .push(DnType::CommonName, "countersign-system");
    });
    let error = identify(&proofs, &control.proof(P256, &HERE, CSR)).unwrap_err();
    assert!(matches!(error, X509ProofError::MeshPart { .. }), "{error}");
}

#[test]
fn roots_that_cannot_be_used_are_told_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = Cloud::new();
    let read = |roots: &str, own: &[CertificateDer<'static>]| {
        let config = config(directory.path(), roots, TEMPLATE);
        X509Proofs::read(vec![config], own)
            .err()
            .map(|error| error.to_string())
    };
    let own = [cloud.root.der().clone()];
    assert_eq!(read(&cloud.root.pem(), &[]), None);
    assert!(read(&cloud.root.pem(), &own).unwrap().contains("own root"));
    assert!(read("", &[]).unwrap().contains("has no certificate"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(read(broken, &[]).unwrap().contains("cannot be a root"));
    let mut missing = config(directory.path(), "", TEMPLATE);
    missing.file = directory.path().join("none.pem");
    let error = X509Proofs::read(vec![missing], &[]).err().unwrap();
    assert!(
        error.to_string().contains("cannot read roots from"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed in the chain or the signature: it is refused, or it proves the same (a change in what nobody reads
    /// of the intermediate cannot be, since its signature covers all of it).
    #[test]
    fn a_changed_proof_proves_nobody(
        part in 0..3_usize,
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let cloud = Cloud::new();
        let proofs = proofs(&cloud);
        let mut proof = cloud
            .vm(&rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
            .proof(P256, &HERE, CSR);
        match proof.chain.get(part) {
            Some(certificate) => {
                let mut bytes = certificate.to_vec();
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                proof.chain[part] = bytes.into();
            }
            None => {
                let at = at.index(proof.signature.len());
                proof.signature[at] ^= flip;
            }
        }
        prop_assert!(identify(&proofs, &proof).is_err());
    }

    #[test]
    fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let proof = Proof { chain: vec![bytes.clone().into()], scheme: P256, signature: bytes };
        let cloud = Cloud::new();
        prop_assert!(identify(&proofs(&cloud), &proof).is_err());
    }
}
