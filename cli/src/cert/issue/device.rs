//! The device authorization grant (RFC 8628): the user logs in somewhere else, and we wait.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use countersign_identity::keys::{Endpoint, Reply};
use serde::Deserialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::instant::Span;
use crate::output::printable;
use crate::provider::{self, Client, ProviderError};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// RFC 8628 §3.2: how often to ask if the provider does not say.
const USUAL_INTERVAL: u64 = 5;
/// RFC 8628 §3.5: how much slower to ask when that is demanded.
const SLOWER: Duration = Duration::from_secs(5);
/// The bounds of what a provider may ask of us.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_WAIT: u64 = 3600;

/// Why the login did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("the OpenID provider {issuer}: {source}")]
    Provider {
        issuer: String,
        source: ProviderError,
    },
    #[error("the OpenID provider refuses: {0}")]
    Refused(String),
    #[error("the OpenID provider's answer is not that of RFC 8628")]
    Answer(#[source] serde_json::Error),
    #[error("the OpenID provider answered {0} and does not say why")]
    Status(http::StatusCode),
    #[error("the login was not done in time; start again")]
    TooLate,
    #[error("cannot say where to log in")]
    Tell(#[source] io::Error),
}

/// RFC 8628 §3.2.
#[derive(Deserialize)]
struct Authorization {
    device_code: String,
    user_code: String,
    verification_uri: String,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// RFC 6749 §5.1 and §5.2.
#[derive(Deserialize)]
struct TokenAnswer {
    id_token: Option<String>,
    access_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Asks the user to log in, waits, and gives the ID token; the access token of a provider that has none.
pub(super) async fn log_in(
    issuer: &str,
    client_id: &str,
    scope: &str,
    authorities: Option<&Path>,
) -> Result<Zeroizing<String>, DeviceError> {
    let client = Client::new(authorities);
    let failed = |source| DeviceError::Provider {
        issuer: issuer.to_owned(),
        source,
    };
    let metadata = client.metadata(issuer).await.map_err(failed)?;
    let device = provider::endpoint(&metadata, Endpoint::DeviceAuthorization).map_err(failed)?;
    let token = provider::endpoint(&metadata, Endpoint::Token).map_err(failed)?;

    let form = form(&[("client_id", client_id), ("scope", scope)]);
    let answer = client.post(&device, form).await.map_err(failed)?;
    if !answer.status.is_success() {
        return Err(refusal(&answer));
    }
    let authorization: Authorization =
        serde_json::from_str(&answer.text).map_err(DeviceError::Answer)?;
    tell(&authorization).map_err(DeviceError::Tell)?;

    let patience = Duration::from_secs(authorization.expires_in.min(LONGEST_WAIT));
    let interval = authorization.interval.unwrap_or(USUAL_INTERVAL);
    let mut interval = Duration::from_secs(interval).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
    let start = Instant::now();
    while start.elapsed() < patience {
        tokio::time::sleep(interval).await;
        let form = self::form(&[
            ("grant_type", GRANT),
            ("device_code", &authorization.device_code),
            ("client_id", client_id),
        ]);
        let answer = match client.post(&token, form).await {
            Ok(answer) => answer,
            // RFC 8628 §3.5: a connection that times out is a reason to ask more slowly.
            Err(error) if error.is_timeout() => {
                interval = interval.saturating_mul(2).min(LONGEST_INTERVAL);
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let answer: TokenAnswer = match serde_json::from_str(&answer.text) {
            Ok(answer) => answer,
            // RFC 6749 §5.2 has its reasons in JSON; a page of an error has none.
            Err(_) if !answer.status.is_success() => {
                return Err(DeviceError::Status(answer.status));
            }
            Err(error) => return Err(DeviceError::Answer(error)),
        };
        match (
            answer.error.as_deref(),
            answer.id_token.or(answer.access_token),
        ) {
            (None, Some(token)) => return Ok(Zeroizing::new(token)),
            (Some("authorization_pending"), _) => {}
            (Some("slow_down"), _) => interval = (interval + SLOWER).min(LONGEST_INTERVAL),
            (Some("expired_token"), _) => return Err(DeviceError::TooLate),
            (error, _) => {
                let text = answer.error_description.as_deref().or(error);
                return Err(DeviceError::Refused(shown(text.unwrap_or("no token came"))));
            }
        }
    }
    Err(DeviceError::TooLate)
}

fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn refusal(reply: &Reply) -> DeviceError {
    match serde_json::from_str::<TokenAnswer>(&reply.text) {
        Ok(answer) => {
            let text = answer.error_description.or(answer.error);
            DeviceError::Refused(shown(text.as_deref().unwrap_or("it does not say why")))
        }
        Err(_) => DeviceError::Status(reply.status),
    }
}

fn shown(text: &str) -> String {
    printable(text).chars().take(300).collect()
}

/// On standard error: standard output may be on its way to another program.
fn tell(authorization: &Authorization) -> io::Result<()> {
    let mut text = format!(
        "To prove who you are, open\n  {}\nand enter the code\n  {}\n",
        shown(&authorization.verification_uri),
        shown(&authorization.user_code)
    );
    if let Some(complete) = &authorization.verification_uri_complete {
        text.push_str(&format!("or open\n  {}\n", shown(complete)));
    }
    let time = Span(Duration::from_secs(
        authorization.expires_in.min(LONGEST_WAIT),
    ));
    text.push_str(&format!("Waiting for that, for {time}.\n"));
    io::stderr().lock().write_all(text.as_bytes())
}
