//! The live table: what is up, and below it what happened last.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::SystemTime;

use super::decisions::short;
use super::event::{Event, Role, Stamped, Who};
use super::lines::Lines;
use super::topology::Instance;
use crate::instant::Standing;
use crate::output::Tone;

/// How many of the last lines are remembered for the space below the table.
const KEPT_LINES: usize = 200;

/// How a child is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waiting,
    Starting,
    Ready,
    Late,
    Died,
    Stopped,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Late => "late",
            Self::Died => "died",
            Self::Stopped => "stopped",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ready => Tone::Good,
            Self::Died => Tone::Bad,
            Self::Late | Self::Starting => Tone::Warning,
            Self::Waiting | Self::Stopped => Tone::Faint,
        }
    }
}

/// A row of the table.
#[derive(Debug, Default)]
struct Row {
    spiffe_id: String,
    sidecar: State,
    workload: State,
    svid_until: Option<SystemTime>,
    revision: Option<String>,
    allowed: u64,
    denied: u64,
}

/// Everything that the table shows.
#[derive(Debug)]
pub(crate) struct Board {
    lines: Lines,
    ca: State,
    control: State,
    revision: Option<String>,
    refused: Option<String>,
    /// The names in the order of the mesh file.
    order: Vec<String>,
    rows: BTreeMap<String, Row>,
    last: VecDeque<String>,
}

impl Board {
    /// The table of a mesh in which nothing has happened yet.
    pub(crate) fn new(instances: &[Instance], lines: Lines) -> Self {
        let row = |instance: &Instance| {
            let row = Row {
                spiffe_id: instance.spiffe_id.to_string(),
                ..Row::default()
            };
            (instance.addresses.name.clone(), row)
        };
        Self {
            lines,
            ca: State::default(),
            control: State::default(),
            revision: None,
            refused: None,
            order: instances
                .iter()
                .map(|instance| instance.addresses.name.clone())
                .collect(),
            rows: instances.iter().map(row).collect(),
            last: VecDeque::new(),
        }
    }

    /// Takes note of an event.
    pub(crate) fn note(&mut self, stamped: &Stamped) {
        match &stamped.event {
            Event::Starting(who) => self.set(who, State::Starting),
            Event::Ready(who) => self.set(who, State::Ready),
            Event::Late { who, .. } => self.set(who, State::Late),
            Event::Died { who, .. } | Event::CannotStart { who, .. } => self.set(who, State::Died),
            Event::Stopped { who, .. } => self.set(who, State::Stopped),
            Event::PolicyTaken { revision } => {
                self.revision = Some(revision.clone());
                self.refused = None;
            }
            Event::PolicyRefused { revision, .. } => self.refused = Some(revision.clone()),
            Event::PolicyAt {
                workload, revision, ..
            } => {
                if let Some(row) = self.rows.get_mut(workload) {
                    row.revision.clone_from(revision);
                }
            }
            Event::SvidUntil {
                workload,
                not_after,
            } => {
                if let Some(row) = self.rows.get_mut(workload) {
                    row.svid_until = Some(*not_after);
                }
            }
            Event::Decided { workload, decision } => {
                if let Some(row) = self.rows.get_mut(workload) {
                    let count = if decision.allowed {
                        &mut row.allowed
                    } else {
                        &mut row.denied
                    };
                    *count += 1;
                }
            }
            Event::PolicyUnreadable { .. } | Event::Up { .. } | Event::Stopping => {}
        }
        // Starts and stops are in the table already.
        let in_table = matches!(
            stamped.event,
            Event::Starting(_) | Event::Ready(_) | Event::Stopped { .. }
        );
        if !in_table && let Some(text) = self.lines.text(stamped) {
            self.last.extend(text.lines().map(str::to_owned));
            while self.last.len() > KEPT_LINES {
                self.last.pop_front();
            }
        }
    }

    fn set(&mut self, who: &Who, state: State) {
        match (who.role, self.rows.get_mut(&who.name)) {
            (Role::Ca, _) => self.ca = state,
            (Role::Control, _) => self.control = state,
            (Role::Sidecar, Some(row)) => row.sidecar = state,
            (Role::Workload, Some(row)) => row.workload = state,
            (Role::Sidecar | Role::Workload, None) => {}
        }
    }

    /// The lines of the picture, at most `height` of them; what is longer than the terminal is wide is
    /// for the screen to cut.
    pub(crate) fn picture(&self, height: usize, now: SystemTime) -> Vec<String> {
        let mut picture = vec![self.heading(), String::new()];
        picture.extend(self.table(now));
        picture.push(String::new());
        let space = height.saturating_sub(picture.len() + 2);
        let skipped = self.last.len().saturating_sub(space);
        picture.extend(self.last.iter().skip(skipped).cloned());
        picture.truncate(height.saturating_sub(2));
        picture.push(String::new());
        picture.push(
            self.lines
                .palette
                .paint(Tone::Faint, "Ctrl-C stops everything")
                .into_owned(),
        );
        picture
    }

    fn heading(&self) -> String {
        let palette = self.lines.palette;
        let state = |name: &str, state: State| {
            format!("{name} {}", palette.paint(state.tone(), state.word()))
        };
        let policy = match &self.revision {
            Some(revision) => format!("policy {}", palette.paint(Tone::Good, short(revision))),
            None => palette.paint(Tone::Warning, "no policy yet").into_owned(),
        };
        let mut heading = format!(
            "{}   {}   {}   {policy}",
            palette.paint(Tone::Strong, &self.lines.trust_domain),
            state("CA", self.ca),
            state("control plane", self.control),
        );
        if let Some(refused) = &self.refused {
            let refused = format!("{} refused", short(refused));
            let _infallible = write!(heading, "   {}", palette.paint(Tone::Bad, &refused));
        }
        heading
    }

    fn table(&self, now: SystemTime) -> Vec<String> {
        let palette = self.lines.palette;
        let rows: Vec<(&str, &Row)> = self
            .order
            .iter()
            .filter_map(|name| Some((name.as_str(), self.rows.get(name)?)))
            .collect();
        let wide = |of: fn(&(&str, &Row)) -> usize, heading: &str| {
            rows.iter().map(of).max().unwrap_or(0).max(heading.len())
        };
        let name_width = wide(|(name, _)| name.len(), "WORKLOAD");
        let id_width = wide(|(_, row)| row.spiffe_id.len(), "SPIFFE ID");
        let heading = format!(
            "{:<name_width$}  {:<id_width$}  {:<8}  {:<8}  {:<9}  {:<14}  {:>7}  {:>6}",
            "WORKLOAD", "SPIFFE ID", "STATE", "SIDECAR", "SVID", "POLICY", "ALLOWED", "DENIED"
        );
        let mut table = vec![palette.paint(Tone::Strong, &heading).into_owned()];
        for (name, row) in rows {
            let cell = |state: State| format!("{:<8}", state.word());
            let (workload, sidecar) = (cell(row.workload), cell(row.sidecar));
            let svid = row.svid_until.map_or_else(
                || "-".to_owned(),
                |until| match Standing::of(SystemTime::UNIX_EPOCH, until, now) {
                    Standing::Valid(left) => crate::instant::Span(left).to_string(),
                    Standing::Expired(_) | Standing::NotYet(_) => "expired".to_owned(),
                },
            );
            let denied = format!("{:>6}", row.denied);
            let denied_tone = if row.denied > 0 {
                Tone::Bad
            } else {
                Tone::Faint
            };
            table.push(format!(
                "{name:<name_width$}  {:<id_width$}  {}  {}  {svid:<9}  {:<14}  {:>7}  {}",
                row.spiffe_id,
                palette.paint(row.workload.tone(), &workload),
                palette.paint(row.sidecar.tone(), &sidecar),
                row.revision.as_deref().map_or("-", short),
                row.allowed,
                palette.paint(denied_tone, &denied),
            ));
        }
        table
    }
}
