//! Why a token is refused: one line each, for the developer who reads it in a log or a problem document.
//!
//! What comes from the token is shown shortened and escaped ([`quoted`]), so that a token cannot write log lines; the token
//! itself, its payload and its signature are never shown.

use std::time::Duration;

/// Why a token was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`super::MAX_TOKEN_BYTES`].
    #[error("the token has {bytes} bytes; at most {limit} are accepted")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The longest accepted.
        limit: usize,
    },
    /// Not three parts.
    #[error("not a signed JWT: expected three parts separated by dots, found {found}")]
    PartCount {
        /// How many parts it has.
        found: usize,
    },
    /// Five parts: a JWE (RFC 7516).
    #[error("the token is encrypted (JWE); only signed tokens (JWS) are accepted")]
    Encrypted,
    /// A part is not base64url without padding (RFC 7515 §2).
    #[error("the token's {part} is not base64url without padding")]
    NotBase64 {
        /// header, payload or signature.
        part: &'static str,
    },
    /// A part is not JSON.
    #[error("the token's {part} is not valid JSON (line {line}, column {column})")]
    NotJson {
        /// header or payload.
        part: &'static str,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// A part is JSON, but not an object.
    #[error("the token's {part} is not a JSON object")]
    NotAnObject {
        /// header or payload.
        part: &'static str,
    },
    /// Two members of one name: two readers could see two tokens (RFC 7519 §4).
    #[error("the token's {part} has two members named {name}")]
    DuplicateMember {
        /// header or payload.
        part: &'static str,
        /// The name, quoted.
        name: String,
    },
    /// A header parameter of the wrong type, or a missing one.
    #[error("the token's header parameter `{name}` must be {expected}")]
    InvalidHeader {
        /// The parameter.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The header demands that an extension be understood.
    #[error("the token's header marks {named} as critical, which is not understood here")]
    CriticalHeader {
        /// The value of `crit`, quoted.
        named: String,
    },
    /// A token for another purpose (RFC 8725 §3.11).
    #[error("the token's type is {found}; expected {expected}")]
    WrongType {
        /// The value of `typ`, quoted.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The algorithm is not among the rules'.
    #[error("the token is signed with {found}; this issuer's tokens must be signed with {allowed}")]
    AlgorithmNotAllowed {
        /// The header's `alg`, quoted.
        found: String,
        /// What the rules accept.
        allowed: String,
    },
    /// The key set has no key of the token's `kid`, or the token names none and no key fits its algorithm.
    #[error("{}", unknown_key(key_id.as_deref()))]
    UnknownKey {
        /// The header's `kid`, as it came: for asking for a fresh key set.
        key_id: Option<String>,
    },
    /// More than one key fits.
    #[error(
        "the token does not say which of the {count} keys that fit signed it (no `kid`, or one that several keys share)"
    )]
    AmbiguousKey {
        /// How many fit.
        count: usize,
    },
    /// The key exists, but is for another algorithm.
    #[error("the token is signed with {algorithm}, but its key {key_id} is for {key}")]
    KeyMismatch {
        /// The header's `alg`.
        algorithm: &'static str,
        /// The header's `kid`, quoted.
        key_id: String,
        /// What the key is for.
        key: String,
    },
    /// The signature is not of this token by this key.
    #[error("the token's signature does not verify: it was changed, or not signed by this issuer")]
    BadSignature,
    /// A claim is missing.
    #[error("the token has no claim `{0}`")]
    MissingClaim(&'static str),
    /// A claim has the wrong type.
    #[error("the token's claim `{name}` must be {expected}")]
    InvalidClaim {
        /// The claim.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// `exp` has passed.
    #[error("the token expired {} ago", in_words(*ago))]
    Expired {
        /// How long since `exp`.
        ago: Duration,
    },
    /// `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet: its `{claim}` is {} ahead of this clock", in_words(*wait))]
    NotYetValid {
        /// nbf or iat.
        claim: &'static str,
        /// How far ahead.
        wait: Duration,
    },
    /// `iss` is not the rules'.
    #[error("the token is of the issuer {found}; expected \"{expected}\"")]
    WrongIssuer {
        /// The claim, quoted.
        found: String,
        /// The rules' issuer.
        expected: String,
    },
    /// `aud` names none of the rules' audiences.
    #[error("the token is for {found}; expected {expected}")]
    WrongAudience {
        /// The first audiences of the claim, quoted.
        found: String,
        /// The rules' audiences, quoted.
        expected: String,
    },
}

fn unknown_key(key_id: Option<&str>) -> String {
    match key_id {
        Some(key_id) => format!("the issuer's key set has no key {}", quoted(key_id)),
        None => {
            "the token names no key (`kid`), and no key of the issuer fits its algorithm".to_owned()
        }
    }
}

/// Text from outside, fit to be shown in one line: escaped, at most 64 characters, in quotes.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 64;
    let mut shown = String::from("\"");
    let mut characters = text.chars();
    shown.extend(characters.by_ref().take(SHOWN).flat_map(char::escape_debug));
    shown.push_str(if characters.next().is_some() {
        "\"…"
    } else {
        "\""
    });
    shown
}

/// `a`, `a or b`, `a, b or c`; `nothing` for an empty list.
pub(super) fn listed<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<T> = items.collect();
    match items.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", first.join(", "), last.as_ref())
        }
    }
}

/// A duration in its two largest units: `5m`, `1h 5m`, `3d 4h`; under a second, `0s`.
pub(crate) fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut words = Vec::new();
    for (size, name) in units {
        if rest >= size && words.len() < 2 {
            words.push(format!("{}{name}", rest / size));
        } else if !words.is_empty() {
            break;
        }
        rest %= size;
    }
    if words.is_empty() {
        "0s".to_owned()
    } else {
        words.join(" ")
    }
}
