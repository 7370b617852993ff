//! SQLite: one file in the data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, Transaction};

use super::StoreError;
use crate::files::{PRIVATE, cannot, private_directory, sync_directory};

/// The file. Beside it are `ca.db-wal` and `ca.db-shm` while the CA runs, and after a crash.
const FILE: &str = "ca.db";
/// What was in a data directory before there was a database.
const PREDECESSORS: [&str; 2] = ["issuance.jsonl", "join-tokens"];
/// How long a process waits for another one's transaction: `join-token` beside the server.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// How long between two looks whether another process has opened the database.
const TURN: Duration = Duration::from_millis(5);
/// Readers see committed data and wait for nobody.
const READERS: u32 = 4;

/// One connection that writes, since SQLite has one writer at a time anyway and a queue is fairer and quicker than its
/// retries; and some that read.
#[derive(Clone)]
pub(super) struct Pools {
    writer: SqlitePool,
    readers: SqlitePool,
    data_directory: PathBuf,
}

impl Pools {
    pub(super) async fn read(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.readers.begin().await
    }

    /// The lock is taken at once: a transaction that began as a reader could not become a writer after another one wrote.
    pub(super) async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    pub(super) async fn close(&self) {
        // Without the lock it closes as well; then another process that opens it just now may be told that it is in use.
        let _alone = alone(&self.data_directory).await;
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Opens the database, and makes it if it is not there.
pub(super) async fn open(data_directory: &Path) -> Result<Pools, StoreError> {
    private_directory(data_directory)?;
    for name in PREDECESSORS {
        let path = data_directory.join(name);
        if path.exists() {
            return Err(StoreError::Predecessor { path });
        }
    }
    let path = data_directory.join(FILE);
    let _alone = alone(data_directory).await?;
    make_private(&path)?;
    sync_directory(data_directory)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        // A commit is on the disk when it returns, also after a loss of power.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_LIMIT)
        .thread_name(|id| format!("sqlite-{id}"))
        .disable_statement_logging();
    let pool = |size| {
        SqlitePoolOptions::new()
            .max_connections(size)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(BUSY_LIMIT)
            // When the disk is full, SQLite may have ended the transaction itself (lang_transaction.html, "Response To
            // Errors Within A Transaction"). sqlx does not know, and such a connection would begin no other: a new one
            // takes its place.
            .after_release(|connection, _| {
                Box::pin(async move {
                    // Lets the rollback that is on its way happen.
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
    };
    let connect = async {
        let writer = pool(1).connect_with(options.clone()).await?;
        let readers = pool(READERS).connect_lazy_with(options);
        Ok(Pools {
            writer,
            readers,
            data_directory: data_directory.to_owned(),
        })
    };
    connect.await.map_err(|error| StoreError::Connect {
        place: path.display().to_string(),
        error,
    })
}

/// Waits until no other process is opening or closing the database. The first one to open it switches it to WAL, and the last
/// one to close it removes the WAL; whoever opens it at that moment is told that it is locked at once, whatever the busy
/// timeout is (wal.html, "Sometimes Queries Return SQLITE_BUSY In WAL Mode"). The lock is the kernel's, on the directory, and
/// ends with the file: SQLite's own are on its files and of another kind.
async fn alone(data_directory: &Path) -> Result<File, StoreError> {
    let directory = File::open(data_directory).map_err(cannot("open", data_directory))?;
    let deadline = Instant::now() + BUSY_LIMIT;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(TURN).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Opening {
                    directory: data_directory.to_owned(),
                    limit: BUSY_LIMIT,
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(cannot("lock", data_directory)(error).into());
            }
        }
    }
}

/// SQLite makes its files as the process's umask says; the files beside the first one are made like that.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = path.metadata().map_err(cannot("look at", path))?;
            let mode = metadata.mode() & 0o7777;
            if mode & 0o077 == 0 {
                return Ok(());
            }
            Err(StoreError::NotPrivate {
                path: path.to_owned(),
                mode,
            })
        }
        Err(error) => Err(cannot("make", path)(error).into()),
    }
}
