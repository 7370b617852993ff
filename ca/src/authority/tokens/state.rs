//! What is known of a token key, without the key: a part of the state of the authorities.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schedule::Times;
use super::thumbprint;
use crate::authority::state::{BadState, seconds, time};

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

/// One token key. Times in seconds of UNIX time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Record {
    #[serde(rename = "use")]
    pub(super) usage: Use,
    /// The thumbprint of the public key (RFC 7638).
    pub(super) kid: String,
    /// The name of its private key.
    pub(super) key: String,
    published: u64,
    signs_from: u64,
    signs_until: u64,
    /// The public key.
    pub(super) jwk: Map<String, Value>,
}

impl Record {
    pub(super) fn new(usage: Use, key: String, jwk: Map<String, Value>, times: Times) -> Self {
        let mut record = Self {
            usage,
            kid: thumbprint(&jwk),
            key,
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

    /// The name of its private key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is a record that this program writes.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), BadState> {
        if thumbprint(&self.jwk) == self.kid {
            return Ok(());
        }
        Err(BadState::TokenKey(self.kid.clone()))
    }
}
