//! What a token request asks for, and the token.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, Header};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::DevelopmentIssuer;

/// How long a token lives that asks for no time.
const DEFAULT_LIFETIME_SECONDS: i64 = 300;

/// The longest life that can be asked for, and the longest ago that a token can have ended.
const LONGEST_LIFETIME_SECONDS: i64 = 366 * 24 * 3_600;

/// A user whom an issuer has tokens for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct User {
    /// The `sub` of the tokens.
    pub(crate) name: String,
    /// Further claims of the tokens.
    pub(crate) claims: Map<String, Value>,
}

/// A token, and how long it lives.
pub(super) struct Grant {
    pub(super) token: String,
    pub(super) lifetime_seconds: i64,
}

/// Why a token request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum GrantError {
    #[error("expected grant_type=password")]
    GrantType,
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{0}` is given twice")]
    Repeated(&'static str),
    #[error("no user `{user}`; the mesh file has {known}")]
    UnknownUser { user: String, known: String },
    #[error("`ttl` must be whole seconds, a year at most, and not 0")]
    Lifetime,
    #[error("`claims` must be a JSON object")]
    Claims,
    #[error("the clock is out of range")]
    Clock,
    #[error("the token could not be signed")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

impl GrantError {
    /// The code of RFC 6749 §5.2.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::GrantType => "unsupported_grant_type",
            Self::UnknownUser { .. } => "invalid_grant",
            Self::Clock | Self::Signing(_) => "server_error",
            Self::Missing(_) | Self::Repeated(_) | Self::Lifetime | Self::Claims => {
                "invalid_request"
            }
        }
    }
}

/// Answers a token request (RFC 6749 §4.3.2, without a password, with `audience`, `ttl` in seconds, and
/// `claims` as additions).
pub(super) fn grant(
    issuer: &DevelopmentIssuer,
    form: &[u8],
    now: SystemTime,
) -> Result<Grant, GrantError> {
    let form = Form(form_urlencoded::parse(form).into_owned().collect());
    if form.one("grant_type")? != Some("password") {
        return Err(GrantError::GrantType);
    }
    let name = form
        .one("username")?
        .ok_or(GrantError::Missing("username"))?;
    let user = issuer
        .users
        .iter()
        .find(|user| user.name == name)
        .ok_or_else(|| {
            let known: Vec<_> = issuer.users.iter().map(|user| user.name.as_str()).collect();
            GrantError::UnknownUser {
                user: name.to_owned(),
                known: known.join(", "),
            }
        })?;
    let lifetime_seconds = lifetime(form.one("ttl")?)?;
    let mut claims = base_claims(issuer, &form, lifetime_seconds, now)?;
    claims.insert("sub".to_owned(), Value::from(user.name.as_str()));
    claims.extend(user.claims.clone());
    if let Some(text) = form.one("claims")? {
        let more: Map<_, _> = serde_json::from_str(text).map_err(|_| GrantError::Claims)?;
        claims.extend(more);
    }
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(issuer.key.id().to_owned());
    let token = jsonwebtoken::encode(&header, &claims, issuer.key.signing_key())?;
    Ok(Grant {
        token,
        lifetime_seconds,
    })
}

/// The claims that every token has. A token that has already expired was once valid for as long as
/// the default.
fn base_claims(
    issuer: &DevelopmentIssuer,
    form: &Form,
    lifetime_seconds: i64,
    now: SystemTime,
) -> Result<Map<String, Value>, GrantError> {
    let since_epoch: Duration = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| GrantError::Clock)?;
    let now = i64::try_from(since_epoch.as_secs()).map_err(|_| GrantError::Clock)?;
    let expires_at = now.checked_add(lifetime_seconds).ok_or(GrantError::Clock)?;
    let issued_at = if lifetime_seconds < 0 {
        expires_at - DEFAULT_LIFETIME_SECONDS
    } else {
        now
    };
    let asked: Vec<&str> = form.all("audience").collect();
    let audiences = if asked.is_empty() {
        issuer.audiences.iter().map(String::as_str).collect()
    } else {
        asked
    };
    // RFC 7519 §4.1.3: one audience may be a plain string, and that is what most issuers send.
    let audience = match audiences.as_slice() {
        [only] => json!(only),
        several => json!(several),
    };
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), json!(issuer.issuer));
    claims.insert("aud".to_owned(), audience);
    claims.insert("iat".to_owned(), json!(issued_at));
    claims.insert("nbf".to_owned(), json!(issued_at));
    claims.insert("exp".to_owned(), json!(expires_at));
    Ok(claims)
}

fn lifetime(text: Option<&str>) -> Result<i64, GrantError> {
    let Some(text) = text else {
        return Ok(DEFAULT_LIFETIME_SECONDS);
    };
    let seconds: i64 = text.parse().map_err(|_| GrantError::Lifetime)?;
    let range = -LONGEST_LIFETIME_SECONDS..=LONGEST_LIFETIME_SECONDS;
    if seconds == 0 || !range.contains(&seconds) {
        return Err(GrantError::Lifetime);
    }
    Ok(seconds)
}

/// The fields of a request.
struct Form(Vec<(String, String)>);

impl Form {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// RFC 6749 §3.2: a parameter must not be given more than once.
    fn one(&self, name: &'static str) -> Result<Option<&str>, GrantError> {
        let mut values = self
            .0
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value);
        let first = values.next().map(String::as_str);
        match values.next() {
            None => Ok(first),
            Some(_) => Err(GrantError::Repeated(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::super::IssuerKey;
    use super::*;

    const NOW: u64 = 1_795_428_000;

    fn claims_of(form: &str) -> Result<Value, String> {
        let directory = tempfile::tempdir().unwrap();
        let Value::Object(claims) = json!({"groups": ["buyer"], "tenant": "acme"}) else {
            panic!("not an object");
        };
        let issuer = DevelopmentIssuer {
            name: "corp".to_owned(),
            issuer: "https://login.shop.example".to_owned(),
            audiences: vec!["shop".to_owned()],
            users: vec![User {
                name: "alice".to_owned(),
                claims,
            }],
            key: IssuerKey::open(&directory.path().join("key.pem")).unwrap(),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let grant = grant(&issuer, form.as_bytes(), now)
            .map_err(|error| format!("{}: {error}", error.code()))?;
        let claims = URL_SAFE_NO_PAD
            .decode(grant.token.split('.').nth(1).unwrap())
            .unwrap();
        Ok(serde_json::from_slice(&claims).unwrap())
    }

    #[test]
    fn a_token_says_who_for_whom_and_how_long() {
        assert_eq!(
            claims_of("grant_type=password&username=alice"),
            Ok(json!({
                "iss": "https://login.shop.example", "sub": "alice", "aud": "shop",
                "iat": NOW, "nbf": NOW, "exp": NOW + 300, "groups": ["buyer"], "tenant": "acme",
            }))
        );
    }

    #[test]
    fn audience_life_and_claims_can_be_asked_for() {
        let claims = claims_of(
            "grant_type=password&username=alice&audience=a&audience=b&ttl=60\
             &claims=%7B%22tenant%22%3A%22other%22%2C%22iss%22%3A%22x%22%7D",
        )
        .unwrap();
        assert_eq!(claims["aud"], json!(["a", "b"]));
        assert_eq!(claims["exp"], NOW + 60);
        assert_eq!(claims["tenant"], "other");
        assert_eq!(claims["iss"], "x");
    }

    #[test]
    fn an_expired_token_was_valid_once() {
        let claims = claims_of("grant_type=password&username=alice&ttl=-60").unwrap();
        assert_eq!(claims["exp"], NOW - 60);
        assert_eq!(claims["iat"], NOW - 360);
        assert_eq!(claims["nbf"], NOW - 360);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        for (form, refusal) in [
            ("", "unsupported_grant_type: expected grant_type=password"),
            (
                "grant_type=password",
                "invalid_request: `username` is missing",
            ),
            (
                "grant_type=password&username=bob",
                "invalid_grant: no user `bob`; the mesh file has alice",
            ),
            (
                "grant_type=password&username=alice&username=bob",
                "invalid_request: `username` is given twice",
            ),
            (
                "grant_type=password&username=alice&ttl=0",
                "invalid_request: `ttl` must be whole seconds, a year at most, and not 0",
            ),
            (
                "grant_type=password&username=alice&claims=[]",
                "invalid_request: `claims` must be a JSON object",
            ),
        ] {
            assert_eq!(claims_of(form), Err(refusal.to_owned()), "{form}");
        }
    }
}
