//! What was seen: each different call once, however often it came.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead};
use std::rc::Rc;

use super::log::{Line, Lines};
use crate::Diagnostic;
use crate::document::AmbiguousPaths;
use crate::normal_path::normal_path;
use crate::pattern::normal_host;

/// More are only counted: a log may be no log at all.
const MOST_TOLD: usize = 100;

/// What to take from the logs, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Calls that were denied are evidence, too.
    pub include_denied: bool,
    /// Rules ask for the hosts that were seen.
    pub hosts: bool,
    /// How many different values have to stand in one place of otherwise equal paths to make it a parameter; at least
    /// two.
    pub distinct_values: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            include_denied: false,
            hosts: false,
            distinct_values: 3,
        }
    }
}

/// The different calls of some logs. Its size is that of what differs, not that of the logs.
#[derive(Debug)]
pub struct Evidence {
    pub(super) options: Options,
    calls: BTreeMap<CallSeen, Times>,
    texts: HashSet<Rc<str>>,
    bad: Vec<Diagnostic>,
    bad_lines: u64,
    other_lines: u64,
    left_out: u64,
    period: Option<(String, String)>,
}

/// One call, as far as rules tell calls apart. In the order in which rules are made of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallSeen {
    pub(super) namespace: Rc<str>,
    pub(super) account: Rc<str>,
    pub(super) caller: Caller,
    pub(super) port: u16,
    pub(super) what: What,
}

/// Who called, and whether on behalf of someone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Caller {
    /// A SPIFFE ID; `None` is a caller that has proved no identity.
    pub(super) peer: Option<Rc<str>>,
    /// The `TokenIssuer`, as `namespace/name`.
    pub(super) issuer: Option<Rc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Connection {
        sni: Option<Rc<str>>,
    },
    Request {
        grpc: bool,
        method: Rc<str>,
        host: Option<Rc<str>>,
        path: Rc<str>,
    },
}

/// How often a call came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) seen: u64,
    pub(super) denied: u64,
    /// A deny rule that is only observed matched.
    pub(super) objected: u64,
}

/// The calls of one caller.
pub(super) type OfCaller<'a> = Vec<(&'a CallSeen, Times)>;

impl Evidence {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            calls: BTreeMap::new(),
            texts: HashSet::new(),
            bad: Vec::new(),
            bad_lines: 0,
            other_lines: 0,
            left_out: 0,
            period: None,
        }
    }

    /// Reads a log to its end. `name` is what its bad lines are reported under.
    ///
    /// # Errors
    /// That it cannot be read.
    pub fn read(&mut self, name: &str, log: impl BufRead) -> io::Result<()> {
        let mut lines = Lines::of(log);
        let mut number = 0_usize;
        while let Some(line) = lines.next()? {
            number = number.saturating_add(1);
            match line.and_then(Line::parse) {
                Ok(Some(line)) => self.add(&line),
                Ok(None) => self.other_lines = self.other_lines.saturating_add(1),
                Err(problem) => {
                    self.bad_lines = self.bad_lines.saturating_add(1);
                    if self.bad.len() < MOST_TOLD {
                        self.bad.push(Diagnostic {
                            file: name.to_owned(),
                            line: number,
                            column: 1,
                            message: problem.to_string(),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The first bad lines, by log and line. They are no evidence.
    #[must_use]
    pub fn bad(&self) -> &[Diagnostic] {
        &self.bad
    }

    /// How many bad lines there are.
    #[must_use]
    pub fn bad_lines(&self) -> u64 {
        self.bad_lines
    }

    /// How many lines are another log's, or empty.
    #[must_use]
    pub fn other_lines(&self) -> u64 {
        self.other_lines
    }

    /// How many denied calls were left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How many different calls there are.
    #[must_use]
    pub fn different_calls(&self) -> usize {
        self.calls.len()
    }

    /// The times of the first and the last call, as the logs have them.
    pub(super) fn period(&self) -> Option<(&str, &str)> {
        self.period
            .as_ref()
            .map(|(first, last)| (first.as_str(), last.as_str()))
    }

    fn add(&mut self, line: &Line) {
        let objected = line.observed("deny");
        // A policy on trial that allows a call says that it is wanted.
        let on_trial = line.observed("allow") && !objected;
        if !line.was_allowed() && !on_trial && !self.options.include_denied {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        if let Some(time) = &line.time {
            let (first, last) = self
                .period
                .get_or_insert_with(|| (time.clone(), time.clone()));
            if time < first {
                first.clone_from(time);
            }
            if time > last {
                last.clone_from(time);
            }
        }
        let call = self.call(line);
        let times = self.calls.entry(call).or_default();
        times.seen = times.seen.saturating_add(1);
        times.denied = times.denied.saturating_add(u64::from(!line.was_allowed()));
        times.objected = times.objected.saturating_add(u64::from(objected));
    }

    fn call(&mut self, line: &Line) -> CallSeen {
        let (namespace, account) = line.destination();
        let what = match (&line.method, &line.path) {
            (Some(method), Some(path)) => {
                let path = normal_path(path, AmbiguousPaths::Accept).unwrap_or(path.into());
                let path = path.split('?').next().unwrap_or_default();
                let host = line
                    .host
                    .as_deref()
                    .filter(|_| self.options.hosts)
                    .and_then(normal_host);
                let host = host.map(as_pattern);
                What::Request {
                    grpc: line.protocol == "grpc",
                    method: self.text(method),
                    host: host.map(|host| self.text(&host)),
                    path: self.text(path),
                }
            }
            _ => What::Connection {
                sni: line
                    .sni
                    .as_ref()
                    .map(|sni| self.text(&sni.to_ascii_lowercase())),
            },
        };
        CallSeen {
            namespace: self.text(namespace),
            account: self.text(account),
            caller: Caller {
                peer: line.peer.as_ref().map(|peer| self.text(peer)),
                issuer: line
                    .subject
                    .as_ref()
                    .map(|subject| self.text(&subject.issuer)),
            },
            port: line.port,
            what,
        }
    }

    /// The text, kept once.
    fn text(&mut self, text: &str) -> Rc<str> {
        if let Some(known) = self.texts.get(text) {
            return Rc::clone(known);
        }
        let new: Rc<str> = text.into();
        self.texts.insert(Rc::clone(&new));
        new
    }

    /// All calls, in order.
    pub(super) fn calls(&self) -> impl Iterator<Item = (&CallSeen, Times)> {
        self.calls.iter().map(|(call, times)| (call, *times))
    }

    /// The calls to each workload, by namespace and service account; and of those, the calls of each caller.
    pub(super) fn by_destination(&self) -> BTreeMap<(&str, &str), BTreeMap<&Caller, OfCaller<'_>>> {
        let mut all: BTreeMap<_, BTreeMap<_, OfCaller<'_>>> = BTreeMap::new();
        for (call, times) in self.calls() {
            let callers = all.entry((&*call.namespace, &*call.account)).or_default();
            callers.entry(&call.caller).or_default().push((call, times));
        }
        all
    }
}

/// A host as rules have it: in lower case, an IPv6 address in brackets.
fn as_pattern(host: &str) -> String {
    if host.contains(':') {
        format!("[{}]", host.to_ascii_lowercase())
    } else {
        host.to_ascii_lowercase()
    }
}
