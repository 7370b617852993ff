//! Who is in the graph of who may call whom.

use std::collections::{BTreeMap, BTreeSet};

use countersign_identity::{SpiffeId, TrustDomain};
use serde::Serialize;

use super::destinations::About;
use super::dimensions::fresh;
use super::sequence::{Sequence, Wanted};
use super::sequences::source_sequences;
use crate::Policy;
use crate::call::Workload;
use crate::document::{Document, PeerMode};
use crate::pattern::Name;

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A workload that has a name.
    Workload,
    /// All workloads that something is said of together, such as those with a label.
    Group,
    /// Peers of another trust domain.
    Foreign,
    /// Callers without an identity.
    Anonymous,
}

/// Somebody who may be in the graph.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// As whom it calls; `None` is without an identity.
    pub(super) peer: Option<SpiffeId>,
    /// As whom it is called, if it can be.
    pub(super) workload: Option<Workload>,
    /// Whether it is known from elsewhere than the question alone.
    pub(super) known: bool,
}

/// Everybody, by name.
pub(super) fn candidates(
    policies: &[&Policy],
    directory: Option<&[Workload]>,
    named: &[Workload],
) -> Vec<Candidate> {
    let Some(local) = policies.first().map(|policy| policy.trust_domain()) else {
        return Vec::new();
    };
    let mut all = Candidates {
        local,
        by_name: BTreeMap::new(),
    };
    match directory {
        Some(workloads) => all.add_directory(workloads),
        None => all.add_named(policies),
    }
    for workload in named {
        all.add_asked(workload);
    }
    all.add_callers(policies);
    all.by_name.into_values().collect()
}

fn workload_name(workload: &Workload) -> String {
    format!("{}/{}", workload.namespace, workload.service_account)
}

/// The service account that those workloads are taken to have that are named by labels: the one that is called like one of
/// them, as `orders` is where the label is `app: orders`.
fn called_like_a_label<'a>(
    about: &'a About,
    named: &BTreeSet<(&'a str, &'a str)>,
) -> Option<(&'a str, &'a str)> {
    let namespace = about.namespace.as_deref()?;
    let mut accounts = about
        .labels
        .values()
        .map(|value| (namespace, value.as_str()));
    match about.account {
        Some(_) => None,
        None => accounts.find(|account| named.contains(account)),
    }
}

struct Candidates<'a> {
    local: &'a TrustDomain,
    by_name: BTreeMap<String, Candidate>,
}

impl Candidates<'_> {
    fn add_workload(&mut self, name: String, kind: Kind, workload: Workload) {
        let Workload {
            namespace,
            service_account,
            ..
        } = &workload;
        // What is no segment of an ID calls nobody as that; policies' own names are.
        let Ok(peer) = SpiffeId::for_workload(self.local, namespace, service_account) else {
            return;
        };
        self.by_name.entry(name.clone()).or_insert(Candidate {
            name,
            kind,
            peer: Some(peer),
            workload: Some(workload),
            known: true,
        });
    }

    /// A workload that is asked about, whether or not there is one.
    fn add_asked(&mut self, workload: &Workload) {
        let name = workload_name(workload);
        let known = self.by_name.contains_key(&name);
        self.add_workload(name.clone(), Kind::Workload, workload.clone());
        if let Some(candidate) = self.by_name.get_mut(&name) {
            candidate.known = known;
        }
    }

    /// Workloads of one service account are told apart by the labels that differ.
    fn add_directory(&mut self, workloads: &[Workload]) {
        let mut by_account: BTreeMap<String, BTreeSet<&BTreeMap<String, String>>> = BTreeMap::new();
        for workload in workloads {
            let labels = by_account.entry(workload_name(workload)).or_default();
            labels.insert(&workload.labels);
        }
        for workload in workloads {
            let name = workload_name(workload);
            let alike = by_account.get(&name);
            let name = match alike {
                Some(several) if several.len() > 1 => {
                    let differs = |(label, value): &(&String, &String)| {
                        several
                            .iter()
                            .any(|labels| labels.get(*label) != Some(value))
                    };
                    let labels = workload.labels.iter().filter(differs);
                    let labels: Vec<String> = labels.map(|(l, v)| format!("{l}: {v}")).collect();
                    format!("{name} {{{}}}", labels.join(", "))
                }
                _ => name,
            };
            self.add_workload(name, Kind::Workload, workload.clone());
        }
    }

    /// What policies are about, whom their rules name, and all others.
    fn add_named(&mut self, policies: &[&Policy]) {
        let documents = || policies.iter().flat_map(|policy| policy.documents());
        let about: BTreeSet<About> = documents()
            .filter_map(|compiled| {
                let namespace = compiled.document.metadata().namespace.as_str();
                Some(About::of(namespace, compiled.document.target()?))
            })
            .flatten()
            .collect();
        let rules = documents().flat_map(|compiled| &compiled.rules);
        let sources = rules.flat_map(|rule| &*rule.rule.from);
        let local = |source: &&crate::document::Source| source.is.trust_domain.is_none();
        let callers: Vec<(&Name, Option<&Name>)> = sources
            .filter(local)
            .filter_map(|source| {
                let workload = source.is.workload.as_ref();
                let namespace = workload.and_then(|workload| workload.namespace());
                let namespace = namespace.or(source.is.namespace.as_ref())?;
                Some((
                    namespace,
                    workload.and_then(|workload| workload.service_account()),
                ))
            })
            .collect();
        self.add_named_by_id(policies);
        let namespaces: BTreeSet<&str> = about
            .iter()
            .filter_map(|about| about.namespace.as_deref())
            .chain(callers.iter().map(|(namespace, _)| namespace.as_str()))
            .collect();
        let accounts: BTreeSet<&str> = about
            .iter()
            .filter_map(|about| about.account.as_deref())
            .chain(
                callers
                    .iter()
                    .filter_map(|(_, account)| account.map(Name::as_str)),
            )
            .collect();
        let (elsewhere, other) = (fresh("other", &namespaces), fresh("other", &accounts));
        let named: BTreeSet<(&str, &str)> = callers
            .iter()
            .filter_map(|(namespace, account)| Some((namespace.as_str(), (*account)?.as_str())))
            .chain(about.iter().filter_map(About::account))
            .collect();
        let mut by_labels: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for account in about
            .iter()
            .filter_map(|about| called_like_a_label(about, &named))
        {
            let count = by_labels.entry(account).or_default();
            *count = count.saturating_add(1);
        }
        for about in &about {
            if about.account.is_none() && about.labels.is_empty() {
                continue;
            }
            let like = called_like_a_label(about, &named);
            let account = about
                .account
                .as_deref()
                .or(like.map(|(_, account)| account));
            let workload = Workload {
                namespace: about.namespace.clone().unwrap_or_else(|| elsewhere.clone()),
                service_account: account.unwrap_or(&other).to_owned(),
                labels: about.labels.clone(),
            };
            let is_one = match like {
                Some(account) => by_labels.get(&account) == Some(&1),
                None => about.account().is_some(),
            };
            match is_one {
                true => self.add_workload(workload_name(&workload), Kind::Workload, workload),
                false => self.add_workload(about.text(), Kind::Group, workload),
            }
        }
        let workload = |namespace: &str, account: &str| Workload {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            ..Workload::default()
        };
        for (namespace, account) in &callers {
            if let Some(account) = account {
                let workload = workload(namespace.as_str(), account.as_str());
                self.add_workload(workload_name(&workload), Kind::Workload, workload);
            }
        }
        for namespace in namespaces {
            let workload = workload(namespace, &other);
            self.add_workload(format!("others of {namespace}"), Kind::Group, workload);
        }
        let workload = workload(&elsewhere, &other);
        self.add_workload("others".to_owned(), Kind::Group, workload);
    }

    /// Workloads of this mesh that rules name by their whole SPIFFE IDs.
    fn add_named_by_id(&mut self, policies: &[&Policy]) {
        let documents = policies.iter().flat_map(|policy| policy.documents());
        for source in documents
            .flat_map(|compiled| &compiled.rules)
            .flat_map(|rule| &*rule.rule.from)
        {
            if let Some(pattern) = &source.is.spiffe
                && !pattern.is_prefix()
                && pattern.id().trust_domain() == self.local
                && let Some(name) = pattern.id().workload()
            {
                let workload = Workload {
                    namespace: name.namespace.to_owned(),
                    service_account: name.service_account.to_owned(),
                    ..Workload::default()
                };
                self.add_workload(workload_name(&workload), Kind::Workload, workload);
            }
        }
    }

    /// Peers of other trust domains that rules name, and callers without an identity where there may be some.
    fn add_callers(&mut self, policies: &[&Policy]) {
        let documents = policies.iter().flat_map(|policy| policy.documents());
        for compiled in documents {
            if let Document::MeshMode(mode) = &compiled.document {
                let permissive = |mode: &PeerMode| *mode == PeerMode::Permissive;
                if mode.mode.iter().chain(mode.ports.values()).any(permissive) {
                    let name = "anonymous callers".to_owned();
                    self.by_name.entry(name.clone()).or_insert(Candidate {
                        name,
                        kind: Kind::Anonymous,
                        peer: None,
                        workload: None,
                        known: true,
                    });
                }
            }
            for source in compiled.rules.iter().flat_map(|rule| &*rule.rule.from) {
                let domain = source.is.trust_domain.as_ref();
                for (sequence, name) in source_sequences(self.local, &source.is, domain) {
                    self.add_foreign(&sequence, name);
                }
            }
        }
    }

    fn add_foreign(&mut self, sequence: &Sequence, name: String) {
        const OTHER: &str = "other";
        let mut segments = sequence.segments.iter().map(|wanted| match wanted {
            Wanted::Is(name) => &**name,
            Wanted::One => OTHER,
        });
        let domain = segments.next().unwrap_or(OTHER);
        if domain == self.local.as_str() {
            return;
        }
        let mut id = format!("spiffe://{domain}");
        let below = sequence.rest.then_some(OTHER);
        for segment in segments.chain(below) {
            id.push('/');
            id.push_str(segment);
        }
        if let Ok(peer) = id.parse() {
            self.by_name.entry(name.clone()).or_insert(Candidate {
                name,
                kind: Kind::Foreign,
                peer: Some(peer),
                workload: None,
                known: true,
            });
        }
    }
}
