//! How a token comes about: [`Issuance::issue_jwt`] and [`Issuance::issue_wit`].
//!
//! Both are for whoever has an X.509-SVID, and for the identity that it proves. They go through the phases of
//! [`Issuance::issue`]: check, attest, limit, sign, log, and only then hand out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_api::transport::Caller;
use countersign_identity::jwt::{Algorithm, jwk, svid};
use rcgen::PublicKeyData as _;
use serde_json::json;

use super::{Issuance, TtlLimits};
use crate::attest::{Attested, Evidence};
use crate::authority::Published;
use crate::authority::profile::BACKDATED;
use crate::authority::tokens::Use;
use crate::csr;
use crate::fault;
use crate::log::Record;
use crate::refusal::Refusal;

/// For how many a JWT-SVID may be: each of them could use it towards the others.
pub(crate) const MAX_AUDIENCES: usize = 16;
/// An audience is a name or a URL.
pub(crate) const MAX_AUDIENCE_BYTES: usize = 512;

/// How tokens are issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRules {
    /// How long JWT-SVIDs are valid. WIT-SVIDs, which are of no use without their key, are valid as long as X.509-SVIDs.
    pub(crate) ttl: TtlLimits,
    /// The claim `iss` of JWT-SVIDs, so that OpenID Connect finds the keys.
    pub(crate) issuer: Option<String>,
}

/// A token that is in the log, and may leave.
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) facts: TokenFacts,
}

/// What is to be known of a token. No secret.
pub(crate) struct TokenFacts {
    pub(crate) usage: Use,
    /// The claim `jti`.
    pub(crate) id: String,
    /// Whole seconds, as the claims have them.
    pub(crate) issued_at: SystemTime,
    pub(crate) expires_at: SystemTime,
    pub(crate) audience: Vec<String>,
    /// Of the key that the token is bound to.
    pub(crate) key_thumbprint: Option<String>,
}

/// A token that was signed and is in no log yet, and so must not leave.
struct Unlogged(Token);

impl Issuance {
    /// Issues a JWT-SVID (SPIFFE JWT-SVID §3).
    ///
    /// # Errors
    /// The first phase that says no.
    pub(crate) async fn issue_jwt(
        &self,
        audience: Vec<String>,
        ttl: Duration,
        caller: &Caller,
        now: SystemTime,
    ) -> Result<Token, Refusal> {
        check_audience(&audience)?;
        let ttl = self.tokens.ttl.choose(ttl)?;
        let attested = self
            .attestors
            .attest(Evidence::Renewal, caller, now)
            .await?;
        self.limit_identity(attested.id())?;
        let facts = TokenFacts::new(Use::JwtSvid, ttl, audience, None, now)?;
        let published = self.authority.published();
        let unlogged = self.sign_jwt(&published, &attested, facts, now).await?;
        self.hand_out_token(unlogged, &attested, caller, now).await
    }

    /// Issues a WIT-SVID (SPIFFE WIT-SVID §4), bound to the key of the CSR.
    ///
    /// # Errors
    /// The first phase that says no.
    pub(crate) async fn issue_wit(
        &self,
        csr: &[u8],
        ttl: Duration,
        caller: &Caller,
        now: SystemTime,
    ) -> Result<Token, Refusal> {
        let key = csr::check(csr)?;
        let bound = bound_key(&key.public_key().subject_public_key_info())?;
        let ttl = self.limits.choose(ttl)?;
        let attested = self
            .attestors
            .attest(Evidence::Renewal, caller, now)
            .await?;
        self.limit_identity(attested.id())?;
        let thumbprint = Some(key.thumbprint().to_owned());
        let facts = TokenFacts::new(Use::WitSvid, ttl, Vec::new(), thumbprint, now)?;
        let published = self.authority.published();
        let unlogged = Self::sign_wit(&published, &attested, &bound, facts, now).await?;
        self.hand_out_token(unlogged, &attested, caller, now).await
    }

    async fn sign_jwt(
        &self,
        published: &Published,
        attested: &Attested,
        facts: TokenFacts,
        now: SystemTime,
    ) -> Result<Unlogged, Refusal> {
        let mut claims = json!({
            "sub": attested.id(),
            "aud": facts.audience,
            "iat": seconds(facts.issued_at),
            "exp": seconds(facts.expires_at),
            "jti": facts.id,
        });
        if let (Some(issuer), Some(members)) = (&self.tokens.issuer, claims.as_object_mut()) {
            members.insert("iss".to_owned(), issuer.as_str().into());
        }
        let token = published
            .token_keys
            .sign(Use::JwtSvid, "JWT", &claims, now)
            .await?;
        // As whoever it is for will.
        for audience in &facts.audience {
            svid::verify(&token, audience, &published.bundle, now)
                .map_err(|error| Refusal::TokenProduct(error.to_string()))?;
        }
        Ok(Unlogged(Token { token, facts }))
    }

    /// Without `iss`: found by way of it, the token would pass for one that needs no proof of its key (WIT-SVID §3.7).
    async fn sign_wit(
        published: &Published,
        attested: &Attested,
        bound: &serde_json::Value,
        facts: TokenFacts,
        now: SystemTime,
    ) -> Result<Unlogged, Refusal> {
        let claims = json!({
            "sub": attested.id(),
            "cnf": {"jwk": bound},
            "iat": seconds(facts.issued_at),
            "nbf": seconds(facts.issued_at - BACKDATED),
            "exp": seconds(facts.expires_at),
            "jti": facts.id,
        });
        let token = published
            .token_keys
            .sign(Use::WitSvid, "wit+jwt", &claims, now)
            .await?;
        Ok(Unlogged(Token { token, facts }))
    }

    async fn hand_out_token(
        &self,
        unlogged: Unlogged,
        attested: &Attested,
        caller: &Caller,
        now: SystemTime,
    ) -> Result<Token, Refusal> {
        let token = unlogged.0;
        let record = Record::of_token(&token.facts, attested, caller.remote_addr, now);
        fault::point("after-sign");
        self.log.append(record).await?;
        fault::point("after-log");
        Ok(token)
    }
}

impl TokenFacts {
    fn new(
        usage: Use,
        ttl: Duration,
        audience: Vec<String>,
        key_thumbprint: Option<String>,
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let issued_at = UNIX_EPOCH + Duration::from_secs(seconds(now));
        // As a certificate's serial number: 128 bits that are never used twice.
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id)
            .map_err(|_| Refusal::Internal("the system has no randomness".to_owned()))?;
        Ok(Self {
            usage,
            id: hex::encode(id),
            issued_at,
            expires_at: issued_at + ttl,
            audience,
            key_thumbprint,
        })
    }
}

fn check_audience(audience: &[String]) -> Result<(), Refusal> {
    if audience.is_empty() || audience.len() > MAX_AUDIENCES {
        return Err(Refusal::Audience(format!("got {}", audience.len())));
    }
    let is_wrong = |name: &&String| name.is_empty() || name.len() > MAX_AUDIENCE_BYTES;
    match audience.iter().find(is_wrong) {
        None => Ok(()),
        Some(wrong) => Err(Refusal::Audience(format!(
            "got one of {} bytes",
            wrong.len()
        ))),
    }
}

/// The key as the claim `cnf` has it (RFC 7800 §3.2): with its algorithm, which must be one of WIT-SVID §3.2.
fn bound_key(spki: &[u8]) -> Result<serde_json::Value, Refusal> {
    let key = jwk::from_spki(spki).map_err(|error| Refusal::WitKey(error.to_string()))?;
    if key.algorithm == Algorithm::EdDsa {
        return Err(Refusal::WitKey("an Ed25519 key".to_owned()));
    }
    let mut members = key.members;
    members.insert("alg".to_owned(), key.algorithm.name().into());
    Ok(members.into())
}

pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;
