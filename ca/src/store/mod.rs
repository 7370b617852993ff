//! The CA's database: SQLite in the data directory, or PostgreSQL where several replicas share one.
//!
//! Both run the same SQL, with `$1` for a parameter; what differs is in `sqlite.rs` (the file, `BEGIN IMMEDIATE`),
//! `postgres.rs` (the connection, TLS) and `../../migrations` (the schema). One file per table:
//! - [`authority_state`]: what replicas have in common; what it means is in [`crate::authority`];
//! - [`issuance_log`]: the log and its signed checkpoints; what they mean is in [`crate::log`];
//! - [`join_token`]: the tokens' hashes; what they mean is in [`crate::attest::join_token`].
//!
//! A table's functions work on a transaction ([`Tx`]), so that whoever calls them says what happens together.

pub(crate) mod authority_state;
mod error;
pub(crate) mod issuance_log;
pub(crate) mod join_token;
mod migrations;
mod postgres;
mod sqlite;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_identity::TrustDomain;
use sqlx::postgres::PgListener;
use sqlx::{PgPool, Postgres, Sqlite, Transaction};

pub(crate) use error::StoreError;
pub(crate) use postgres::{DatabaseUrl, PostgresConfig, UrlSource};

/// Runs the same work on either database: `on!(tx, connection => …)`.
macro_rules! on {
    ($tx:expr, $connection:ident => $work:expr) => {
        match $tx {
            $crate::store::Tx::Sqlite(tx) => {
                let $connection = &mut **tx;
                $work
            }
            $crate::store::Tx::Postgres(tx) => {
                let $connection = &mut **tx;
                $work
            }
        }
    };
}
pub(crate) use on;

/// The database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store(Database);

#[derive(Clone)]
enum Database {
    Sqlite(sqlite::Pools),
    Postgres(PgPool),
}

/// A transaction: undone unless committed.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Store {
    /// Opens the database that is configured, and brings its schema up to date: SQLite in `data_directory`, made if it
    /// is not there, or PostgreSQL.
    ///
    /// # Errors
    /// When it cannot be reached, is of another trust domain, or is newer than this program.
    pub(crate) async fn open(
        data_directory: &Path,
        postgres: Option<&PostgresConfig>,
        trust_domain: &TrustDomain,
    ) -> Result<Self, StoreError> {
        let store = Self(match postgres {
            None => Database::Sqlite(sqlite::open(data_directory).await?),
            Some(config) => Database::Postgres(postgres::open(config).await?),
        });
        store.migrate().await?;
        store.belong_to(trust_domain).await?;
        Ok(store)
    }

    /// A transaction that sees the database as it is now, and changes nothing.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub(crate) async fn read(&self) -> Result<Tx, StoreError> {
        Ok(match &self.0 {
            Database::Sqlite(pools) => Tx::Sqlite(pools.read().await?),
            Database::Postgres(pool) => Tx::Postgres(postgres::read(pool).await?),
        })
    }

    /// A transaction that may write.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub(crate) async fn write(&self) -> Result<Tx, StoreError> {
        Ok(match &self.0 {
            Database::Sqlite(pools) => Tx::Sqlite(pools.write().await?),
            Database::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Hears of every change of [`authority_state`] by whomever; none with SQLite, which tells nobody.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub(crate) async fn listen(&self) -> Result<Option<PgListener>, StoreError> {
        let Database::Postgres(pool) = &self.0 else {
            return Ok(None);
        };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(authority_state::CHANNEL).await?;
        Ok(Some(listener))
    }

    /// Ends all connections: what is committed is in one file again.
    pub(crate) async fn close(&self) {
        match &self.0 {
            Database::Sqlite(pools) => pools.close().await,
            Database::Postgres(pool) => pool.close().await,
        }
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        match &self.0 {
            // The transaction is the lock: a second process waits, and then finds everything done.
            Database::Sqlite(pools) => {
                let mut tx = pools.write().await?;
                migrations::sqlite().run(&mut *tx).await?;
                Ok(tx.commit().await?)
            }
            // An advisory lock, which the migrator takes.
            Database::Postgres(pool) => Ok(migrations::postgres().run(pool).await?),
        }
    }

    /// The first trust domain that opens a database keeps it: chains of hashes, tokens and keys are of one.
    async fn belong_to(&self, trust_domain: &TrustDomain) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let name = trust_domain.to_string();
        on!(&mut tx, connection => {
            sqlx::query("INSERT INTO trust_domain (id, name) VALUES (1, $1) ON CONFLICT (id) DO NOTHING")
                .bind(&name)
                .execute(connection)
                .await?;
        });
        let (found,): (String,) = on!(&mut tx, connection => {
            sqlx::query_as("SELECT name FROM trust_domain").fetch_one(connection).await?
        });
        tx.commit().await?;
        if found == name {
            return Ok(());
        }
        Err(StoreError::OtherTrustDomain {
            found,
            expected: trust_domain.clone(),
        })
    }
}

impl Tx {
    /// Makes what was done last: when this returns, it is on the disk.
    ///
    /// # Errors
    /// When that is not certain.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// A time as the database has it: milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time that the database has.
pub(crate) fn time(milliseconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or_default())
}

#[cfg(test)]
mod tests;
