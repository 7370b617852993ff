mod ceremony;
mod rotation;

use super::*;
use countersign_identity::{SvidKey, X509Svid};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::keys::KeyPlace;
use super::tokens::schedule::Lifetimes;
use crate::csr;
use crate::files;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

const DAY: Duration = Duration::from_hours(24);
pub(crate) const LIFETIMES: TokenLifetimes = {
    let lifetimes = Lifetimes {
        signing: DAY,
        longest_token: Duration::from_hours(1),
    };
    TokenLifetimes {
        jwt: lifetimes,
        wit: lifetimes,
    }
};

pub(crate) fn config(directory: &Path) -> AuthorityConfig {
    let files = KeyPlace::Directory(directory.join("keys"));
    AuthorityConfig {
        upstream: false,
        root_ttl: 3653 * DAY,
        intermediate_ttl: 90 * DAY,
        propagation: Duration::from_hours(1),
        longest_svid: DAY,
        root_keys: files.clone(),
        keys: files,
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

async fn open_with(
    directory: &Path,
    config: &AuthorityConfig,
    now: SystemTime,
) -> Result<Authority, AuthorityError> {
    let authorities = Authorities::new(directory, &shop(), config, None)?;
    Authority::open(authorities, LIFETIMES, now).await
}

async fn open_at(directory: &Path, now: SystemTime) -> Result<Authority, AuthorityError> {
    open_with(directory, &config(directory), now).await
}

/// For other modules' tests.
pub(crate) async fn opened(directory: &Path, now: SystemTime) -> Authority {
    open_at(directory, now).await.unwrap()
}

async fn open(directory: &Path) -> Result<Authority, AuthorityError> {
    open_at(directory, now()).await
}

async fn failure(directory: &Path) -> String {
    open(directory)
        .await
        .err()
        .expect("a start that is refused")
        .to_string()
}

async fn issue(authority: &Authority, now: SystemTime) -> X509Svid {
    let id = SpiffeId::parse("spiffe://shop.example/ns/shop/sa/orders").unwrap();
    let key = csr::check(&SvidKey::generate().unwrap().csr_der().unwrap()).unwrap();
    let validity = (now, now + Duration::from_hours(1));
    let intermediate = authority.intermediate();
    let leaf = intermediate
        .sign(&id, key.public_key(), validity)
        .await
        .unwrap();
    intermediate.svid(leaf).unwrap()
}

/// A data directory after its first start.
async fn started() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).await.unwrap();
    directory
}

/// The only private key of this kind.
fn key_file(directory: &Path, kind: &str) -> PathBuf {
    let mut found = fs::read_dir(directory.join("keys"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(kind)
        });
    let first = found.next().unwrap();
    assert_eq!(found.next(), None);
    first
}

#[tokio::test]
async fn the_first_start_makes_what_later_ones_use() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("new/ca");
    let first = open(&data).await.unwrap();
    let svid = issue(&first, now()).await;
    svid.verify(&first.bundle(), now()).unwrap();
    assert!(first.bundle().sequence() > 0);

    let second = open(&data).await.unwrap();
    svid.verify(&second.bundle(), now()).unwrap();
    assert_eq!(
        issue(&second, now()).await.chain()[1],
        svid.chain()[1],
        "the same intermediate"
    );
    assert_eq!(first.bundle().sequence(), second.bundle().sequence());
    let public = fs::read_to_string(data.join("bundle.pem")).unwrap();
    let public = Bundle::from_pem(shop(), &public).unwrap();
    svid.verify(&public, now()).unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("keys")), 0o700);
    assert_eq!(mode(&key_file(&data, "root")), 0o600);
    assert_eq!(mode(&key_file(&data, "intermediate")), 0o600);
    assert_eq!(mode(&data.join("bundle.pem")), 0o644);
    let state = fs::read_to_string(data.join("authority.json")).unwrap();
    assert!(!state.contains("PRIVATE"), "{state}");
}

#[tokio::test]
async fn a_leaf_is_what_the_standard_says() {
    let directory = started().await;
    let svid = issue(&open(directory.path()).await.unwrap(), now()).await;
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

#[tokio::test]
async fn an_intermediate_key_that_others_can_read_stops_the_start() {
    let directory = started().await;
    let path = key_file(directory.path(), "intermediate");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let failure = failure(directory.path()).await;
    assert!(
        failure.contains(path.to_str().unwrap()) && failure.contains("0644"),
        "{failure}"
    );
}

#[tokio::test]
async fn damaged_keys_stop_the_start_and_are_left_alone() {
    for damage in [
        "",
        "garbage",
        "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n",
    ] {
        let directory = started().await;
        let path = key_file(directory.path(), "intermediate");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, damage).unwrap();
        let failure = failure(directory.path()).await;
        assert!(
            failure.contains(path.to_str().unwrap()) && failure.contains("is damaged"),
            "{failure}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), damage);
        let secret = before.lines().nth(1).unwrap();
        assert!(!failure.contains(secret), "{failure}");
    }
}

#[tokio::test]
async fn a_damaged_state_stops_the_start_and_is_left_alone() {
    let directory = started().await;
    let path = directory.path().join("authority.json");
    let good = fs::read_to_string(&path).unwrap();
    let other = {
        let other = started().await;
        fs::read_to_string(other.path().join("authority.json")).unwrap()
    };
    let certificate_of = |state: &str| {
        let state: serde_json::Value = serde_json::from_str(state).unwrap();
        state["intermediates"][0]["certificate"].clone()
    };
    let swapped = good.replace(
        &certificate_of(&good).to_string(),
        &certificate_of(&other).to_string(),
    );
    for damage in [
        String::new(),
        "{}".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("\"active\"", "\"reigning\""),
        good.replace("BEGIN CERTIFICATE", "BEGIN CERTIFICAT"),
        swapped,
    ] {
        fs::write(&path, &damage).unwrap();
        let failure = failure(directory.path()).await;
        assert!(failure.contains("authority.json"), "{failure}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damage);
    }
    fs::write(&path, good).unwrap();
    open(directory.path()).await.unwrap();
}

#[tokio::test]
async fn keys_of_different_authorities_stop_the_start() {
    let (ours, theirs) = (started().await, started().await);
    let path = key_file(ours.path(), "intermediate");
    fs::copy(key_file(theirs.path(), "intermediate"), &path).unwrap();
    let failure = failure(ours.path()).await;
    assert!(
        failure.contains(path.to_str().unwrap()) && failure.contains("different authorities"),
        "{failure}"
    );
}

#[tokio::test]
async fn another_trust_domain_stops_the_start() {
    let directory = started().await;
    let other = TrustDomain::parse("other.example").unwrap();
    let config = config(directory.path());
    let authorities = Authorities::new(directory.path(), &other, &config, None).unwrap();
    let failure = Authority::open(authorities, LIFETIMES, now())
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        failure.contains("shop.example; the configuration says other.example"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_lost_state_is_not_replaced_in_silence() {
    let directory = started().await;
    fs::remove_file(directory.path().join("authority.json")).unwrap();
    let failure = failure(directory.path()).await;
    assert!(failure.contains("authority.json is missing"), "{failure}");
}

#[tokio::test]
async fn a_lost_intermediate_key_is_replaced_with_a_new_intermediate() {
    let directory = started().await;
    let before = issue(&open(directory.path()).await.unwrap(), now()).await;
    fs::remove_file(key_file(directory.path(), "intermediate")).unwrap();
    let authority = open(directory.path()).await.unwrap();
    let after = issue(&authority, now()).await;
    assert_ne!(before.chain()[1], after.chain()[1]);
    before.verify(&authority.bundle(), now()).unwrap();
    after.verify(&authority.bundle(), now()).unwrap();
}

#[tokio::test]
async fn the_root_key_is_needed_for_a_new_intermediate_only() {
    let directory = started().await;
    let away = key_file(directory.path(), "root");
    let kept = fs::read_to_string(&away).unwrap();
    fs::remove_file(&away).unwrap();
    let authority = open(directory.path()).await.unwrap();
    let before = issue(&authority, now()).await;
    before.verify(&authority.bundle(), now()).unwrap();

    let late = now() + 46 * DAY;
    let error = authority.renew_intermediate_if_due(late).await.unwrap_err();
    assert!(matches!(error, AuthorityError::NoRootKey { .. }), "{error}");
    assert!(
        error.to_string().contains(away.to_str().unwrap()),
        "{error}"
    );
    let before = issue(&authority, late).await;
    files::write_atomically(&away, &kept, files::PRIVATE).unwrap();
    assert!(authority.renew_intermediate_if_due(late).await.unwrap());
    let after = issue(&authority, late).await;
    assert_ne!(before.chain()[1], after.chain()[1]);
    before.verify(&authority.bundle(), late).unwrap();
    after.verify(&authority.bundle(), late).unwrap();
}

#[tokio::test]
async fn an_intermediate_is_replaced_at_half_its_life_and_its_key_removed() {
    let directory = started().await;
    let authority = open(directory.path()).await.unwrap();
    let first_key = key_file(directory.path(), "intermediate");
    let early = now() + 45 * DAY - Duration::from_secs(2);
    assert!(!authority.renew_intermediate_if_due(early).await.unwrap());
    let due = now() + 45 * DAY;
    assert!(authority.renew_intermediate_if_due(due).await.unwrap());
    assert!(!authority.renew_intermediate_if_due(due).await.unwrap());
    authority.tidy(due).await.unwrap();
    assert!(first_key.exists(), "another replica may still use it");
    authority.tidy(due + Duration::from_mins(2)).await.unwrap();
    assert!(!first_key.exists());
    // And after a long pause, at the start.
    let late = now() + 400 * DAY;
    let authority = open_at(directory.path(), late).await.unwrap();
    issue(&authority, late)
        .await
        .verify(&authority.bundle(), late)
        .unwrap();
}

#[tokio::test]
async fn no_intermediate_outlives_its_root() {
    let directory = tempfile::tempdir().unwrap();
    let short = AuthorityConfig {
        root_ttl: 180 * DAY,
        ..config(directory.path())
    };
    let data = directory.path();
    open_with(data, &short, now()).await.unwrap();
    let late = now() + 170 * DAY;
    let authority = open_with(data, &short, late).await.unwrap();
    let expiry = authority.expiry();
    assert_eq!(expiry.intermediate, expiry.root);
    assert_eq!(expiry.root, now() + 180 * DAY);
}

#[tokio::test]
async fn an_expired_root_stops_the_start() {
    let directory = started().await;
    for (at, expected) in [
        (now() + 4000 * DAY, "has expired"),
        (now() - DAY, "not valid yet; check this machine's clock"),
    ] {
        let failure = open_at(directory.path(), at).await.err().unwrap();
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}

#[tokio::test]
async fn a_full_disk_changes_nothing() {
    let directory = started().await;
    let authority = open(directory.path()).await.unwrap();
    let before = fs::read(directory.path().join("authority.json")).unwrap();
    // No key fits there any more.
    let keys = directory.path().join("keys");
    fs::rename(&keys, directory.path().join("away")).unwrap();
    fs::write(&keys, "no directory").unwrap();
    let error = authority
        .renew_intermediate_if_due(now() + 60 * DAY)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("keys/"), "{error}");
    assert_eq!(
        fs::read(directory.path().join("authority.json")).unwrap(),
        before
    );
    issue(&authority, now())
        .await
        .verify(&authority.bundle(), now())
        .unwrap();
    fs::remove_file(&keys).unwrap();
    fs::rename(directory.path().join("away"), &keys).unwrap();
    assert!(
        authority
            .renew_intermediate_if_due(now() + 60 * DAY)
            .await
            .unwrap()
    );
}
