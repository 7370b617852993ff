use std::time::Duration;

use proptest::prelude::*;
use rcgen::{IsCa, KeyPair, KeyUsagePurpose, SanType};

use super::*;
use crate::testing::{TestAuthority, signing_params};

fn td() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn self_signed(spoil: impl FnOnce(&mut rcgen::CertificateParams)) -> CertificateDer<'static> {
    let mut params = signing_params(&td(), "root", 1).unwrap();
    spoil(&mut params);
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .clone()
}

#[test]
fn pem_there_and_back() {
    let (a, b) = (
        TestAuthority::new(&td()).unwrap(),
        TestAuthority::new(&td()).unwrap(),
    );
    let bundle = Bundle::new(td(), vec![a.root().clone(), b.root().clone()], 0).unwrap();
    let pem = bundle.to_pem();
    assert!(pem.lines().all(|line| line.len() <= 64));
    assert_eq!(Bundle::from_pem(td(), &pem).unwrap(), bundle);
}

#[test]
fn text_around_the_certificates_is_ignored() {
    let bundle = TestAuthority::new(&td()).unwrap().bundle().unwrap();
    let pem = format!(
        "# the roots of shop.example\n{}\n\n# end\n",
        bundle.to_pem()
    );
    let read = Bundle::from_pem(td(), &pem).unwrap();
    assert_eq!(read.x509_authorities(), bundle.x509_authorities());
}

#[test]
fn an_empty_bundle_is_refused() {
    let empty = BundleError::Empty { trust_domain: td() };
    assert_eq!(Bundle::new(td(), vec![], 1), Err(empty.clone()));
    assert_eq!(Bundle::from_pem(td(), ""), Err(empty.clone()));
    assert_eq!(Bundle::from_pem(td(), "no pem at all"), Err(empty));
}

#[test]
fn a_private_key_in_a_bundle_is_pointed_out() {
    let bundle = TestAuthority::new(&td()).unwrap().bundle().unwrap();
    let pem = format!(
        "{}{}",
        bundle.to_pem(),
        KeyPair::generate().unwrap().serialize_pem()
    );
    let error = Bundle::from_pem(td(), &pem).unwrap_err();
    assert!(
        matches!(error, BundleError::NotACertificate { index: 2, .. }),
        "{error}"
    );
}

#[test]
fn broken_pem_is_refused() {
    let pem = TestAuthority::new(&td())
        .unwrap()
        .bundle()
        .unwrap()
        .to_pem();
    let without_end = pem.replace("-----END CERTIFICATE-----", "");
    assert!(matches!(
        Bundle::from_pem(td(), &without_end),
        Err(BundleError::Pem { .. })
    ));
}

#[test]
fn only_signing_certificates_are_authorities() {
    let leaf = self_signed(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let error = Bundle::new(td(), vec![leaf], 0).unwrap_err();
    assert!(
        matches!(error, BundleError::NotAnAuthority { index: 1, .. }),
        "{error}"
    );

    let good = self_signed(|_| {});
    let no_signing = self_signed(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let error = Bundle::new(td(), vec![good, no_signing], 0).unwrap_err();
    assert!(
        matches!(error, BundleError::NotAnAuthority { index: 2, .. }),
        "{error}"
    );
}

#[test]
fn roots_of_an_existing_pki_need_neither_key_usage_nor_spiffe_id() {
    let plain = self_signed(|params| {
        params.key_usages.clear();
        params.subject_alt_names.clear();
    });
    assert!(Bundle::new(td(), vec![plain], 0).is_ok());
}

#[test]
fn an_authority_with_a_path_in_its_id_is_refused() {
    let id = "spiffe://shop.example/ca";
    let root = self_signed(|params| {
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    });
    let error = Bundle::new(td(), vec![root], 0).unwrap_err();
    assert_eq!(
        error,
        BundleError::AuthorityId {
            index: 1,
            id: id.to_owned()
        }
    );
}

#[test]
fn anchors_end_with_their_own_validity() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let hour = Duration::from_secs(3600);
    let current = self_signed(|_| {});
    let old = self_signed(|params| params.not_after = (now - hour).into());
    let bundle = Bundle::new(td(), vec![old, current], 0).unwrap();
    let count = |at| bundle.with_anchors_at(at, <[_]>::len);
    assert_eq!(count(now - 2 * hour), 2);
    assert_eq!(count(now), 1);
    assert_eq!(count(SystemTime::UNIX_EPOCH), 0);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in any::<String>()) {
        prop_assert!(Bundle::from_pem(td(), &text).is_err());
    }

    #[test]
    fn any_bytes_in_a_pem_block_are_refused_without_panic(bytes in any::<Vec<u8>>()) {
        let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        prop_assert!(Bundle::from_pem(td(), &pem).is_err());
    }

    #[test]
    fn a_mutated_bundle_is_read_or_refused_without_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut der = ROOT.to_vec();
        for (index, byte) in edits {
            der[index.index(ROOT.len())] = byte;
        }
        let whole = Bundle::new(td(), vec![der.clone().into()], 0);
        if let Ok(bundle) = whole {
            let pem = bundle.to_pem();
            prop_assert_eq!(Bundle::from_pem(td(), &pem).unwrap(), bundle);
        }
        der.truncate(cut.index(ROOT.len()));
        prop_assert!(Bundle::new(td(), vec![der.into()], 0).is_err());
    }
}

static ROOT: std::sync::LazyLock<CertificateDer<'static>> =
    std::sync::LazyLock::new(|| self_signed(|_| {}));
