//! How a rule is put into the tree: under everything that it accepts.

use countersign_identity::TrustDomain;

use super::facts::{Caller, MAX_LEVELS, Symbols};
use super::tree::{Builder, ROOT, State, Symbol};
use super::{RuleNumber, Use, at_port, special};
use crate::document::{Action, Operation, OperationFields, Source};
use crate::pattern::{HostPattern, PathSegment, TrustDomainPattern};
use crate::rule::CompiledRule;

/// A rule with so many ways in is found by fewer facts: by all would cost more memory than it saves time.
const MOST_WAYS: usize = 1024;
/// How many rules are kept to compare a call with that none allows: of a caller, of a caller and port, of a path.
const SAMPLED: u8 = 8;

/// A rule that is put into a tree.
pub(super) struct Insertion<'a> {
    pub(super) number: RuleNumber,
    pub(super) of: Use,
    pub(super) symbols: &'a mut Symbols,
    pub(super) builder: &'a mut Builder,
}

/// By which facts an operation's rule is found.
#[derive(Clone, Copy)]
struct By {
    ports: bool,
    hosts: bool,
    paths: bool,
    methods: bool,
}

impl Insertion<'_> {
    pub(super) fn insert(&mut self, rule: &CompiledRule, local: &TrustDomain) {
        let callers: Vec<Symbol> = callers(rule, local)
            .iter()
            .map(|caller| self.symbols.add_caller(caller))
            .collect();
        let anything = OperationFields::default();
        for caller in callers {
            if rule.rule.to.is_empty() {
                self.insert_operation(caller, &anything, rule.rule.from.len());
            }
            for Operation { is, not: _ } in &rule.rule.to {
                self.insert_operation(caller, is, rule.rule.from.len());
            }
            if self.of == Use::Allow {
                let sample = self.builder.step(ROOT, at_port(caller, special::SOME_PORT));
                self.builder.put_some(sample, self.number, SAMPLED);
            }
        }
    }

    /// `callers`: of how many callers the rule is.
    fn insert_operation(&mut self, caller: Symbol, fields: &OperationFields, callers: usize) {
        let by = by_what(fields, callers);
        let ports: Vec<Symbol> = match fields.ports.as_slice() {
            ports @ [_, ..] if by.ports => ports.iter().copied().map(Symbol::from).collect(),
            _ => vec![special::ANY_PORT],
        };
        for port in ports {
            let state = self.builder.step(ROOT, at_port(caller, port));
            let list = match self.of {
                Use::Allow => special::SAMPLE,
                Use::Other => special::ALL,
            };
            let list = self.builder.step(state, list);
            match self.of {
                Use::Allow => self.builder.put_some(list, self.number, SAMPLED),
                Use::Other => self.builder.put(list, self.number),
            }
            let hosts: Vec<Option<&HostPattern>> = match &*fields.hosts {
                hosts @ [_, ..] if by.hosts => hosts.iter().map(Some).collect(),
                _ => vec![None],
            };
            for host in hosts {
                let host = self.symbols.add_host(host);
                let state = self.builder.step(state, host);
                self.insert_paths(state, fields, by);
            }
        }
    }

    fn insert_paths(&mut self, state: State, fields: &OperationFields, by: By) {
        if by.paths && !fields.paths.is_empty() {
            for path in &fields.paths {
                self.insert_path(state, path.segments(), path.has_rest(), fields, by);
            }
        } else if by.paths && !fields.grpc.is_empty() {
            for grpc in &fields.grpc {
                let service = PathSegment::Literal(grpc.service.as_str());
                let method = match &grpc.method {
                    Some(method) => PathSegment::Literal(method.as_str()),
                    None => PathSegment::One,
                };
                self.insert_path(state, [service, method], false, fields, by);
            }
        } else {
            self.insert_methods(state, false, fields, by);
        }
    }

    fn insert_path<'p>(
        &mut self,
        from: State,
        segments: impl IntoIterator<Item = PathSegment<'p>>,
        rest: bool,
        fields: &OperationFields,
        by: By,
    ) {
        let mut state = from;
        let mut segments = segments.into_iter();
        for segment in segments.by_ref().take(MAX_LEVELS) {
            let symbol = match segment {
                PathSegment::Literal(literal) => self.symbols.segment(literal),
                PathSegment::One | PathSegment::Named(_) => special::ONE,
            };
            state = self.builder.step(state, symbol);
        }
        let ends = !rest && segments.next().is_none();
        self.insert_methods(state, ends, fields, by);
    }

    /// `ends`: whether nothing follows in the path.
    fn insert_methods(&mut self, state: State, ends: bool, fields: &OperationFields, by: By) {
        if !by.methods || fields.methods.is_empty() {
            let state = match ends {
                true => self.builder.step(state, special::END),
                false => state,
            };
            self.builder.put(state, self.number);
            return;
        }
        for method in &fields.methods {
            let method = self.symbols.method(method);
            self.symbols.methods_on_the_way |= !ends;
            let symbol = if ends {
                method ^ special::AT_END
            } else {
                method
            };
            let state = self.builder.step(state, symbol);
            self.builder.put(state, self.number);
        }
        if self.of == Use::Allow {
            let sample = self.builder.step(state, special::SAMPLE);
            self.builder.put_some(sample, self.number, SAMPLED);
        }
    }
}

/// As many facts as there is space for.
fn by_what(fields: &OperationFields, callers: usize) -> By {
    let ways = |by: By| {
        let of = |used: bool, count: usize| if used { count.max(1) } else { 1 };
        let paths = match fields.paths.len() {
            0 => fields.grpc.len(),
            paths => paths,
        };
        [
            of(true, callers),
            of(by.ports, fields.ports.len()),
            of(by.hosts, fields.hosts.len()),
            of(by.paths, paths),
            of(by.methods, fields.methods.len()),
        ]
        .into_iter()
        .fold(1, usize::saturating_mul)
    };
    let mut by = By {
        ports: true,
        hosts: true,
        paths: true,
        methods: true,
    };
    let drops: [fn(&mut By); 4] = [
        |by| by.methods = false,
        |by| by.ports = false,
        |by| by.hosts = false,
        |by| by.paths = false,
    ];
    for drop in drops {
        if ways(by) <= MOST_WAYS {
            break;
        }
        drop(&mut by);
    }
    by
}

fn callers(rule: &CompiledRule, local: &TrustDomain) -> Vec<Caller> {
    let allows = rule.rule.action == Action::Allow;
    if rule.rule.from.is_empty() {
        return vec![if allows {
            below_domain(local)
        } else {
            Caller::Any
        }];
    }
    let sources = rule.rule.from.iter();
    sources
        .map(|source| caller(source, local, allows))
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
        None => Some(local),
        Some(TrustDomainPattern::Is(domain)) => Some(domain),
        Some(TrustDomainPattern::Any) => None,
    };
    let (namespace, account) = match &fields.workload {
        Some(workload) => (workload.namespace(), workload.service_account()),
        None => (None, None),
    };
    let named = allows || fields.trust_domain.is_some() || fields.workload.is_some();
    match (domain, namespace.or(fields.namespace.as_ref()), account) {
        (Some(domain), Some(ns), Some(sa)) => {
            Caller::Exact(format!("spiffe://{domain}/ns/{ns}/sa/{sa}"))
        }
        (Some(domain), Some(ns), None) => Caller::Below(format!("spiffe://{domain}/ns/{ns}")),
        (None, Some(ns), Some(sa)) => Caller::ExactPath(format!("/ns/{ns}/sa/{sa}")),
        (None, Some(ns), None) => Caller::BelowPath(format!("/ns/{ns}")),
        (Some(domain), None, _) if named => below_domain(domain),
        (_, None, _) => Caller::Any,
    }
}
