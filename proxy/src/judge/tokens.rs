//! The subject of a call: its bearer tokens, verified by the issuers that policy names.
//!
//! A repeated token is found in a bounded cache by its hash. What is cached holds only as long as the key set and the
//! issuer's document that verified it are the ones in force, and never past the token's `exp`.

mod place;
mod told;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_lc_rs::digest;
use countersign_identity::jwt::{self, IssuerRules, KeySet, TokenError};
use countersign_policy::{Request, Subject, TokenIssuer};

use crate::http1::same_name;
use crate::state::IssuerKeys;
use crate::telemetry::Metrics;
use place::{Place, each_token, other_cookies, without_parameters};
pub(super) use told::is_field_value;

/// Tokens that are remembered.
const CACHED_TOKENS: usize = 8192;

/// The subjects of one call, and how its request is changed for them on its way to the application.
#[derive(Default)]
pub(crate) struct Verified {
    pub(crate) subjects: Vec<Arc<Subject>>,
    /// Headers to be removed: those that carried tokens which are not to be forwarded, and those that only a token may
    /// fill.
    pub(crate) remove: Vec<Box<str>>,
    /// Headers to be added: what a token says, and the cookies that are left.
    pub(crate) add: Vec<(Box<str>, Vec<u8>)>,
    /// Parameters of the query to be removed, by their decoded names.
    remove_parameters: Vec<String>,
}

impl Verified {
    /// The path to be forwarded, of the one that was judged; `None` if it is the one that was sent.
    pub(super) fn forwarded_path(&self, judged: Option<Cow<'_, str>>) -> Option<String> {
        match judged? {
            Cow::Owned(path) if self.remove_parameters.is_empty() => Some(path),
            Cow::Borrowed(_) if self.remove_parameters.is_empty() => None,
            path => Some(without_parameters(&path, &self.remove_parameters)),
        }
    }

    fn tell(&mut self, issuer: &TokenIssuer, token: &str, subject: &Subject) {
        for (header, value) in told::told(issuer, token, &subject.claims) {
            // The first token that fills a header counts, as the first subject does.
            if !self.add.iter().any(|(name, _)| same_name(name, header)) {
                self.add.push((header.into(), value.into_bytes()));
            }
        }
    }
}

/// A token that proves nothing: the call is answered 401.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", .issuer.as_ref().map(|issuer| format!(" (TokenIssuer {issuer})")).unwrap_or_default())]
pub(crate) struct InvalidToken {
    /// The TokenIssuer document's `namespace/name`, where the token names a known issuer.
    issuer: Option<String>,
    error: Refusal,
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("no TokenIssuer for this workload has the issuer {0:?} and expects its token there")]
    UnknownIssuer(String),
    #[error("the issuer's keys have not been fetched yet; try again")]
    NoKeys,
}

/// Verifies tokens and remembers them.
#[derive(Default)]
pub(crate) struct Tokens {
    cache: Mutex<HashMap<[u8; digest::SHA256_OUTPUT_LEN], Cached>>,
}

struct Cached {
    subject: Arc<Subject>,
    /// What verified it; compared by address.
    issuer: Arc<TokenIssuer>,
    keys: Arc<KeySet>,
}

impl Tokens {
    /// Verifies every token that stands where one of `issuers` says it would. None is no error: whether a call needs a
    /// subject is the policy's business.
    pub(super) fn verify(
        &self,
        issuers: &[Arc<TokenIssuer>],
        keys: &IssuerKeys,
        request: &Request<'_>,
        now: SystemTime,
        metrics: &Metrics,
    ) -> Result<Verified, InvalidToken> {
        let mut verified = Verified::default();
        if issuers.is_empty() {
            return Ok(verified);
        }
        let told = issuers.iter().flat_map(|issuer| issuer.told_headers());
        verified
            .remove
            .extend(told.map(|name| name.as_str().into()));
        let mut remove_cookies = Vec::new();
        let mut found = Ok(());
        let all = issuers.iter().map(|issuer| &**issuer);
        each_token(all, request, &mut |place, token| {
            if found.is_err() {
                return;
            }
            match self.verify_one(issuers, place, keys, token, now, metrics) {
                Ok((issuer, subject)) => {
                    if !issuer.forward {
                        match place {
                            Place::Header { name, .. } => verified.remove.push(name.into()),
                            Place::Parameter(name) => {
                                verified.remove_parameters.push(name.to_owned());
                            }
                            Place::Cookie(name) => remove_cookies.push(name.to_owned()),
                        }
                    }
                    verified.tell(&issuer, token, &subject);
                    verified.subjects.push(subject);
                }
                Err(invalid) => {
                    metrics.token_failed(invalid.class());
                    found = Err(invalid);
                }
            }
        });
        found?;
        if !remove_cookies.is_empty() {
            let cookies = other_cookies(request.headers, &remove_cookies);
            let cookies = cookies.map(|cookies| ("cookie".into(), cookies));
            verified.remove.push("cookie".into());
            verified.add.extend(cookies);
        }
        Ok(verified)
    }

    /// Verifies a token by the documents that say it may be in `place`.
    fn verify_one(
        &self,
        issuers: &[Arc<TokenIssuer>],
        place: Place<'_>,
        keys: &IssuerKeys,
        token: &str,
        now: SystemTime,
        metrics: &Metrics,
    ) -> Result<(Arc<TokenIssuer>, Arc<Subject>), InvalidToken> {
        let hash = sha256(token);
        if let Some(cached) = self.lookup(&hash, issuers, keys, now)
            && place.is_of(&cached.0)
        {
            metrics.token_cached();
            return Ok(cached);
        }

        let named = jwt::unverified_issuer(token).map_err(|error| InvalidToken {
            issuer: None,
            error: error.into(),
        })?;
        // Several documents may name one issuer, each with audiences of its own: the first that accepts the token counts.
        let mut refusal = Refusal::UnknownIssuer(named.clone());
        let mut refused_by = None;
        let of_issuer = |issuer: &&Arc<TokenIssuer>| issuer.issuer == named && place.is_of(issuer);
        for issuer in issuers.iter().filter(of_issuer) {
            let name = issuer.metadata.to_string();
            let Some(key_set) = keys.get(&name) else {
                (refusal, refused_by) = (Refusal::NoKeys, Some(name));
                continue;
            };
            match jwt::verify(token, &rules(issuer), key_set, now) {
                Ok(verified) => {
                    let subject = Arc::new(Subject {
                        issuer: name,
                        claims: verified.claims().clone(),
                        expires_at: verified.valid_until(),
                    });
                    metrics.token_verified();
                    self.remember(hash, issuer, key_set, &subject, now);
                    return Ok((Arc::clone(issuer), subject));
                }
                Err(error) => (refusal, refused_by) = (error.into(), Some(name)),
            }
        }
        Err(InvalidToken {
            issuer: refused_by,
            error: refusal,
        })
    }

    fn lookup(
        &self,
        hash: &[u8; digest::SHA256_OUTPUT_LEN],
        issuers: &[Arc<TokenIssuer>],
        keys: &IssuerKeys,
        now: SystemTime,
    ) -> Option<(Arc<TokenIssuer>, Arc<Subject>)> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = cache.get(hash)?;
        let still_valid = cached.subject.expires_at > now
            && issuers
                .iter()
                .any(|issuer| Arc::ptr_eq(issuer, &cached.issuer))
            && keys
                .get(&cached.subject.issuer)
                .is_some_and(|keys| Arc::ptr_eq(keys, &cached.keys));
        still_valid.then(|| (Arc::clone(&cached.issuer), Arc::clone(&cached.subject)))
    }

    fn remember(
        &self,
        hash: [u8; digest::SHA256_OUTPUT_LEN],
        issuer: &Arc<TokenIssuer>,
        keys: &Arc<KeySet>,
        subject: &Arc<Subject>,
        now: SystemTime,
    ) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_TOKENS {
            cache.retain(|_, cached| cached.subject.expires_at > now);
            if cache.len() >= CACHED_TOKENS {
                // Full of valid tokens: begin anew rather than keep an order for the rare case.
                cache.clear();
            }
        }
        let cached = Cached {
            subject: Arc::clone(subject),
            issuer: Arc::clone(issuer),
            keys: Arc::clone(keys),
        };
        cache.insert(hash, cached);
    }
}

fn rules(issuer: &TokenIssuer) -> IssuerRules {
    IssuerRules {
        issuer: issuer.issuer.clone(),
        audiences: issuer.audiences.clone(),
        algorithms: issuer.algorithms.clone(),
        leeway: issuer.leeway,
    }
}

fn sha256(token: &str) -> [u8; digest::SHA256_OUTPUT_LEN] {
    let mut hash = [0; digest::SHA256_OUTPUT_LEN];
    hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    hash
}

/// A stable word for each reason that a developer acts on differently.
fn class_of(error: &TokenError) -> &'static str {
    match error {
        TokenError::Expired { .. } => "token-expired",
        TokenError::NotYetValid { .. } => "token-not-yet-valid",
        TokenError::WrongAudience { .. } => "token-wrong-audience",
        TokenError::WrongIssuer { .. } => "token-wrong-issuer",
        TokenError::BadSignature => "token-bad-signature",
        TokenError::UnknownKey { .. } | TokenError::AmbiguousKey { .. } => "token-unknown-key",
        TokenError::AlgorithmNotAllowed { .. } | TokenError::KeyMismatch { .. } => {
            "token-algorithm-not-allowed"
        }
        _ => "token-malformed",
    }
}

impl InvalidToken {
    /// A stable word for metrics, logs and problem documents.
    pub(super) fn class(&self) -> &'static str {
        match &self.error {
            Refusal::Token(error) => class_of(error),
            Refusal::UnknownIssuer(_) => "unknown-issuer",
            Refusal::NoKeys => "issuer-keys-missing",
        }
    }

    /// The `www-authenticate` of the answer (RFC 6750 §3.1).
    pub(super) fn challenge(&self) -> String {
        // A quoted-string must not be ended by what came in a token.
        let description: String = self
            .to_string()
            .chars()
            .map(|character| match character {
                '"' | '\\' => '\'',
                ' '..='~' => character,
                _ => '?',
            })
            .collect();
        format!("Bearer error=\"invalid_token\", error_description=\"{description}\"")
    }
}

#[cfg(test)]
mod tests;
