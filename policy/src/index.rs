//! Which rules may match a call: found by who calls, port and path, so that a decision does not cost
//! what all rules cost.
//!
//! A rule stands under every (caller, port, path) that it accepts. The index may name a rule that
//! does not match (it is asked in full afterwards), but never leaves out one that does.

use std::collections::HashMap as StdHashMap;

use countersign_identity::{SpiffeId, TrustDomain};

use crate::document::{Action, Operation, Source};
use crate::pattern::{PathPattern, PathSegment, TrustDomainPattern};
use crate::rule::CompiledRule;

/// Keys come from the policy alone, never from a caller: so the hash may be a quick one.
type HashMap<K, V> = StdHashMap<K, V, foldhash::fast::RandomState>;

/// The number of a rule: its place in the order of the documents.
pub(crate) type RuleNumber = u32;

#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By the whole SPIFFE ID.
    exact: HashMap<Box<str>, Ports>,
    /// By an ID that the caller's ID is below of, or is.
    below: HashMap<Box<str>, Ports>,
    /// How many slashes the longest key of `below` has: longer prefixes need no look.
    deepest: usize,
    any: Ports,
    rules: usize,
}

#[derive(Debug, Default)]
struct Ports {
    by_port: HashMap<u16, Paths>,
    any: Paths,
}

/// The rules of one caller and port.
#[derive(Debug, Default)]
struct Paths {
    /// Without a condition on the path.
    unbound: Vec<RuleNumber>,
    /// A tree of segments; the first is the root. Empty if no rule has a path.
    nodes: Vec<Node>,
    /// All rules in the tree.
    bound: Vec<RuleNumber>,
}

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, usize>,
    /// `*` and `{name}`.
    one: Option<usize>,
    /// Patterns that end here.
    end: Vec<RuleNumber>,
    /// Patterns that go on with `**`.
    rest: Vec<RuleNumber>,
}

/// Under which callers a rule stands.
enum Caller {
    Exact(String),
    Below(String),
    Any,
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.rules == 0
    }

    pub(crate) fn insert(&mut self, number: RuleNumber, rule: &CompiledRule) {
        self.rules = self.rules.saturating_add(1);
        for caller in callers(rule) {
            let ports = match caller {
                Caller::Exact(id) => self.exact.entry(id.into()).or_default(),
                Caller::Below(id) => {
                    self.deepest = self.deepest.max(id.matches('/').count());
                    self.below.entry(id.into()).or_default()
                }
                Caller::Any => &mut self.any,
            };
            if rule.rule.to.is_empty() {
                push(&mut ports.any.unbound, number);
            }
            for to in &rule.rule.to {
                ports.insert(number, to);
            }
        }
    }

    /// Shows every rule that may match, some perhaps twice. `path` is one reading of the path;
    /// where it is unknown, rules about paths are shown if `unknown`.
    pub(crate) fn candidates(
        &self,
        peer: Option<&SpiffeId>,
        port: u16,
        path: Option<&str>,
        unknown: bool,
        visit: &mut impl FnMut(RuleNumber),
    ) {
        for ports in self.callers(peer) {
            for paths in ports.by_port.get(&port).into_iter().chain([&ports.any]) {
                paths.candidates(path, unknown, visit);
            }
        }
    }

    /// Rules about this caller, whatever they say of port and path; `visit` says whether to go on.
    pub(crate) fn about_caller(
        &self,
        peer: Option<&SpiffeId>,
        port: u16,
        visit: &mut impl FnMut(RuleNumber) -> bool,
    ) {
        for ports in self.callers(peer) {
            let this = ports.by_port.get(&port).into_iter().chain([&ports.any]);
            let others = ports.by_port.iter().filter(|(other, _)| **other != port);
            for paths in this.chain(others.map(|(_, paths)| paths)) {
                for number in paths.unbound.iter().chain(&paths.bound) {
                    if !visit(*number) {
                        return;
                    }
                }
            }
        }
    }

    /// What stands under this caller, most specific first.
    fn callers(&self, peer: Option<&SpiffeId>) -> impl Iterator<Item = &Ports> {
        let id = peer.map(SpiffeId::as_str);
        let exact = id.and_then(|id| self.exact.get(id));
        let below = id
            .filter(|_| !self.below.is_empty())
            .into_iter()
            .flat_map(move |id| {
                let slashes = id
                    .match_indices('/')
                    .map(|(at, _)| at)
                    .skip(2)
                    .take(self.deepest);
                let prefixes = slashes.filter_map(|at| id.get(..at)).chain([id]);
                prefixes.filter_map(|prefix| self.below.get(prefix))
            });
        exact.into_iter().chain(below).chain([&self.any])
    }
}

fn callers(rule: &CompiledRule) -> Vec<Caller> {
    let allows = rule.rule.action == Action::Allow;
    if rule.rule.from.is_empty() {
        return vec![if allows {
            below_domain(&rule.local)
        } else {
            Caller::Any
        }];
    }
    rule.rule
        .from
        .iter()
        .map(|source| caller(source, &rule.local, allows))
        .collect()
}

fn below_domain(domain: &TrustDomain) -> Caller {
    Caller::Below(format!("spiffe://{domain}"))
}

fn caller(source: &Source, local: &TrustDomain, allows: bool) -> Caller {
    let fields = &source.is;
    if fields.anonymous {
        return Caller::Any;
    }
    if let Some(spiffe) = &fields.spiffe {
        let id = spiffe.id().as_str().to_owned();
        return if spiffe.is_prefix() {
            Caller::Below(id)
        } else {
            Caller::Exact(id)
        };
    }
    let domain = match &fields.trust_domain {
        None => local,
        Some(TrustDomainPattern::Is(domain)) => domain,
        Some(TrustDomainPattern::Any) => return Caller::Any,
    };
    let (namespace, account) = match &fields.workload {
        Some(workload) => (workload.namespace(), workload.service_account()),
        None => (None, None),
    };
    match (namespace.or(fields.namespace.as_ref()), account) {
        (Some(ns), Some(sa)) => Caller::Exact(format!("spiffe://{domain}/ns/{ns}/sa/{sa}")),
        (Some(ns), None) => Caller::Below(format!("spiffe://{domain}/ns/{ns}")),
        (None, _) if allows || fields.trust_domain.is_some() || fields.workload.is_some() => {
            below_domain(domain)
        }
        (None, _) => Caller::Any,
    }
}

impl Ports {
    fn insert(&mut self, number: RuleNumber, to: &Operation) {
        if to.is.ports.is_empty() {
            self.any.insert(number, to);
        }
        for port in &to.is.ports {
            self.by_port.entry(*port).or_default().insert(number, to);
        }
    }
}

impl Paths {
    fn insert(&mut self, number: RuleNumber, to: &Operation) {
        if to.is.paths.is_empty() {
            push(&mut self.unbound, number);
            return;
        }
        push(&mut self.bound, number);
        for path in &to.is.paths {
            self.insert_path(number, path);
        }
    }

    fn insert_path(&mut self, number: RuleNumber, path: &PathPattern) {
        let mut at = 0;
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        for segment in path.segments() {
            let new = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else {
                return;
            };
            at = match segment {
                PathSegment::Literal(literal) => {
                    *node.literal.entry(literal.clone()).or_insert(new)
                }
                PathSegment::One | PathSegment::Named(_) => *node.one.get_or_insert(new),
            };
            if at == new {
                self.nodes.push(Node::default());
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            let list = if path.has_rest() {
                &mut node.rest
            } else {
                &mut node.end
            };
            push(list, number);
        }
    }

    fn candidates(&self, path: Option<&str>, unknown: bool, visit: &mut impl FnMut(RuleNumber)) {
        self.unbound.iter().copied().for_each(&mut *visit);
        match path {
            Some(path) => {
                if let Some(segments) = path.strip_prefix('/') {
                    self.walk(0, Some(segments), visit);
                }
            }
            None if unknown => self.bound.iter().copied().for_each(visit),
            None => {}
        }
    }

    /// Follows all branches that the path may take; `segments` is what is left of it. As deep as
    /// the longest pattern.
    fn walk(&self, at: usize, segments: Option<&str>, visit: &mut impl FnMut(RuleNumber)) {
        let Some(node) = self.nodes.get(at) else {
            return;
        };
        node.rest.iter().copied().for_each(&mut *visit);
        let Some(segments) = segments else {
            node.end.iter().copied().for_each(visit);
            return;
        };
        let (segment, left) = match segments.split_once('/') {
            Some((segment, left)) => (segment, Some(left)),
            None => (segments, None),
        };
        if let Some(next) = node.literal.get(segment) {
            self.walk(*next, left, visit);
        }
        if let Some(next) = node.one {
            self.walk(next, left, visit);
        }
    }
}

/// A rule's entries come one after the other, so that looking at the last is enough to have each once.
fn push(list: &mut Vec<RuleNumber>, number: RuleNumber) {
    if list.last() != Some(&number) {
        list.push(number);
    }
}
