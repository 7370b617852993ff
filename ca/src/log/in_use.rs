//! Which certificates that certain intermediates signed are valid still: whether their root can go.

use std::time::{Duration, SystemTime};

use crate::store::issuance_log::{self, Filter};
use crate::store::{Store, StoreError, milliseconds, time};

use super::record::Record;

/// Entries that are read at once.
const PAGE: i64 = 1000;
/// No certificate was issued earlier that is valid now: the longest that can be configured, and clocks that are set.
const LONGEST: Duration = Duration::from_hours(24 * 8);

/// Certificates that are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InUse {
    /// How many.
    pub(crate) count: u64,
    /// When the last of them ends.
    pub(crate) last: SystemTime,
}

/// What of the certificates is valid at `now` that are in the log, were issued before `until`, and whose issuer `is_of`; it is
/// none where the log does not say who it was. None if nothing is.
///
/// # Errors
/// When the database cannot be read.
pub(crate) async fn in_use(
    store: &Store,
    until: SystemTime,
    is_of: impl Fn(Option<&str>) -> bool,
    now: SystemTime,
) -> Result<Option<InUse>, StoreError> {
    let since = now.checked_sub(LONGEST).unwrap_or(SystemTime::UNIX_EPOCH);
    let filter = Filter {
        since: Some(milliseconds(since)),
        until: Some(milliseconds(until)),
        ..Filter::default()
    };
    let now = milliseconds(now);
    let (mut after, mut found) = (0, None::<(u64, i64)>);
    let mut tx = store.read().await?;
    loop {
        let entries = issuance_log::entries(&mut tx, &filter, after, PAGE).await?;
        let Some(last) = entries.last() else {
            break;
        };
        after = last.sequence;
        for entry in &entries {
            let record: Record = serde_json::from_str(&entry.record).map_err(|error| {
                StoreError::Damaged(format!("entry {} of the log: {error}", entry.sequence))
            })?;
            let ends = record.certificate_ends().filter(|ends| *ends > now);
            if let Some(ends) = ends
                && is_of(record.issuer_thumbprint.as_deref())
            {
                let (count, last) = found.unwrap_or((0, ends));
                found = Some((count + 1, last.max(ends)));
            }
        }
    }
    Ok(found.map(|(count, last)| InUse {
        count,
        last: time(last),
    }))
}
