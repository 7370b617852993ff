//! Which workloads a document is about.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse::text_map;
use crate::call::Workload;
use crate::pattern::Name;
use crate::yaml::Value;

/// The workloads of a document's namespace that it is about: both parts have to hold; nothing given is
/// every workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// All have to be there.
    pub labels: BTreeMap<String, String>,
    /// Service accounts.
    pub workloads: Vec<Name>,
}

impl Target {
    /// Whether a workload of the right namespace is one of them.
    #[must_use]
    pub fn accepts(&self, workload: &Workload) -> bool {
        let Self { labels, workloads } = self;
        let has = |(name, value): (&String, &String)| workload.labels.get(name) == Some(value);
        let named = |account: &Name| account.as_str() == workload.service_account;
        labels.iter().all(has) && (workloads.is_empty() || workloads.iter().any(named))
    }

    /// Whether it is every workload.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.labels.is_empty() && self.workloads.is_empty()
    }
}

pub(super) fn read(value: Value<'_>) -> Option<Target> {
    value.mapping(|fields| {
        let labels = fields.optional("labels", text_map);
        let workloads = fields.default("workloads", Vec::new(), |value| {
            value.non_empty_list("service accounts", |v| v.parsed("a service account such as orders"))
        });
        let (labels, workloads) = (labels?.unwrap_or_default(), workloads?);
        if labels.is_empty() && workloads.is_empty() {
            return value.mistake(
                "expected `labels` or `workloads`: leave `target` out to mean every workload of the namespace",
            );
        }
        Some(Target { labels, workloads })
    })
}
