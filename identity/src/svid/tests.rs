use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};

use super::*;
use crate::key::SvidKey;
use crate::testing::{TestAuthority, leaf_params, signing_params};

const HOUR: Duration = Duration::from_secs(3600);

static AUTHORITY: LazyLock<TestAuthority> = LazyLock::new(|| TestAuthority::new(&td()).unwrap());

fn td() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn orders() -> SpiffeId {
    SpiffeId::for_workload(&td(), "shop", "orders").unwrap()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn validity() -> RangeInclusive<SystemTime> {
    now() - HOUR..=now() + HOUR
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// The chain of a leaf that is good but for what `spoil` does.
fn chain(spoil: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
    let mut params = leaf_params(&orders(), validity()).unwrap();
    spoil(&mut params);
    AUTHORITY
        .chain(&params, SvidKey::generate().unwrap().public_key_der())
        .unwrap()
}

fn read(spoil: impl FnOnce(&mut CertificateParams)) -> Result<X509Svid, SvidError> {
    X509Svid::from_chain(chain(spoil))
}

fn verify(svid: &X509Svid) -> Result<(), SvidError> {
    svid.verify(&AUTHORITY.bundle().unwrap(), now())
}

#[test]
fn a_good_svid_says_what_it_is_and_verifies() {
    let svid = read(|params| params.serial_number = Some(0x00c0_ffee_u64.into())).unwrap();
    assert_eq!(*svid.id(), orders());
    assert_eq!(svid.not_before(), now() - HOUR);
    assert_eq!(svid.not_after(), now() + HOUR);
    assert!(svid.serial().ends_with("c0ffee"), "{}", svid.serial());
    assert_eq!(
        svid.thumbprint(),
        digest(&SHA256, &svid.chain()[0]).as_ref()
    );
    assert_eq!(svid.chain().len(), 2);
    verify(&svid).unwrap();
}

#[test]
fn other_names_may_stand_beside_the_id() {
    let dns = SanType::DnsName("orders.shop".try_into().unwrap());
    verify(&read(|params| params.subject_alt_names.push(dns)).unwrap()).unwrap();
}

#[test]
fn without_extended_key_usage_it_is_good() {
    verify(&read(|params| params.extended_key_usages.clear()).unwrap()).unwrap();
}

#[test]
fn a_chain_has_a_leaf() {
    assert_eq!(X509Svid::from_chain(vec![]), Err(SvidError::EmptyChain));
}

#[test]
fn exactly_one_uri() {
    assert_eq!(
        read(|params| params.subject_alt_names.clear()),
        Err(SvidError::NoUriSan)
    );
    let dns = SanType::DnsName("orders.shop".try_into().unwrap());
    assert_eq!(
        read(|params| params.subject_alt_names = vec![dns]),
        Err(SvidError::NoUriSan)
    );
    for second in [
        "spiffe://shop.example/ns/shop/sa/web",
        "https://shop.example/",
    ] {
        let several = read(|params| params.subject_alt_names.push(uri(second)));
        assert_eq!(
            several,
            Err(SvidError::SeveralUriSans { index: 0, count: 2 }),
            "{second}"
        );
    }
}

#[test]
fn the_uri_is_a_spiffe_id_with_a_path() {
    for text in [
        "https://shop.example/ns/shop/sa/orders",
        "spiffe://shop.example/a//b",
        "SPIFFE://td/a",
    ] {
        let error = read(|params| params.subject_alt_names = vec![uri(text)]).unwrap_err();
        assert!(
            matches!(&error, SvidError::SpiffeId { uri, .. } if uri == text),
            "{error}"
        );
    }
    let error = read(|params| params.subject_alt_names = vec![uri("spiffe://shop.example")]);
    assert!(matches!(error, Err(SvidError::NoPath { .. })));
}

#[test]
fn without_a_subject_the_name_is_critical() {
    // rcgen marks it so by itself; here is one that is not: the same name as a custom extension.
    let mut name = vec![0x86, u8::try_from(orders().as_str().len()).unwrap()];
    name.extend_from_slice(orders().as_str().as_bytes());
    let mut content = vec![0x30, u8::try_from(name.len()).unwrap()];
    content.extend(name);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], content);
    extension.set_criticality(false);
    let spoil = |with_subject: bool| {
        let extension = extension.clone();
        move |params: &mut CertificateParams| {
            params.subject_alt_names.clear();
            params.custom_extensions.push(extension);
            if with_subject {
                params
                    .distinguished_name
                    .push(rcgen::DnType::CommonName, "orders");
            }
        }
    };
    assert_eq!(
        read(spoil(false)),
        Err(SvidError::SanNotCritical { id: orders() })
    );
    verify(&read(spoil(true)).unwrap()).unwrap();
}

#[test]
fn a_ca_authenticates_nobody() {
    let ca = read(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(ca, Err(SvidError::LeafIsCa { id: orders() }));
}

#[test]
fn key_usage() {
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign};
    for (usages, expected) in [
        (vec![], "is missing"),
        (vec![KeyAgreement], "lacks digitalSignature"),
        (vec![DigitalSignature, KeyCertSign], "includes keyCertSign"),
        (vec![DigitalSignature, CrlSign], "includes cRLSign"),
    ] {
        let refused = read(|params| params.key_usages = usages);
        assert_eq!(
            refused,
            Err(SvidError::KeyUsage {
                id: orders(),
                problem: expected
            })
        );
    }
    let allowed = read(|params| params.key_usages = vec![DigitalSignature, KeyAgreement]);
    verify(&allowed.unwrap()).unwrap();
}

#[test]
fn key_usage_is_critical() {
    let refused = read(|params| {
        params.key_usages.clear();
        // BIT STRING with digitalSignature alone.
        let mut usage = CustomExtension::from_oid_content(&[2, 5, 29, 15], vec![3, 2, 7, 0x80]);
        usage.set_criticality(false);
        params.custom_extensions.push(usage);
    });
    let problem = "is not marked critical";
    assert_eq!(
        refused,
        Err(SvidError::KeyUsage {
            id: orders(),
            problem
        })
    );
}

#[test]
fn extended_key_usage_has_both_directions() {
    use ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    for (usages, lacks) in [
        (vec![ClientAuth], "serverAuth"),
        (vec![ServerAuth], "clientAuth"),
        (vec![CodeSigning], "serverAuth"),
    ] {
        let refused = read(|params| params.extended_key_usages = usages);
        assert_eq!(
            refused,
            Err(SvidError::ExtendedKeyUsage {
                id: orders(),
                lacks
            })
        );
    }
}

#[test]
fn validity_is_judged_by_the_time_that_is_given() {
    let svid = read(|_| {}).unwrap();
    let bundle = AUTHORITY.bundle().unwrap();
    let second = Duration::from_secs(1);
    let expired = SvidError::Expired {
        id: orders(),
        not_after: now() + HOUR,
    };
    assert_eq!(svid.verify(&bundle, now() + HOUR), Ok(()));
    assert_eq!(
        svid.verify(&bundle, now() + HOUR + second),
        Err(expired.clone())
    );
    let early = SvidError::NotYetValid {
        id: orders(),
        not_before: now() - HOUR,
    };
    assert_eq!(svid.verify(&bundle, now() - HOUR), Ok(()));
    assert_eq!(svid.verify(&bundle, now() - HOUR - second), Err(early));
    assert_eq!(
        expired.to_string(),
        "the certificate of spiffe://shop.example/ns/shop/sa/orders has expired: it was valid \
         until 2027-01-15T09:00:00Z"
    );
}

#[test]
fn another_ca_of_the_same_names_is_not_believed() {
    let forger = TestAuthority::new(&td()).unwrap();
    let (svid, _) = forger.svid(&orders(), validity()).unwrap();
    let unknown = SvidError::UnknownAuthority {
        id: orders(),
        trust_domain: td(),
        sequence: 1,
    };
    assert_eq!(verify(&svid), Err(unknown.clone()));
    // Not with the believed intermediate in its chain either, nor with the believed root.
    for addition in [AUTHORITY.intermediate(), AUTHORITY.root()] {
        let chain = vec![svid.chain()[0].clone(), addition.clone()];
        assert_eq!(
            verify(&X509Svid::from_chain(chain).unwrap()),
            Err(unknown.clone())
        );
    }
}

#[test]
fn a_chain_without_its_intermediate_is_not_believed() {
    let chain = chain(|_| {}).into_iter().take(1).collect();
    let refused = verify(&X509Svid::from_chain(chain).unwrap());
    assert!(matches!(refused, Err(SvidError::UnknownAuthority { .. })));
}

#[test]
fn a_changed_name_breaks_the_signature() {
    let mut leaf = chain(|_| {})[0].to_vec();
    let at = leaf
        .windows(6)
        .position(|bytes| bytes == b"orders")
        .unwrap();
    leaf[at..at + 6].copy_from_slice(b"wallet");
    let forged = vec![leaf.into(), AUTHORITY.intermediate().clone()];
    let forged = X509Svid::from_chain(forged).unwrap();
    assert_eq!(forged.id().workload().unwrap().service_account, "wallet");
    assert!(matches!(
        verify(&forged),
        Err(SvidError::UnknownAuthority { .. })
    ));
}

#[test]
fn a_bundle_says_nothing_of_another_trust_domain() {
    // The believed CA itself has signed it: still, its word ends at its trust domain.
    let stranger = SpiffeId::parse("spiffe://other.example/ns/shop/sa/orders").unwrap();
    let (svid, _) = AUTHORITY.svid(&stranger, validity()).unwrap();
    let expected = SvidError::OtherTrustDomain {
        id: stranger,
        trust_domain: td(),
    };
    assert_eq!(verify(&svid), Err(expected));
}

#[test]
fn after_the_root_has_left_the_bundle_nothing_is_believed() {
    let svid = read(|_| {}).unwrap();
    let other = TestAuthority::new(&td()).unwrap();
    let both = vec![AUTHORITY.root().clone(), other.root().clone()];
    assert_eq!(
        svid.verify(&Bundle::new(td(), both, 2).unwrap(), now()),
        Ok(())
    );
    let only_other = Bundle::new(td(), vec![other.root().clone()], 3).unwrap();
    let unknown = SvidError::UnknownAuthority {
        id: orders(),
        trust_domain: td(),
        sequence: 3,
    };
    assert_eq!(svid.verify(&only_other, now()), Err(unknown));
}

#[test]
fn path_lengths_are_obeyed() {
    let authority = TestAuthority::with_path_length(&td(), 0).unwrap();
    let (svid, _) = authority.svid(&orders(), validity()).unwrap();
    let refused = svid.verify(&authority.bundle().unwrap(), now());
    assert_eq!(refused, Err(SvidError::PathLength { id: orders() }));
}

/// A chain whose intermediate is good but for what `spoil` does, and the bundle of its root.
fn with_intermediate(
    spoil: impl FnOnce(&mut CertificateParams),
) -> (Vec<CertificateDer<'static>>, Bundle) {
    let root_params = signing_params(&td(), "root", 1).unwrap();
    let key = KeyPair::generate().unwrap();
    let root = root_params.self_signed(&key).unwrap().der().clone();
    let root_issuer = Issuer::new(root_params, key);
    let mut params = signing_params(&td(), "intermediate", 0).unwrap();
    spoil(&mut params);
    let key = KeyPair::generate().unwrap();
    let intermediate = params.signed_by(&key, &root_issuer).unwrap().der().clone();
    let leaf = leaf_params(&orders(), validity()).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = leaf
        .signed_by(&leaf_key, &Issuer::new(params, key))
        .unwrap()
        .der()
        .clone();
    (
        vec![leaf, intermediate],
        Bundle::new(td(), vec![root], 1).unwrap(),
    )
}

#[test]
fn what_signs_is_a_signing_certificate() {
    let refused = |spoil: fn(&mut CertificateParams)| {
        X509Svid::from_chain(with_intermediate(spoil).0).unwrap_err()
    };
    let error = refused(|params| params.is_ca = IsCa::ExplicitNoCa);
    assert!(
        matches!(error, SvidError::NotSigning { index: 1, .. }),
        "{error}"
    );
    let error = refused(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    assert!(
        matches!(error, SvidError::NotSigning { index: 1, .. }),
        "{error}"
    );
    let error = refused(|params| {
        params.subject_alt_names = vec![uri("spiffe://shop.example/ns/shop/sa/orders")];
    });
    assert!(error.to_string().contains("has a path"), "{error}");
    let error = refused(|params| params.subject_alt_names = vec![uri("spiffe://UPPER")]);
    assert!(
        matches!(error, SvidError::NotSigning { index: 1, .. }),
        "{error}"
    );
    let error = refused(|params| params.subject_alt_names.push(uri("spiffe://other.example")));
    assert_eq!(error, SvidError::SeveralUriSans { index: 1, count: 2 });
}

#[test]
fn what_signs_needs_no_spiffe_id() {
    let (chain, bundle) = with_intermediate(|params| params.subject_alt_names.clear());
    X509Svid::from_chain(chain)
        .unwrap()
        .verify(&bundle, now())
        .unwrap();
}

#[test]
fn what_signs_is_valid_itself() {
    let (chain, bundle) = with_intermediate(|params| params.not_after = (now() - HOUR).into());
    let refused = X509Svid::from_chain(chain).unwrap().verify(&bundle, now());
    assert_eq!(
        refused,
        Err(SvidError::SigningCertificateNotValid { id: orders() })
    );
}

#[test]
fn a_signing_certificate_s_extended_key_usage_binds_below_it() {
    let (chain, bundle) = with_intermediate(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let refused = X509Svid::from_chain(chain).unwrap().verify(&bundle, now());
    assert!(
        matches!(refused, Err(SvidError::Path { .. })),
        "{refused:?}"
    );
}

#[test]
fn bytes_after_a_certificate_are_refused() {
    for index in [0, 1] {
        let mut chain = chain(|_| {});
        let mut der = chain[index].to_vec();
        der.push(0);
        chain[index] = der.into();
        let error = X509Svid::from_chain(chain).unwrap_err();
        assert!(
            matches!(error, SvidError::Malformed { index: i, .. } if i == index),
            "{error}"
        );
    }
}

static GOOD: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| chain(|_| {}));

proptest! {
    #[test]
    fn a_truncated_certificate_is_refused(cut in any::<prop::sample::Index>()) {
        let mut leaf = GOOD[0].to_vec();
        leaf.truncate(cut.index(leaf.len()));
        let refused = matches!(
            X509Svid::from_chain(vec![leaf.into()]),
            Err(SvidError::Malformed { index: 0, .. })
        );
        prop_assert!(refused);
    }

    #[test]
    fn a_mutated_certificate_never_verifies_and_never_panics(
        which in 0..2usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut der = GOOD[which].to_vec();
        for (index, byte) in edits {
            let at = index.index(der.len());
            der[at] = byte;
        }
        prop_assume!(der != GOOD[which].as_ref());
        let mut chain = GOOD.clone();
        chain[which] = der.into();
        if let Ok(svid) = X509Svid::from_chain(chain) {
            prop_assert!(verify(&svid).is_err());
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in any::<Vec<u8>>()) {
        prop_assert!(X509Svid::from_chain(vec![bytes.into()]).is_err());
    }
}
