//! Each rule by itself: a certificate that breaks it is told, with its code, and nothing else is.

use countersign_identity::testing::signing_params;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SanType, SerialNumber,
};

use super::*;

/// A leaf that is good but for what `spoil` does to it; gives the codes of what is found.
fn spoiled(spoil: impl FnOnce(&mut CertificateParams)) -> Vec<&'static str> {
    let authority = authority();
    let mut params = leaf_params(&orders(), at(NOW - 18 * MINUTE)..=at(NOW + 42 * MINUTE)).unwrap();
    spoil(&mut params);
    let key = SvidKey::generate().unwrap();
    let certificates = authority.chain(&params, key.public_key_der()).unwrap();
    codes(&report(certificates, None))
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn every_rule_of_the_leaf_is_told() {
    assert_eq!(spoiled(|_| {}), [""; 0]);
    assert_eq!(
        spoiled(|params| params.subject_alt_names.push(uri("https://a.example"))),
        ["svid-several-uris"]
    );
    for id in [
        "spiffe://shop.example/a//b",
        "spiffe://shop.example/../a",
        "spiffe://Shop.example/a",
        "spiffe://shop.example/a?b",
        "spiffe://shop.example/a%20b",
    ] {
        let found = spoiled(|params| params.subject_alt_names = vec![uri(id)]);
        assert_eq!(found, ["svid-id-invalid"], "{id}");
    }
    assert_eq!(
        spoiled(|params| params.subject_alt_names = vec![uri("spiffe://shop.example")]),
        ["svid-id-no-path"]
    );
    assert_eq!(
        spoiled(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)),
        ["svid-key-cert-sign"]
    );
    assert_eq!(
        spoiled(|params| params.key_usages.push(KeyUsagePurpose::CrlSign)),
        ["svid-crl-sign"]
    );
    assert_eq!(
        spoiled(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]),
        ["svid-no-digital-signature"]
    );
    assert_eq!(
        spoiled(|params| params.key_usages = Vec::new()),
        ["svid-key-usage-missing"]
    );
    assert_eq!(
        spoiled(|params| params.extended_key_usages = Vec::new()),
        ["svid-extended-key-usage-missing"]
    );
    assert_eq!(
        spoiled(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ["svid-extended-key-usage"]
    );
    assert_eq!(
        spoiled(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ["svid-leaf-is-ca", "ca-key-usage"]
    );
    assert_eq!(
        spoiled(|params| params.not_after = at(NOW + 48 * 60 * MINUTE).into()),
        ["svid-lifetime-long"]
    );
    assert_eq!(
        spoiled(|params| params.not_after = at(NOW + 2 * MINUTE).into()),
        ["expires-soon"]
    );
    assert_eq!(
        spoiled(|params| {
            let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            unknown.set_criticality(true);
            params.custom_extensions.push(unknown);
        }),
        ["extension-unknown-critical"]
    );
    assert_eq!(
        spoiled(|params| params.serial_number = Some(SerialNumber::from_slice(&[0]))),
        ["serial-odd"]
    );
    assert_eq!(
        spoiled(|params| {
            let name = "bank\u{1b}[2J.example".try_into().unwrap();
            params.subject_alt_names.push(SanType::DnsName(name));
        }),
        ["name-odd"]
    );
}

/// A root, an intermediate and a leaf below them, each with parameters of its own.
fn three(root: CertificateParams, intermediate: CertificateParams) -> [CertificateDer<'static>; 3] {
    let root_key = KeyPair::generate().unwrap();
    let root_der = root.self_signed(&root_key).unwrap().der().clone();
    let root = Issuer::new(root, root_key);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let intermediate_der = intermediate.signed_by(&key, &root).unwrap().der().clone();
    let intermediate = Issuer::new(intermediate, key);
    let params = leaf_params(&orders(), at(NOW - 18 * MINUTE)..=at(NOW + 42 * MINUTE)).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &intermediate).unwrap().der().clone();
    [leaf, intermediate_der, root_der]
}

fn ca(name: &str, path_length: u8) -> CertificateParams {
    signing_params(&trust_domain(), name, path_length).unwrap()
}

fn good_three() -> [CertificateDer<'static>; 3] {
    three(ca("root", 1), ca("intermediate", 0))
}

#[test]
fn gaps_order_and_strangers_are_told() {
    let [leaf, intermediate, root] = good_three();
    let told = |certificates: &[&CertificateDer<'static>]| {
        let certificates = certificates.iter().map(|der| (*der).clone()).collect();
        codes(&report(certificates, None))
    };
    assert_eq!(told(&[&leaf, &intermediate]), [""; 0]);
    assert_eq!(told(&[&leaf, &intermediate, &root]), [""; 0]);
    assert_eq!(told(&[&leaf, &root]), ["chain-gap"]);
    assert_eq!(told(&[&intermediate, &leaf]), ["chain-order"]);
    assert_eq!(told(&[&leaf, &root, &intermediate]), ["chain-order"]);
    let [other_leaf, ..] = three(ca("root", 1), ca("other intermediate", 0));
    assert_eq!(
        told(&[&leaf, &intermediate, &other_leaf]),
        ["chain-several-leaves"]
    );
    let other = authority();
    assert_eq!(
        told(&[&leaf, &intermediate, &root, other.root()]),
        ["chain-stranger"]
    );
}

#[test]
fn an_issuer_of_the_right_name_that_has_not_signed_is_told() {
    let [leaf, ..] = good_three();
    let [_, impostor, root] = good_three();
    let report = report(vec![leaf, impostor, root], None);
    assert_eq!(report.findings[0].code, "chain-signature");
}

#[test]
fn the_rules_of_signing_certificates_are_told() {
    let told = |intermediate: CertificateParams| {
        let [leaf, intermediate, _] = three(ca("root", 1), intermediate);
        codes(&report(vec![leaf, intermediate], None))
    };
    let mut params = ca("intermediate", 0);
    params.subject_alt_names = vec![uri("spiffe://shop.example/ca")];
    assert_eq!(told(params), ["ca-id-has-path"]);
    let mut params = ca("intermediate", 0);
    params.subject_alt_names = vec![uri("spiffe://other.example")];
    assert_eq!(told(params), ["ca-other-trust-domain"]);
    let mut params = ca("intermediate", 0);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(told(params), ["ca-key-usage"]);
    let mut params = ca("intermediate", 0);
    params.is_ca = IsCa::ExplicitNoCa;
    assert!(told(params).contains(&"chain-not-ca"));
    let mut params = ca("intermediate", 0);
    params.not_after = at(NOW + 10 * MINUTE).into();
    params.not_before = at(NOW - 10 * MINUTE).into();
    assert_eq!(told(params), ["outlives-issuer"]);
}

#[test]
fn a_path_that_is_longer_than_allowed_is_told() {
    let [leaf, intermediate, root] = three(ca("root", 0), ca("intermediate", 0));
    assert_eq!(
        codes(&report(vec![leaf, intermediate, root], None)),
        ["path-length"]
    );
}

#[test]
fn an_svid_that_is_given_out_under_another_name_is_told() {
    let kind = Kind::Svid(Some("spiffe://shop.example/ns/shop/sa/web".to_owned()));
    let group = Group::new(None, kind, good(&authority()));
    let report = examine(found(vec![group]), None, Strictness::default(), at(NOW));
    assert_eq!(codes(&report), ["svid-other-id"]);
}

#[test]
fn a_leaf_in_a_bundle_is_told() {
    let authority = authority();
    let mut certificates = good(&authority);
    certificates.push(authority.root().clone());
    let group = Group::new(None, Kind::Bundle, certificates);
    let report = examine(found(vec![group]), None, Strictness::default(), at(NOW));
    assert_eq!(codes(&report), ["bundle-not-ca"]);
}

#[test]
fn a_subject_that_is_missing_makes_the_names_critical() {
    let mut params = ca("intermediate", 0);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Acme, Inc.");
    let [leaf, intermediate, _] = three(ca("root", 1), params);
    let report = report(vec![leaf, intermediate], None);
    assert_eq!(
        report.certificates[1].facts().unwrap().subject,
        "CN=intermediate, O=Acme\\, Inc."
    );
}
