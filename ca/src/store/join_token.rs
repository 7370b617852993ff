//! The table of join tokens: by their hash, with the identity that each proves, once.

use super::{StoreError, Tx, on};

/// What is kept of a token. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// SHA-256 of the token.
    pub(crate) hash: Vec<u8>,
    /// Whom it proves.
    pub(crate) spiffe_id: String,
    /// When it was made.
    pub(crate) created_at: i64,
    /// Until when it can be used.
    pub(crate) expires_at: i64,
}

/// What has become of a token that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Until when it could have been used.
    pub(crate) expires_at: i64,
    /// Whether it was.
    pub(crate) used: bool,
}

/// Adds a token.
pub(crate) async fn insert(tx: &mut Tx, row: &Row) -> Result<(), StoreError> {
    on!(tx, connection => {
        sqlx::query("INSERT INTO join_token (hash, spiffe_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(&row.hash)
            .bind(&row.spiffe_id)
            .bind(row.created_at)
            .bind(row.expires_at)
            .execute(connection)
            .await?;
    });
    Ok(())
}

/// Uses a token up, if that is still possible: of all who try, one gets the identity.
pub(crate) async fn redeem(
    tx: &mut Tx,
    hash: &[u8],
    now: i64,
) -> Result<Option<String>, StoreError> {
    let found: Option<(String,)> = on!(tx, connection => {
        sqlx::query_as(
            "UPDATE join_token SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 \
             RETURNING spiffe_id",
        )
        .bind(hash)
        .bind(now)
        .fetch_optional(connection)
        .await?
    });
    Ok(found.map(|(spiffe_id,)| spiffe_id))
}

/// Why a token cannot be used; none if there is no such token.
pub(crate) async fn spent(tx: &mut Tx, hash: &[u8]) -> Result<Option<Spent>, StoreError> {
    let found: Option<(i64, bool)> = on!(tx, connection => {
        sqlx::query_as("SELECT expires_at, used_at IS NOT NULL FROM join_token WHERE hash = $1")
            .bind(hash)
            .fetch_optional(connection)
            .await?
    });
    Ok(found.map(|(expires_at, used)| Spent { expires_at, used }))
}

/// Removes what expired before `time`.
pub(crate) async fn forget(tx: &mut Tx, time: i64) -> Result<(), StoreError> {
    on!(tx, connection => {
        sqlx::query("DELETE FROM join_token WHERE expires_at < $1")
            .bind(time)
            .execute(connection)
            .await?;
    });
    Ok(())
}
