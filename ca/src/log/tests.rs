use super::*;
use std::path::Path;
use std::time::SystemTime;

use countersign_identity::TrustDomain;
use sqlx::{Connection as _, SqliteConnection};

use super::verify::{Broken, Problem, Whole, verify};
use crate::store::issuance_log::{Entry, Filter, entries};

fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

/// A CA's log, to break.
struct Ledger {
    directory: tempfile::TempDir,
    authority: Arc<Authority>,
    store: Store,
    log: IssuanceLog,
}

impl Ledger {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = crate::authority::tests::opened(directory.path(), SystemTime::now()).await;
        let authority = Arc::new(authority);
        let store = Store::open(directory.path(), None, &shop()).await.unwrap();
        let log = open(&store, &authority).await;
        Self {
            directory,
            authority,
            store,
            log,
        }
    }

    /// With `count` entries, one commit each.
    async fn with(count: u32) -> Self {
        let ledger = Self::new().await;
        for serial in 1..=count {
            ledger.append(&format!("{serial:02}")).await.unwrap();
        }
        ledger
    }

    async fn append(&self, serial: &str) -> Result<(), LogError> {
        self.log.append(record::example(serial)).await
    }

    async fn verify(&self, anchor: Option<&Head>) -> Result<Whole, Broken> {
        let bundle = self.authority.bundle();
        verify(&self.store, &bundle, &shop(), anchor).await.unwrap()
    }

    async fn head(&self) -> Head {
        self.verify(None).await.unwrap().head
    }

    /// As somebody who can write to the file, and knows of the triggers.
    async fn tamper(&self, sql: &'static str) {
        let mut connection = sqlite(self.directory.path()).await;
        let triggers: Vec<(String,)> =
            sqlx::query_as("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        for (name,) in triggers {
            let drop = sqlx::AssertSqlSafe(format!("DROP TRIGGER {name}"));
            sqlx::query(drop).execute(&mut connection).await.unwrap();
        }
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    async fn broken(sql: &'static str) -> Broken {
        let ledger = Self::with(5).await;
        ledger.tamper(sql).await;
        ledger.verify(None).await.unwrap_err()
    }
}

async fn sqlite(directory: &Path) -> SqliteConnection {
    let url = format!("sqlite://{}", directory.join("ca.db").display());
    SqliteConnection::connect(&url).await.unwrap()
}

async fn open(store: &Store, authority: &Arc<Authority>) -> IssuanceLog {
    IssuanceLog::open(store.clone(), Arc::clone(authority), LogMetrics::default())
        .await
        .unwrap()
}

/// All entries in the database of `store`.
pub(crate) async fn all(store: &Store) -> Vec<Entry> {
    let mut tx = store.read().await.unwrap();
    entries(&mut tx, &Filter::default(), 0, 10_000)
        .await
        .unwrap()
}

#[tokio::test]
async fn entries_follow_one_another_also_after_a_restart() {
    let ledger = Ledger::with(2).await;
    let again = open(&ledger.store, &ledger.authority).await;
    again.append(record::example("03")).await.unwrap();
    ledger.append("04").await.unwrap();
    let entries = all(&ledger.store).await;
    let serials: Vec<_> = entries.iter().map(|entry| entry.serial.as_str()).collect();
    assert_eq!(serials, ["01", "02", "03", "04"]);
    let record: Record = serde_json::from_str(&entries[3].record).unwrap();
    assert_eq!(record, record::example("04"));
    let whole = ledger.verify(None).await.unwrap();
    assert_eq!((whole.head.sequence(), whole.checkpoints), (4, 4));
}

#[tokio::test]
async fn what_waits_is_committed_together() {
    let ledger = Ledger::new().await;
    let appends = (0..700).map(|serial| {
        let log = ledger.log.clone();
        async move { log.append(record::example(&format!("{serial:04}"))).await }
    });
    for result in futures_util::future::join_all(appends).await {
        result.unwrap();
    }
    let whole = ledger.verify(None).await.unwrap();
    assert_eq!(whole.head.sequence(), 700);
    assert!(whole.checkpoints < 50, "{} commits", whole.checkpoints);
    let mut serials: Vec<_> = all(&ledger.store)
        .await
        .into_iter()
        .map(|e| e.serial)
        .collect();
    serials.sort();
    serials.dedup();
    assert_eq!(serials.len(), 700);
}

#[tokio::test]
async fn a_failed_commit_fails_its_requests_and_no_others() {
    let ledger = Ledger::with(1).await;
    // The same serial number again.
    let error = ledger.append("01").await.unwrap_err();
    assert!(matches!(error, LogError::Store(_)), "{error}");
    assert!(error.to_string().contains("once"), "{error}");
    ledger.append("02").await.unwrap();
    assert_eq!(ledger.head().await.sequence(), 2);
}

/// SQLite says so by the same code that it has for a full disk.
#[tokio::test]
async fn a_full_disk_loses_nothing_and_says_so() {
    let ledger = Ledger::with(1).await;
    let limit_pages = async |pages: u32| {
        // The connection that writes.
        let mut tx = ledger.store.write().await.unwrap();
        crate::store::on!(&mut tx, connection => {
            let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
            sqlx::query(pragma).execute(connection).await.unwrap();
        });
        tx.commit().await.unwrap();
    };
    limit_pages(1).await; // It is never less than there are.
    let (mut written, mut error) = (1, None);
    while error.is_none() {
        error = ledger.append(&format!("{:02}", written + 1)).await.err();
        written += u64::from(error.is_none());
        assert!(written < 1000, "it is full at some time");
    }
    let message = error.unwrap().to_string();
    assert!(message.contains("database or disk is full"), "{message}");
    assert_eq!(ledger.head().await.sequence(), written);

    limit_pages(1_000_000).await;
    ledger.append("again").await.unwrap();
    let whole = ledger.verify(None).await.unwrap();
    assert_eq!(whole.head.sequence(), written + 1);
}

#[tokio::test]
async fn the_database_refuses_changes() {
    let ledger = Ledger::with(2).await;
    for sql in [
        "UPDATE issuance_log SET record = '{}' WHERE sequence = 1",
        "DELETE FROM issuance_log WHERE sequence = 2",
        "INSERT OR REPLACE INTO issuance_log SELECT * FROM issuance_log WHERE sequence = 1",
        "UPDATE issuance_log_checkpoint SET time = 0",
        "DELETE FROM issuance_log_checkpoint",
    ] {
        let mut connection = sqlite(ledger.directory.path()).await;
        let refused = sqlx::query(sql).execute(&mut connection).await.unwrap_err();
        assert!(
            refused.to_string().contains("append-only"),
            "{sql}: {refused}"
        );
    }
    assert_eq!(ledger.head().await.sequence(), 2);
}

#[tokio::test]
async fn a_changed_record_is_named() {
    let broken = Ledger::broken(
        "UPDATE issuance_log SET record = replace(record, 'orders', 'nobody') WHERE sequence = 3",
    )
    .await;
    assert_eq!(broken.entry, 3);
    assert!(matches!(broken.problem, Problem::Hash { .. }), "{broken}");
}

#[tokio::test]
async fn a_removed_entry_is_named() {
    let broken = Ledger::broken(
        "DELETE FROM issuance_log_checkpoint WHERE sequence = 3; DELETE FROM issuance_log WHERE sequence = 3",
    )
    .await;
    assert_eq!(
        (broken.entry, broken.problem),
        (3, Problem::Missing { last: 5 })
    );
}

#[tokio::test]
async fn removed_newest_entries_are_missed_by_the_head() {
    let broken = Ledger::broken(
        "DELETE FROM issuance_log_checkpoint WHERE sequence > 3; DELETE FROM issuance_log WHERE sequence > 3",
    )
    .await;
    assert_eq!(
        (broken.entry, broken.problem),
        (4, Problem::Missing { last: 5 })
    );
}

#[tokio::test]
async fn a_column_that_would_hide_an_entry_from_searches_is_named() {
    for (sql, column) in [
        (
            "UPDATE issuance_log SET serial = 'ff' WHERE sequence = 2",
            "serial number",
        ),
        (
            "UPDATE issuance_log SET spiffe_id = 'x' WHERE sequence = 2",
            "SPIFFE ID",
        ),
        (
            "UPDATE issuance_log SET time = 1 WHERE sequence = 2",
            "time",
        ),
        (
            "UPDATE issuance_log SET attestation = 'x' WHERE sequence = 2",
            "attestation",
        ),
    ] {
        let broken = Ledger::broken(sql).await;
        assert_eq!(broken.entry, 2);
        let found =
            matches!(&broken.problem, Problem::Column { column: found, .. } if *found == column);
        assert!(found, "{broken}");
    }
}

/// Who has the database alone, and computes all hashes anew, fails at the signature.
#[tokio::test]
async fn a_log_with_new_hashes_lacks_signatures() {
    let ledger = Ledger::with(5).await;
    ledger
        .tamper("UPDATE issuance_log SET record = replace(record, 'orders', 'nobody'), spiffe_id = 'spiffe://shop.example/ns/shop/sa/nobody' WHERE sequence = 3")
        .await;
    let mut connection = sqlite(ledger.directory.path()).await;
    let mut head = Head::begin(&shop());
    for entry in all(&ledger.store).await {
        let next = head.next(&entry.record);
        for sql in [
            "UPDATE issuance_log SET previous_hash = $1, hash = $2 WHERE sequence = $3",
            "UPDATE issuance_log_checkpoint SET hash = coalesce($2, $1) WHERE sequence = $3",
            "UPDATE issuance_log_head SET hash = coalesce($2, $1, $3)",
        ] {
            sqlx::query(sql)
                .bind(head.hash().to_vec())
                .bind(next.hash().to_vec())
                .bind(entry.sequence)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        head = next;
    }
    let broken = ledger.verify(None).await.unwrap_err();
    assert_eq!(broken.entry, 3);
    let signature = Problem::Checkpoint(checkpoint::CheckpointError::Signature);
    assert_eq!(broken.problem, signature);
}

#[tokio::test]
async fn a_last_entry_without_a_checkpoint_is_nobodys() {
    let broken = Ledger::broken("DELETE FROM issuance_log_checkpoint WHERE sequence = 5").await;
    assert_eq!((broken.entry, broken.problem), (5, Problem::NoCheckpoint));
    let broken = Ledger::broken(
        "INSERT INTO issuance_log SELECT 6, time, 'ff', spiffe_id, attestation, record, previous_hash, hash \
         FROM issuance_log WHERE sequence = 5",
    )
    .await;
    assert_eq!(
        (broken.entry, broken.problem),
        (6, Problem::BeyondHead { last: 5 })
    );
}

#[tokio::test]
async fn another_cas_signatures_are_not_believed() {
    let (ledger, other) = (Ledger::with(2).await, Ledger::with(0).await);
    let bundle = other.authority.bundle();
    let verdict = verify(&ledger.store, &bundle, &shop(), None).await.unwrap();
    let broken = verdict.unwrap_err();
    assert_eq!(broken.entry, 1);
    assert!(broken.to_string().contains("--bundle"), "{broken}");
}

#[tokio::test]
async fn an_anchor_shows_that_the_newest_entries_are_gone() {
    let ledger = Ledger::with(3).await;
    let third = ledger.head().await;
    ledger.append("04").await.unwrap();
    let fourth = ledger.head().await;
    ledger.verify(Some(&third)).await.unwrap();
    ledger.verify(Some(&fourth)).await.unwrap();
    // All traces of the fourth.
    ledger
        .tamper(
            "DELETE FROM issuance_log_checkpoint WHERE sequence = 4; \
             DELETE FROM issuance_log WHERE sequence = 4; \
             UPDATE issuance_log_head SET sequence = 3, hash = (SELECT hash FROM issuance_log WHERE sequence = 3)",
        )
        .await;
    ledger.verify(None).await.expect("nobody can see it");
    ledger.verify(Some(&third)).await.unwrap();
    let broken = ledger.verify(Some(&fourth)).await.unwrap_err();
    assert_eq!(
        (broken.entry, &broken.problem),
        (4, &Problem::CutOff { last: 3 })
    );
    let forged: Head = format!("2:{}", "00".repeat(32)).parse().unwrap();
    let broken = ledger.verify(Some(&forged)).await.unwrap_err();
    assert_eq!(broken.entry, 2);
    assert!(matches!(broken.problem, Problem::Anchor { .. }), "{broken}");
}

#[tokio::test]
async fn entries_are_found_by_what_people_ask_for() {
    let ledger = Ledger::with(3).await;
    let mut other = record::example("00aa");
    other.spiffe_id = "spiffe://shop.example/ns/shop/sa/payments".to_owned();
    other.attestation.kind = "renewal".to_owned();
    other.time = "2027-01-15T09:00:00.000Z".to_owned();
    ledger.log.append(other.clone()).await.unwrap();
    let find = async |filter: Filter| {
        let mut tx = ledger.store.read().await.unwrap();
        let found = entries(&mut tx, &filter, 0, 100).await.unwrap();
        found
            .into_iter()
            .map(|entry| entry.serial)
            .collect::<Vec<_>>()
    };
    let all = Filter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        find(Filter {
            spiffe_id: Some(other.spiffe_id.clone()),
            ..all()
        })
        .await,
        ["00aa"]
    );
    assert_eq!(
        find(Filter {
            serial: text("02"),
            ..all()
        })
        .await,
        ["02"]
    );
    for written in ["00aa", "aa"] {
        let serial = text(written);
        assert_eq!(find(Filter { serial, ..all() }).await, ["00aa"]);
    }
    assert_eq!(
        find(Filter {
            attestation: text("jwt"),
            ..all()
        })
        .await,
        ["01", "02", "03"]
    );
    let time = other.time().unwrap();
    assert_eq!(
        find(Filter {
            since: Some(time),
            ..all()
        })
        .await,
        ["00aa"]
    );
    assert_eq!(
        find(Filter {
            until: Some(time),
            ..all()
        })
        .await,
        ["01", "02", "03"]
    );
    let injection = text("' OR 1 = 1 --");
    assert!(
        find(Filter {
            spiffe_id: injection,
            ..all()
        })
        .await
        .is_empty()
    );
}
