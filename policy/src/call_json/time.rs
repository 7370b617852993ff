//! A time as JSON: RFC 3339.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserializer, Serializer};

use super::text::optional;

pub(super) fn serialize<S: Serializer>(
    time: &Option<SystemTime>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let Some(time) = time else {
        return to.serialize_none();
    };
    let since = time
        .duration_since(UNIX_EPOCH)
        .map_err(serde::ser::Error::custom)?;
    let date = i64::try_from(since.as_secs())
        .ok()
        .and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, since.subsec_nanos()))
        .ok_or_else(|| serde::ser::Error::custom("the time is too far in the future"))?;
    to.serialize_str(&date.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<SystemTime>, D::Error> {
    let Some(text) = optional(from)? else {
        return Ok(None);
    };
    match DateTime::parse_from_rfc3339(&text) {
        Ok(time) => Ok(Some(time.into())),
        Err(problem) => Err(serde::de::Error::custom(format_args!(
            "expected a time such as 2026-11-23T10:00:00Z, got {text:?}: {problem}"
        ))),
    }
}
