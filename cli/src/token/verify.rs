//! `countersign token verify`: by the very engine that sidecars and CA verify with.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use countersign_identity::bundle::{BundleJsonError, SpiffeBundle};
use countersign_identity::jwt::{self, Algorithm, IssuerRules, KeySet, KeySetError};
use countersign_identity::keys::Endpoint;
use serde::Serialize;
use serde_json::{Map, Value};

use super::args::VerifyArguments;
use super::inspect::{InspectError, read_token};
use crate::instant::{Span, rfc3339};
use crate::output::{Answer, Output};
use crate::provider::{self, Client, ProviderError};

/// How far an issuer's clock may be from ours.
const LEEWAY: Duration = Duration::from_secs(30);
const JWK_SET: &str = "a JWK Set (JSON, RFC 7517)";

/// Why a token could not even be judged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error(transparent)]
    Read(#[from] InspectError),
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: expected {expected}, found {found}", path.display())]
    Form {
        path: PathBuf,
        expected: &'static str,
        found: &'static str,
    },
    #[error("{}: {source}", path.display())]
    Keys { path: PathBuf, source: KeySetError },
    #[error("{}: {source}", path.display())]
    Bundle {
        path: PathBuf,
        source: BundleJsonError,
    },
    #[error("the issuer {issuer}: {source}")]
    Issuer {
        issuer: String,
        source: ProviderError,
    },
    #[error("the issuer {issuer}: {source}")]
    IssuerKeys { issuer: String, source: KeySetError },
    #[error("cannot start")]
    Runtime(#[source] std::io::Error),
    #[error("cannot print the answer")]
    Print(#[from] std::io::Error),
}

/// The answer. Its JSON form is stable.
#[derive(Debug, Serialize)]
struct Verdict {
    verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Map<String, Value>>,
    #[serde(skip)]
    text: String,
}

/// What a good token proves.
struct Proved {
    subject: Option<String>,
    issuer: Option<String>,
    expires_at: SystemTime,
    claims: Map<String, Value>,
}

/// Says whether a token is good; the answer is no if not.
pub(crate) fn verify(arguments: &VerifyArguments, output: &Output) -> Result<Answer, VerifyError> {
    let token = read_token(&arguments.token)?;
    let now = SystemTime::now();
    let verdict = match judge(arguments, &token, now)? {
        Ok(proved) => good(proved, &arguments.audience, now),
        Err(reason) => Verdict {
            verified: false,
            text: reason.clone(),
            reason: Some(reason),
            subject: None,
            issuer: None,
            expires_at: None,
            claims: None,
        },
    };
    Ok(output.write_verdict(verdict.verified, &verdict, &verdict.text)?)
}

fn good(proved: Proved, audience: &str, now: SystemTime) -> Verdict {
    let left = proved.expires_at.duration_since(now).unwrap_or_default();
    let by = proved.issuer.as_deref().unwrap_or("the trust domain");
    let subject = proved.subject.as_deref().unwrap_or("nobody by name");
    Verdict {
        verified: true,
        reason: None,
        text: format!("{subject}, by {by}, for {audience}; {} left", Span(left)),
        subject: proved.subject,
        issuer: proved.issuer,
        expires_at: Some(rfc3339(proved.expires_at)),
        claims: Some(proved.claims),
    }
}

/// Outer error: it could not be judged. Inner: it is not good, and why.
fn judge(
    arguments: &VerifyArguments,
    token: &str,
    now: SystemTime,
) -> Result<Result<Proved, String>, VerifyError> {
    if let Some(path) = &arguments.bundle {
        let text = read_json(path, "a SPIFFE bundle with JWT keys (JSON)")?;
        let trust_domain = match &arguments.trust_domain {
            Some(trust_domain) => trust_domain.clone(),
            None => match jwt::svid::unverified_trust_domain(token) {
                Ok(trust_domain) => trust_domain,
                Err(error) => return Ok(Err(error.to_string())),
            },
        };
        let bundle =
            SpiffeBundle::parse(trust_domain, &text).map_err(|source| VerifyError::Bundle {
                path: path.clone(),
                source,
            })?;
        let verified = jwt::svid::verify(token, &arguments.audience, &bundle.bundle, now);
        return Ok(match verified {
            Ok(svid) => Ok(Proved {
                subject: Some(svid.id().to_string()),
                issuer: None,
                expires_at: svid.expires_at(),
                claims: svid.into_claims(),
            }),
            Err(error) => Err(error.to_string()),
        });
    }
    let (issuer, keys) = match (&arguments.jwks, &arguments.issuer) {
        (Some(path), _) => {
            let keys =
                KeySet::parse(&read_json(path, JWK_SET)?).map_err(|source| VerifyError::Keys {
                    path: path.clone(),
                    source,
                })?;
            let issuer = match &arguments.iss {
                Some(issuer) => issuer.clone(),
                None => match jwt::unverified_issuer(token) {
                    Ok(issuer) => issuer,
                    Err(error) => return Ok(Err(error.to_string())),
                },
            };
            (issuer, keys)
        }
        (None, Some(issuer)) => (issuer.clone(), published_keys(issuer, arguments)?),
        (None, None) => return Ok(Err("no keys to verify by".to_owned())),
    };
    let rules = IssuerRules {
        issuer,
        audiences: vec![arguments.audience.clone()],
        algorithms: Algorithm::ALL.to_vec(),
        leeway: LEEWAY,
    };
    Ok(match jwt::verify(token, &rules, &keys, now) {
        Ok(verified) => Ok(Proved {
            subject: verified.subject().map(str::to_owned),
            issuer: Some(verified.issuer().to_owned()),
            expires_at: verified.expires_at(),
            claims: verified.into_claims(),
        }),
        Err(error) => Err(error.to_string()),
    })
}

/// A file that should have JSON, unless it plainly has something else.
fn read_json(path: &Path, expected: &'static str) -> Result<String, VerifyError> {
    let text = std::fs::read_to_string(path).map_err(|source| VerifyError::File {
        path: path.to_owned(),
        source,
    })?;
    let found = match text.trim_start() {
        "" => "nothing",
        pem if pem.starts_with("-----BEGIN ") => "PEM",
        _ => return Ok(text),
    };
    Err(VerifyError::Form {
        path: path.to_owned(),
        expected,
        found,
    })
}

/// The keys of an issuer, found by its metadata.
fn published_keys(issuer: &str, arguments: &VerifyArguments) -> Result<KeySet, VerifyError> {
    let failed = |source| VerifyError::Issuer {
        issuer: issuer.to_owned(),
        source,
    };
    let client = Client::new(arguments.provider_ca.as_deref());
    let text = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(VerifyError::Runtime)?
        .block_on(async {
            let metadata = client.metadata(issuer).await?;
            let url = provider::endpoint(&metadata, Endpoint::Keys)?;
            client.get(&url).await
        })
        .map_err(failed)?;
    KeySet::parse(&text).map_err(|source| VerifyError::IssuerKeys {
        issuer: issuer.to_owned(),
        source,
    })
}
