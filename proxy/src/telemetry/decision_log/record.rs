//! One decision as a JSON object: which facts, in which order, and how long a fact from outside may be.

use std::fmt::{self, Display, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use countersign_identity::SpiffeId;
use countersign_policy::{FailedCondition, Observed, RuleOrigin, Verdict};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::telemetry::{CallProtocol, DecisionId, TraceId};

/// How many bytes of a text that a caller chose are logged; a longer one ends in "…".
const LONGEST_TEXT: usize = 1024;

/// The facts of one decision. Borrows from the call; absent facts are left out of the line.
#[derive(Clone, Copy)]
pub struct DecisionRecord<'a> {
    /// When it was decided.
    pub time: SystemTime,
    /// What a denied caller is told.
    pub decision_id: DecisionId,
    /// The trace that the call is part of.
    pub trace_id: Option<TraceId>,
    /// Whether the call may go on.
    pub verdict: Verdict,
    /// Why, in one line.
    pub reason: &'a dyn Display,
    /// Why, as one of few fixed words.
    pub reason_class: &'static str,
    /// The rule that decided.
    pub rule: Option<&'a RuleOrigin>,
    /// The policy revision in force.
    pub revision: Option<&'a str>,
    /// Who called, as verified.
    pub peer: Option<&'a SpiffeId>,
    /// On whose behalf, as verified.
    pub subject: Option<LoggedSubject<'a>>,
    /// Where the call came from.
    pub source: SocketAddr,
    /// The called workload, `namespace/service-account`.
    pub destination: &'a str,
    /// The called port.
    pub port: u16,
    /// What the call is.
    pub protocol: CallProtocol,
    /// The server name that the client of an opaque TLS connection asks for.
    pub sni: Option<&'a str>,
    /// The request's method.
    pub method: Option<&'a str>,
    /// The request's host.
    pub host: Option<&'a str>,
    /// The request's path. A query may be part of it and is not logged: it may hold secrets.
    pub path: Option<&'a str>,
    /// What rules in observe mode would have decided.
    pub observed: &'a [Observed],
    /// Conditions of allow rules that could not be evaluated.
    pub failed_conditions: &'a [FailedCondition],
}

/// The subject of a verified token. No other claims: they may be private.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct LoggedSubject<'a> {
    /// The TokenIssuer document's `namespace/name`.
    pub issuer: &'a str,
    /// The claim `sub`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "cut")]
    pub sub: Option<&'a str>,
}

impl fmt::Debug for DecisionRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionRecord")
            .field("decision_id", &self.decision_id)
            .field("verdict", &self.verdict)
            .field("reason_class", &self.reason_class)
            .finish_non_exhaustive()
    }
}

/// The JSON form of a record.
pub(super) struct Line<'l> {
    /// [`DecisionRecord::time`] as text.
    pub(super) time: &'l str,
    pub(super) record: &'l DecisionRecord<'l>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let mut line = Entries(serializer.serialize_map(None)?);
        line.put("time", self.time)?;
        line.put("decision_id", &record.decision_id)?;
        line.put_some("trace_id", record.trace_id.as_ref())?;
        line.put("decision", decision(record.verdict))?;
        line.put("reason", &Shown(&Cut(record.reason)))?;
        line.put("reason_class", record.reason_class)?;
        if let Some(rule) = record.rule {
            line.put("policy", &rule.policy)?;
            line.put("rule", &rule.rule)?;
            line.put("file", &rule.file)?;
            line.put("line", &rule.line)?;
        }
        line.put_some("revision", record.revision)?;
        line.put_some("peer", record.peer.map(SpiffeId::as_str))?;
        line.put_some("subject", record.subject.as_ref())?;
        line.put("source", &Shown(&record.source))?;
        line.put("destination", record.destination)?;
        line.put("port", &record.port)?;
        line.put("protocol", &record.protocol)?;
        line.put_some("sni", record.sni.map(Text).as_ref())?;
        line.put_some("method", record.method.map(Text).as_ref())?;
        line.put_some("host", record.host.map(Text).as_ref())?;
        line.put_some("path", record.path.map(without_query).map(Text).as_ref())?;
        if !record.failed_conditions.is_empty() {
            line.put("failed_conditions", record.failed_conditions)?;
        }
        if !record.observed.is_empty() {
            line.put("observed", record.observed)?;
        }
        line.0.end()
    }
}

struct Entries<M>(M);

impl<M: SerializeMap> Entries<M> {
    fn put<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), M::Error> {
        self.0.serialize_entry(key, value)
    }

    fn put_some<T: Serialize + ?Sized>(
        &mut self,
        key: &str,
        value: Option<&T>,
    ) -> Result<(), M::Error> {
        value.map_or(Ok(()), |value| self.put(key, value))
    }
}

/// Written as it displays.
struct Shown<'a, T: ?Sized>(&'a T);

impl<T: Display + ?Sized> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// Displays the first part of what may be too long: a reason can quote what a caller chose.
struct Cut<'a>(&'a dyn Display);

impl Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = Room {
            left: LONGEST_TEXT,
            full: false,
            to: f,
        };
        match write!(room, "{}", self.0) {
            Err(fmt::Error) if room.full => f.write_char('…'),
            result => result,
        }
    }
}

/// Passes text on until there is no more room, and then ends the formatting.
struct Room<'a, 'f> {
    left: usize,
    full: bool,
    to: &'a mut fmt::Formatter<'f>,
}

impl Write for Room<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.floor_char_boundary(self.left);
        let (kept, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        self.to.write_str(kept)?;
        self.left -= kept.len().min(self.left);
        self.full = !rest.is_empty();
        if self.full { Err(fmt::Error) } else { Ok(()) }
    }
}

/// A text that a caller chose, cut where it is too long.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() <= LONGEST_TEXT {
            return serializer.serialize_str(self.0);
        }
        let end = self.0.floor_char_boundary(LONGEST_TEXT);
        let kept = self.0.get(..end).unwrap_or_default();
        serializer.collect_str(&format_args!("{kept}…"))
    }
}

fn cut<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    text.map(Text).serialize(serializer)
}

fn decision(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
    }
}

/// The path alone (RFC 3986, section 3.4).
fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// A time as RFC 3339 text. The calendar is asked once a second, not once a call.
#[derive(Debug, Default)]
pub(super) struct TimeText {
    /// The second since the epoch whose text is in `text`.
    second: Option<u64>,
    /// `2026-11-23T10:00:00` and whatever the last call had after it.
    text: String,
    /// How much of `text` is the second's.
    prefix: usize,
}

impl TimeText {
    /// `2026-11-23T10:00:00.123456Z`.
    pub(super) fn at(&mut self, time: SystemTime) -> &str {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since_epoch.as_secs();
        if self.second != Some(second) {
            let calendar = DateTime::<Utc>::from(UNIX_EPOCH + Duration::from_secs(second));
            self.text.clear();
            // Writing into a `String` cannot fail.
            let _ = write!(self.text, "{}", calendar.format("%Y-%m-%dT%H:%M:%S"));
            self.second = Some(second);
            self.prefix = self.text.len();
        }
        self.text.truncate(self.prefix);
        let _ = write!(self.text, ".{:06}Z", since_epoch.subsec_micros());
        &self.text
    }
}
