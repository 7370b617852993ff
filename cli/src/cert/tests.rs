//! Reports on certificates good and bad, compared with those in `golden/`. Keys are new at every run, so
//! what follows from them (serial numbers, fingerprints) is replaced. `UPDATE_GOLDEN=1` writes them anew.

mod hostile;
mod rules;

use std::path::Path;
use std::time::{Duration, SystemTime};

use countersign_identity::testing::{TestAuthority, leaf_params};
use countersign_identity::{SpiffeId, SvidKey, TrustDomain};
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;

use super::findings::Strictness;
use super::render;
use super::report::{Content, Report, examine};
use super::source::{ClientCertificate, ClientOutcome, Connection, Found, FoundKey, Group, Kind};
use super::trust::Roots;
use crate::output::Palette;

/// 2026-11-23T10:00:00Z
const NOW: u64 = 1_795_428_000;
const MINUTE: u64 = 60;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn orders() -> SpiffeId {
    SpiffeId::for_workload(&trust_domain(), "shop", "orders").unwrap()
}

fn authority() -> TestAuthority {
    TestAuthority::new(&trust_domain()).unwrap()
}

fn roots(authority: &TestAuthority) -> Roots {
    Roots {
        origin: "bundle.pem".to_owned(),
        authorities: vec![authority.root().clone()],
        asked_for: false,
    }
}

/// The chain of an SVID of orders, valid from one moment to another.
fn chain(authority: &TestAuthority, from: u64, until: u64) -> Vec<CertificateDer<'static>> {
    let (svid, _) = authority.svid(&orders(), at(from)..=at(until)).unwrap();
    svid.chain().to_vec()
}

/// A chain that is good now.
fn good(authority: &TestAuthority) -> Vec<CertificateDer<'static>> {
    chain(authority, NOW - 18 * MINUTE, NOW + 42 * MINUTE)
}

fn found(groups: Vec<Group>) -> Found {
    Found {
        origin: "orders.pem".to_owned(),
        form: "PEM",
        groups,
        connection: None,
        remarks: Vec::new(),
        exposed_mode: None,
    }
}

fn report(certificates: Vec<CertificateDer<'static>>, roots: Option<&Roots>) -> Report {
    let group = Group::new(None, Kind::Unknown, certificates);
    examine(found(vec![group]), roots, Strictness::default(), at(NOW))
}

/// The codes of the findings that are errors or warnings.
fn codes(report: &Report) -> Vec<&'static str> {
    use super::findings::Severity;
    let grave = report
        .findings
        .iter()
        .filter(|finding| finding.severity != Severity::Info);
    grave.map(|finding| finding.code).collect()
}

/// Compares a text with the golden one, once what is different in every run is replaced.
fn golden(name: &str, text: &str, report: &Report) {
    let mut text = text.to_owned();
    for certificate in &report.certificates {
        if let Content::Unreadable { sha256, .. } = &certificate.content {
            text = text.replace(sha256, "(fingerprint)");
        }
    }
    for facts in report.certificates.iter().filter_map(|one| one.facts()) {
        text = text.replace(&facts.fingerprints.sha256, "(fingerprint)");
        text = text.replace(&facts.fingerprints.public_key_sha256, "(fingerprint)");
        text = text.replace(&facts.serial, "(serial)");
        for extension in &facts.extensions {
            if extension.name.ends_with("KeyIdentifier") {
                for value in &extension.values {
                    text = text.replace(value, "(key)");
                }
            }
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/cert/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{name}");
}

fn golden_text(name: &str, report: &Report) {
    golden(name, &render::text(report, Palette::PLAIN, 80), report);
}

#[test]
fn a_good_svid_as_text_and_json() {
    let authority = authority();
    let report = report(good(&authority), Some(&roots(&authority)));
    assert!(report.holds());
    assert_eq!(codes(&report), [""; 0]);
    golden_text("good.txt", &report);
    let json = format!("{:#}\n", serde_json::to_value(&report).unwrap());
    golden("good.json", &json, &report);
}

#[test]
fn an_expired_svid_of_the_right_authority_fails_for_its_age_alone() {
    let authority = authority();
    let certificates = chain(&authority, NOW - 240 * MINUTE, NOW - 180 * MINUTE);
    let report = report(certificates, Some(&roots(&authority)));
    assert!(!report.holds());
    assert_eq!(codes(&report), ["expired"]);
    golden_text("expired.txt", &report);
}

#[test]
fn an_svid_that_is_not_valid_yet_fails_for_its_age_alone() {
    let authority = authority();
    let certificates = chain(&authority, NOW + MINUTE, NOW + 61 * MINUTE);
    let report = report(certificates, Some(&roots(&authority)));
    assert_eq!(codes(&report), ["not-yet-valid"]);
}

#[test]
fn an_svid_of_another_authority_fails_for_its_chain_alone() {
    let report = report(good(&authority()), Some(&roots(&authority())));
    assert!(!report.holds());
    assert_eq!(codes(&report), ["untrusted"]);
    golden_text("forged.txt", &report);
}

#[test]
fn a_certificate_of_the_web_is_judged_as_one_unless_an_svid_is_asked_for() {
    let authority = authority();
    let mut params = leaf_params(&orders(), at(NOW - 18 * MINUTE)..=at(NOW + 42 * MINUTE)).unwrap();
    params.subject_alt_names = ["orders.example", "www.orders.example"]
        .map(|name| SanType::DnsName(name.try_into().unwrap()))
        .to_vec();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = SvidKey::generate().unwrap();
    let certificates = authority.chain(&params, key.public_key_der()).unwrap();
    let web = report(certificates.clone(), None);
    assert!(web.holds());
    golden_text("web.txt", &web);

    let strictness = Strictness {
        svid: true,
        ..Strictness::default()
    };
    let group = Group::new(None, Kind::Unknown, certificates);
    let strict = examine(found(vec![group]), None, strictness, at(NOW));
    assert_eq!(codes(&strict), ["svid-extended-key-usage", "svid-no-uri"]);
}

#[test]
fn a_bundle_is_judged_as_one() {
    let authority = authority();
    let report = report(vec![authority.root().clone()], None);
    assert!(report.holds());
    assert_eq!(report.groups[0].kind, "bundle");
    golden_text("bundle.txt", &report);
}

#[test]
fn a_chain_is_not_verified_without_roots_and_that_is_told() {
    let report = report(good(&authority()), None);
    assert!(report.holds());
    let trust = report.groups[0].trust.as_ref().unwrap();
    assert_eq!(trust.verified, None);
}

#[test]
fn what_a_server_asks_of_clients_is_shown_and_one_without_the_key_fails() {
    let authority = authority();
    let connection = Connection {
        address: "127.1.2.11:15008".to_owned(),
        version: Some("TLS 1.3".to_owned()),
        cipher_suite: Some("TLS_AES_256_GCM_SHA384".to_owned()),
        key_exchange: Some("X25519MLKEM768".to_owned()),
        alpn: Some("h2".to_owned()),
        client_certificate: Some(ClientCertificate {
            presented: false,
            outcome: ClientOutcome::Required,
            authorities: vec!["CN=test root".to_owned()],
            signature_algorithms: vec!["ECDSA_NISTP256_SHA256".to_owned()],
        }),
        failure: None,
        possession: Err("invalid signature".to_owned()),
    };
    let found = Found {
        origin: "127.1.2.11:15008".to_owned(),
        form: "TLS handshake",
        connection: Some(connection),
        ..found(vec![Group::new(None, Kind::Chain, good(&authority))])
    };
    let report = examine(
        found,
        Some(&roots(&authority)),
        Strictness::default(),
        at(NOW),
    );
    assert_eq!(codes(&report), ["key-possession"]);
    golden_text("handshake.txt", &report);
}

#[test]
fn roots_of_another_trust_domain_verify_nothing() {
    let other = TestAuthority::new(&TrustDomain::parse("other.example").unwrap()).unwrap();
    let report = report(good(&authority()), Some(&roots(&other)));
    assert_eq!(codes(&report), ["untrusted"]);
}

#[test]
fn a_key_is_matched_with_its_certificate() {
    let authority = authority();
    let (svid, key) = authority
        .svid(&orders(), at(NOW - 18 * MINUTE)..=at(NOW + 42 * MINUTE))
        .unwrap();
    let with_key = |public_key: &[u8]| {
        let mut group = Group::new(None, Kind::Unknown, svid.chain().to_vec());
        group.keys.push(FoundKey::Readable {
            public_key: public_key.to_vec(),
            name: "ECDSA P-256".to_owned(),
        });
        examine(found(vec![group]), None, Strictness::default(), at(NOW))
    };
    assert_eq!(codes(&with_key(key.public_key_der())), [""; 0]);
    let other = SvidKey::generate().unwrap();
    assert_eq!(codes(&with_key(other.public_key_der())), ["key-mismatch"]);
}
