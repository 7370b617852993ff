//! The tables of the issuance log: entries, the head of their chain, and checkpoints. What they mean is in [`crate::log`].

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;

use super::{StoreError, Tx, on};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// 1, 2, 3, …
    pub(crate) sequence: i64,
    /// When it was issued, milliseconds since 1970. This and the next three stand in the record too; here they are for
    /// searches.
    pub(crate) time: i64,
    /// The serial number.
    pub(crate) serial: String,
    /// Whom it was issued to.
    pub(crate) spiffe_id: String,
    /// The kind of attestation.
    pub(crate) attestation: String,
    /// What is known of the issuance, JSON.
    pub(crate) record: String,
    /// The hash of the entry before.
    pub(crate) previous_hash: Vec<u8>,
    /// The hash of this one.
    pub(crate) hash: Vec<u8>,
}

type EntryRow = (i64, i64, String, String, String, String, Vec<u8>, Vec<u8>);

impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        let (sequence, time, serial, spiffe_id, attestation, record, previous_hash, hash) = row;
        Self {
            sequence,
            time,
            serial,
            spiffe_id,
            attestation,
            record,
            previous_hash,
            hash,
        }
    }
}

/// What the head was at a commit, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The entry that was the last one.
    pub(crate) sequence: i64,
    /// Its hash.
    pub(crate) hash: Vec<u8>,
    /// When, milliseconds since 1970.
    pub(crate) time: i64,
    /// SHA-256 of the signer's certificate.
    pub(crate) signer: Vec<u8>,
    /// Over what [`crate::log`] says.
    pub(crate) signature: Vec<u8>,
}

type CheckpointRow = (i64, Vec<u8>, i64, Vec<u8>, Vec<u8>);

/// Which entries are asked for. Nothing asks for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Whom they were issued to.
    pub(crate) spiffe_id: Option<String>,
    /// The serial number.
    pub(crate) serial: Option<String>,
    /// The kind of attestation.
    pub(crate) attestation: Option<String>,
    /// From this time on, milliseconds since 1970.
    pub(crate) since: Option<i64>,
    /// Before this time.
    pub(crate) until: Option<i64>,
}

/// Entries that are inserted at once: the fewer statements, the quicker, and one text of each length is prepared once.
const CHUNK: usize = 32;
static INSERT_ONE: LazyLock<String> = LazyLock::new(|| insert(1));
static INSERT_CHUNK: LazyLock<String> = LazyLock::new(|| insert(CHUNK));

const COLUMNS: &str = "sequence, time, serial, spiffe_id, attestation, record, previous_hash, hash";

fn insert(entries: usize) -> String {
    let entry = |index: usize| {
        let parameters: Vec<_> = (1..=8)
            .map(|column| format!("${}", index * 8 + column))
            .collect();
        format!("({})", parameters.join(", "))
    };
    let values: Vec<_> = (0..entries).map(entry).collect();
    format!(
        "INSERT INTO issuance_log ({COLUMNS}) VALUES {}",
        values.join(", ")
    )
}

/// Appends entries.
pub(crate) async fn append(tx: &mut Tx, entries: &[Entry]) -> Result<(), StoreError> {
    for chunk in entries.chunks(CHUNK) {
        if chunk.len() == CHUNK {
            insert_entries(tx, &INSERT_CHUNK, chunk).await?;
        } else {
            for entry in chunk {
                insert_entries(tx, &INSERT_ONE, std::slice::from_ref(entry)).await?;
            }
        }
    }
    Ok(())
}

async fn insert_entries(
    tx: &mut Tx,
    sql: &'static str,
    entries: &[Entry],
) -> Result<(), StoreError> {
    on!(tx, connection => {
        let mut query = sqlx::query(sql);
        for entry in entries {
            query = query
                .bind(entry.sequence)
                .bind(entry.time)
                .bind(&entry.serial)
                .bind(&entry.spiffe_id)
                .bind(&entry.attestation)
                .bind(&entry.record)
                .bind(&entry.previous_hash)
                .bind(&entry.hash);
        }
        query.execute(connection).await?;
    });
    Ok(())
}

/// Puts the head of an empty log in its place, if there is none.
pub(crate) async fn begin(tx: &mut Tx, hash: &[u8]) -> Result<(), StoreError> {
    on!(tx, connection => {
        sqlx::query(
            "INSERT INTO issuance_log_head (id, sequence, hash) VALUES (1, 0, $1) ON CONFLICT (id) DO NOTHING",
        )
        .bind(hash)
        .execute(connection)
        .await?;
    });
    Ok(())
}

/// The number and the hash of the last entry.
pub(crate) async fn head(tx: &mut Tx) -> Result<(i64, Vec<u8>), StoreError> {
    let head: Option<(i64, Vec<u8>)> = on!(tx, connection => {
        sqlx::query_as("SELECT sequence, hash FROM issuance_log_head")
            .fetch_optional(connection)
            .await?
    });
    head.ok_or_else(no_head)
}

/// The same, and whoever asks next waits until this transaction has ended: entries are appended one after the other. With
/// SQLite that is so anyway.
pub(crate) async fn lock_head(tx: &mut Tx) -> Result<(i64, Vec<u8>), StoreError> {
    let head: Option<(i64, Vec<u8>)> = match tx {
        Tx::Sqlite(_) => return head(tx).await,
        Tx::Postgres(tx) => {
            sqlx::query_as("SELECT sequence, hash FROM issuance_log_head FOR UPDATE")
                .fetch_optional(&mut **tx)
                .await?
        }
    };
    head.ok_or_else(no_head)
}

fn no_head() -> StoreError {
    StoreError::Damaged("the table issuance_log_head, which has one row, has none".to_owned())
}

/// Moves the head.
pub(crate) async fn set_head(tx: &mut Tx, sequence: i64, hash: &[u8]) -> Result<(), StoreError> {
    on!(tx, connection => {
        sqlx::query("UPDATE issuance_log_head SET sequence = $1, hash = $2")
            .bind(sequence)
            .bind(hash)
            .execute(connection)
            .await?;
    });
    Ok(())
}

/// Makes the certificate of a signer known.
pub(crate) async fn add_signer(
    tx: &mut Tx,
    fingerprint: &[u8],
    certificate: &[u8],
) -> Result<(), StoreError> {
    on!(tx, connection => {
        sqlx::query(
            "INSERT INTO issuance_log_signer (fingerprint, certificate) VALUES ($1, $2) \
             ON CONFLICT (fingerprint) DO NOTHING",
        )
        .bind(fingerprint)
        .bind(certificate)
        .execute(connection)
        .await?;
    });
    Ok(())
}

/// All signers: fingerprint and certificate.
pub(crate) async fn signers(tx: &mut Tx) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
    Ok(on!(tx, connection => {
        sqlx::query_as("SELECT fingerprint, certificate FROM issuance_log_signer")
            .fetch_all(connection)
            .await?
    }))
}

/// Adds a checkpoint.
pub(crate) async fn add_checkpoint(tx: &mut Tx, checkpoint: &Checkpoint) -> Result<(), StoreError> {
    on!(tx, connection => {
        sqlx::query(
            "INSERT INTO issuance_log_checkpoint (sequence, hash, time, signer, signature) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(checkpoint.sequence)
        .bind(&checkpoint.hash)
        .bind(checkpoint.time)
        .bind(&checkpoint.signer)
        .bind(&checkpoint.signature)
        .execute(connection)
        .await?;
    });
    Ok(())
}

/// The checkpoints of the entries after `after`, up to and with `last`.
pub(crate) async fn checkpoints(
    tx: &mut Tx,
    after: i64,
    last: i64,
) -> Result<Vec<Checkpoint>, StoreError> {
    let rows: Vec<CheckpointRow> = on!(tx, connection => {
        sqlx::query_as(
            "SELECT sequence, hash, time, signer, signature FROM issuance_log_checkpoint \
             WHERE sequence > $1 AND sequence <= $2 ORDER BY sequence",
        )
        .bind(after)
        .bind(last)
        .fetch_all(connection)
        .await?
    });
    let checkpoint = |(sequence, hash, time, signer, signature)| Checkpoint {
        sequence,
        hash,
        time,
        signer,
        signature,
    };
    Ok(rows.into_iter().map(checkpoint).collect())
}

enum Parameter<'a> {
    Number(i64),
    Text(&'a str),
}

/// The entries after `after` that `filter` asks for, in their order; at most `limit`.
pub(crate) async fn entries(
    tx: &mut Tx,
    filter: &Filter,
    after: i64,
    limit: i64,
) -> Result<Vec<Entry>, StoreError> {
    let conditions = [
        ("sequence > #", Some(Parameter::Number(after))),
        (
            "spiffe_id = #",
            filter.spiffe_id.as_deref().map(Parameter::Text),
        ),
        // An encoded serial number whose first bit is set has a byte of zeros before it, which other tools do not show.
        (
            "serial IN (#, '00' || #)",
            filter.serial.as_deref().map(Parameter::Text),
        ),
        (
            "attestation = #",
            filter.attestation.as_deref().map(Parameter::Text),
        ),
        ("time >= #", filter.since.map(Parameter::Number)),
        ("time < #", filter.until.map(Parameter::Number)),
    ];
    let (mut sql, mut parameters) = (format!("SELECT {COLUMNS} FROM issuance_log"), Vec::new());
    for (condition, parameter) in conditions {
        if let Some(parameter) = parameter {
            parameters.push(parameter);
            let word = if parameters.len() == 1 {
                "WHERE"
            } else {
                "AND"
            };
            let number = format!("${}", parameters.len());
            sql.push_str(&format!(" {word} {}", condition.replace('#', &number)));
        }
    }
    parameters.push(Parameter::Number(limit));
    sql.push_str(&format!(" ORDER BY sequence LIMIT ${}", parameters.len()));
    let rows: Vec<EntryRow> = on!(tx, connection => {
        // Of constants: what the filter asks for is in parameters.
        let mut query = sqlx::query_as(AssertSqlSafe(sql));
        for parameter in parameters {
            query = match parameter {
                Parameter::Number(number) => query.bind(number),
                Parameter::Text(text) => query.bind(text),
            };
        }
        query.fetch_all(connection).await?
    });
    Ok(rows.into_iter().map(Entry::from).collect())
}
