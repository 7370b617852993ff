//! How fresh each issuer's keys are: for `/status` and the metrics. Made anew for every request, since an age grows.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use countersign_identity::keys::KeyState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::TypedMetric as _;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::attest::token_verifier::TokenVerifier;

/// The keys of every followed issuer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct KeyStatus(Arc<[Followed]>);

struct Followed {
    issuer: String,
    states: watch::Receiver<Arc<KeyState>>,
}

impl fmt::Debug for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|followed| &followed.issuer))
            .finish()
    }
}

impl KeyStatus {
    /// Of the keys of these issuers.
    pub(crate) fn of<'a>(verifiers: impl Iterator<Item = &'a TokenVerifier>) -> Self {
        let followed = verifiers.map(|verifier| Followed {
            issuer: verifier.issuer().to_owned(),
            states: verifier.key_states(),
        });
        Self(followed.collect())
    }

    /// One object per issuer. No secrets: the keys are public, and only their names are shown.
    pub(crate) fn json(&self, now: SystemTime) -> Value {
        let one = |followed: &Followed| {
            let state = followed.states.borrow();
            let key_ids: Vec<&str> = state.keys.iter().flat_map(|keys| keys.key_ids()).collect();
            let fetched_at = state
                .fetched_at
                .map(|at| DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Secs, true));
            json!({
                "issuer": followed.issuer,
                "keys": key_ids,
                "fetched_at": fetched_at,
                "age_seconds": age(&state, now),
                "attempts": state.attempts,
                "last_error": state.last_error,
            })
        };
        self.0.iter().map(one).collect()
    }
}

/// Whole seconds since the keys were last fetched; none while there are none.
fn age(state: &KeyState, now: SystemTime) -> Option<u64> {
    let fetched_at = state.fetched_at?;
    Some(now.duration_since(fetched_at).unwrap_or_default().as_secs())
}

type Measure = fn(&KeyState, SystemTime) -> Option<i64>;

const METRICS: [(&str, &str, Option<Unit>, Measure); 3] = [
    (
        "issuer_keys_age",
        "Time since the issuer's keys were last fetched; absent while there are none",
        Some(Unit::Seconds),
        |state, now| age(state, now)?.try_into().ok(),
    ),
    (
        "issuer_keys",
        "Keys of the issuer that tokens are verified with",
        None,
        |state, _| {
            let count = state.keys.as_ref().map_or(0, |keys| keys.len());
            count.try_into().ok()
        },
    ),
    (
        "issuer_keys_failing",
        "1 if the last attempt to fetch the issuer's keys failed, otherwise 0",
        None,
        |state, _| Some(state.last_error.is_some().into()),
    ),
];

impl Collector for KeyStatus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let now = SystemTime::now();
        for (name, help, unit, measure) in &METRICS {
            let kind = ConstGauge::<i64>::TYPE;
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
            for followed in self.0.iter() {
                if let Some(value) = measure(&followed.states.borrow(), now) {
                    let label = [("issuer", followed.issuer.as_str())];
                    ConstGauge::new(value).encode(metric.encode_family(&label)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use countersign_identity::jwt::KeySet;
    use prometheus_client::registry::Registry;

    #[test]
    fn the_age_of_the_last_good_keys_is_told_while_fetching_fails() {
        let jwk = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let now = SystemTime::now();
        let kept = KeyState {
            keys: Some(Arc::new(KeySet::parse(jwk).unwrap())),
            fetched_at: Some(now - Duration::from_secs(90)),
            last_error: Some("503".to_owned()),
            attempts: 7,
            ..KeyState::default()
        };
        let follow = |issuer: &str, state: KeyState| {
            let (_, states) = watch::channel(Arc::new(state));
            let issuer = issuer.to_owned();
            Followed { issuer, states }
        };
        let status = KeyStatus(Arc::new([
            follow("https://a.example", kept),
            follow("https://b.example", KeyState::default()),
        ]));
        let told = status.json(now);
        assert_eq!(told[0]["age_seconds"], 90);
        assert_eq!(told[0]["keys"], json!(["k1"]));
        assert_eq!(told[0]["last_error"], "503");
        assert_eq!(told[1]["age_seconds"], Value::Null);

        let mut registry = Registry::default();
        registry.register_collector(Box::new(status));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "issuer_keys_age_seconds{issuer=\"https://a.example\"} 9",
            "issuer_keys{issuer=\"https://a.example\"} 1",
            "issuer_keys{issuer=\"https://b.example\"} 0",
            "issuer_keys_failing{issuer=\"https://a.example\"} 1",
            "issuer_keys_failing{issuer=\"https://b.example\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(
            !text.contains("age_seconds{issuer=\"https://b.example\"}"),
            "{text}"
        );
    }
}
