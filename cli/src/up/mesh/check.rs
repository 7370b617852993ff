//! What several parts of a mesh file must agree on.

use std::collections::{BTreeMap, BTreeSet};

use countersign_identity::{SpiffeId, TrustDomain};
use countersign_policy::yaml::{Fields, Value, closest};

use super::read::{Placed, PlacedWorkload};
use super::template::Template;
use super::{Issuer, Workload};
use crate::up::addresses::MOST_WORKLOADS;
use crate::up::topology;

/// The workloads of a file, and where to complain about all of them together.
pub(super) struct Workloads<'a> {
    workloads: Vec<PlacedWorkload<'a>>,
    /// Whether there are more, which could not be read.
    incomplete: bool,
    file: Value<'a>,
}

impl<'a> Workloads<'a> {
    pub(super) fn new(workloads: Vec<Option<PlacedWorkload<'a>>>, file: &Fields<'a>) -> Self {
        let incomplete = workloads.iter().any(Option::is_none);
        Self {
            workloads: workloads.into_iter().flatten().collect(),
            incomplete,
            file: file.value(),
        }
    }

    /// The workloads if they agree; reports what they do not agree on.
    pub(super) fn check(self, trust_domain: Option<&TrustDomain>) -> Option<Vec<Workload>> {
        let checks = [
            self.unique_names(),
            self.within_the_subnet(),
            self.all(|workload| spiffe_id(workload, trust_domain)),
            self.all(ports),
            self.all(calls),
            self.known_services(),
            self.all(placeholders),
        ];
        let good = checks.into_iter().all(|check| check.is_some()) && !self.incomplete;
        good.then(|| self.workloads.into_iter().map(Workload::from).collect())
    }

    /// Applies a check to every workload, even if one fails.
    fn all(&self, check: impl Fn(&PlacedWorkload<'a>) -> Option<()>) -> Option<()> {
        let failures = self
            .workloads
            .iter()
            .filter(|workload| check(workload).is_none())
            .count();
        (failures == 0).then_some(())
    }

    /// The names of all instances differ: they name files, and entries of the directory.
    fn unique_names(&self) -> Option<()> {
        let mut holders: BTreeMap<String, &str> = BTreeMap::new();
        let mut names = BTreeSet::new();
        let mut good = Some(());
        for placed in &self.workloads {
            let name = placed.name.value.as_str();
            if !names.insert(name) {
                good = placed
                    .name
                    .at
                    .mistake(format!("a workload `{name}` is there already"));
                continue;
            }
            for instance in Workload::from(placed.clone()).instances() {
                if let Some(holder) = holders.insert(instance.clone(), name) {
                    good = placed.name.at.mistake(format!(
                        "the workload `{holder}` has an instance `{instance}` already"
                    ));
                    break;
                }
            }
        }
        good
    }

    fn within_the_subnet(&self) -> Option<()> {
        let count: usize = self
            .workloads
            .iter()
            .map(|workload| workload.replicas)
            .sum();
        if count <= MOST_WORKLOADS {
            return Some(());
        }
        self.file.mistake(format!(
            "{count} workloads, replicas counted, but a mesh has addresses for {MOST_WORKLOADS}"
        ))
    }

    /// Whoever is called is there. Nothing can be said if a workload could not be read.
    fn known_services(&self) -> Option<()> {
        let services: BTreeSet<String> = self
            .workloads
            .iter()
            .cloned()
            .map(Workload::from)
            .flat_map(|w| {
                w.ports
                    .iter()
                    .map(|port| w.service(*port))
                    .collect::<Vec<_>>()
            })
            .collect();
        if self.incomplete {
            return Some(());
        }
        self.all(|workload| {
            let mut good = Some(());
            for call in &workload.calls {
                if !services.contains(&call.value) {
                    good = call.at.mistake(format!(
                        "no workload offers the service `{}`{}",
                        call.value,
                        suggestion(&call.value, services.iter().map(String::as_str))
                    ));
                }
            }
            good
        })
    }
}

/// Names are those of a SPIFFE ID; the labels of the file always are, unless they get too long.
fn spiffe_id(workload: &PlacedWorkload<'_>, trust_domain: Option<&TrustDomain>) -> Option<()> {
    let Some(trust_domain) = trust_domain else {
        return Some(());
    };
    let (namespace, account) = (&workload.namespace, &workload.service_account);
    match SpiffeId::for_workload(trust_domain, namespace, account) {
        Ok(_) => Some(()),
        Err(error) => workload.at.mistake(error.to_string()),
    }
}

/// Ports are given once, and leave alone those that the sidecar has at the same address.
fn ports(workload: &PlacedWorkload<'_>) -> Option<()> {
    let mut seen = BTreeSet::new();
    let mut good = Some(());
    let sidecar = topology::sidecar_ports(workload.calls.len());
    for Placed { value, at } in &workload.ports {
        let port = value.port;
        if !seen.insert(port) {
            good = at.mistake(format!("port {port} is given twice"));
        }
        if sidecar.contains(&port) {
            good = at.mistake(format!(
                "port {port} is the sidecar's at this address; the workload needs another"
            ));
        }
    }
    good
}

/// Services are called once each.
fn calls(workload: &PlacedWorkload<'_>) -> Option<()> {
    let mut seen = BTreeSet::new();
    let mut good = Some(());
    for Placed { value, at } in &workload.calls {
        if !seen.insert(value) {
            good = at.mistake(format!("the service `{value}` is given twice"));
        }
    }
    good
}

/// `${…}` is the workload's address, or a service that it says it calls.
fn placeholders(workload: &PlacedWorkload<'_>) -> Option<()> {
    let known = || workload.calls.iter().map(|call| call.value.as_str());
    let templates: Vec<&Placed<'_, Template>> = workload
        .command
        .iter()
        .chain(workload.env.iter().map(|(_, value)| value))
        .collect();
    let mut good = Some(());
    for Placed { value, at } in templates {
        for service in value.services() {
            if !known().any(|call| call == service) {
                let help = match suggestion(service, known().chain(["ip"])) {
                    help if help.is_empty() => "; add it to `calls`".to_owned(),
                    help => help,
                };
                good = at.mistake(format!(
                    "`${{{service}}}` is neither `${{ip}}` nor a service in `calls`{help}"
                ));
            }
        }
    }
    good
}

/// Issuers have different names and different `iss`.
pub(super) fn distinct_issuers(issuers: &[Placed<'_, Issuer>]) -> Option<()> {
    let (mut names, mut urls) = (BTreeSet::new(), BTreeSet::new());
    let mut good = Some(());
    for Placed { value, at } in issuers {
        if !names.insert(&value.name) {
            good = at.mistake(format!("an issuer `{}` is there already", value.name));
        }
        if !urls.insert(&value.issuer) {
            good = at.mistake(format!("another issuer is {} already", value.issuer));
        }
        let mut users = BTreeSet::new();
        for user in &value.users {
            if !users.insert(&user.name) {
                let name = &user.name;
                good = at.mistake(format!("this issuer has the user `{name}` twice"));
            }
        }
    }
    good
}

fn suggestion<'s>(name: &str, candidates: impl IntoIterator<Item = &'s str>) -> String {
    closest(name, candidates)
        .map(|c| format!(", did you mean `{c}`?"))
        .unwrap_or_default()
}

impl From<PlacedWorkload<'_>> for Workload {
    fn from(placed: PlacedWorkload<'_>) -> Self {
        Self {
            name: placed.name.value,
            namespace: placed.namespace,
            service_account: placed.service_account,
            labels: placed.labels,
            command: placed.command.into_iter().map(|part| part.value).collect(),
            env: placed
                .env
                .into_iter()
                .map(|(name, part)| (name, part.value))
                .collect(),
            ports: placed.ports.into_iter().map(|port| port.value).collect(),
            calls: placed.calls.into_iter().map(|call| call.value).collect(),
            replicas: placed.replicas,
        }
    }
}
