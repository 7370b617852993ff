//! The bundle as one trust domain publishes it for others: a JWK Set with a few members more (SPIFFE Trust Domain and
//! Bundle §4).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde_json::{Map, Value, json};

use super::{Bundle, BundleError};
use crate::jwt::json::{self as strict, JsonError};
use crate::jwt::jwk::{self, JwkError};
use crate::jwt::{KeySet, KeySetError};
use crate::spiffe::TrustDomain;
use crate::x509;

/// The values of `use` that are known (X509-SVID §6.1, JWT-SVID §6.1, WIT-SVID §6.1).
const X509_SVID: &str = "x509-svid";
pub(super) const JWT_SVID: &str = "jwt-svid";
pub(super) const WIT_SVID: &str = "wit-svid";

/// The longest bundle that is read, in bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// More entries than any trust domain has.
const MAX_KEYS: usize = 1024;

/// Why a text is no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleJsonError {
    /// Too long.
    #[error("the bundle has {bytes} bytes; at most {MAX_BYTES} are accepted")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not JSON.
    #[error("the bundle is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// Two members of one name: two readers could see two bundles.
    #[error("the bundle has two members named {name:?} in one object")]
    DuplicateMember {
        /// The name.
        name: String,
    },
    /// No JWK Set.
    #[error(
        "the bundle is not a JWK Set: expected an object with a list `keys` of at most {MAX_KEYS}"
    )]
    NotAKeySet,
    /// A member of the set is not what it must be.
    #[error("the bundle's member `{name}` must be {expected}")]
    Member {
        /// The member.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// An entry for X.509-SVIDs that cannot be read (X509-SVID §6).
    #[error("key {index} of the bundle, an X.509 authority, {reason}")]
    X509Entry {
        /// Which entry, from 1.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The keys for tokens cannot be used.
    #[error("the {kind} keys of the bundle: {source}")]
    TokenKeys {
        /// jwt-svid or wit-svid.
        kind: &'static str,
        /// What is wrong with them.
        source: KeySetError,
    },
    /// An authority cannot be in a bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An authority's key has no JWK.
    #[error("an authority of the bundle: {0}")]
    Jwk(#[from] JwkError),
}

/// A bundle as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeBundle {
    /// The keys.
    pub bundle: Bundle,
    /// How often whoever follows it should look for a newer one.
    pub refresh_hint: Option<Duration>,
}

impl SpiffeBundle {
    /// The JSON text. A sequence that is not known is left out.
    ///
    /// # Errors
    /// An authority has a key of a type that JWK has no words for.
    pub fn to_json(&self) -> Result<String, BundleJsonError> {
        let mut keys = Vec::new();
        for authority in self.bundle.x509_authorities() {
            keys.push(x509_entry(authority)?);
        }
        for (kind, set) in [
            (JWT_SVID, self.bundle.jwt_keys()),
            (WIT_SVID, self.bundle.wit_keys()),
        ] {
            keys.extend(set.into_iter().flat_map(KeySet::public_jwks).map(|jwk| {
                let mut jwk = jwk.as_object().cloned().unwrap_or_default();
                jwk.insert("use".to_owned(), kind.into());
                Value::Object(jwk)
            }));
        }
        let mut members = Map::from_iter([("keys".to_owned(), Value::Array(keys))]);
        if self.bundle.sequence() != 0 {
            members.insert("spiffe_sequence".to_owned(), self.bundle.sequence().into());
        }
        if let Some(hint) = self.refresh_hint {
            members.insert("spiffe_refresh_hint".to_owned(), hint.as_secs().into());
        }
        Ok(Value::Object(members).to_string())
    }

    /// Reads what a trust domain has published. Whose it is the text does not say: that is known from where it comes.
    ///
    /// Entries of an unknown `use` or type are ignored, as the standard asks (§4.1.3, §4.2.2); of a known one, an X.509
    /// authority that cannot be read refuses the whole.
    ///
    /// # Errors
    /// It is not a bundle, or has no X.509 authority.
    pub fn parse(trust_domain: TrustDomain, text: &str) -> Result<Self, BundleJsonError> {
        if text.len() > MAX_BYTES {
            return Err(BundleJsonError::TooLarge { bytes: text.len() });
        }
        let set = strict::parse(text.as_bytes()).map_err(|error| match error {
            JsonError::Duplicate(name) => BundleJsonError::DuplicateMember { name },
            JsonError::Syntax { line, column } => BundleJsonError::NotJson { line, column },
        })?;
        let keys = match set.get("keys") {
            Some(Value::Array(keys)) if keys.len() <= MAX_KEYS => keys,
            _ => return Err(BundleJsonError::NotAKeySet),
        };
        let sequence = integer(&set, "spiffe_sequence")?;
        let refresh_hint = integer(&set, "spiffe_refresh_hint")?.map(Duration::from_secs);

        let mut authorities = Vec::new();
        for (index, key) in (1..).zip(keys) {
            if is_for(key, X509_SVID) && is_known_type(key) {
                authorities.push(x509_authority(index, key)?);
            }
        }
        let bundle = Bundle::new(trust_domain, authorities, sequence.unwrap_or_default())?
            .with_token_keys(token_keys(keys, JWT_SVID)?, token_keys(keys, WIT_SVID)?)?;
        Ok(Self {
            bundle,
            refresh_hint,
        })
    }
}

fn is_for(key: &Value, kind: &str) -> bool {
    key.get("use").and_then(Value::as_str) == Some(kind)
}

fn is_known_type(key: &Value) -> bool {
    let kind = key.get("kty").and_then(Value::as_str);
    matches!(kind, Some("EC" | "RSA" | "OKP"))
}

fn integer(set: &Value, name: &'static str) -> Result<Option<u64>, BundleJsonError> {
    match set.get(name) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(BundleJsonError::Member {
            name,
            expected: "a whole number that is not negative",
        }),
    }
}

/// X509-SVID §6.1: the key's members, and the certificate in `x5c`. No `kid`.
fn x509_entry(authority: &CertificateDer<'static>) -> Result<Value, BundleJsonError> {
    let certificate = x509::parse(authority).map_err(|_| JwkError::Malformed)?;
    let mut jwk = jwk::from_parsed(certificate.public_key())?.members;
    jwk.insert("use".to_owned(), X509_SVID.into());
    jwk.insert("x5c".to_owned(), json!([STANDARD.encode(authority)]));
    Ok(Value::Object(jwk))
}

/// X509-SVID §6.2: the certificate, and nothing but it, is what is believed; there is exactly one.
fn x509_authority(index: usize, key: &Value) -> Result<CertificateDer<'static>, BundleJsonError> {
    let wrong = |reason| BundleJsonError::X509Entry { index, reason };
    match key.get("x5c").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(text)]) => STANDARD
            .decode(text)
            .map(CertificateDer::from)
            .map_err(|_| wrong("has an `x5c` that is not base64")),
        _ => Err(wrong("must have exactly one certificate in `x5c`")),
    }
}

/// The keys of one use, without the `use`, which elsewhere says "sig". Those that cannot be used are left out; that none
/// can is an error, for a trust domain whose tokens nobody can verify has something wrong.
fn token_keys(keys: &[Value], kind: &'static str) -> Result<Option<KeySet>, BundleJsonError> {
    let of_kind = |key: &&Value| is_for(key, kind) && is_known_type(key);
    let members: Vec<Value> = keys
        .iter()
        .filter(of_kind)
        .map(|key| {
            let mut key = key.clone();
            if let Some(members) = key.as_object_mut() {
                members.remove("use");
            }
            key
        })
        .collect();
    if members.is_empty() {
        return Ok(None);
    }
    KeySet::of(&members)
        .map(Some)
        .map_err(|source| BundleJsonError::TokenKeys { kind, source })
}

#[cfg(test)]
mod tests;
