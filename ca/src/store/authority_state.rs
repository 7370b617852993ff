//! The tables of what replicas have in common: the state of the authorities, one document, and who the replicas are. What
//! the document means is in [`crate::authority`].

use super::{StoreError, Tx, on};

/// On which PostgreSQL tells other replicas that the state was changed.
pub(super) const CHANNEL: &str = "countersign_authority_state";

/// The state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Grows with every change.
    pub(crate) version: i64,
    /// None before the first.
    pub(crate) document: Option<String>,
    /// Over the document, by whom it says.
    pub(crate) signature: Option<Vec<u8>>,
}

type StateRow = (i64, Option<String>, Option<Vec<u8>>);

/// The version alone.
pub(crate) async fn version(tx: &mut Tx) -> Result<i64, StoreError> {
    let version: Option<(i64,)> = on!(tx, connection => {
        sqlx::query_as("SELECT version FROM authority_state")
            .fetch_optional(connection)
            .await?
    });
    Ok(version.ok_or_else(no_row)?.0)
}

/// All of it.
pub(crate) async fn read(tx: &mut Tx) -> Result<Row, StoreError> {
    let row: Option<StateRow> = on!(tx, connection => {
        sqlx::query_as("SELECT version, document, signature FROM authority_state")
            .fetch_optional(connection)
            .await?
    });
    row_of(row)
}

/// The same, and whoever wants to change it waits until this transaction has ended. With SQLite that is so anyway.
pub(crate) async fn lock(tx: &mut Tx) -> Result<Row, StoreError> {
    let row: Option<StateRow> = match tx {
        Tx::Sqlite(_) => return read(tx).await,
        Tx::Postgres(tx) => {
            sqlx::query_as("SELECT version, document, signature FROM authority_state FOR UPDATE")
                .fetch_optional(&mut **tx)
                .await?
        }
    };
    row_of(row)
}

fn row_of(row: Option<StateRow>) -> Result<Row, StoreError> {
    let (version, document, signature) = row.ok_or_else(no_row)?;
    Ok(Row {
        version,
        document,
        signature,
    })
}

fn no_row() -> StoreError {
    StoreError::Damaged("the table authority_state, which has one row, has none".to_owned())
}

/// Puts another document in its place, and tells those who listen.
pub(crate) async fn replace(
    tx: &mut Tx,
    document: &str,
    signature: Option<&[u8]>,
) -> Result<(), StoreError> {
    on!(&mut *tx, connection => {
        sqlx::query("UPDATE authority_state SET version = version + 1, document = $1, signature = $2")
            .bind(document)
            .bind(signature)
            .execute(connection)
            .await?;
    });
    if let Tx::Postgres(tx) = tx {
        sqlx::query("SELECT pg_notify($1, '')")
            .bind(CHANNEL)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// What one replica last said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Host and address.
    pub(crate) name: String,
    /// Of the bundle that it gives out.
    pub(crate) sequence: i64,
    /// The intermediate that it signs with.
    pub(crate) intermediate: String,
    /// When, milliseconds since 1970.
    pub(crate) seen_at: i64,
}

/// Notes what a replica says of itself, and forgets those that have been silent since `before`.
pub(crate) async fn seen(tx: &mut Tx, replica: &Replica, before: i64) -> Result<(), StoreError> {
    on!(&mut *tx, connection => {
        sqlx::query(
            "INSERT INTO replica (name, sequence, intermediate, seen_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, \
             intermediate = excluded.intermediate, seen_at = excluded.seen_at",
        )
        .bind(&replica.name)
        .bind(replica.sequence)
        .bind(&replica.intermediate)
        .bind(replica.seen_at)
        .execute(connection)
        .await?;
    });
    on!(tx, connection => {
        sqlx::query("DELETE FROM replica WHERE seen_at < $1")
            .bind(before)
            .execute(connection)
            .await?;
    });
    Ok(())
}

/// Forgets a replica that stops.
pub(crate) async fn gone(tx: &mut Tx, name: &str) -> Result<(), StoreError> {
    on!(tx, connection => {
        sqlx::query("DELETE FROM replica WHERE name = $1")
            .bind(name)
            .execute(connection)
            .await?;
    });
    Ok(())
}

/// All replicas.
pub(crate) async fn replicas(tx: &mut Tx) -> Result<Vec<Replica>, StoreError> {
    let rows: Vec<(String, i64, String, i64)> = on!(tx, connection => {
        sqlx::query_as("SELECT name, sequence, intermediate, seen_at FROM replica ORDER BY name")
            .fetch_all(connection)
            .await?
    });
    let replica = |(name, sequence, intermediate, seen_at)| Replica {
        name,
        sequence,
        intermediate,
        seen_at,
    };
    Ok(rows.into_iter().map(replica).collect())
}
