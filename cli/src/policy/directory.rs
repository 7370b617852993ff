//! The workloads of a directory file, as the control plane is given one.

use std::path::Path;

use countersign_policy::yaml::{self, Value};
use countersign_policy::{Diagnostics, Workload};

/// Reads the workloads; addresses, ports and services are for others.
///
/// # Errors
/// Every mistake in what is read.
pub(crate) fn workloads(path: &Path) -> Result<Vec<Workload>, Diagnostics> {
    yaml::read_file(path, |value| {
        value.mapping(|fields| {
            let workloads = fields.default("workloads", Vec::new(), |value| {
                value.list("workloads", workload)
            });
            fields.optional("services", Value::json);
            workloads
        })
    })
}

fn workload(value: Value<'_>) -> Option<Workload> {
    value.mapping(|fields| {
        for unread in ["name", "wireAddress", "ports"] {
            fields.optional(unread, Value::json);
        }
        let namespace = fields.required("namespace", Value::string);
        let service_account = fields.required("serviceAccount", Value::string);
        let labels = fields.default("labels", Vec::new(), |value| {
            value.entries("strings", |_, value| value.string_or_empty())
        });
        Some(Workload {
            namespace: namespace?,
            service_account: service_account?,
            labels: labels?.into_iter().collect(),
        })
    })
}
