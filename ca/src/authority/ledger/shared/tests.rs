use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::authority::tests::{LIFETIMES, config};
use crate::authority::{Authorities, Authority};

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

/// Replicas with a data directory each, and a database and keys in common.
struct Replicas {
    directory: tempfile::TempDir,
    store: Store,
}

impl Replicas {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("database");
        let store = Store::open(&place, None, &shop()).await.unwrap();
        Self { directory, store }
    }

    /// Those of the replica `name`, whose keys are in the directory `keys`.
    fn authorities(&self, name: &str, keys: &str) -> Authorities {
        let path = |name: &str| self.directory.path().join(name);
        let config = config(&path(keys));
        Authorities::new(&path(name), &shop(), &config, Some(&self.store)).unwrap()
    }

    async fn open(&self, name: &str) -> Result<Authority, AuthorityError> {
        Authority::open(self.authorities(name, "common"), LIFETIMES, now()).await
    }

    async fn change(&self, change: impl Fn(Row) -> (String, Option<Vec<u8>>)) {
        let mut tx = self.store.write().await.unwrap();
        let row = authority_state::lock(&mut tx).await.unwrap();
        let (document, signature) = change(row);
        authority_state::replace(&mut tx, &document, signature.as_deref())
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
}

fn has_file(directory: &Path, name: &str) -> bool {
    directory.join(name).exists()
}

#[tokio::test]
async fn replicas_are_one_ca_and_see_what_each_other_does() {
    let replicas = Replicas::new().await;
    let (one, other) = (
        replicas.open("one").await.unwrap(),
        replicas.open("other").await.unwrap(),
    );
    assert_eq!(one.bundle(), other.bundle());
    assert_eq!(one.intermediate().id(), other.intermediate().id());
    let directory = replicas.directory.path();
    assert!(has_file(directory, "other/bundle.pem"));
    assert!(!has_file(directory, "other/authority.json"));

    let half = now() + Duration::from_hours(24 * 46);
    assert!(one.renew_intermediate_if_due(half).await.unwrap());
    assert!(other.reload().await.unwrap());
    assert_eq!(one.intermediate().id(), other.intermediate().id());
    assert!(!other.renew_intermediate_if_due(half).await.unwrap());

    // A new token key is in both bundles, half its life before it signs.
    let later = now() + Duration::from_hours(12);
    assert!(other.rotate_token_keys_if_due(later).await.unwrap());
    assert!(one.reload().await.unwrap());
    assert_eq!(one.bundle(), other.bundle());
    assert!(!one.rotate_token_keys_if_due(later).await.unwrap());

    let steps = replicas.authorities("one", "common");
    steps.prepare(None, now()).await.unwrap();
    for replica in [&one, &other] {
        assert!(replica.reload().await.unwrap());
        assert_eq!(replica.bundle().x509_authorities().len(), 2);
    }
    let public = std::fs::read_to_string(directory.join("other/bundle.pem")).unwrap();
    assert_eq!(public.matches("BEGIN").count(), 2);
}

#[tokio::test]
async fn a_replica_without_the_keys_does_not_start() {
    let replicas = Replicas::new().await;
    replicas.open("one").await.unwrap();
    let authorities = replicas.authorities("other", "other");
    let opened = Authority::open(authorities, LIFETIMES, now()).await;
    let refused = opened.err().unwrap().to_string();
    assert!(
        refused.contains("Replicas have their keys in common"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_others_wrote_into_the_database_is_not_believed() {
    let (replicas, strangers) = (Replicas::new().await, Replicas::new().await);
    let running = replicas.open("one").await.unwrap();
    strangers.open("one").await.unwrap();
    let (mut ours, mut theirs) = (
        replicas.store.read().await.unwrap(),
        strangers.store.read().await.unwrap(),
    );
    let ours = authority_state::read(&mut ours).await.unwrap();
    let theirs = authority_state::read(&mut theirs).await.unwrap();
    let document = ours.document.clone().unwrap();
    let changed = document.replacen("\"sequence\": ", "\"sequence\": 9", 1);
    assert_ne!(changed, document);
    for (document, signature, expected) in [
        (changed.clone(), ours.signature.clone(), "its signature"),
        (changed, theirs.signature.clone(), "its signature"),
        (document.clone(), None, "its signature"),
        (
            theirs.document.clone().unwrap(),
            theirs.signature.clone(),
            "is not there, by which",
        ),
        ("{}".to_owned(), ours.signature.clone(), "in JSON"),
    ] {
        let before = running.bundle();
        replicas
            .change(|_| (document.clone(), signature.clone()))
            .await;
        let refused = running.reload().await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{expected}: {refused}");
        assert_eq!(running.bundle(), before);
        assert!(replicas.open("two").await.is_err(), "nor at a start");
    }
    replicas
        .change(|_| (document.clone(), ours.signature.clone()))
        .await;
    assert!(!running.reload().await.unwrap(), "it is what it was");
}

#[tokio::test]
async fn a_running_replica_takes_no_older_state() {
    let replicas = Replicas::new().await;
    let running = replicas.open("one").await.unwrap();
    let mut tx = replicas.store.read().await.unwrap();
    let old = authority_state::read(&mut tx).await.unwrap();
    drop(tx);
    let steps = replicas.authorities("one", "common");
    steps.prepare(None, now()).await.unwrap();
    assert!(running.reload().await.unwrap());
    replicas
        .change(|_| (old.document.clone().unwrap(), old.signature.clone()))
        .await;
    let refused = running.reload().await.unwrap_err().to_string();
    assert!(refused.contains("older than the one"), "{refused}");
    assert_eq!(running.bundle().x509_authorities().len(), 2);
}
