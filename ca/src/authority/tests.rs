use super::*;
use countersign_identity::{SvidKey, X509Svid};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::csr;

const DAY: Duration = Duration::from_hours(24);
const LIFETIMES: TokenLifetimes = {
    let lifetimes = Lifetimes {
        signing: DAY,
        longest_token: Duration::from_hours(1),
    };
    TokenLifetimes {
        jwt: lifetimes,
        wit: lifetimes,
    }
};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

fn open(directory: &Path) -> Result<Authority, AuthorityError> {
    Authority::open(directory, &shop(), LIFETIMES, now())
}

fn failure(directory: &Path) -> String {
    open(directory)
        .err()
        .expect("a start that is refused")
        .to_string()
}

fn issue(authority: &Authority, now: SystemTime) -> X509Svid {
    let id = SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap();
    let key = csr::check(&SvidKey::generate().unwrap().csr_der().unwrap()).unwrap();
    let validity = (now, now + Duration::from_hours(1));
    let chain = authority
        .intermediate()
        .sign(&id, key.public_key(), validity)
        .unwrap();
    X509Svid::from_chain(chain).unwrap()
}

/// A data directory after its first start.
fn started() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap();
    directory
}

#[test]
fn the_first_start_makes_what_later_ones_use() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("new/ca");
    let first = open(&data).unwrap();
    let svid = issue(&first, now());
    svid.verify(&first.bundle(), now()).unwrap();

    let second = open(&data).unwrap();
    svid.verify(&second.bundle(), now()).unwrap();
    assert_eq!(
        issue(&second, now()).chain()[1],
        svid.chain()[1],
        "the same intermediate"
    );
    let public = fs::read_to_string(data.join("bundle.pem")).unwrap();
    let public = Bundle::from_pem(shop(), &public).unwrap();
    svid.verify(&public, now()).unwrap();

    let mode = |name: &str| fs::metadata(data.join(name)).unwrap().mode() & 0o7777;
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(mode("root.key.pem"), 0o600);
    assert_eq!(mode("intermediate.key.pem"), 0o600);
    assert_eq!(mode("bundle.pem"), 0o644);
}

#[test]
fn a_leaf_is_what_the_standard_says() {
    let directory = started();
    let svid = issue(&open(directory.path()).unwrap(), now());
    let (_, leaf) = X509Certificate::from_der(&svid.chain()[0]).unwrap();
    assert!(leaf.subject().iter().next().is_none());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(
        names.critical,
        "critical, as the subject is empty (RFC 5280 §4.2.1.6)"
    );
    assert_eq!(names.value.general_names.len(), 1);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(
        usage.critical && usage.value.flags == 1,
        "digitalSignature and nothing else"
    );
    let extended = leaf.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.server_auth && extended.value.client_auth);
    assert!(!leaf.is_ca());
    let serial = leaf.raw_serial();
    assert!(
        (12..=17).contains(&serial.len()),
        "128 random bits: {serial:02x?}"
    );

    let (_, intermediate) = X509Certificate::from_der(&svid.chain()[1]).unwrap();
    let constraints = intermediate.basic_constraints().unwrap().unwrap();
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    assert_eq!(svid.chain().len(), 2, "without the root");
}

#[test]
fn keys_that_others_can_read_stop_the_start() {
    for name in ["root.key.pem", "intermediate.key.pem"] {
        let directory = started();
        let path = directory.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let failure = failure(directory.path());
        assert!(
            failure.contains(name) && failure.contains("0644"),
            "{failure}"
        );
    }
}

#[test]
fn damaged_files_stop_the_start_and_are_left_alone() {
    for name in ["root.key.pem", "root.pem", "intermediate.key.pem"] {
        for damage in [
            "",
            "garbage",
            "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
        ] {
            let directory = started();
            let path = directory.path().join(name);
            let before = fs::read_to_string(&path).unwrap();
            fs::write(&path, damage).unwrap();
            let failure = failure(directory.path());
            assert!(
                failure.contains(name) && failure.contains("is damaged"),
                "{failure}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), damage);
            let secret = before.lines().nth(1).unwrap();
            assert!(!failure.contains(secret), "{failure}");
        }
    }
}

#[test]
fn a_truncated_key_stops_the_start() {
    for name in ["root.key.pem", "intermediate.key.pem"] {
        let directory = started();
        let path = directory.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..100]).unwrap();
        assert!(failure(directory.path()).contains("is damaged"));
    }
}

#[test]
fn files_of_different_authorities_stop_the_start() {
    let (ours, theirs) = (started(), started());
    let copy = |name: &str| fs::copy(theirs.path().join(name), ours.path().join(name)).unwrap();
    copy("root.key.pem");
    let mismatch = failure(ours.path());
    assert!(
        mismatch.contains("root.key.pem") && mismatch.contains("root.pem"),
        "{mismatch}"
    );
    copy("root.pem");
    let other_root = failure(ours.path());
    assert!(other_root.contains("intermediate.key.pem"), "{other_root}");
    assert!(
        other_root.contains("not signed by the root"),
        "{other_root}"
    );
}

#[test]
fn another_trust_domain_stops_the_start() {
    let directory = started();
    let other = TrustDomain::parse("other.example").unwrap();
    let failure = Authority::open(directory.path(), &other, LIFETIMES, now())
        .err()
        .unwrap()
        .to_string();
    assert!(
        failure.contains("shop.example; the configuration says other.example"),
        "{failure}"
    );
}

#[test]
fn a_lost_root_is_not_replaced_in_silence() {
    let directory = started();
    fs::remove_file(directory.path().join("root.pem")).unwrap();
    let failure = failure(directory.path());
    assert!(failure.contains("root.pem is missing"), "{failure}");
}

#[test]
fn a_first_start_that_was_cut_short_goes_on() {
    let directory = started();
    for name in ["root.pem", "intermediate.key.pem", "bundle.pem"] {
        fs::remove_file(directory.path().join(name)).unwrap();
    }
    let key = fs::read_to_string(directory.path().join("root.key.pem")).unwrap();
    let authority = open(directory.path()).unwrap();
    issue(&authority, now())
        .verify(&authority.bundle(), now())
        .unwrap();
    assert_eq!(
        fs::read_to_string(directory.path().join("root.key.pem")).unwrap(),
        key
    );
}

#[test]
fn the_root_key_is_needed_for_a_new_intermediate_only() {
    let directory = started();
    let away = directory.path().join("root.key.pem");
    let kept = fs::read(&away).unwrap();
    fs::remove_file(&away).unwrap();
    let authority = open(directory.path()).unwrap();
    issue(&authority, now())
        .verify(&authority.bundle(), now())
        .unwrap();

    let late = now() + 61 * DAY;
    let error = authority.renew_intermediate_if_due(late).unwrap_err();
    assert!(matches!(error, AuthorityError::NoRootKey { .. }), "{error}");
    let before = issue(&authority, late);
    write_atomically(&away, std::str::from_utf8(&kept).unwrap(), PRIVATE).unwrap();
    assert!(authority.renew_intermediate_if_due(late).unwrap());
    let after = issue(&authority, late);
    assert_ne!(before.chain()[1], after.chain()[1]);
    before.verify(&authority.bundle(), late).unwrap();
    after.verify(&authority.bundle(), late).unwrap();
}

#[test]
fn an_intermediate_is_replaced_when_a_third_of_its_life_is_left() {
    let directory = started();
    let authority = open(directory.path()).unwrap();
    assert!(
        !authority
            .renew_intermediate_if_due(now() + 59 * DAY)
            .unwrap()
    );
    assert!(
        authority
            .renew_intermediate_if_due(now() + 61 * DAY)
            .unwrap()
    );
    // And after a long pause, at the start.
    let late = now() + 400 * DAY;
    let authority = Authority::open(directory.path(), &shop(), LIFETIMES, late).unwrap();
    issue(&authority, late)
        .verify(&authority.bundle(), late)
        .unwrap();
}

#[test]
fn an_expired_root_stops_the_start() {
    let directory = started();
    let failure = Authority::open(directory.path(), &shop(), LIFETIMES, now() + 4000 * DAY)
        .err()
        .unwrap();
    assert!(
        matches!(failure, AuthorityError::OutOfTime { .. }),
        "{failure}"
    );
    let failure = Authority::open(directory.path(), &shop(), LIFETIMES, now() - DAY)
        .err()
        .unwrap();
    assert!(
        failure
            .to_string()
            .contains("not valid yet; check this machine's clock"),
        "{failure}"
    );
}
