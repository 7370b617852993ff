//! The verification keys of the token issuers that the policy in force names: one follower for each, which starts and
//! ends with the policy that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use countersign_identity::keys::{IssuerEndpoint, KeyFollower, KeyState};
use countersign_policy::document::{KeySource, TokenIssuer};
use futures_util::FutureExt;
use futures_util::future::{pending, select_all};
use tokio::sync::watch;
use url::Url;

use crate::world::WorldSender;

/// Where keys are fetched from. Keys are kept by this and not by the name of a `TokenIssuer` document: a document that is
/// made to name another issuer must not be served the keys of the one before for a moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyPlace {
    issuer: String,
    jwks_uri: Option<String>,
}

impl KeyPlace {
    /// Where the keys of this issuer are fetched from; nowhere if the document itself has them.
    pub(crate) fn of(issuer: &TokenIssuer) -> Option<Self> {
        let jwks_uri = match &issuer.keys {
            KeySource::Discovery => None,
            KeySource::JwksUri(uri) => Some(uri.clone()),
            KeySource::Inline(_) => return None,
        };
        Some(Self {
            issuer: issuer.issuer.clone(),
            jwks_uri,
        })
    }
}

/// What is known of the keys of each place.
pub(crate) type KeyTable = BTreeMap<KeyPlace, Keys>;

/// What is known of one place's keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keys {
    /// The last good JSON Web Key Set.
    pub(crate) jwks: Option<Arc<str>>,
    pub(crate) fetched_at: Option<SystemTime>,
    /// Why the last attempt to fetch it failed.
    pub(crate) error: Option<String>,
}

impl From<&KeyState> for Keys {
    fn from(state: &KeyState) -> Self {
        Self {
            jwks: state.jwks.clone(),
            fetched_at: state.fetched_at,
            error: state.last_error.clone(),
        }
    }
}

/// Follows the keys of one place; or why that is not possible.
enum Followed {
    Keys {
        follower: KeyFollower,
        changes: watch::Receiver<Arc<KeyState>>,
    },
    Impossible(String),
}

/// Follows the keys of all issuers that policy names, for ever. `overrides` say how to reach an issuer, where that is not
/// as usual.
pub(crate) async fn follow(overrides: Vec<IssuerEndpoint>, world: WorldSender) {
    let mut policy = world.subscribe();
    let mut followed = BTreeMap::new();
    loop {
        let wanted = wanted(&world);
        followed.retain(|place, _| wanted.contains(place));
        for place in wanted {
            followed
                .entry(place)
                .or_insert_with_key(|place| Followed::start(place, &overrides));
        }
        publish(&followed, &world);
        let keys = followed
            .values_mut()
            .map(|followed| followed.changed().boxed());
        let any_keys = match keys.collect::<Vec<_>>() {
            none if none.is_empty() => pending().boxed(),
            some => select_all(some).map(drop).boxed(),
        };
        tokio::select! {
            // The world's owner is this task, too: it does not end before.
            _ = policy.changed() => {}
            () = any_keys => {}
        }
    }
}

fn wanted(world: &WorldSender) -> BTreeSet<KeyPlace> {
    let in_force = world.borrow().policy.in_force.clone();
    in_force
        .iter()
        .flat_map(|good| &good.issuers)
        .filter_map(KeyPlace::of)
        .collect()
}

fn publish(followed: &BTreeMap<KeyPlace, Followed>, world: &WorldSender) {
    let table: KeyTable = followed
        .iter()
        .map(|(place, followed)| (place.clone(), followed.keys()))
        .collect();
    world.send_if_modified(|world| {
        let changed = *world.keys != table;
        if changed {
            world.keys = Arc::new(table);
        }
        changed
    });
}

impl Followed {
    fn start(place: &KeyPlace, overrides: &[IssuerEndpoint]) -> Self {
        let configured = overrides
            .iter()
            .find(|endpoint| endpoint.issuer == place.issuer);
        let mut endpoint = configured
            .cloned()
            .unwrap_or_else(|| IssuerEndpoint::new(&place.issuer));
        let issuer = &place.issuer;
        let impossible = |error: String| {
            tracing::warn!(issuer, %error, "the keys of a token issuer cannot be followed");
            Self::Impossible(error)
        };
        if let (None, Some(uri)) = (&endpoint.jwks_uri, &place.jwks_uri) {
            match Url::parse(uri) {
                Ok(url) => endpoint.jwks_uri = Some(url),
                Err(error) => {
                    return impossible(format!("the jwksUri {uri:?} is not a URL: {error}"));
                }
            }
        }
        match KeyFollower::spawn(endpoint) {
            Ok(follower) => {
                tracing::info!(issuer, "following the keys of a token issuer");
                let changes = follower.changes();
                Self::Keys { follower, changes }
            }
            Err(error) => impossible(error.to_string()),
        }
    }

    fn keys(&self) -> Keys {
        match self {
            Self::Keys { follower, .. } => Keys::from(&*follower.state()),
            Self::Impossible(error) => Keys {
                error: Some(error.clone()),
                ..Keys::default()
            },
        }
    }

    async fn changed(&mut self) {
        match self {
            // A follower that has ended will not change any more.
            Self::Keys { changes, .. } => match changes.changed().await {
                Ok(()) => {}
                Err(_) => pending().await,
            },
            Self::Impossible(_) => pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
