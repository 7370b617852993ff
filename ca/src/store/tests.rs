use super::*;
use std::os::unix::fs::PermissionsExt as _;

use sqlx::{Connection as _, SqliteConnection};

fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

async fn open(directory: &Path) -> Result<Store, StoreError> {
    Store::open(directory, None, &shop()).await
}

async fn refused(directory: &Path) -> String {
    match open(directory).await {
        Ok(_) => panic!("it opens"),
        Err(error) => error.to_string(),
    }
}

async fn execute(directory: &Path, sql: &'static str) {
    let url = format!("sqlite://{}", directory.join("ca.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn all_files_are_their_owners_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{entry:?}");
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["ca.db", "ca.db-shm", "ca.db-wal"]);
    store.close().await;
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);

    let path = directory.path().join("ca.db");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let message = refused(directory.path()).await;
    assert!(
        message.contains("mode 0640") && message.contains("chmod 600"),
        "{message}"
    );
}

#[tokio::test]
async fn commits_are_durable() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    let mut tx = store.write().await.unwrap();
    let settings: Vec<(i64,)> = on!(&mut tx, connection => {
        let synchronous = sqlx::query_as("PRAGMA synchronous").fetch_one(&mut *connection).await;
        let foreign_keys = sqlx::query_as("PRAGMA foreign_keys").fetch_one(connection).await;
        vec![synchronous.unwrap(), foreign_keys.unwrap()]
    });
    assert_eq!(settings, [(2,), (1,)], "FULL, and on");
}

#[tokio::test]
async fn many_first_starts_at_once_make_one_database() {
    let directory = tempfile::tempdir().unwrap();
    let starts = (0..16).map(|_| open(directory.path()));
    for start in futures_util::future::join_all(starts).await {
        start.unwrap();
    }
}

#[tokio::test]
async fn who_opens_while_the_last_one_closes_finds_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let commands = (0..8).map(async |_| {
        for _ in 0..8 {
            open(directory.path()).await.unwrap().close().await;
        }
    });
    futures_util::future::join_all(commands).await;
}

#[tokio::test]
async fn a_newer_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).await.unwrap().close().await;
    execute(
        directory.path(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'later', 1, x'00', 0)",
    )
    .await;
    let message = refused(directory.path()).await;
    assert!(
        message.contains("version 999") && message.contains("a newer countersign-ca"),
        "{message}"
    );
}

#[tokio::test]
async fn a_changed_schema_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).await.unwrap().close().await;
    execute(
        directory.path(),
        "UPDATE _sqlx_migrations SET checksum = x'00'",
    )
    .await;
    let message = refused(directory.path()).await;
    assert!(message.contains("made by another build"), "{message}");
}

#[tokio::test]
async fn a_database_is_of_one_trust_domain() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).await.unwrap().close().await;
    let other = TrustDomain::parse("other.example").unwrap();
    let error = Store::open(directory.path(), None, &other)
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "the database is of the trust domain \"shop.example\"; the configuration says other.example. Correct \
         `trustDomain`, or use another database"
    );
}

#[tokio::test]
async fn what_was_kept_in_files_is_not_passed_over() {
    for name in ["issuance.jsonl", "join-tokens"] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(name), "").unwrap();
        let message = refused(directory.path()).await;
        assert!(
            message.contains(name) && message.contains("move it away"),
            "{message}"
        );
        assert!(!directory.path().join("ca.db").exists());
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.db");
    std::fs::write(
        &path,
        "garbage, and enough of it to be read as the header of a database file".repeat(100),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let message = refused(directory.path()).await;
    assert!(
        message.contains("ca.db") && message.contains("not a database"),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_not_committed_is_undone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await.unwrap();
    let row = join_token::Row {
        hash: vec![7; 32],
        spiffe_id: "spiffe://shop.example/x".to_owned(),
        created_at: 0,
        expires_at: 10,
    };
    let mut tx = store.write().await.unwrap();
    join_token::insert(&mut tx, &row).await.unwrap();
    drop(tx);
    let mut tx = store.write().await.unwrap();
    assert_eq!(join_token::spent(&mut tx, &row.hash).await.unwrap(), None);
    join_token::insert(&mut tx, &row).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.read().await.unwrap();
    assert!(
        join_token::spent(&mut tx, &row.hash)
            .await
            .unwrap()
            .is_some()
    );
}
