//! Documents that decide other things than calls, or of whom a token is believed: what became of them, and what that changes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::destinations::Destinations;
use super::issuers;
use super::words::Phrase;
use crate::Policy;
use crate::document::{AmbiguousPaths, Document};

/// A document that was changed, and decides something else than calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DocumentChange {
    /// Its kind.
    pub kind: &'static str,
    /// Its name, as `namespace/name`.
    pub name: String,
    /// What became of it.
    pub edit: Edit,
    /// The file, as it is named in the new policy, or if it was removed in the old.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// Whether something may be allowed by it that was not.
    pub may_widen: bool,
    /// Which calls may become allowed or denied by it, for people, as far as that is analysed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
}

/// Requests whose path applications read in different ways are judged now, or refused now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathsChange {
    /// The workloads that are called.
    pub to: Vec<Phrase>,
    /// Whether they are judged now: what all readings of such a path are allowed for becomes allowed. Else they are
    /// refused now.
    pub accepted: bool,
}

/// To which workloads paths with several readings are judged by one policy and refused by the other.
pub(super) fn paths_changes(
    old: &Policy,
    new: &Policy,
    destinations: &Destinations,
) -> Vec<PathsChange> {
    let mut changed = [true, false].map(|accepted| (accepted, destinations.dimension.none()));
    for (value, workload) in destinations.dimension.examples.iter().enumerate() {
        let accepts = |policy: &Policy| policy.ambiguous_paths(workload) == AmbiguousPaths::Accept;
        let (before, after) = (accepts(old), accepts(new));
        for (accepted, values) in &mut changed {
            if before != after && after == *accepted {
                values.insert(value);
            }
        }
    }
    let changed = changed.into_iter().filter(|(_, values)| !values.is_clear());
    changed
        .map(|(accepted, values)| PathsChange {
            to: destinations.dimension.tell(&values),
            accepted,
        })
        .collect()
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Edit {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It says something else.
    Changed,
}

/// The changes, in the order of kinds and names.
pub(super) fn document_changes(old: &Policy, new: &Policy) -> Vec<DocumentChange> {
    let (before, after) = (by_name(old), by_name(new));
    let policies = (old, new);
    let mut changes = Vec::new();
    for (key, document) in &after {
        match before.get(key) {
            None => changes.extend(change(policies, document, None, Some(document))),
            Some(old) if meaning(old) != meaning(document) => {
                changes.extend(change(policies, document, Some(old), Some(document)));
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    changes
        .extend(gone.filter_map(|(_, document)| change(policies, document, Some(document), None)));
    changes.sort();
    changes
}

fn by_name(policy: &Policy) -> BTreeMap<(&'static str, String), &Document> {
    let documents = policy.documents().iter().map(|compiled| &compiled.document);
    documents
        .map(|document| ((document.kind(), document.metadata().to_string()), document))
        .collect()
}

fn change(
    (old_policy, new_policy): (&Policy, &Policy),
    of: &Document,
    old: Option<&Document>,
    new: Option<&Document>,
) -> Option<DocumentChange> {
    let edit = match (old, new) {
        (None, _) => Edit::Added,
        (_, None) => Edit::Removed,
        _ => Edit::Changed,
    };
    let mut effects = BTreeSet::new();
    let may_widen = match of {
        // They are compared as calls, and by which paths are refused.
        Document::AccessPolicy(_) | Document::MeshMode(_) => return None,
        Document::TokenIssuer(_) => {
            let issuer = |document: Option<&'_ Document>| match document {
                Some(Document::TokenIssuer(issuer)) => Some(issuer.clone()),
                _ => None,
            };
            let (old, new) = (issuer(old), issuer(new));
            let change = issuers::Change {
                name: of.metadata().to_string(),
                old: old.as_ref(),
                new: new.as_ref(),
            };
            change.effects(old_policy, new_policy, &mut effects)
        }
        // A peer that is believed no more lets nobody in.
        Document::TrustDomain(_) => edit != Edit::Removed,
        Document::EgressPolicy(_) | Document::TransactionPolicy(_) => true,
    };
    Some(DocumentChange {
        kind: of.kind(),
        name: of.metadata().to_string(),
        edit,
        file: of.origin().file.to_string(),
        line: of.origin().line,
        may_widen,
        effects: effects.into_iter().collect(),
    })
}

/// The document without the places at which it is written.
fn meaning(document: &Document) -> Option<Value> {
    let mut value = serde_json::to_value(document).ok()?;
    forget_places(&mut value);
    Some(value)
}

fn forget_places(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "origin" || value.get("column").is_none());
            fields.values_mut().for_each(forget_places);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_places),
        _ => {}
    }
}
