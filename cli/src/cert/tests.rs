//! Reports on certificates good and bad, compared with those in `golden/`. Keys are new at every run, so
//! what follows from them (serial numbers, thumbprints) is replaced. `UPDATE_GOLDEN=1` writes them anew.

use std::path::Path;
use std::time::{Duration, SystemTime};

use countersign_identity::testing::{TestAuthority, leaf_params};
use countersign_identity::{Bundle, SpiffeId, SvidKey, TrustDomain};
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use super::examine::{Report, Roots, examine};
use super::handshake::Handshake;
use super::read::Presented;
use super::render;
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
        pem: authority.bundle().unwrap().to_pem(),
    }
}

/// The chain of an SVID of orders, valid from half an hour ago for so long from now on.
fn chain(authority: &TestAuthority, from: u64, until: u64) -> Vec<CertificateDer<'static>> {
    let (svid, _) = authority.svid(&orders(), at(from)..=at(until)).unwrap();
    svid.chain().to_vec()
}

fn report(certificates: Vec<CertificateDer<'static>>, roots: Option<&Roots>) -> Report {
    let presented = Presented {
        origin: "orders.pem".to_owned(),
        certificates,
        handshake: None,
    };
    examine(presented, roots, at(NOW))
}

/// Compares a text with the golden one, once what is different in every run is replaced.
fn golden(name: &str, text: &str, report: &Report) {
    let mut text = text.to_owned();
    for certificate in &report.certificates {
        text = text.replace(&certificate.thumbprint, "(thumbprint)");
        text = text.replace(&certificate.serial, "(serial)");
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
    golden(name, &render::text(report, Palette::PLAIN), report);
}

fn outcome(report: &Report, check: &str) -> Value {
    let report = serde_json::to_value(report).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|found| found["check"] == check);
    found.map_or(Value::Null, |found| found["outcome"].clone())
}

#[test]
fn a_good_svid_as_text_and_json() {
    let authority = authority();
    let certificates = chain(&authority, NOW - 18 * MINUTE, NOW + 42 * MINUTE);
    let report = report(certificates, Some(&roots(&authority)));
    assert!(report.holds());
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
    assert_eq!(outcome(&report, "chain"), "passed");
    assert_eq!(outcome(&report, "validity"), "failed");
    golden_text("expired.txt", &report);
}

#[test]
fn an_svid_that_is_not_valid_yet_fails_for_its_age_alone() {
    let authority = authority();
    let certificates = chain(&authority, NOW + MINUTE, NOW + 61 * MINUTE);
    let report = report(certificates, Some(&roots(&authority)));
    assert_eq!(outcome(&report, "chain"), "passed");
    assert_eq!(outcome(&report, "validity"), "failed");
}

#[test]
fn an_svid_of_another_authority_fails_for_its_chain_alone() {
    let certificates = chain(&authority(), NOW - 18 * MINUTE, NOW + 42 * MINUTE);
    let report = report(certificates, Some(&roots(&authority())));
    assert!(!report.holds());
    assert_eq!(outcome(&report, "validity"), "passed");
    golden_text("forged.txt", &report);
}

#[test]
fn a_certificate_of_the_web_is_no_svid() {
    let authority = authority();
    let mut params = leaf_params(&orders(), at(NOW - 18 * MINUTE)..=at(NOW + 42 * MINUTE)).unwrap();
    params.subject_alt_names = vec![SanType::DnsName("orders.example".try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = SvidKey::generate().unwrap();
    let certificates = authority.chain(&params, key.public_key_der()).unwrap();
    let report = report(certificates, Some(&roots(&authority)));
    assert!(!report.holds());
    golden_text("web.txt", &report);
}

#[test]
fn a_bundle_is_judged_as_one() {
    let authority = authority();
    let report = report(vec![authority.root().clone()], None);
    assert!(report.holds());
    golden_text("bundle.txt", &report);
}

#[test]
fn a_chain_is_not_verified_without_roots_and_that_is_told() {
    let certificates = chain(&authority(), NOW - 18 * MINUTE, NOW + 42 * MINUTE);
    let report = report(certificates, None);
    assert!(report.holds());
    assert_eq!(outcome(&report, "chain"), "skipped");
}

#[test]
fn a_server_that_does_not_have_the_key_fails() {
    let authority = authority();
    let handshake = Handshake {
        key_exchange: Some("X25519MLKEM768".to_owned()),
        alpn: Some("h2".to_owned()),
        possession: Err("invalid signature".to_owned()),
    };
    let presented = Presented {
        origin: "127.1.2.11:15008".to_owned(),
        certificates: chain(&authority, NOW - 18 * MINUTE, NOW + 42 * MINUTE),
        handshake: Some(handshake),
    };
    let report = examine(presented, Some(&roots(&authority)), at(NOW));
    assert!(!report.holds());
    golden_text("handshake.txt", &report);
}

#[test]
fn roots_of_another_trust_domain_verify_nothing() {
    let other = TestAuthority::new(&TrustDomain::parse("other.example").unwrap()).unwrap();
    let pem = Bundle::to_pem(&other.bundle().unwrap());
    let roots = Roots {
        origin: "other.pem".to_owned(),
        pem,
    };
    let certificates = chain(&authority(), NOW - 18 * MINUTE, NOW + 42 * MINUTE);
    let report = report(certificates, Some(&roots));
    assert_eq!(outcome(&report, "chain"), "failed");
}
