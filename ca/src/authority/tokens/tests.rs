use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use countersign_identity::TrustDomain;
use countersign_identity::jwt::svid;
use countersign_identity::testing::TestAuthority;

use super::*;

const DAY: Duration = Duration::from_hours(24);
const LIFETIMES: Lifetimes = Lifetimes {
    signing: DAY,
    longest_token: Duration::from_hours(1),
};

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn open(directory: &Path, now: SystemTime) -> Result<TokenKeys, AuthorityError> {
    TokenKeys::open(directory, LIFETIMES, LIFETIMES, now)
}

fn roots() -> Bundle {
    let trust_domain = TrustDomain::parse("shop.example").unwrap();
    TestAuthority::new(&trust_domain).unwrap().bundle().unwrap()
}

fn kids(keys: &TokenKeys) -> Vec<String> {
    keys.jwks(Use::JwtSvid)
        .iter()
        .map(|jwk| jwk["kid"].as_str().unwrap().to_owned())
        .collect()
}

fn token(keys: &TokenKeys, now: SystemTime) -> String {
    let claims = json!({
        "sub": "spiffe://shop.example/ns/shop/sa/orders", "aud": ["db"], "exp": state::seconds(now) + 300,
    });
    keys.sign(Use::JwtSvid, "JWT", &claims, now).unwrap()
}

fn private_files(directory: &Path) -> usize {
    let is_key = |name: &str| name.starts_with("token-") && name.ends_with(".key.pem");
    fs::read_dir(directory)
        .unwrap()
        .filter(|entry| is_key(entry.as_ref().unwrap().file_name().to_str().unwrap()))
        .count()
}

#[test]
fn a_key_is_published_before_it_signs_and_until_its_tokens_have_ended() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), start()).unwrap();
    let roots = roots();
    let early = first.bundle_of(&roots).unwrap();

    let prepared = first.rotated(start() + DAY / 2).unwrap().unwrap();
    let bundle = prepared.bundle_of(&roots).unwrap();
    assert!(bundle.sequence() > early.sequence());
    assert_eq!(kids(&prepared).len(), 2);
    // Signed in the first key's last second, by the first key; whoever has the first bundle believes it.
    let last = start() + DAY - Duration::from_secs(1);
    let old = token(&prepared, last);
    svid::verify(&old, "db", &early, last).unwrap();
    // Signed by the second key: known to whoever has the bundle of the twelve hours before.
    let new = token(&prepared, start() + DAY);
    svid::verify(&new, "db", &bundle, start() + DAY).unwrap();
    assert!(
        svid::verify(&new, "db", &early, start() + DAY)
            .unwrap_err()
            .is_unknown_key()
    );
    svid::verify(&old, "db", &bundle, start() + DAY).unwrap();

    let later = start() + DAY + Duration::from_mins(62);
    let retired = prepared.rotated(later).unwrap().unwrap();
    assert_eq!(kids(&retired), kids(&prepared)[1..]);
    assert_eq!(
        private_files(directory.path()),
        2,
        "one for JWT-SVIDs, one for WIT-SVIDs"
    );
}

#[test]
fn a_restart_goes_on_with_the_same_keys() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), start()).unwrap();
    let again = open(directory.path(), start() + DAY / 4).unwrap();
    assert_eq!(kids(&again), kids(&first));
    assert_eq!(again.state.sequence, first.state.sequence);
    let bundle = first.bundle_of(&roots()).unwrap();
    svid::verify(&token(&again, start()), "db", &bundle, start()).unwrap();
    let path = key_path(directory.path(), &kids(&first)[0]);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let public = fs::read_to_string(state_path(directory.path())).unwrap();
    assert!(
        !public.contains("PRIVATE") && !public.contains("\"d\""),
        "{public}"
    );
}

#[test]
fn jwt_and_wit_keys_are_different_ones() {
    let directory = tempfile::tempdir().unwrap();
    let keys = open(directory.path(), start()).unwrap();
    let names = |usage| keys.jwks(usage)[0]["kid"].clone();
    assert_ne!(names(Use::JwtSvid), names(Use::WitSvid));
}

#[test]
fn what_is_damaged_or_open_to_others_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let keys = open(directory.path(), start()).unwrap();
    let path = key_path(directory.path(), &kids(&keys)[0]);
    let other = key_path(
        directory.path(),
        keys.jwks(Use::WitSvid)[0]["kid"].as_str().unwrap(),
    );
    let pem = fs::read(&path).unwrap();
    let failure = || open(directory.path(), start()).err().unwrap().to_string();

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(failure().contains("0644"), "{}", failure());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "damaged").unwrap();
    assert!(
        failure().contains("expected a P-256 private key"),
        "{}",
        failure()
    );
    fs::write(&path, fs::read(other).unwrap()).unwrap();
    assert!(
        failure().contains("the key that the file is named for"),
        "{}",
        failure()
    );
    fs::write(&path, pem).unwrap();
    fs::write(state_path(directory.path()), "{}").unwrap();
    assert!(
        failure().contains("the token keys in JSON"),
        "{}",
        failure()
    );
    let evil = r#"{"sequence":1,"keys":[{"use":"jwt-svid","kid":"../x","published":1,"signsFrom":1,"signsUntil":9999999999,"jwk":{}}]}"#;
    fs::write(state_path(directory.path()), evil).unwrap();
    assert!(
        failure().contains("thumbprints as the names"),
        "{}",
        failure()
    );
}

#[test]
fn a_key_that_is_lost_is_replaced_and_stays_published() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), start()).unwrap();
    fs::remove_file(key_path(directory.path(), &kids(&first)[0])).unwrap();
    let now = start() + DAY / 4;
    let again = open(directory.path(), now).unwrap();
    let names = kids(&again);
    assert_eq!((names.len(), &names[0]), (2, &kids(&first)[0]));
    let bundle = again.bundle_of(&roots()).unwrap();
    svid::verify(&token(&again, now), "db", &bundle, now).unwrap();
    assert!(again.rotated(now).unwrap().is_none());
}

#[test]
fn the_sequence_grows_even_when_the_state_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let before = open(directory.path(), start()).unwrap().state.sequence;
    fs::remove_file(state_path(directory.path())).unwrap();
    let after = open(directory.path(), start() + Duration::from_secs(1)).unwrap();
    assert!(after.state.sequence > before);
}

#[test]
fn a_disk_that_takes_no_new_key_leaves_the_old_ones() {
    let directory = tempfile::tempdir().unwrap();
    let keys = open(directory.path(), start()).unwrap();
    fs::remove_dir_all(directory.path()).unwrap();
    assert!(keys.rotated(start() + DAY / 2).is_err());
    assert_eq!(kids(&keys).len(), 1);
    token(&keys, start() + DAY / 2);
}
