use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_identity::TrustDomain;
use countersign_identity::jwt::svid;
use countersign_identity::testing::TestAuthority;

use super::*;
use crate::authority::keys::KeyPlace;
use crate::authority::state::seconds;

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

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

/// A state that has token keys alone, and their directory.
struct Held {
    directory: tempfile::TempDir,
    state: State,
}

impl Held {
    async fn new() -> Self {
        let mut held = Self {
            directory: tempfile::tempdir().unwrap(),
            state: State::new(&shop()),
        };
        held.rotate(start()).await.unwrap();
        held
    }

    fn keys(&self) -> Keys {
        KeyPlace::Directory(self.directory.path().to_owned())
            .open()
            .unwrap()
    }

    async fn load(&self) -> Result<TokenKeys, AuthorityError> {
        TokenKeys::load(&self.state, &self.keys()).await
    }

    /// As the server does it: what is retired is removed.
    async fn rotate(&mut self, now: SystemTime) -> Result<TokenKeys, AuthorityError> {
        let keys = self.keys();
        for name in rotate(&mut self.state, &keys, &LIFETIMES, now).await? {
            keys.remove(&name).await.unwrap();
        }
        self.load().await
    }

    async fn failure(&self) -> String {
        self.load().await.err().unwrap().to_string()
    }

    fn file(&self, record: usize) -> PathBuf {
        let name = &self.state.token_keys[record].key;
        self.directory.path().join(format!("{name}.key.pem"))
    }
}

fn bundle(keys: &TokenKeys) -> Bundle {
    let roots = TestAuthority::new(&shop()).unwrap().bundle().unwrap();
    keys.bundle_of(roots).unwrap()
}

fn kids(keys: &TokenKeys) -> Vec<String> {
    keys.jwks(Use::JwtSvid)
        .iter()
        .map(|jwk| jwk["kid"].as_str().unwrap().to_owned())
        .collect()
}

async fn token(keys: &TokenKeys, now: SystemTime) -> String {
    let claims = json!({
        "sub": "spiffe://shop.example/ns/shop/sa/orders", "aud": ["db"], "exp": seconds(now) + 300,
    });
    keys.sign(Use::JwtSvid, "JWT", &claims, now).await.unwrap()
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_until_its_tokens_have_ended() {
    let mut held = Held::new().await;
    let early = held.state.sequence;
    let first = bundle(&held.load().await.unwrap());
    assert!(
        !held
            .load()
            .await
            .unwrap()
            .is_due(&LIFETIMES, start() + DAY / 4)
    );

    let half = start() + DAY / 2;
    assert!(held.load().await.unwrap().is_due(&LIFETIMES, half));
    let prepared = held.rotate(half).await.unwrap();
    assert!(!prepared.is_due(&LIFETIMES, half));
    assert!(held.state.sequence > early);
    let second = bundle(&prepared);
    assert_eq!(kids(&prepared).len(), 2);
    // Signed in the first key's last second, by the first key; whoever has the first bundle believes it.
    let last = start() + DAY - Duration::from_secs(1);
    let old = token(&prepared, last).await;
    svid::verify(&old, "db", &first, last).unwrap();
    // Signed by the second key: known to whoever has the bundle of the twelve hours before.
    let new = token(&prepared, start() + DAY).await;
    svid::verify(&new, "db", &second, start() + DAY).unwrap();
    assert!(
        svid::verify(&new, "db", &first, start() + DAY)
            .unwrap_err()
            .is_unknown_key()
    );
    svid::verify(&old, "db", &second, start() + DAY).unwrap();

    let later = start() + DAY + Duration::from_mins(62);
    let retired = held.rotate(later).await.unwrap();
    assert_eq!(kids(&retired), kids(&prepared)[1..]);
    assert_eq!(
        files(held.directory.path()),
        2,
        "one for JWT-SVIDs, one for WIT-SVIDs"
    );
}

#[tokio::test]
async fn nothing_is_changed_before_it_is_due() {
    let mut held = Held::new().await;
    let before = held.state.clone();
    let first = held.load().await.unwrap();
    let again = held.rotate(start() + DAY / 4).await.unwrap();
    assert_eq!(held.state, before);
    svid::verify(
        &token(&again, start()).await,
        "db",
        &bundle(&first),
        start(),
    )
    .unwrap();
    assert_eq!(fs::metadata(held.file(0)).unwrap().mode() & 0o7777, 0o600);
    let public = serde_json::to_string(&held.state).unwrap();
    assert!(
        !public.contains("PRIVATE") && !public.contains("\"d\""),
        "{public}"
    );
}

#[tokio::test]
async fn jwt_and_wit_keys_are_different_ones() {
    let keys = Held::new().await.load().await.unwrap();
    let names = |usage| keys.jwks(usage)[0]["kid"].clone();
    assert_ne!(names(Use::JwtSvid), names(Use::WitSvid));
}

#[tokio::test]
async fn what_is_damaged_or_open_to_others_is_told() {
    let mut held = Held::new().await;
    let path = held.file(0);
    let pem = fs::read(&path).unwrap();

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(held.failure().await.contains("0644"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "damaged").unwrap();
    let failure = held.failure().await;
    assert!(
        failure.contains("expected a P-256 private key"),
        "{failure}"
    );
    fs::write(&path, fs::read(held.file(1)).unwrap()).unwrap();
    let failure = held.failure().await;
    assert!(failure.contains("is not the token key"), "{failure}");
    fs::write(&path, pem).unwrap();
    held.load().await.unwrap();

    held.state.check(&shop()).unwrap();
    held.state.token_keys[0].key = "../x".to_owned();
    let failure = held.state.check(&shop()).unwrap_err().to_string();
    assert!(failure.contains("the name of a private key"), "{failure}");
    held.state.token_keys[0].key = "token-1".to_owned();
    held.state.token_keys[0].kid = held.state.token_keys[1].kid.clone();
    let failure = held.state.check(&shop()).unwrap_err().to_string();
    assert!(failure.contains("its thumbprint"), "{failure}");
}

#[tokio::test]
async fn a_key_that_is_lost_is_replaced_and_stays_published() {
    let mut held = Held::new().await;
    let first = kids(&held.load().await.unwrap());
    fs::remove_file(held.file(0)).unwrap();
    let now = start() + DAY / 4;
    assert!(held.load().await.unwrap().is_due(&LIFETIMES, now));
    let again = held.rotate(now).await.unwrap();
    let names = kids(&again);
    assert_eq!((names.len(), &names[0]), (2, &first[0]));
    svid::verify(&token(&again, now).await, "db", &bundle(&again), now).unwrap();
    assert!(!again.is_due(&LIFETIMES, now));
}

#[tokio::test]
async fn a_place_that_takes_no_new_key_leaves_the_old_ones() {
    let mut held = Held::new().await;
    let keys = held.load().await.unwrap();
    let (directory, away) = (
        held.directory.path().to_owned(),
        tempfile::tempdir().unwrap(),
    );
    let place = held.keys();
    fs::rename(&directory, away.path().join("keys")).unwrap();
    fs::write(&directory, "no directory").unwrap();
    let later = start() + DAY / 2;
    let rotated = rotate(&mut held.state, &place, &LIFETIMES, later).await;
    assert!(rotated.is_err());
    fs::remove_file(&directory).unwrap();
    fs::rename(away.path().join("keys"), &directory).unwrap();
    assert_eq!(kids(&keys).len(), 1);
    token(&keys, later).await;
}
