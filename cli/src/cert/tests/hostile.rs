//! What was made to hurt: mutated, cut, huge and treacherous certificates. Nothing panics, output is
//! bounded, and nothing that steers a terminal gets through.

use proptest::prelude::*;
use rcgen::{CertificateParams, DnType};

use super::super::source::{Access, from_bytes};
use super::super::text::is_treacherous;
use super::*;

/// Text and JSON of whatever the bytes are.
fn shown(bytes: &[u8]) -> String {
    match from_bytes("f", bytes, None, &Access::default()) {
        Ok(found) => shown_of(found),
        Err(error) => error.to_string(),
    }
}

fn shown_of(found: Found) -> String {
    let report = examine(found, None, Strictness::default(), at(NOW));
    let json = serde_json::to_string(&report).unwrap();
    assert!(!json.chars().any(char::is_control), "{json}");
    render::text(&report, Palette::PLAIN, 80)
}

fn harmless(text: &str) -> bool {
    !text.chars().any(|c| c != '\n' && is_treacherous(c))
}

/// A certificate with an extension of every kind that rcgen makes.
fn rich() -> CertificateDer<'static> {
    let mut params = leaf_params(&orders(), at(NOW - 18 * MINUTE)..=at(NOW + 42 * MINUTE)).unwrap();
    params.distinguished_name.push(DnType::CommonName, "orders");
    params.use_authority_key_identifier_extension = true;
    params
        .subject_alt_names
        .push(SanType::DnsName("a.example".try_into().unwrap()));
    params
        .subject_alt_names
        .push(SanType::IpAddress([10, 0, 0, 1].into()));
    params.name_constraints = Some(rcgen::NameConstraints {
        permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("example".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    params.crl_distribution_points = vec![rcgen::CrlDistributionPoint {
        uris: vec!["http://a.example/crl".to_owned()],
    }];
    let key = SvidKey::generate().unwrap();
    authority().chain(&params, key.public_key_der()).unwrap()[0].clone()
}

#[test]
fn a_treacherous_name_is_shown_harmless_everywhere() {
    let evil = "\u{1b}]0;owned\u{7}\u{202e}\u{9b}2J\r\n\u{0}evil";
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, evil);
    params
        .distinguished_name
        .push(DnType::OrganizationName, evil);
    params.subject_alt_names = vec![SanType::DnsName(
        evil.replace(['\u{202e}', '\u{9b}'], "")
            .as_str()
            .try_into()
            .unwrap(),
    )];
    let key = SvidKey::generate().unwrap();
    let certificates = authority().chain(&params, key.public_key_der()).unwrap();
    let text = shown_of(found(vec![Group::new(None, Kind::Unknown, certificates)]));
    assert!(harmless(&text), "{text:?}");
    assert!(text.contains("\\u{7}\\u{202e}\\u{9b}2J"), "{text}");
}

#[test]
fn thousands_of_names_are_counted_and_not_all_shown() {
    let mut params = CertificateParams::default();
    params.subject_alt_names = (0..5000)
        .map(|n| SanType::DnsName(format!("host{n}.example").as_str().try_into().unwrap()))
        .collect();
    let key = SvidKey::generate().unwrap();
    let certificates = authority().chain(&params, key.public_key_der()).unwrap();
    let report = report(certificates, None);
    let facts = report.certificates[0].facts().unwrap();
    assert_eq!((facts.names.len(), facts.names_omitted), (1000, 4000));
    let text = render::text(&report, Palette::PLAIN, 80);
    assert!(text.lines().count() < 60, "{text}");
    assert!(text.contains("4987 more"), "{text}");
}

#[test]
fn a_chain_without_end_is_cut_and_says_so() {
    let authority = authority();
    let der = good(&authority).swap_remove(0);
    let pem = super::super::source::write_pem("CERTIFICATE", &der).repeat(1500);
    let text = shown(pem.as_bytes());
    assert!(text.contains("1250 are not looked at"), "{text}");
    assert!(text.lines().count() < 4500);
}

#[test]
fn a_damaged_certificate_does_not_hide_the_others() {
    let authority = authority();
    let mut certificates = good(&authority);
    certificates[1] = CertificateDer::from(certificates[1][..200].to_vec());
    let report = report(certificates, None);
    assert_eq!(codes(&report), ["certificate-unreadable"]);
    assert!(report.certificates[0].facts().is_some());
    golden_text("damaged.txt", &report);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn mutated_certificates_are_shown_or_refused(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static RICH: CertificateDer<'static> = rich());
        let mut bytes = RICH.with(|rich| rich.to_vec());
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let text = shown(&bytes);
        prop_assert!(harmless(&text), "{text:?}");
        let group = Group::new(None, Kind::Chain, vec![bytes.into()]);
        let text = shown_of(found(vec![group]));
        prop_assert!(harmless(&text), "{text:?}");
        prop_assert!(text.len() < 100_000);
    }

    #[test]
    fn any_bytes_are_shown_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = shown(&bytes);
        prop_assert!(harmless(&text), "{text:?}");
    }

    #[test]
    fn any_kubernetes_yaml_is_shown_or_refused(
        kind in "(Secret|ConfigMap|Config|List)",
        body in "(data|stringData|clusters|users|items|  [a-z.]{1,6}|- name|:| |\n|-----BEGIN CERTIFICATE-----|[A-Za-z0-9+/=]{0,9}){0,30}",
    ) {
        let text = shown(format!("apiVersion: v1\nkind: {kind}\n{body}").as_bytes());
        prop_assert!(harmless(&text), "{text:?}");
    }
}
