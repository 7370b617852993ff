//! `selector` and `targetRefs`: which workloads an Istio document is about.

use std::collections::BTreeMap;

use crate::document::Target;
use crate::yaml::{Fields, Value};

/// What to do about a document for a gateway.
const TARGET_REFS: &str = "is not supported: it puts the document on a gateway, a waypoint or a service, \
                           and here every policy is judged by the sidecar of the called workload; use `selector`";

/// Reads `selector`, `targetRef` and `targetRefs` of a `spec`.
pub(super) fn read(fields: &mut Fields<'_>) -> Option<Target> {
    let one = fields.refused("targetRef", TARGET_REFS);
    let several = fields.refused("targetRefs", TARGET_REFS);
    let selector = fields.nullable("selector", |value| {
        value.mapping(|fields| fields.nullable("matchLabels", labels))
    });
    one?;
    several?;
    Some(Target {
        labels: selector?.flatten().unwrap_or_default(),
        workloads: Vec::new(),
    })
}

fn labels(value: Value<'_>) -> Option<BTreeMap<String, String>> {
    let labels = value.entries("strings", |label, value| {
        let text = value.string_or_empty()?;
        if label.is_empty() || label.contains('*') || text.contains('*') {
            return value.mistake("a selector has no empty labels and no `*`");
        }
        Some(text)
    })?;
    Some(labels.into_iter().collect())
}
