//! JWT-SVIDs: one for each audience is kept, and asked for anew when half its life is over.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use countersign_api::tokens::{IssuedJwt, TokenClient, TokenClientError};
use tokio::sync::Mutex;

/// How many audiences are remembered. A workload has a few.
const KEPT: usize = 64;
/// A token with less left than this is of no use to whoever gets it.
const LEAST_LEFT: Duration = Duration::from_secs(5);
/// How often the CA is asked for a newer bundle because a token's key is not known: anybody can send a token.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);

/// For whom; sorted.
type Audience = Vec<String>;
type Slot = Arc<Mutex<Option<IssuedJwt>>>;

/// The tokens of this workload.
#[derive(Debug)]
pub(super) struct Tokens {
    client: TokenClient,
    kept: std::sync::Mutex<HashMap<Audience, Slot>>,
    refreshed: Mutex<Option<Instant>>,
}

impl Tokens {
    pub(super) fn new(client: TokenClient) -> Self {
        Self {
            client,
            kept: std::sync::Mutex::default(),
            refreshed: Mutex::default(),
        }
    }

    /// A token for this audience. Those who ask for the same one at the same time wait for one answer of the CA.
    ///
    /// # Errors
    /// The CA gives none, and there is none that is still good.
    pub(super) async fn get(
        &self,
        mut audience: Audience,
        now: SystemTime,
    ) -> Result<String, TokenClientError> {
        audience.sort_unstable();
        audience.dedup();
        let slot = self.slot(&audience);
        let mut held = slot.lock().await;
        if let Some(fresh) = held.as_ref().filter(|held| is_fresh(held, now)) {
            return Ok(fresh.token.clone());
        }
        match self.client.issue_jwt(audience).await {
            Ok(issued) => Ok(held.insert(issued).token.clone()),
            Err(error) => {
                let usable = held.as_ref().filter(|held| is_usable(held, now));
                let usable = usable.map(|held| held.token.clone());
                if usable.is_some() {
                    tracing::warn!(%error, "jwt-svid not renewed; the old one is still good");
                }
                usable.ok_or(error)
            }
        }
    }

    /// Asks the CA for a newer bundle, if it was not asked a moment ago. Says whether there is one.
    pub(super) async fn refresh_bundle(&self) -> bool {
        // Held while the CA is asked: who comes meanwhile waits for the answer, and then finds that it is new.
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return false;
        }
        *refreshed = Some(Instant::now());
        match self.client.refresh_bundle().await {
            Ok(newer) => newer,
            Err(error) => {
                tracing::warn!(%error, "bundle not refreshed");
                false
            }
        }
    }

    fn slot(&self, audience: &Audience) -> Slot {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = kept.get(audience) {
            return Arc::clone(slot);
        }
        if kept.len() >= KEPT {
            // Those that nobody waits for. What is forgotten is asked for again.
            kept.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let slot = Slot::default();
        kept.insert(audience.clone(), Arc::clone(&slot));
        slot
    }
}

/// Whether it is in the first half of its life. By a clock that was set back it is not, whenever that began.
fn is_fresh(token: &IssuedJwt, now: SystemTime) -> bool {
    let life = token.expires_at.duration_since(token.issued_at);
    let age = now.duration_since(token.issued_at);
    matches!((life, age), (Ok(life), Ok(age)) if age < life / 2)
}

fn is_usable(token: &IssuedJwt, now: SystemTime) -> bool {
    let left = token.expires_at.duration_since(now);
    left.is_ok_and(|left| left >= LEAST_LEFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    #[test]
    fn a_token_is_fresh_for_half_its_life_and_usable_until_shortly_before_its_end() {
        let token = IssuedJwt {
            token: "t".to_owned(),
            issued_at: at(100),
            expires_at: at(400),
        };
        let states = [99, 100, 249, 250, 395, 396, 1000]
            .map(|now| (is_fresh(&token, at(now)), is_usable(&token, at(now))));
        assert_eq!(
            states,
            [
                (false, true),
                (true, true),
                (true, true),
                (false, true),
                (false, true),
                (false, false),
                (false, false)
            ]
        );
    }
}
