//! Why the database does not do what it should.

use std::path::PathBuf;
use std::time::Duration;

use countersign_identity::TrustDomain;
use sqlx::migrate::MigrateError;

use super::postgres::UrlError;
use crate::files::FileError;

/// How long a request waits for a connection to the database.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Why the database does not do what it should. No secrets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others can read the database.
    #[error(
        "the database {} has the mode {mode:04o}, so that others than its owner can read it; expected 0600. Run: chmod 600 {}",
        path.display(), path.display()
    )]
    NotPrivate {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What was before there was a database.
    #[error(
        "{} is of a version of this program that kept files in place of a database. Nothing of it is read any more: \
         move it away (keep the log), and start again", path.display()
    )]
    Predecessor {
        /// A file or directory of that version.
        path: PathBuf,
    },
    /// A file that the configuration names is not there.
    #[error("{} is not there; the configuration's `storage` names it", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
    },
    /// A URL in a file.
    #[error("{}: {error}", path.display())]
    Url {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: UrlError,
    },
    /// No connection.
    #[error("the database cannot be reached at {place}: {error}")]
    Connect {
        /// Host and port, or file.
        place: String,
        /// Why not.
        error: sqlx::Error,
    },
    /// Another process is at it.
    #[error(
        "another process has been opening or closing the database in {} for {} s; expected that to take a moment. Is a \
         countersign-ca stopped or stuck there?", directory.display(), limit.as_secs()
    )]
    Opening {
        /// The data directory.
        directory: PathBuf,
        /// How long it was waited for.
        limit: Duration,
    },
    /// No connection, for longer than anybody should wait.
    #[error(
        "the database gave no connection within {} s; is it running, and reachable from here?", CONNECT_LIMIT.as_secs()
    )]
    NoConnection,
    /// A statement fails.
    #[error("the database fails: {0}")]
    Database(sqlx::Error),
    /// The schema is of a later program.
    #[error(
        "the database has version {0} of the schema, which this program does not know: a newer countersign-ca has used \
         it. Run that one, or a later one"
    )]
    Newer(i64),
    /// The schema is of a program that never was released.
    #[error(
        "version {0} of the database's schema is not the one that this program has: it was made by another build. \
         Restore the database from a backup, or run that build"
    )]
    Changed(i64),
    /// The schema cannot be brought up to date.
    #[error("the database's schema cannot be brought up to date: {0}")]
    Migrate(MigrateError),
    /// The database is another trust domain's.
    #[error(
        "the database is of the trust domain {found:?}; the configuration says {expected}. Correct `trustDomain`, or use \
         another database"
    )]
    OtherTrustDomain {
        /// What it is of.
        found: String,
        /// What is configured.
        expected: TrustDomain,
    },
    /// A row that no version of this program has written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::NoConnection,
            error => Self::Database(error),
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMissing(version) => Self::Newer(version),
            MigrateError::VersionMismatch(version) => Self::Changed(version),
            MigrateError::Execute(error) => error.into(),
            error => Self::Migrate(error),
        }
    }
}
