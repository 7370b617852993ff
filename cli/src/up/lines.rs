//! Events as plain lines, for pipes and logs, and as JSON lines, for programs.

use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, Local, SecondsFormat, TimeZone, Utc};
use serde_json::{Value, json};

use super::decisions::short;
use super::event::{Event, Stamped};
use super::process::Ending;
use crate::instant::Span;
use crate::output::{Palette, Tone, printable};

/// Writes events as text.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    pub(crate) trust_domain: String,
    pub(crate) palette: Palette,
}

impl Lines {
    /// An event in the local time zone: one line, and an indented one for each detail. `None` for what
    /// only the table shows.
    pub(crate) fn text(&self, stamped: &Stamped) -> Option<String> {
        self.text_in(&Local, stamped)
    }

    fn text_in<Tz: TimeZone<Offset: fmt::Display>>(
        &self,
        zone: &Tz,
        stamped: &Stamped,
    ) -> Option<String> {
        let (tone, word, text, details) = self.parts(&stamped.event)?;
        let time = match &stamped.event {
            Event::Decided { decision, .. } => decision.time().unwrap_or(stamped.time),
            _ => stamped.time,
        };
        let time = DateTime::<Utc>::from(time)
            .with_timezone(zone)
            .format("%H:%M:%S")
            .to_string();
        let word = format!("{word:<6}");
        let (time, word) = (
            self.palette.paint(Tone::Faint, &time),
            self.palette.paint(tone, &word),
        );
        let mut line = format!("{time} {word} {}\n", printable(&text));
        for detail in details {
            line.push_str(&format!("         | {}\n", printable(&detail)));
        }
        Some(line)
    }

    /// How an event is shown: tone, a word of at most six letters, text, details.
    fn parts(&self, event: &Event) -> Option<(Tone, &'static str, String, Vec<String>)> {
        let none = Vec::new;
        Some(match event {
            Event::Starting(who) => (Tone::Faint, "START", who.to_string(), none()),
            Event::Ready(who) => (Tone::Good, "READY", who.to_string(), none()),
            Event::Late {
                who,
                limit,
                missing,
            } => {
                let text = format!("{who}: not ready after {}: {missing}", Span(*limit));
                (Tone::Warning, "LATE", text, none())
            }
            Event::Died {
                who,
                ending: Ending { how, last_lines },
                again_in,
            } => {
                let text = format!(
                    "{who}: {how}; starts again in {:.1} s",
                    again_in.as_secs_f32()
                );
                (Tone::Bad, "DIED", text, last_lines.clone())
            }
            Event::CannotStart {
                who,
                problem,
                again_in,
            } => {
                let text = format!(
                    "{who}: {problem}; tried again in {:.1} s",
                    again_in.as_secs_f32()
                );
                (Tone::Bad, "DIED", text, none())
            }
            Event::Stopped { who, how } => (Tone::Faint, "STOP", format!("{who}: {how}"), none()),
            Event::Up { workloads, took } => {
                let text = format!("{workloads} workloads, in {:.1} s", took.as_secs_f32());
                (Tone::Strong, "UP", text, none())
            }
            Event::Stopping => (
                Tone::Strong,
                "DOWN",
                "stopping everything".to_owned(),
                none(),
            ),
            Event::PolicyTaken { revision } => (
                Tone::Good,
                "POLICY",
                format!("revision {} is in force", short(revision)),
                none(),
            ),
            Event::PolicyRefused {
                revision,
                mistakes,
                stays,
            } => {
                let stays = what_stays(stays.as_deref());
                let text = format!("revision {} is refused; {stays}", short(revision));
                (Tone::Bad, "REFUSE", text, mistakes.clone())
            }
            Event::PolicyUnreadable { error, stays } => {
                let stays = what_stays(stays.as_deref());
                (
                    Tone::Warning,
                    "POLICY",
                    format!("cannot be read: {error}; {stays}"),
                    none(),
                )
            }
            Event::PolicyAt {
                workload,
                error: Some(error),
                ..
            } => (
                Tone::Bad,
                "REFUSE",
                format!("sidecar of {workload}: {error}"),
                none(),
            ),
            Event::PolicyAt { error: None, .. } | Event::SvidUntil { .. } => return None,
            Event::Decided { decision, .. } => {
                let (tone, word) = if decision.allowed {
                    (Tone::Good, "ALLOW")
                } else {
                    (Tone::Bad, "DENY")
                };
                (tone, word, decision.describe(&self.trust_domain), none())
            }
        })
    }
}

/// What is in force although something else was to be.
fn what_stays(revision: Option<&str>) -> String {
    match revision {
        Some(revision) => format!("{} stays in force", short(revision)),
        None => "nothing is in force, so nothing is allowed".to_owned(),
    }
}

/// An event as one JSON line: `time`, `event`, and what belongs to it.
pub(crate) fn json_line(stamped: &Stamped) -> String {
    let mut fields = match &stamped.event {
        Event::Starting(who) => {
            json!({"event": "starting", "role": who.role.as_str(), "name": who.name})
        }
        Event::Ready(who) => json!({"event": "ready", "role": who.role.as_str(), "name": who.name}),
        Event::Late {
            who,
            limit,
            missing,
        } => json!({
            "event": "late", "role": who.role.as_str(), "name": who.name,
            "seconds": limit.as_secs(), "missing": missing,
        }),
        Event::Died {
            who,
            ending,
            again_in,
        } => json!({
            "event": "died", "role": who.role.as_str(), "name": who.name, "how": ending.how,
            "last_lines": ending.last_lines, "again_in_seconds": again_in.as_secs_f64(),
        }),
        Event::CannotStart {
            who,
            problem,
            again_in,
        } => json!({
            "event": "cannot-start", "role": who.role.as_str(), "name": who.name, "problem": problem,
            "again_in_seconds": again_in.as_secs_f64(),
        }),
        Event::Stopped { who, how } => json!({
            "event": "stopped", "role": who.role.as_str(), "name": who.name, "how": how,
        }),
        Event::Up { workloads, took } => json!({
            "event": "up", "workloads": workloads, "seconds": took.as_secs_f64(),
        }),
        Event::Stopping => json!({"event": "stopping"}),
        Event::PolicyTaken { revision } => json!({"event": "policy-taken", "revision": revision}),
        Event::PolicyRefused {
            revision,
            mistakes,
            stays,
        } => json!({
            "event": "policy-refused", "revision": revision, "mistakes": mistakes, "stays": stays,
        }),
        Event::PolicyUnreadable { error, stays } => json!({
            "event": "policy-unreadable", "error": error, "stays": stays,
        }),
        Event::PolicyAt {
            workload,
            revision,
            error,
        } => json!({
            "event": "policy-at", "workload": workload, "revision": revision, "error": error,
        }),
        Event::SvidUntil {
            workload,
            not_after,
        } => json!({
            "event": "svid-until", "workload": workload, "not_after": timestamp(*not_after),
        }),
        Event::Decided { workload, decision } => json!({
            "event": "decision", "workload": workload, "record": decision.record,
        }),
    };
    if let Value::Object(fields) = &mut fields {
        fields.insert("time".to_owned(), Value::from(timestamp(stamped.time)));
    }
    format!("{fields}\n")
}

fn timestamp(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::up::decisions::Decision;
    use crate::up::event::{Role, Who};

    fn orders() -> Who {
        Who {
            role: Role::Workload,
            name: "orders".to_owned(),
        }
    }

    fn stamped(event: Event) -> Stamped {
        Stamped {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_434_001),
            event,
        }
    }

    fn lines(events: Vec<Event>) -> String {
        let lines = Lines {
            trust_domain: "shop.example".to_owned(),
            palette: Palette::PLAIN,
        };
        events
            .into_iter()
            .filter_map(|event| lines.text_in(&Utc, &stamped(event)))
            .collect()
    }

    fn decided(line: &str) -> Event {
        let decision = Box::new(Decision::parse(line).unwrap());
        Event::Decided {
            workload: "orders".to_owned(),
            decision,
        }
    }

    const ALLOWED: &str = r#"{"time":"2026-11-23T12:00:01Z","decision":"allow","rule":"web creates orders","file":"orders.yaml","line":12,"revision":"3f2c1ab5e5","peer":"spiffe://shop.example/ns/shop/sa/web","destination":"shop/orders","method":"POST","path":"/orders"}"#;

    #[test]
    fn plain_lines_are_these() {
        let ending = Ending {
            how: "exit status 1".to_owned(),
            last_lines: vec!["cannot reach payments\u{1b}[2J".to_owned()],
        };
        let again_in = Duration::from_millis(500);
        let mistakes =
            vec!["orders.yaml:3:5: unknown field `form`, did you mean `from`?".to_owned()];
        let refused = |stays: Option<&str>| Event::PolicyRefused {
            revision: "9ab04d17c2".to_owned(),
            mistakes: mistakes.clone(),
            stays: stays.map(str::to_owned),
        };
        let text = lines(vec![
            Event::Starting(orders()),
            Event::Ready(Who {
                role: Role::Sidecar,
                name: "orders".to_owned(),
            }),
            Event::Died {
                who: orders(),
                ending,
                again_in,
            },
            Event::Up {
                workloads: 5,
                took: Duration::from_millis(1_234),
            },
            Event::PolicyTaken {
                revision: "3f2c1ab5e5".to_owned(),
            },
            refused(Some("3f2c1ab5e5")),
            refused(None),
            decided(ALLOWED),
            decided(
                r#"{"time":"2026-11-23T12:00:02Z","decision":"deny","reason":"no rule matches","revision":"3f2c1ab5e5","peer":"spiffe://shop.example/ns/shop/sa/web","destination":"shop/orders","method":"DELETE","path":"/orders"}"#,
            ),
            Event::SvidUntil {
                workload: "orders".to_owned(),
                not_after: SystemTime::UNIX_EPOCH,
            },
        ]);
        assert_eq!(
            text,
            "\
11:40:01 START  workload orders
11:40:01 READY  sidecar of orders
11:40:01 DIED   workload orders: exit status 1; starts again in 0.5 s
         | cannot reach payments\u{fffd}[2J
11:40:01 UP     5 workloads, in 1.2 s
11:40:01 POLICY revision 3f2c1ab is in force
11:40:01 REFUSE revision 9ab04d1 is refused; 3f2c1ab stays in force
         | orders.yaml:3:5: unknown field `form`, did you mean `from`?
11:40:01 REFUSE revision 9ab04d1 is refused; nothing is in force, so nothing is allowed
         | orders.yaml:3:5: unknown field `form`, did you mean `from`?
12:00:01 ALLOW  shop/web → shop/orders  POST /orders  \"web creates orders\" (orders.yaml:12 @3f2c1ab)
12:00:02 DENY   shop/web → shop/orders  DELETE /orders  no rule matches (@3f2c1ab)
"
        );
    }

    #[test]
    fn json_lines_have_time_and_event_and_the_whole_decision() {
        let line = json_line(&stamped(decided(ALLOWED)));
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "decision");
        assert_eq!(value["time"], "2026-11-23T11:40:01.000Z");
        assert_eq!(
            value["record"],
            serde_json::from_str::<Value>(ALLOWED).unwrap()
        );
        let value: Value =
            serde_json::from_str(&json_line(&stamped(Event::Ready(orders())))).unwrap();
        assert_eq!(value["role"], "workload");
    }
}
