//! JSON Web Tokens, verified: one token, one issuer's rules, one key set (RFC 7519, RFC 7515, RFC 8725).
//!
//! [`verify`] names the steps. Each takes what the one before it proved, and nothing of a token is believed before its
//! signature is; only [`unverified_issuer`] looks earlier, so that a caller can find the rules to verify by.

mod algorithm;
mod error;
pub(crate) mod json;
pub mod jwk;
mod key_set;
pub mod svid;
#[cfg(test)]
pub(crate) mod test_keys;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use error::TokenError;
pub use key_set::{KeySet, KeySetError};

#[cfg(feature = "fetch")]
pub(crate) use error::in_words;
use error::quoted;
use key_set::Key;

/// The longest token that is looked at, in bytes. Longer ones do not fit the header limits of most servers either.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Dates after this one are mistakes: 9999-12-31T23:59:59Z, in seconds of UNIX time.
const LAST_DATE: u64 = 253_402_300_799;

/// What a token of one issuer must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// The exact value of the claim `iss`. Nothing is normalised (RFC 8725 §3.8).
    pub issuer: String,
    /// The claim `aud` must name one of these. Empty: the claim is not looked at.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted. Empty: no token is.
    pub algorithms: Vec<Algorithm>,
    /// How far the issuer's clock may be from ours. Applies to `exp`, `nbf` and `iat`.
    pub leeway: Duration,
}

/// The claims of a token that [`verify`] found good. Made by nothing else.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    claims: Map<String, Value>,
    issuer: String,
    expires_at: SystemTime,
    valid_until: SystemTime,
    key_id: Option<String>,
}

impl VerifiedToken {
    /// Every claim, as the issuer wrote it.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Every claim, without a copy.
    pub fn into_claims(self) -> Map<String, Value> {
        self.claims
    }

    /// The claim `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.claims.get("sub").and_then(Value::as_str)
    }

    /// The claim `iss`, equal to the rules'.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The claim `exp`.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// The instant from which [`verify`] would refuse the token: `exp` plus the leeway of the rules.
    pub fn valid_until(&self) -> SystemTime {
        self.valid_until
    }

    /// The `kid` of the key that signed it, if the key set names one.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }
}

/// Verifies `token` as of `now`.
///
/// # Errors
/// The first thing that is wrong, in the order of the steps: form, header, key, signature, claims.
pub fn verify(
    token: &str,
    rules: &IssuerRules,
    keys: &KeySet,
    now: SystemTime,
) -> Result<VerifiedToken, TokenError> {
    let parts = Parts::split(token)?;
    let header = Header::read(parts.header, Purpose::AccessOrId)?;
    let algorithm = header.algorithm(&rules.algorithms)?;
    let key = keys.choose(header.key_id.as_deref(), algorithm)?;
    parts.check_signature(key, algorithm)?;
    let claims = object("payload", parts.payload)?;
    check_issuer(&claims, rules)?;
    check_audience(&claims, &rules.audiences)?;
    let (expires_at, valid_until) = check_times(&claims, rules.leeway, now)?;
    Ok(VerifiedToken {
        claims,
        issuer: rules.issuer.clone(),
        expires_at,
        valid_until,
        key_id: key.id().map(str::to_owned),
    })
}

/// The claim `iss` of a token that nothing has been checked of. **Only to choose the rules** for [`verify`].
///
/// # Errors
/// When the token cannot be read, or names no issuer.
pub fn unverified_issuer(token: &str) -> Result<String, TokenError> {
    let parts = Parts::split(token)?;
    let claims = object("payload", parts.payload)?;
    Ok(required_string(&claims, "iss")?.to_owned())
}

/// The three parts of a JWS in compact form (RFC 7515 §3.1).
struct Parts<'a> {
    /// Header and payload with the dot between them: what the signature is of.
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge {
                bytes: token.len(),
                limit: MAX_TOKEN_BYTES,
            });
        }
        let found = token.matches('.').count() + 1;
        let three = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            Some(Self {
                signed,
                header,
                payload,
                signature,
            })
        };
        match three() {
            Some(parts) if found == 3 => Ok(parts),
            _ if found == 5 => Err(TokenError::Encrypted),
            _ => Err(TokenError::PartCount { found }),
        }
    }

    fn check_signature(&self, key: &Key, algorithm: Algorithm) -> Result<(), TokenError> {
        let signature = base64("signature", self.signature)?;
        key.verify(algorithm, self.signed.as_bytes(), &signature)
    }
}

/// What a token is for. It may say so with its `typ`, and one that is for something else is refused (RFC 8725 §3.11):
/// security events, logout tokens, DPoP proofs, transaction tokens and WIT-SVIDs all say what they are.
#[derive(Clone, Copy)]
enum Purpose {
    /// Speaks for a subject: untyped JWTs and access tokens (RFC 9068 §2.1).
    AccessOrId,
    /// SPIFFE JWT-SVID §2.3.
    JwtSvid,
}

impl Purpose {
    fn accepts(self, kind: &str) -> bool {
        let kind = match kind.split_once('/') {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application") => rest,
            _ => kind,
        };
        let other = match self {
            Self::AccessOrId => "at+jwt",
            Self::JwtSvid => "JOSE",
        };
        kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case(other)
    }

    fn expected(self) -> &'static str {
        match self {
            Self::AccessOrId => r#""JWT", "at+jwt", or none"#,
            Self::JwtSvid => r#""JWT", "JOSE", or none"#,
        }
    }
}

/// What is used of a JOSE header (RFC 7515 §4.1). Keys and URLs that a header may carry (`jwk`, `jku`, `x5u`, `x5c`) are
/// never looked at: a token does not choose the key that it is verified with.
struct Header {
    algorithm: String,
    key_id: Option<String>,
}

impl Header {
    fn read(encoded: &str, purpose: Purpose) -> Result<Self, TokenError> {
        let mut header = object("header", encoded)?;
        if let Some(critical) = header.get("crit") {
            // RFC 7515 §4.1.11: what is critical and not understood refuses the token. No extension is understood here.
            return Err(TokenError::CriticalHeader {
                named: quoted(&critical.to_string()),
            });
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(kind)) if purpose.accepts(kind) => {}
            Some(other) => {
                return Err(TokenError::WrongType {
                    found: quoted_value(other),
                    expected: purpose.expected(),
                });
            }
        }
        let algorithm = match header.remove("alg") {
            Some(Value::String(algorithm)) => algorithm,
            Some(_) => {
                return Err(TokenError::InvalidHeader {
                    name: "alg",
                    expected: "a string",
                });
            }
            None => {
                return Err(TokenError::InvalidHeader {
                    name: "alg",
                    expected: "there",
                });
            }
        };
        let key_id = match header.remove("kid") {
            Some(Value::String(key_id)) => Some(key_id),
            Some(_) => {
                return Err(TokenError::InvalidHeader {
                    name: "kid",
                    expected: "a string",
                });
            }
            None => None,
        };
        Ok(Self { algorithm, key_id })
    }

    /// The header's algorithm, if it is an allowed one (RFC 8725 §3.1). `none` and HMAC are no [`Algorithm`]s, so that
    /// rules cannot name them.
    fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, TokenError> {
        self.algorithm
            .parse()
            .ok()
            .filter(|algorithm| allowed.contains(algorithm))
            .ok_or_else(|| TokenError::AlgorithmNotAllowed {
                found: quoted(&self.algorithm),
                allowed: error::listed(allowed.iter().map(|a| a.name())),
            })
    }
}

fn check_issuer(claims: &Map<String, Value>, rules: &IssuerRules) -> Result<(), TokenError> {
    let found = required_string(claims, "iss")?;
    if found == rules.issuer {
        Ok(())
    } else {
        Err(TokenError::WrongIssuer {
            found: quoted(found),
            expected: rules.issuer.clone(),
        })
    }
}

/// The claim `aud` (RFC 7519 §4.1.3) must name one of these; of none, it is not looked at.
fn check_audience(claims: &Map<String, Value>, accepted: &[String]) -> Result<(), TokenError> {
    if accepted.is_empty() {
        return Ok(());
    }
    let found = audiences(claims)?;
    let is_accepted = |found: &&str| accepted.iter().any(|audience| audience == found);
    if found.iter().any(is_accepted) {
        return Ok(());
    }
    Err(TokenError::WrongAudience {
        found: error::listed(found.iter().take(4).map(|audience| quoted(audience))),
        expected: error::listed(accepted.iter().map(|audience| quoted(audience))),
    })
}

/// RFC 7519 §4.1.3: one string, or a list of them.
fn audiences(claims: &Map<String, Value>) -> Result<Vec<&str>, TokenError> {
    let invalid = TokenError::InvalidClaim {
        name: "aud",
        expected: "a string or a list of strings",
    };
    match claims.get("aud") {
        None => Err(TokenError::MissingClaim("aud")),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(Value::Array(many)) => many
            .iter()
            .map(Value::as_str)
            .collect::<Option<_>>()
            .ok_or(invalid),
        Some(_) => Err(invalid),
    }
}

/// Checks `exp`, `nbf` and `iat` (RFC 7519 §4.1.4–6); returns `exp` and `exp` plus leeway.
fn check_times(
    claims: &Map<String, Value>,
    leeway: Duration,
    now: SystemTime,
) -> Result<(SystemTime, SystemTime), TokenError> {
    let expires_at = date(claims, "exp")?.ok_or(TokenError::MissingClaim("exp"))?;
    let valid_until = expires_at.checked_add(leeway).unwrap_or(expires_at);
    if now >= valid_until {
        let ago = now.duration_since(expires_at).unwrap_or_default();
        return Err(TokenError::Expired { ago });
    }
    for name in ["nbf", "iat"] {
        let Some(start) = date(claims, name)? else {
            continue;
        };
        if let Ok(wait) = start.duration_since(now)
            && wait > leeway
        {
            return Err(TokenError::NotYetValid { claim: name, wait });
        }
    }
    Ok((expires_at, valid_until))
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, with or without a fraction.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<SystemTime>, TokenError> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let since_1970 = match (value.as_u64(), value.as_f64()) {
        (Some(seconds), _) => Some(Duration::from_secs(seconds)),
        (None, Some(seconds)) => Duration::try_from_secs_f64(seconds).ok(),
        (None, None) => None,
    };
    since_1970
        .filter(|since| since.as_secs() <= LAST_DATE)
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .map(Some)
        .ok_or(TokenError::InvalidClaim {
            name,
            expected: "a date in seconds since 1970",
        })
}

fn required_string<'a>(
    claims: &'a Map<String, Value>,
    name: &'static str,
) -> Result<&'a str, TokenError> {
    match claims.get(name) {
        Some(Value::String(value)) => Ok(value),
        Some(_) => Err(TokenError::InvalidClaim {
            name,
            expected: "a string",
        }),
        None => Err(TokenError::MissingClaim(name)),
    }
}

fn object(part: &'static str, encoded: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = base64(part, encoded)?;
    match json::parse(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(TokenError::NotAnObject { part }),
        Err(json::JsonError::Duplicate(name)) => Err(TokenError::DuplicateMember {
            part,
            name: quoted(&name),
        }),
        Err(json::JsonError::Syntax { line, column }) => {
            Err(TokenError::NotJson { part, line, column })
        }
    }
}

fn base64(part: &'static str, encoded: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| TokenError::NotBase64 { part })
}

fn quoted_value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => quoted(&other.to_string()),
    }
}
