//! Watches what the children do not tell by themselves: which policy is in force, and how long the
//! workloads' SVIDs last.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::event::{Event, Events};
use crate::http_client;

/// How often the control plane's status is asked for.
const POLICY_INTERVAL: Duration = Duration::from_millis(250);

/// How often a sidecar's metrics are asked for.
const SVID_INTERVAL: Duration = Duration::from_secs(5);

/// The sidecar's metric for the end of its SVID, in seconds since 1970.
const SVID_METRIC: &str = "countersign_proxy_identity_not_after_timestamp_seconds";

/// `GET /status` of the control plane, as far as it is told here.
#[derive(Debug, Default, PartialEq, Deserialize)]
struct Status {
    policy: PolicyStatus,
    #[serde(default)]
    sidecars: Vec<SidecarStatus>,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
struct PolicyStatus {
    revision: Option<String>,
    rejected: Option<Rejected>,
    /// Why the repository cannot be read just now.
    #[serde(rename = "sourceError")]
    source_error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Rejected {
    revision: String,
    #[serde(default)]
    errors: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct SidecarStatus {
    workload: String,
    revision: Option<String>,
    error: Option<String>,
}

/// Tells whenever the control plane takes or refuses a policy revision, and what its sidecars have.
/// Ends only when dropped.
pub(crate) async fn policy(control_ops: SocketAddr, events: Events) {
    let mut known = Status::default();
    let mut ticks = ticks(POLICY_INTERVAL);
    loop {
        ticks.tick().await;
        // A control plane that does not answer just now changes nothing; that it died is told elsewhere.
        let Ok(answer) = http_client::get(control_ops, "/status").await else {
            continue;
        };
        let Ok(status) = serde_json::from_slice::<Status>(&answer.body) else {
            continue;
        };
        for event in changes(&known, &status) {
            events.tell(event);
        }
        known = status;
    }
}

/// What is new in a status.
fn changes(known: &Status, status: &Status) -> Vec<Event> {
    let mut events = Vec::new();
    if let Some(revision) = &status.policy.revision
        && known.policy.revision.as_ref() != Some(revision)
    {
        events.push(Event::PolicyTaken {
            revision: revision.clone(),
        });
    }
    if let Some(rejected) = &status.policy.rejected
        && known.policy.rejected.as_ref() != Some(rejected)
    {
        events.push(Event::PolicyRefused {
            revision: rejected.revision.clone(),
            mistakes: rejected.errors.iter().map(mistake).collect(),
            stays: status.policy.revision.clone(),
        });
    }
    if let Some(error) = &status.policy.source_error
        && known.policy.source_error.as_ref() != Some(error)
    {
        let stays = status.policy.revision.clone();
        events.push(Event::PolicyUnreadable {
            error: error.clone(),
            stays,
        });
    }
    for sidecar in &status.sidecars {
        if !known.sidecars.contains(sidecar) {
            events.push(Event::PolicyAt {
                workload: sidecar.workload.clone(),
                revision: sidecar.revision.clone(),
                error: sidecar.error.clone(),
            });
        }
    }
    events
}

/// A mistake as text, or as an object with its place.
fn mistake(value: &Value) -> String {
    let field = |name: &str| {
        value.get(name).map(|part| match part {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    if let Value::String(text) = value {
        return text.clone();
    }
    match (
        field("file"),
        field("line"),
        field("column"),
        field("message"),
    ) {
        (Some(file), Some(line), Some(column), Some(message)) => {
            format!("{file}:{line}:{column}: {message}")
        }
        (_, _, _, Some(message)) => message,
        _ => value.to_string(),
    }
}

/// Tells how long a workload's SVID lasts, again and again. Ends only when dropped.
pub(crate) async fn svid(workload: String, sidecar_ops: SocketAddr, events: Events) {
    let mut known = None;
    let mut ticks = ticks(SVID_INTERVAL);
    loop {
        ticks.tick().await;
        let Ok(answer) = http_client::get(sidecar_ops, "/metrics").await else {
            continue;
        };
        let not_after = end_of_svid(&String::from_utf8_lossy(&answer.body));
        if not_after != known
            && let Some(not_after) = not_after
        {
            events.tell(Event::SvidUntil {
                workload: workload.clone(),
                not_after,
            });
        }
        known = not_after;
    }
}

fn end_of_svid(metrics: &str) -> Option<SystemTime> {
    let value = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(SVID_METRIC))
        .find_map(|rest| rest.split_ascii_whitespace().next())?;
    // 0 while there is none.
    let seconds: u64 = value
        .split('.')
        .next()?
        .parse()
        .ok()
        .filter(|seconds| *seconds > 0)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn ticks(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Status {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_revision_is_told_once_when_it_is_taken() {
        let first =
            status(r#"{"policy":{"revision":"a","acceptedAt":"…","rejected":null},"sidecars":[]}"#);
        assert!(matches!(
            changes(&Status::default(), &first).as_slice(),
            [Event::PolicyTaken { revision }] if revision == "a"
        ));
        assert!(changes(&first, &first).is_empty());
    }

    #[test]
    fn a_refused_commit_is_told_with_its_mistakes_and_what_stays() {
        let good = status(r#"{"policy":{"revision":"a"}}"#);
        let bad = status(
            r#"{"policy":{"revision":"a","rejected":{"revision":"b","errors":[
            "o.yaml:1:2: no", {"file":"p.yaml","line":3,"column":4,"message":"neither"}]}}}"#,
        );
        let events = changes(&good, &bad);
        let [
            Event::PolicyRefused {
                revision,
                mistakes,
                stays,
            },
        ] = events.as_slice()
        else {
            panic!("{events:?}");
        };
        assert_eq!((revision.as_str(), stays.as_deref()), ("b", Some("a")));
        assert_eq!(
            mistakes.as_slice(),
            ["o.yaml:1:2: no", "p.yaml:3:4: neither"]
        );
        assert!(changes(&bad, &bad).is_empty());
        assert!(changes(&bad, &good).is_empty());
    }

    #[test]
    fn the_end_of_an_svid_is_found_among_the_metrics() {
        let metrics = |value: &str| {
            format!("# TYPE {SVID_METRIC} gauge\n{SVID_METRIC} {value}\nother 1\n# EOF\n")
        };
        assert_eq!(end_of_svid(&metrics("0")), None);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_428_000);
        assert_eq!(end_of_svid(&metrics("1795428000")), Some(end));
        assert_eq!(end_of_svid(&metrics("1795428000.0")), Some(end));
    }
}
