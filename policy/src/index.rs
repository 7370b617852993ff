//! Which rules may match a call: found by who calls, port, host, path and method, so that a decision does not cost
//! what all rules cost.
//!
//! A rule stands in a tree under everything that it accepts:
//!
//! ```text
//! caller and port ─▶ host ─▶ segment ─▶ segment ─▶ … ─▶ end of the path and method
//!        │                      └─▶ rules for whatever follows
//!        └─▶ all rules of this caller and port, for calls of which facts are unknown
//! ```
//!
//! The tree may name a rule that does not match (it is asked in full afterwards), but never leaves out one that
//! does.

mod facts;
mod insertion;
mod tree;

use std::ops::ControlFlow;

use countersign_identity::TrustDomain;
use smallvec::SmallVec;

use crate::document::Action;
use crate::rule::{CompiledRule, Judged};
use facts::{Facts, Segments, Symbols};
use insertion::Insertion;
use tree::{Builder, ROOT, State, Symbol, Tree};

/// The number of a rule: its place in the order of the documents.
pub(crate) type RuleNumber = u32;

/// The symbols that are not hashes of facts.
mod special {
    use super::Symbol;

    /// To all rules of a caller and port.
    pub(super) const ALL: Symbol = 1;
    /// To some of them.
    pub(super) const SAMPLE: Symbol = 2;
    /// To the segment that may be any.
    pub(super) const ONE: Symbol = 3;
    /// To what ends with the path, with any method.
    pub(super) const END: Symbol = 4;
    /// Turns a method's symbol into that of the method at the path's end.
    pub(super) const AT_END: Symbol = 0x9e37_79b9_7f4a_7c15;
    /// Behind 16 bits of a port.
    pub(super) const ANY_PORT: Symbol = 1 << 16;
    /// For some rules of a caller, whatever the port.
    pub(super) const SOME_PORT: Symbol = 1 << 17;
}

/// What a rule does, as far as it is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It allows: a call that none allows is told the closest.
    Allow,
    /// It denies, or is only reported: where a fact is unknown, it matches.
    Other,
}

/// The rules of one workload, by what they do.
#[derive(Debug)]
pub(crate) struct Indexes {
    symbols: Symbols,
    pub(crate) deny: Index,
    pub(crate) allow: Index,
    /// Rules that decide nothing.
    pub(crate) observed: Index,
}

/// Rules of one use.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tree: Tree,
    rules: usize,
}

/// What the index needs to know of a call, for one reading of its path.
pub(crate) struct Sought<'a> {
    symbols: &'a Symbols,
    facts: Facts,
    /// `None` is unknown.
    path: Option<Segments>,
    /// Whether a fact of HTTP is unknown.
    unknown: bool,
}

/// How candidates were found: what is near to a call is found from there.
#[derive(Default)]
pub(crate) struct Way {
    /// Where rules of the caller and port start.
    starts: States,
    /// Where rules of the host and of the path's segments are.
    passed: States,
}

/// Where a search comes along.
pub(crate) trait Record {
    /// Rules of the caller and port start here.
    fn start(&mut self, state: State);
    /// Rules of the host and of the path's segments are here.
    fn pass(&mut self, state: State);
}

impl Record for Way {
    fn start(&mut self, state: State) {
        self.starts.add(state);
    }

    fn pass(&mut self, state: State) {
        self.passed.add(state);
    }
}

/// Nobody will ask.
impl Record for () {
    fn start(&mut self, _: State) {}

    fn pass(&mut self, _: State) {}
}

/// The first states of a way, as many as fit: what is near is a bounded number of rules.
#[derive(Default)]
struct States(SmallVec<[State; MOST_STATES]>);

const MOST_STATES: usize = 32;

impl States {
    fn add(&mut self, state: State) {
        if self.0.len() < MOST_STATES {
            self.0.push(state);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &State> {
        self.0.iter()
    }
}

impl Indexes {
    /// Of a workload's rules, in their order.
    pub(crate) fn new<'r>(
        local: &TrustDomain,
        rules: impl Iterator<Item = &'r CompiledRule>,
    ) -> Self {
        let mut symbols = Symbols::default();
        let mut builders = [(); 3].map(|()| (Builder::new(symbols.hashes()), 0_usize));
        for (rule, number) in rules.zip(0..) {
            let [deny, allow, observed] = &mut builders;
            let ((builder, count), of) = match rule.rule.action {
                _ if rule.observe => (observed, Use::Other),
                Action::Audit => (observed, Use::Other),
                Action::Deny => (deny, Use::Other),
                Action::Allow => (allow, Use::Allow),
            };
            *count = count.saturating_add(1);
            let mut insertion = Insertion {
                number,
                of,
                symbols: &mut symbols,
                builder,
            };
            insertion.insert(rule, local);
        }
        let [deny, allow, observed] = builders.map(|(builder, rules)| Index {
            tree: builder.finish(),
            rules,
        });
        Self {
            symbols,
            deny,
            allow,
            observed,
        }
    }

    /// What to look for; a path is set by [`Sought::read`].
    pub(crate) fn sought(&self, judged: &Judged<'_>) -> Sought<'_> {
        let facts = self.symbols.facts(judged);
        Sought {
            symbols: &self.symbols,
            facts,
            path: None,
            unknown: judged.host.is_none(),
        }
    }
}

impl Sought<'_> {
    /// Looks for one reading of the path; `None` is unknown.
    pub(crate) fn read(&mut self, path: Option<&str>) {
        self.path = path.and_then(|path| self.symbols.segments(path));
    }

    fn is_unknown(&self) -> bool {
        self.unknown || self.path.is_none()
    }
}

/// Where under a caller rules of a port stand.
fn at_port(caller: Symbol, port: Symbol) -> Symbol {
    caller.wrapping_add(port.wrapping_add(1).wrapping_mul(special::AT_END))
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.rules == 0
    }

    /// Shows every rule that may match, some perhaps twice. They are shown in several lists, each in ascending order;
    /// `visit` breaks to see no more of a list. `way` is for [`near`](Self::near).
    pub(crate) fn candidates(
        &self,
        sought: &Sought<'_>,
        of: Use,
        way: &mut impl Record,
        visit: &mut impl FnMut(RuleNumber) -> ControlFlow<()>,
    ) {
        let all = of == Use::Other && sought.is_unknown();
        for state in self.callers_and_ports(&sought.facts) {
            way.start(state);
            if all {
                self.show(self.tree.step(state, special::ALL), visit);
            } else {
                self.each_host(state, sought, &mut |state| {
                    self.walk(state, sought, 0, way, visit);
                });
            }
        }
    }

    /// Some rules that might have been meant: for the path and other methods, then for the caller and port, then for
    /// the caller. `way` is how the candidates were found; `visit` breaks to see no more.
    pub(crate) fn near(
        &self,
        sought: &Sought<'_>,
        way: &Way,
        visit: &mut impl FnMut(RuleNumber) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for state in way.passed.iter().chain(way.starts.iter()) {
            self.show_some(self.tree.step(*state, special::SAMPLE), visit)?;
        }
        for caller in &sought.facts.callers {
            let state = self.tree.step(ROOT, at_port(*caller, special::SOME_PORT));
            self.show_some(state, visit)?;
        }
        ControlFlow::Continue(())
    }

    fn callers_and_ports(&self, facts: &Facts) -> impl Iterator<Item = State> {
        let ports = [Symbol::from(facts.port), special::ANY_PORT];
        facts.callers.iter().flat_map(move |caller| {
            ports
                .into_iter()
                .filter_map(move |port| self.tree.step(ROOT, at_port(*caller, port)))
        })
    }

    fn each_host(&self, from: State, sought: &Sought<'_>, visit: &mut impl FnMut(State)) {
        for host in &sought.facts.hosts {
            if let Some(state) = self.tree.step(from, *host) {
                visit(state);
            }
        }
    }

    fn show(&self, state: Option<State>, visit: &mut impl FnMut(RuleNumber) -> ControlFlow<()>) {
        // A list that is left early is no reason to leave the others out.
        let _ = self.show_some(state, visit);
    }

    fn show_some(
        &self,
        state: Option<State>,
        visit: &mut impl FnMut(RuleNumber) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let rules = state.map_or(&[][..], |state| self.tree.rules(state));
        rules.iter().try_for_each(|number| visit(*number))
    }

    /// Follows all branches that the path may take, from the segment at `at` on.
    fn walk(
        &self,
        state: State,
        sought: &Sought<'_>,
        at: usize,
        way: &mut impl Record,
        visit: &mut impl FnMut(RuleNumber) -> ControlFlow<()>,
    ) {
        way.pass(state);
        self.show(Some(state), visit);
        let method = sought.facts.method;
        if sought.symbols.methods_on_the_way
            && let Some(method) = method
        {
            self.show(self.tree.step(state, method), visit);
        }
        let Some(path) = &sought.path else {
            return;
        };
        if let Some(segment) = path.symbols.get(at) {
            for symbol in [*segment, special::ONE] {
                if let Some(next) = self.tree.step(state, symbol) {
                    self.walk(next, sought, at.saturating_add(1), way, visit);
                }
            }
        } else if path.all {
            self.show(self.tree.step(state, special::END), visit);
            if let Some(method) = method {
                self.show(self.tree.step(state, method ^ special::AT_END), visit);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
