//! The versions of the schema, in `ca/migrations`: one file each, which is never changed once it is in a release. A file
//! per database, since types and triggers differ; both make the same tables.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The versions for SQLite.
pub(super) fn sqlite() -> Migrator {
    Migrator::with_migrations(vec![
        migration(
            1,
            "log and join tokens",
            include_str!("../../migrations/sqlite/0001_log_and_join_tokens.sql"),
        ),
        migration(
            2,
            "authority state",
            include_str!("../../migrations/sqlite/0002_authority_state.sql"),
        ),
    ])
}

/// The versions for PostgreSQL.
pub(super) fn postgres() -> Migrator {
    Migrator::with_migrations(vec![
        migration(
            1,
            "log and join tokens",
            include_str!("../../migrations/postgres/0001_log_and_join_tokens.sql"),
        ),
        migration(
            2,
            "authority state",
            include_str!("../../migrations/postgres/0002_authority_state.sql"),
        ),
    ])
}

fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    let description = description.into();
    Migration::new(
        version,
        description,
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    )
}
