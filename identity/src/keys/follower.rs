//! Keeps one issuer's key set fresh in the background.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::discovery::{self, Found};
use super::endpoint::{EndpointError, IssuerEndpoint};
use super::fetch::Fetcher;
use super::schedule::Schedule;
use crate::jwt::KeySet;

/// How many requests for unknown keys may wait for the follower's task; more are dropped, as their tokens are refused anyway.
const WAITING_ASKS: usize = 32;

/// What is known of an issuer's keys.
#[derive(Clone, Debug, Default)]
pub struct KeyState {
    /// The last good key set. The same `Arc` as long as the keys are the same.
    pub keys: Option<Arc<KeySet>>,
    /// The same as a JWK Set, public members only: what is handed to sidecars.
    pub jwks: Option<Arc<str>>,
    /// When the key set was last fetched, for telling its age.
    pub fetched_at: Option<SystemTime>,
    /// Why the last attempt failed; none if it did not.
    pub last_error: Option<String>,
    /// How many attempts there have been, good or bad. 0: none has ended yet.
    pub attempts: u64,
}

/// A token named a key that the set does not have.
struct Ask {
    key_id: String,
    /// Told whether a fetch will be made for it.
    answer: Option<oneshot::Sender<bool>>,
}

/// Why following cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The configuration cannot work.
    #[error("issuer \"{issuer}\": {error}")]
    Endpoint {
        /// The issuer.
        issuer: String,
        /// Why.
        error: EndpointError,
    },
}

/// Follows one issuer's keys until it is dropped.
pub struct KeyFollower {
    issuer: String,
    state: watch::Receiver<Arc<KeyState>>,
    asks: mpsc::Sender<Ask>,
    task: AbortHandle,
}

impl KeyFollower {
    /// Checks the configuration and starts to follow, with a first fetch at once. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the configuration cannot work. An issuer that is out of reach is no error: see [`KeyState::last_error`].
    pub fn spawn(endpoint: IssuerEndpoint) -> Result<Self, FollowError> {
        let issuer = endpoint.issuer.clone();
        endpoint.check().map_err(|error| FollowError::Endpoint {
            issuer: issuer.clone(),
            error,
        })?;
        let (publish, state) = watch::channel(Arc::new(KeyState::default()));
        let (asks, asked) = mpsc::channel(WAITING_ASKS);
        let task = tokio::spawn(follow(endpoint, publish, asked)).abort_handle();
        Ok(Self {
            issuer,
            state,
            asks,
            task,
        })
    }

    /// The issuer that is followed.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What is known now.
    pub fn state(&self) -> Arc<KeyState> {
        Arc::clone(&self.state.borrow())
    }

    /// Tells of every attempt, good or bad.
    pub fn changes(&self) -> watch::Receiver<Arc<KeyState>> {
        self.state.clone()
    }

    /// Says that a token named `key_id`, which the set does not have. Returns at once; a fetch is made if none was made for
    /// this key within the refresh interval.
    pub fn request_key(&self, key_id: &str) {
        // Full or closed: dropped, see `WAITING_ASKS`.
        let _ = self.asks.try_send(Ask {
            key_id: key_id.to_owned(),
            answer: None,
        });
    }

    /// As [`KeyFollower::request_key`], and waits at most `patience` for the fetch, if one is made.
    pub async fn look_for_key(&self, key_id: &str, patience: Duration) -> Arc<KeyState> {
        let mut state = self.state.clone();
        let look = async {
            let (answer, admitted) = oneshot::channel();
            let ask = Ask {
                key_id: key_id.to_owned(),
                answer: Some(answer),
            };
            let seen = state.borrow_and_update().attempts;
            if self.asks.try_send(ask).is_ok() && admitted.await == Ok(true) {
                let _ = state.wait_for(|state| state.attempts > seen).await;
            }
        };
        let _ = tokio::time::timeout(patience, look).await;
        self.state()
    }

    /// The state once the first attempt has ended.
    pub async fn settled(&self) -> Arc<KeyState> {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.attempts > 0).await {
            Ok(state) => Arc::clone(&state),
            Err(_) => self.state(),
        }
    }
}

impl Drop for KeyFollower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for KeyFollower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFollower")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

async fn follow(
    endpoint: IssuerEndpoint,
    publish: watch::Sender<Arc<KeyState>>,
    mut asked: mpsc::Receiver<Ask>,
) {
    let fetcher = Fetcher::of_issuer(&endpoint);
    let mut schedule = Schedule::new(endpoint.refresh, Instant::now());
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(schedule.due()) => {
                let found = discovery::look_up(&endpoint, &fetcher).await;
                let now = Instant::now();
                match &found {
                    Ok(found) => schedule.succeeded(found.max_age, now, jitter()),
                    Err(_) => schedule.failed(now, jitter()),
                }
                let before = Arc::clone(&publish.borrow());
                let after = next_state(&before, found.map_err(|error| one_line(&error)), SystemTime::now());
                report(&endpoint.issuer, &before, &after);
                publish.send_replace(Arc::new(after));
            }
            ask = asked.recv() => {
                let Some(Ask { key_id, answer }) = ask else { return };
                let known = has_key(&publish.borrow(), &key_id);
                let admitted = !known && schedule.ask(&key_id, Instant::now());
                if let Some(answer) = answer {
                    // The asker may have lost patience.
                    let _ = answer.send(admitted);
                }
            }
        }
    }
}

fn has_key(state: &KeyState, key_id: &str) -> bool {
    state
        .keys
        .as_ref()
        .is_some_and(|keys| keys.key_ids().any(|id| id == key_id))
}

/// An error for people. What the issuer sent may stand in it, and may be long or have many lines.
fn one_line(error: &impl fmt::Display) -> String {
    const SHOWN: usize = 500;
    let text = error.to_string();
    text.chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// What is known after an attempt. A failure keeps the last good keys.
fn next_state(before: &KeyState, found: Result<Found, String>, now: SystemTime) -> KeyState {
    let attempts = before.attempts.saturating_add(1);
    match found {
        Ok(found) => {
            let jwks = found.keys.to_jwks();
            let same = before.jwks.as_deref() == Some(&*jwks);
            let (keys, jwks) = if same {
                (before.keys.clone(), before.jwks.clone())
            } else {
                (Some(Arc::new(found.keys)), Some(jwks.into()))
            };
            KeyState {
                keys,
                jwks,
                fetched_at: Some(now),
                last_error: None,
                attempts,
            }
        }
        Err(error) => KeyState {
            last_error: Some(error),
            attempts,
            ..before.clone()
        },
    }
}

fn report(issuer: &str, before: &KeyState, after: &KeyState) {
    match (&after.last_error, &after.keys) {
        (Some(error), keys) => {
            let age = after.fetched_at.and_then(|at| at.elapsed().ok());
            let kept = match (keys, age) {
                (Some(_), Some(age)) => format!("kept, {} old", crate::jwt::in_words(age)),
                _ => "none".to_owned(),
            };
            tracing::warn!(issuer, %error, keys = %kept, "cannot fetch the issuer's keys");
        }
        (None, Some(keys)) if before.jwks != after.jwks => {
            let key_ids: Vec<&str> = keys.key_ids().collect();
            tracing::info!(issuer, ?key_ids, "the issuer's keys are new");
            for reason in keys.skipped() {
                tracing::info!(issuer, %reason, "a key of the issuer is not used");
            }
        }
        (None, _) if before.last_error.is_some() => {
            tracing::info!(issuer, "the issuer's keys can be fetched again");
        }
        (None, _) => {}
    }
}

/// From 0 to 1. Without randomness, which aws-lc-rs does not run out of, there is no jitter.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.0,
    }
}
