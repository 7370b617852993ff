//! Documents that decide other things than calls, or of whom a token is believed: what became of them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::Policy;
use crate::document::{AmbiguousPaths, Document, MeshMode};

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
    let mut changes = Vec::new();
    for (key, document) in &after {
        match before.get(key) {
            None => changes.extend(change(document, None, Some(document))),
            Some(old) if meaning(old) != meaning(document) => {
                changes.extend(change(document, Some(old), Some(document)));
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    changes.extend(gone.filter_map(|(_, document)| change(document, Some(document), None)));
    changes.sort();
    changes
}

fn by_name(policy: &Policy) -> BTreeMap<(&'static str, String), &Document> {
    let documents = policy.documents().iter().map(|compiled| &compiled.document);
    documents
        .map(|document| ((document.kind(), document.metadata().to_string()), document))
        .collect()
}

fn change(of: &Document, old: Option<&Document>, new: Option<&Document>) -> Option<DocumentChange> {
    let edit = match (old, new) {
        (None, _) => Edit::Added,
        (_, None) => Edit::Removed,
        _ => Edit::Changed,
    };
    let may_widen = match of {
        // Its rules are compared as calls.
        Document::AccessPolicy(_) => return None,
        Document::MeshMode(_) => accepts_more_paths(old, new)?,
        // A token or a peer that is believed no more lets nobody in.
        Document::TokenIssuer(_) | Document::TrustDomain(_) => edit != Edit::Removed,
        Document::EgressPolicy(_) | Document::TransactionPolicy(_) => true,
    };
    Some(DocumentChange {
        kind: of.kind(),
        name: of.metadata().to_string(),
        edit,
        file: of.origin().file.to_string(),
        line: of.origin().line,
        may_widen,
    })
}

/// Whether paths that were refused may be judged now; `None` if nothing is changed about them. Who may call without an identity
/// is compared as calls.
fn accepts_more_paths(old: Option<&Document>, new: Option<&Document>) -> Option<bool> {
    let paths = |document: Option<&Document>| match document {
        Some(Document::MeshMode(MeshMode {
            ambiguous_paths, ..
        })) => *ambiguous_paths,
        _ => None,
    };
    match (paths(old), paths(new)) {
        (before, after) if before == after => None,
        (_, Some(AmbiguousPaths::Refuse)) | (Some(AmbiguousPaths::Accept), None) => Some(false),
        _ => Some(true),
    }
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
