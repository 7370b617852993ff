//! What policy says of workloads and ports, compared with those that there are.

use std::collections::BTreeSet;

use countersign_identity::{SpiffeId, TrustDomain, WorkloadName};

use super::{Lint, Report};
use crate::directory::{Directory, KnownWorkload, Protocol};
use crate::document::{
    AccessPolicy, Action, Document, IntentMatch, Operation, RequesterPattern, Rule, SourceFields,
};
use crate::pattern::{Name, SpiffePattern, TrustDomainPattern, WorkloadPattern};
use crate::policy::concerns;
use crate::yaml::closest;

pub(super) fn check(
    documents: &[Document],
    local: &TrustDomain,
    directory: &Directory,
    report: &mut Report,
) {
    let callers = Callers::of(directory, local);
    for document in documents {
        let targets: Vec<_> = directory
            .workloads
            .iter()
            .filter(|known| concerns(document, &known.workload))
            .collect();
        if targets.is_empty() {
            unknown_target(document, directory, report);
        }
        if let Document::AccessPolicy(policy) = document {
            access(policy, &callers, &targets, report);
        }
    }
}

fn unknown_target(document: &Document, directory: &Directory, report: &mut Report) {
    let metadata = document.metadata();
    let namespace = metadata.namespace.as_str();
    let known = |namespace: &str| {
        let mut workloads = directory.workloads.iter();
        workloads.any(|known| known.workload.namespace == namespace)
    };
    let root = countersign_identity::spiffe::system::NAMESPACE;
    let message = if namespace == root || known(namespace) {
        let Some(target) = document.target().filter(|target| !target.is_all()) else {
            return;
        };
        let labels = target
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let accounts = target.workloads.iter().map(ToString::to_string);
        let asked: Vec<_> = labels.chain(accounts).collect();
        let place = match namespace {
            _ if namespace == root => "the directory".to_owned(),
            own => format!("the namespace {own}"),
        };
        format!("no workload of {place} is {}", asked.join(" and "))
    } else {
        let namespaces = directory
            .workloads
            .iter()
            .map(|known| known.workload.namespace.as_str());
        let help = did_you_mean(namespace, namespaces);
        format!("the directory has no workload of the namespace {namespace}{help}")
    };
    let message = format!("{} {metadata} is about nothing: {message}", document.kind());
    report.at(Lint::UnknownTarget, document.origin(), message);
}

fn access(
    policy: &AccessPolicy,
    callers: &Callers<'_>,
    targets: &[&KnownWorkload],
    report: &mut Report,
) {
    for rule in &policy.rules {
        for message in callers.unknown(rule) {
            let message = format!("the rule {:?} names {message}", rule.name);
            report.at(Lint::UnknownWorkload, &rule.origin, message);
        }
        unknown_ports(rule, targets, report);
        opaque_ports(rule, targets, report);
    }
}

/// Ports that none of the called workloads has. Where a workload's ports are not told, nothing can be said.
fn unknown_ports(rule: &Rule, targets: &[&KnownWorkload], report: &mut Report) {
    if targets.is_empty() || targets.iter().any(|known| known.ports.is_empty()) {
        return;
    }
    let asked: BTreeSet<u16> = rule
        .to
        .iter()
        .flat_map(|to| &to.is.ports)
        .copied()
        .collect();
    for port in asked {
        if targets.iter().all(|known| !known.ports.contains_key(&port)) {
            let message = format!(
                "the rule {:?} names the port {port}, and no workload that it is about has that port",
                rule.name
            );
            report.at(Lint::UnknownPort, &rule.origin, message);
        }
    }
}

/// Facts of HTTP where there are none: an allow rule that asks for them does not match, any other does.
fn opaque_ports(rule: &Rule, targets: &[&KnownWorkload], report: &mut Report) {
    let opaque: BTreeSet<u16> = ports_of(targets, |protocol| protocol == Protocol::Opaque);
    let others: BTreeSet<u16> = ports_of(targets, |protocol| protocol != Protocol::Opaque);
    let mut told: BTreeSet<u16> = BTreeSet::new();
    for to in rule.to.iter().filter(|to| asks_for_http(to)) {
        let named = !to.is.ports.is_empty();
        // An allow rule without ports is about those on which it can match.
        if rule.action == Action::Allow && !named {
            continue;
        }
        let is_asked = |port: &&u16| !named || to.is.ports.contains(port);
        let is_out = |port: &u16| to.not.ports.contains(port);
        told.extend(
            opaque
                .difference(&others)
                .filter(is_asked)
                .filter(|port| !is_out(port)),
        );
    }
    for port in told {
        let what = match rule.action {
            Action::Allow => {
                "so it never matches there: leave the other fields out to allow connections"
            }
            Action::Deny => {
                "so it denies every connection there: name the ports that it is about, or leave this one out with `not`"
            }
            Action::Audit => {
                "so it reports every connection there: name the ports that it is about, or leave this one out with `not`"
            }
        };
        let message = format!(
            "the rule {:?} asks for facts of HTTP, which connections on the opaque port {port} do not have, {what}",
            rule.name
        );
        report.at(Lint::HttpOnOpaquePort, &rule.origin, message);
    }
}

fn ports_of(targets: &[&KnownWorkload], is: impl Fn(Protocol) -> bool) -> BTreeSet<u16> {
    let ports = targets.iter().flat_map(|known| &known.ports);
    ports
        .filter(|(_, protocol)| is(**protocol))
        .map(|(port, _)| *port)
        .collect()
}

fn asks_for_http(to: &Operation) -> bool {
    to.is.is_http() || to.not.is_http()
}

/// Who calls in the mesh.
struct Callers<'a> {
    local: &'a TrustDomain,
    names: Vec<WorkloadName<'a>>,
    ids: Vec<SpiffeId>,
}

impl<'a> Callers<'a> {
    fn of(directory: &'a Directory, local: &'a TrustDomain) -> Self {
        let names = directory.workloads.iter().map(|known| WorkloadName {
            namespace: &known.workload.namespace,
            service_account: &known.workload.service_account,
        });
        let ids = directory
            .workloads
            .iter()
            .filter_map(|known| known.spiffe_id(local));
        Self {
            local,
            names: names.collect(),
            ids: ids.collect(),
        }
    }

    /// Whom a rule names and who is not there, each in words.
    fn unknown(&self, rule: &Rule) -> Vec<String> {
        let mut unknown = BTreeSet::new();
        for source in &*rule.from {
            // Names under `not` are of the same trust domain as those above.
            let ours = match &source.is.trust_domain {
                None => true,
                Some(TrustDomainPattern::Is(domain)) => domain == self.local,
                Some(TrustDomainPattern::Any) => false,
            };
            for fields in std::iter::once(&source.is).chain(&source.not) {
                self.unknown_source(fields, ours, &mut unknown);
            }
        }
        match rule.intent.as_deref() {
            Some(IntentMatch {
                requester: Some(RequesterPattern::Workload(pattern)),
                ..
            }) => unknown.extend(self.unknown_workload(pattern)),
            Some(IntentMatch {
                requester: Some(RequesterPattern::Spiffe(pattern)),
                ..
            }) => unknown.extend(self.unknown_id(pattern)),
            _ => {}
        }
        unknown.into_iter().collect()
    }

    fn unknown_source(&self, fields: &SourceFields, ours: bool, unknown: &mut BTreeSet<String>) {
        if ours {
            let workload = fields.workload.as_ref();
            unknown.extend(workload.and_then(|pattern| self.unknown_workload(pattern)));
            let namespace = fields.namespace.as_ref();
            unknown.extend(namespace.and_then(|name| self.unknown_namespace(name)));
        }
        let spiffe = fields.spiffe.as_ref();
        unknown.extend(spiffe.and_then(|pattern| self.unknown_id(pattern)));
    }

    fn unknown_workload(&self, pattern: &WorkloadPattern) -> Option<String> {
        if self.names.iter().any(|name| pattern.matches(*name)) {
            return None;
        }
        let given = pattern.to_string();
        let known: Vec<_> = self
            .names
            .iter()
            .map(|name| format!("{}/{}", name.namespace, name.service_account))
            .collect();
        let help = did_you_mean(&given, known.iter().map(String::as_str));
        Some(format!(
            "the workload {given}, which is not in the directory{help}"
        ))
    }

    fn unknown_namespace(&self, given: &Name) -> Option<String> {
        let mut namespaces = self.names.iter().map(|name| name.namespace);
        if namespaces.any(|namespace| namespace == given.as_str()) {
            return None;
        }
        let help = did_you_mean(given.as_str(), self.names.iter().map(|name| name.namespace));
        Some(format!(
            "the namespace {given}, of which the directory has no workload{help}"
        ))
    }

    fn unknown_id(&self, pattern: &SpiffePattern) -> Option<String> {
        let is_ours = pattern.id().trust_domain() == self.local;
        if !is_ours || self.ids.iter().any(|id| pattern.matches(id)) {
            return None;
        }
        Some(format!(
            "the SPIFFE ID {pattern}, which no workload of the directory has"
        ))
    }
}

fn did_you_mean<'n>(given: &str, known: impl Iterator<Item = &'n str>) -> String {
    match closest(given, known) {
        Some(near) => format!(", did you mean {near}?"),
        None => String::new(),
    }
}
