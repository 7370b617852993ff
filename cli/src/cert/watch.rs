//! `countersign cert watch`: rotations as they happen.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::CertError;
use super::access::access;
use super::args::WatchArguments;
use super::entry::{Entry, entries};
use super::facts::Facts;
use super::findings::Judged;
use super::source::{Access, Found, Kind, ReadError, Target, WorkloadApi, runtime};
use crate::instant::{Standing, rfc3339};
use crate::output::{Answer, Format, Output, Tone, printable, with_causes};

const FILE_INTERVAL: Duration = Duration::from_secs(1);
const CONNECTION_INTERVAL: Duration = Duration::from_secs(10);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What is watched of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// What tells it from the others: the name of a leaf, the fingerprint of an authority.
    identity: String,
    title: String,
    serial: String,
    issuer: String,
    validity: (SystemTime, SystemTime),
    key: String,
    fingerprint: String,
}

/// One line. Its JSON form is stable.
#[derive(Debug, Serialize)]
struct Line {
    time: String,
    /// `first`, `changed`, `added`, `removed`, `expired`, or `unreadable`.
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
    /// Of `serial`, `validity`, `issuer`, `key`, what is another than before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changed: Vec<&'static str>,
    /// For people.
    text: String,
}

#[derive(Debug, Serialize)]
struct Certificate {
    name: String,
    serial: String,
    issuer: String,
    not_before: String,
    not_after: String,
    seconds_left: u64,
    public_key_sha256: String,
    sha256: String,
}

/// What was seen last.
#[derive(Default)]
struct Watcher {
    seen: Option<Vec<Seen>>,
    /// The fingerprints whose expiry has been told.
    expired: Vec<String>,
    trouble: Option<String>,
}

/// Prints a line for each change, for ever or until so many lines are printed.
pub(crate) fn watch(arguments: &WatchArguments, output: &Output) -> Result<Answer, CertError> {
    let access = access(&arguments.access)?;
    let target = Target::parse(&arguments.target)?;
    let usual = match target {
        Target::Stdin => return Err(CertError::WatchStdin),
        Target::File(_) => FILE_INTERVAL,
        _ => CONNECTION_INTERVAL,
    };
    let interval = arguments.interval.map_or(usual, |interval| {
        Duration::from_secs(interval.seconds().unsigned_abs())
    });
    let interval = interval.max(SHORTEST_INTERVAL);
    let mut printer = Printer {
        output,
        left: arguments.lines.unwrap_or(u64::MAX),
    };
    runtime()?.block_on(async {
        match &target {
            Target::Socket(path) => follow_socket(path, interval, &mut printer).await,
            _ => look_again(&target, &access, interval, &mut printer).await,
        }
    })?;
    Ok(Answer::Yes)
}

/// Looks at a target again and again.
async fn look_again(
    target: &Target,
    access: &Access,
    interval: Duration,
    printer: &mut Printer<'_>,
) -> Result<(), CertError> {
    let mut watcher = Watcher::default();
    loop {
        let found = target.read(access);
        if !printer.print(watcher.look(found, SystemTime::now()))? {
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

/// Follows the stream of a Workload API, and connects again when it ends.
async fn follow_socket(
    path: &std::path::Path,
    interval: Duration,
    printer: &mut Printer<'_>,
) -> Result<(), CertError> {
    let mut watcher = Watcher::default();
    loop {
        let error = match updates(path).await {
            Err(error) => error,
            Ok(mut updates) => loop {
                tokio::select! {
                    update = updates.wait() => match update {
                        Ok(found) => {
                            if !printer.print(watcher.look(Ok(found), SystemTime::now()))? {
                                return Ok(());
                            }
                        }
                        Err(error) => break error,
                    },
                    // Expiry comes without an update.
                    () = tokio::time::sleep(interval) => {
                        if !printer.print(watcher.expiries(SystemTime::now()))? {
                            return Ok(());
                        }
                    }
                }
            },
        };
        if !printer.print(watcher.look(Err(error.into()), SystemTime::now()))? {
            return Ok(());
        }
        tokio::time::sleep(interval).await;
    }
}

async fn updates(
    path: &std::path::Path,
) -> Result<super::source::Updates, super::source::WorkloadApiError> {
    WorkloadApi::connect(path).await?.updates().await
}

struct Printer<'a> {
    output: &'a Output,
    left: u64,
}

impl Printer<'_> {
    /// Prints lines; says whether more are wanted.
    fn print(&mut self, lines: Vec<Line>) -> Result<bool, CertError> {
        for line in lines {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            match self.output.format {
                Format::Json => {
                    let mut text = serde_json::to_string(&line).map_err(std::io::Error::other)?;
                    text.push('\n');
                    self.output.write(&text)?;
                }
                Format::Text => {
                    let tone = match line.event {
                        "expired" | "unreadable" | "removed" => Tone::Bad,
                        _ => Tone::Good,
                    };
                    let palette = self.output.palette;
                    let time = palette.paint(Tone::Faint, &line.time);
                    let event = palette.paint(tone, line.event);
                    self.output
                        .write(&format!("{time} {event}: {}\n", printable(&line.text)))?;
                }
            }
        }
        Ok(self.left > 0)
    }
}

impl Watcher {
    /// The lines for what is there now.
    fn look(&mut self, found: Result<Found, ReadError>, now: SystemTime) -> Vec<Line> {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let trouble = with_causes(&error);
                if self.trouble.as_ref() == Some(&trouble) {
                    return self.expiries(now);
                }
                self.trouble = Some(trouble.clone());
                let mut lines = vec![line("unreadable", None, now, Vec::new(), trouble)];
                lines.extend(self.expiries(now));
                return lines;
            }
        };
        self.trouble = None;
        let new = seen(&found, now);
        let mut lines = match &self.seen {
            None => new
                .iter()
                .map(|one| line("first", Some(one), now, Vec::new(), introduction(one, now)))
                .collect(),
            Some(old) => differences(old, &new, now),
        };
        self.seen = Some(new);
        lines.extend(self.expiries(now));
        lines
    }

    /// What has expired since it was looked at last.
    fn expiries(&mut self, now: SystemTime) -> Vec<Line> {
        let mut lines = Vec::new();
        for one in self.seen.iter().flatten() {
            if one.validity.1 < now && !self.expired.contains(&one.fingerprint) {
                self.expired.push(one.fingerprint.clone());
                let text = format!("{}, serial {}", one.title, short(&one.serial));
                lines.push(line("expired", Some(one), now, Vec::new(), text));
            }
        }
        lines
    }
}

/// The leaves; of a target that has none, the authorities.
fn seen(found: &Found, now: SystemTime) -> Vec<Seen> {
    let entries = entries(found, now);
    let groups: Vec<_> = (0..found.groups.len())
        .map(|group| Judged::of(group, found, &entries))
        .collect();
    let leaves = groups
        .iter()
        .filter(|group| group.kind != Kind::Bundle)
        .filter_map(Judged::leaf)
        .filter_map(Entry::facts)
        .map(|facts| of(facts, facts.title.clone()));
    let leaves: Vec<_> = leaves.collect();
    if !leaves.is_empty() {
        return leaves;
    }
    let authorities = entries.iter().filter_map(Entry::facts);
    authorities
        .map(|facts| of(facts, facts.fingerprints.sha256.clone()))
        .collect()
}

fn of(facts: &Facts, identity: String) -> Seen {
    Seen {
        identity,
        title: facts.title.clone(),
        serial: facts.serial.clone(),
        issuer: facts.issuer_title.clone(),
        validity: facts.validity,
        key: facts.fingerprints.public_key_sha256.clone(),
        fingerprint: facts.fingerprints.sha256.clone(),
    }
}

fn differences(old: &[Seen], new: &[Seen], now: SystemTime) -> Vec<Line> {
    let mut lines = Vec::new();
    for one in new {
        match old.iter().find(|other| other.identity == one.identity) {
            None => {
                let text = introduction(one, now);
                lines.push(line("added", Some(one), now, Vec::new(), text));
            }
            Some(before) if before.fingerprint != one.fingerprint => {
                let (changed, text) = change(before, one, now);
                lines.push(line("changed", Some(one), now, changed, text));
            }
            Some(_) => {}
        }
    }
    for gone in old {
        if !new.iter().any(|one| one.identity == gone.identity) {
            let text = format!("{}, serial {}", gone.title, short(&gone.serial));
            lines.push(line("removed", Some(gone), now, Vec::new(), text));
        }
    }
    lines
}

/// What is another than before, by name and in words.
fn change(before: &Seen, after: &Seen, now: SystemTime) -> (Vec<&'static str>, String) {
    let mut changed = Vec::new();
    let mut words = Vec::new();
    if before.serial != after.serial {
        changed.push("serial");
        words.push(format!(
            "serial {} → {}",
            short(&before.serial),
            short(&after.serial)
        ));
    }
    if before.validity != after.validity {
        changed.push("validity");
        let (was, is) = (rfc3339(before.validity.1), rfc3339(after.validity.1));
        words.push(format!("until {is} (was {was})"));
    }
    if before.issuer != after.issuer {
        changed.push("issuer");
        words.push(format!("issuer {} → {}", before.issuer, after.issuer));
    }
    words.push(
        match before.key != after.key {
            true => {
                changed.push("key");
                "new key"
            }
            false => "same key",
        }
        .to_owned(),
    );
    let left = time_left(after, now);
    (
        changed,
        format!("{}: {}; {left}", after.title, words.join(", ")),
    )
}

fn introduction(one: &Seen, now: SystemTime) -> String {
    format!(
        "{}, serial {}, by {}, until {}; {}",
        one.title,
        short(&one.serial),
        one.issuer,
        rfc3339(one.validity.1),
        time_left(one, now)
    )
}

fn time_left(one: &Seen, now: SystemTime) -> String {
    Standing::of(one.validity.0, one.validity.1, now).to_string()
}

/// As much of a serial number as tells it from the next one.
fn short(serial: &str) -> String {
    match serial.get(..8) {
        Some(start) if serial.len() > 8 => format!("{start}…"),
        _ => serial.to_owned(),
    }
}

fn line(
    event: &'static str,
    one: Option<&Seen>,
    now: SystemTime,
    changed: Vec<&'static str>,
    text: String,
) -> Line {
    Line {
        time: rfc3339(now),
        event,
        certificate: one.map(|one| Certificate {
            name: one.title.clone(),
            serial: one.serial.clone(),
            issuer: one.issuer.clone(),
            not_before: rfc3339(one.validity.0),
            not_after: rfc3339(one.validity.1),
            seconds_left: one
                .validity
                .1
                .duration_since(now)
                .unwrap_or_default()
                .as_secs(),
            public_key_sha256: one.key.clone(),
            sha256: one.fingerprint.clone(),
        }),
        changed,
        text,
    }
}

#[cfg(test)]
mod tests {
    use countersign_identity::testing::TestAuthority;
    use countersign_identity::{SpiffeId, TrustDomain};

    use super::super::source::Group;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn rotation_and_expiry_are_each_told_once() {
        let domain = TrustDomain::parse("shop.example").unwrap();
        let authority = TestAuthority::new(&domain).unwrap();
        let id = SpiffeId::for_workload(&domain, "shop", "orders").unwrap();
        let first = authority
            .svid(&id, at(1_800_000_000)..=at(1_800_003_600))
            .unwrap()
            .0;
        let second = authority
            .svid(&id, at(1_800_001_800)..=at(1_800_005_400))
            .unwrap()
            .0;
        let found = |svid: &countersign_identity::X509Svid| Found {
            origin: "f".to_owned(),
            form: "PEM",
            groups: vec![Group::new(None, Kind::Unknown, svid.chain().to_vec())],
            connection: None,
            remarks: Vec::new(),
            exposed_mode: None,
        };
        let mut watcher = Watcher::default();
        let mut told = |found: Result<Found, ReadError>, now: u64| -> Vec<(&str, Vec<&str>)> {
            let lines = watcher.look(found, at(now));
            lines
                .into_iter()
                .map(|line| (line.event, line.changed))
                .collect()
        };
        let missing = || Err(ReadError::UnknownTarget("f".to_owned()));
        assert_eq!(told(Ok(found(&first)), 1_800_000_100), [("first", vec![])]);
        assert_eq!(told(Ok(found(&first)), 1_800_000_200), []);
        assert_eq!(told(missing(), 1_800_000_300), [("unreadable", vec![])]);
        assert_eq!(told(missing(), 1_800_000_400), []);
        assert_eq!(
            told(Ok(found(&second)), 1_800_001_900),
            [("changed", vec!["serial", "validity", "key"])]
        );
        assert_eq!(
            told(Ok(found(&second)), 1_800_005_500),
            [("expired", vec![])]
        );
        assert_eq!(told(Ok(found(&second)), 1_800_005_600), []);
    }
}
