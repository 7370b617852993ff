//! What every Istio document has: name, namespace, annotations, and what Kubernetes adds.

use super::Options;
use crate::document::Metadata;
use crate::pattern::Name;
use crate::yaml::{Fields, Value};

/// `metadata` as far as it means something here.
pub(super) struct Header {
    /// With the root namespace in the place of Istio's.
    pub(super) metadata: Metadata,
    /// The namespace as it is written: where names without one are.
    pub(super) namespace: Name,
    /// The value of the annotation `istio.io/dry-run`.
    pub(super) dry_run: bool,
}

/// What the API server adds to a document and `kubectl get -o yaml` shows. None of it is policy.
const BOOKKEEPING: [&str; 9] = [
    "creationTimestamp",
    "deletionTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// <https://istio.io/latest/docs/reference/config/annotations/>
const DRY_RUN: &str = "istio.io/dry-run";

/// Reads `apiVersion`, `kind`, `metadata` and `status`.
pub(super) fn read(fields: &mut Fields<'_>, options: &Options) -> Option<Header> {
    fields.ignored(&["apiVersion", "kind", "status"]);
    let (name, namespace, dry_run) = fields.required("metadata", |value| {
        value.mapping(|fields| {
            fields.ignored(&BOOKKEEPING);
            fields.ignored(&["labels"]);
            let name = fields.required("name", |v| v.parsed("a name such as orders"));
            let namespace = fields.required("namespace", |v| namespace(v, options));
            let dry_run = fields.nullable("annotations", dry_run);
            Some((name?, namespace?, dry_run?.unwrap_or(false)))
        })
    })?;
    let (namespace, mapped) = namespace;
    Some(Header {
        metadata: Metadata {
            namespace: mapped,
            name,
        },
        namespace,
        dry_run,
    })
}

/// The namespace as written, and as it is here.
fn namespace(value: Value<'_>, options: &Options) -> Option<(Name, Name)> {
    let root = options.own_root();
    let namespace: Name = value.parsed("a namespace such as shop")?;
    if namespace == options.root_namespace {
        return Some((namespace, root));
    }
    if namespace == root {
        return value.mistake(format!(
            "the namespace {root} is the root namespace of this mesh, but {} is that of Istio: a policy that is \
             about the workloads of {root} alone cannot be written",
            options.root_namespace
        ));
    }
    Some((namespace.clone(), namespace))
}

/// Go's `strconv.ParseBool`, by which Istio reads the annotation.
fn dry_run(value: Value<'_>) -> Option<bool> {
    let annotations = value.entries("strings", |key, value| {
        if key != DRY_RUN {
            return Some(false);
        }
        match value.string_or_empty()?.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => value.expected(r#""true" or "false""#),
        }
    })?;
    Some(annotations.into_iter().any(|(_, dry_run)| dry_run))
}
