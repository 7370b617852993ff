//! What is known of token keys, without the keys: `token-keys.json`, which anybody may read.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schedule::Times;
use crate::authority::AuthorityError;
use crate::authority::files::{PUBLIC, read_public, write_atomically};

/// What a key signs. Each has its own keys: a WIT-SVID's key must not be one that JWT-SVIDs are verified by (WIT-SVID §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Use {
    /// JWT-SVIDs.
    JwtSvid,
    /// WIT-SVIDs.
    WitSvid,
}

impl Use {
    pub(crate) const ALL: [Self; 2] = [Self::JwtSvid, Self::WitSvid];

    /// Its name in a SPIFFE bundle.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::JwtSvid => "jwt-svid",
            Self::WitSvid => "wit-svid",
        }
    }
}

/// All that is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    /// Of the bundle; grows with every change of what is published.
    pub(super) sequence: u64,
    /// Those of one use in the order in which they sign.
    pub(super) keys: Vec<Record>,
}

/// One key. Times in seconds of UNIX time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Record {
    #[serde(rename = "use")]
    pub(super) usage: Use,
    /// The thumbprint of the public key (RFC 7638).
    pub(super) kid: String,
    published: u64,
    signs_from: u64,
    signs_until: u64,
    /// The public key.
    pub(super) jwk: Map<String, Value>,
}

impl Record {
    pub(super) fn new(usage: Use, kid: String, jwk: Map<String, Value>, times: Times) -> Self {
        let mut record = Self {
            usage,
            kid,
            published: 0,
            signs_from: 0,
            signs_until: 0,
            jwk,
        };
        record.set_times(times);
        record
    }

    pub(super) fn times(&self) -> Times {
        Times {
            published: time(self.published),
            signs_from: time(self.signs_from),
            signs_until: time(self.signs_until),
        }
    }

    pub(super) fn set_times(&mut self, times: Times) {
        self.published = seconds(times.published);
        self.signs_from = seconds(times.signs_from);
        self.signs_until = seconds(times.signs_until);
    }
}

/// Reads the file; of a first start, nothing.
pub(super) fn read(path: &Path) -> Result<State, AuthorityError> {
    let Some(text) = read_public(path)? else {
        return Ok(State::default());
    };
    serde_json::from_str(&text).map_err(|error| AuthorityError::Damaged {
        path: path.to_owned(),
        expected: "the token keys in JSON",
        found: error.to_string(),
    })
}

pub(super) fn write(path: &Path, state: &State) -> Result<(), AuthorityError> {
    let text = serde_json::to_string_pretty(state).map_err(|error| AuthorityError::Damaged {
        path: path.to_owned(),
        expected: "token keys that can be written",
        found: error.to_string(),
    })?;
    Ok(write_atomically(path, &text, PUBLIC)?)
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A date that no clock can show is no reason to stop: it is as if it were at the beginning of time.
fn time(seconds: u64) -> SystemTime {
    // The year 9999: sums with lifetimes stay within the clock's range.
    const LAST: u64 = 253_402_300_799;
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST))
}
