//! Who is called: the workloads of the mesh, as far as policies tell them apart.

use std::collections::{BTreeMap, BTreeSet};

use countersign_identity::spiffe::system;

use super::diagram::{TooLarge, Value};
use super::dimensions::fresh;
use super::encode::joined;
use super::words::Dimension;
use crate::Policy;
use crate::call::Workload;
use crate::document::Target;

/// How many kinds of workloads are told apart.
const MOST: usize = 100_000;

/// What a policy says of the workloads that it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct About {
    /// `None` is any.
    pub(super) namespace: Option<String>,
    pub(super) account: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl About {
    /// One for each service account.
    pub(super) fn of(namespace: &str, target: &Target) -> Vec<Self> {
        let namespace = (namespace != system::NAMESPACE).then(|| namespace.to_owned());
        let one = |account: Option<String>| Self {
            namespace: namespace.clone(),
            account,
            labels: target.labels.clone(),
        };
        match target.workloads.as_slice() {
            [] => vec![one(None)],
            accounts => accounts
                .iter()
                .map(|account| one(Some(account.to_string())))
                .collect(),
        }
    }

    fn accepts(&self, workload: &Workload) -> bool {
        self.is_in(&workload.namespace)
            && self
                .account
                .as_ref()
                .is_none_or(|account| *account == workload.service_account)
            && self
                .labels
                .iter()
                .all(|(name, value)| workload.labels.get(name) == Some(value))
    }

    /// Namespace and service account, if it is exactly one that it is about.
    pub(super) fn account(&self) -> Option<(&str, &str)> {
        let account = (self.namespace.as_deref()?, self.account.as_deref()?);
        self.labels.is_empty().then_some(account)
    }

    fn is_in(&self, namespace: &str) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|wanted| wanted == namespace)
    }

    pub(super) fn text(&self) -> String {
        let any = "*".to_owned();
        let namespace = self.namespace.as_ref().unwrap_or(&any);
        let account = self.account.as_ref().unwrap_or(&any);
        if self.labels.is_empty() {
            return format!("{namespace}/{account}");
        }
        let labels = self
            .labels
            .iter()
            .map(|(name, value)| format!("{name}: {value}"));
        format!("{namespace}/{account} {{{}}}", joined(labels, ", "))
    }
}

/// The workloads: by class one of it.
#[derive(Debug)]
pub(super) struct Destinations {
    pub(super) dimension: Dimension<Workload>,
    about: Vec<About>,
}

impl Destinations {
    /// The class of a workload.
    pub(super) fn place(&self, workload: &Workload) -> Option<Value> {
        self.dimension.value(&signature(&self.about, workload))
    }
}

fn signature(about: &[About], workload: &Workload) -> Vec<usize> {
    let numbered = about.iter().enumerate();
    let accepting = numbered.filter(|(_, about)| about.accepts(workload));
    accepting.map(|(number, _)| number).collect()
}

/// All workloads that there could be, or, where a directory says which there are, those.
pub(super) fn destinations(
    policies: &[&Policy],
    directory: Option<&[Workload]>,
) -> Result<Destinations, TooLarge> {
    let documents = policies.iter().flat_map(|policy| policy.documents());
    let mut about: BTreeSet<About> = documents
        .filter_map(|compiled| {
            let namespace = compiled.document.metadata().namespace.as_str();
            Some(About::of(namespace, compiled.document.target()?))
        })
        .flatten()
        .collect();
    let namespaces: BTreeSet<String> = about
        .iter()
        .filter_map(|about| about.namespace.clone())
        .chain(
            directory
                .into_iter()
                .flatten()
                .map(|workload| workload.namespace.clone()),
        )
        .collect();
    about.extend(namespaces.iter().map(|namespace| About {
        namespace: Some(namespace.clone()),
        ..About::default()
    }));
    let workloads = match directory {
        Some(workloads) => {
            about.extend(workloads.iter().map(|workload| About {
                namespace: Some(workload.namespace.clone()),
                account: Some(workload.service_account.clone()),
                labels: BTreeMap::new(),
            }));
            workloads.to_vec()
        }
        None => all_workloads(&about, &namespaces)?,
    };
    let about: Vec<About> = about.into_iter().collect();
    let classes: Vec<(Vec<usize>, Workload)> = workloads
        .into_iter()
        .map(|workload| (signature(&about, &workload), workload))
        .collect();
    let texts = about.iter().map(About::text).collect();
    Ok(Destinations {
        dimension: Dimension::new(texts, classes),
        about,
    })
}

/// One workload for every combination of account and labels that can be told apart.
fn all_workloads(
    about: &BTreeSet<About>,
    namespaces: &BTreeSet<String>,
) -> Result<Vec<Workload>, TooLarge> {
    let names = namespaces.iter().map(String::as_str).collect();
    let elsewhere = fresh("other", &names);
    let mut found = Vec::new();
    for namespace in namespaces.iter().chain([&elsewhere]) {
        let here: Vec<&About> = about
            .iter()
            .filter(|about| about.is_in(namespace))
            .collect();
        let accounts: BTreeSet<&str> = here
            .iter()
            .filter_map(|about| about.account.as_deref())
            .collect();
        let other = fresh("other", &accounts);
        for account in accounts.into_iter().chain([other.as_str()]) {
            let wanted = |about: &&&About| about.account.as_deref().is_none_or(|a| a == account);
            let left: Vec<&About> = here.iter().filter(wanted).copied().collect();
            let workload = Workload {
                namespace: namespace.clone(),
                service_account: account.to_owned(),
                labels: BTreeMap::new(),
            };
            add_labels(&left, &BTreeSet::new(), workload, &mut found)?;
        }
    }
    Ok(found)
}

/// Adds a workload with every combination of labels that those may ask for, `asked` being decided.
fn add_labels<'a>(
    about: &[&'a About],
    asked: &BTreeSet<&'a str>,
    workload: Workload,
    found: &mut Vec<Workload>,
) -> Result<(), TooLarge> {
    let names = about.iter().flat_map(|about| about.labels.keys());
    let Some(next) = names.map(String::as_str).find(|name| !asked.contains(name)) else {
        if found.len() == MOST {
            return Err(TooLarge);
        }
        found.push(workload);
        return Ok(());
    };
    let mut asked = asked.clone();
    asked.insert(next);
    let values: BTreeSet<&String> = about
        .iter()
        .filter_map(|about| about.labels.get(next))
        .collect();
    for value in values.into_iter().map(Some).chain([None]) {
        let accepted = |about: &&&About| {
            let wanted = about.labels.get(next);
            wanted.is_none() || wanted == value
        };
        let left: Vec<&About> = about.iter().filter(accepted).copied().collect();
        let mut workload = workload.clone();
        if let Some(value) = value {
            workload.labels.insert(next.to_owned(), value.clone());
        }
        add_labels(&left, &asked, workload, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use countersign_identity::TrustDomain;

    use super::*;
    use crate::document;

    fn policy(targets: &[(&str, &str)]) -> Policy {
        let text: String = targets
            .iter()
            .enumerate()
            .map(|(number, (namespace, target))| {
                format!("apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p{number}, namespace: {namespace}}}\nspec: {{{target}default: deny}}\n---\n")
            })
            .collect();
        let documents = document::parse([("p.yaml".to_owned(), text)]).unwrap();
        let domain = TrustDomain::parse("shop.example").unwrap();
        Policy::compile("r", &domain, documents).unwrap()
    }

    #[test]
    fn workloads_are_told_apart_by_account_and_labels() {
        let policy = policy(&[
            ("shop", "target: {labels: {app: orders}}, "),
            ("shop", "target: {labels: {app: web}}, "),
            ("shop", "target: {workloads: [orders, web]}, "),
            ("countersign-system", "target: {labels: {tier: db}}, "),
        ]);
        let found = destinations(&[&policy], None).unwrap().dimension;
        // In shop three accounts, three apps, two tiers; elsewhere two tiers.
        assert_eq!(found.size(), 3 * 3 * 2 + 2);
        let tell = |accepts: &dyn Fn(&Workload) -> bool| {
            let mut set = found.none();
            for (value, workload) in found.examples.iter().enumerate() {
                set.set(value, accepts(workload));
            }
            let phrases = found.tell(&set);
            let text = |phrase: &super::super::words::Phrase| {
                format!("{} - {}", phrase.is.join("&"), phrase.except.join(","))
            };
            phrases.iter().map(text).collect::<Vec<_>>()
        };
        let is = |workload: &Workload, app: &str| {
            workload.namespace == "shop" && workload.labels.get("app").is_some_and(|a| a == app)
        };
        assert_eq!(tell(&|w| is(w, "orders")), ["shop/* {app: orders} - "]);
        assert_eq!(tell(&|w| w.namespace == "shop"), ["shop/* - "]);
        assert_eq!(
            tell(&|w| w.namespace == "shop" && !is(w, "web")),
            ["shop/* - shop/* {app: web}"]
        );
        assert_eq!(tell(&|w| w.namespace != "shop"), [" - shop/*"]);
        assert_eq!(
            tell(&|w| w.labels.contains_key("tier")),
            ["*/* {tier: db} - "]
        );
    }

    #[test]
    fn a_directory_says_which_workloads_there_are() {
        let policy = policy(&[("shop", "target: {labels: {app: orders}}, ")]);
        let workload = |account: &str, app: &str| Workload {
            namespace: "shop".to_owned(),
            service_account: account.to_owned(),
            labels: [("app".to_owned(), app.to_owned())].into(),
        };
        let directory = [
            workload("a", "orders"),
            workload("b", "x"),
            workload("c", "y"),
        ];
        let found = destinations(&[&policy], Some(&directory)).unwrap();
        assert_eq!(found.dimension.examples, directory);
        assert_eq!(found.place(&directory[1]), Some(1));
    }

    #[test]
    fn labels_that_exclude_each_other_do_not_multiply() {
        let apps: Vec<(&str, String)> = (0..300)
            .map(|n| ("shop", format!("target: {{labels: {{app: a{n}}}}}, ")))
            .collect();
        let targets: Vec<(&str, &str)> = apps.iter().map(|(ns, t)| (*ns, t.as_str())).collect();
        let found = destinations(&[&policy(&targets)], None).unwrap();
        assert_eq!(found.dimension.size(), 302);
    }
}
