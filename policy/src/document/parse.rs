//! From files to documents.

use std::collections::{BTreeMap, HashMap};

use super::{
    Document, Metadata, Origin, Sharing, egress_policy, mesh_mode, read_access_policy,
    read_token_issuer, transaction_policy, trust_domain,
};
use crate::istio;
use crate::yaml::{Fields, Report, Value, closest, read_documents};
use crate::{Diagnostic, Diagnostics};

/// The group and version of the documents that are read here.
pub const API_VERSION: &str = "countersign.dev/v1";

const GROUP: &str = "countersign.dev/";

/// The kinds of the language.
const KINDS: [&str; 6] = [
    "AccessPolicy",
    "TokenIssuer",
    "MeshMode",
    "EgressPolicy",
    "TrustDomain",
    "TransactionPolicy",
];

/// Reads the documents of some files: pairs of a path, for messages, and a text.
///
/// A file may have several documents. Those of Istio's security policy are converted (see [`crate::istio`]), those
/// of other API groups are skipped. All mistakes of all files are reported at once.
///
/// # Errors
/// Every mistake, by file and line.
pub fn parse(
    files: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<Document>, Diagnostics> {
    let Parsed {
        documents,
        mistakes,
        ..
    } = parse_all(files);
    if mistakes.is_empty() {
        Ok(documents)
    } else {
        Err(Diagnostics::new(mistakes))
    }
}

/// What was found in some files.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The documents that are right. If there are mistakes, others are missing.
    pub documents: Vec<Document>,
    /// Every mistake.
    pub mistakes: Vec<Diagnostic>,
    /// Which documents were skipped, and why.
    pub notes: Vec<Diagnostic>,
}

/// [`parse`], for who wants to know what was skipped, and what is right beside the mistakes.
#[must_use]
pub fn parse_all(files: impl IntoIterator<Item = (String, String)>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut sharing = Sharing::default();
    let istio = istio::Reader::default();
    for (file, text) in files {
        let (report, notes) = (Report::new(&file), Report::new(&file));
        for node in read_documents(&text, &report) {
            let (value, note) = (report.value(&node), notes.value(&node));
            let read = parsed.documents.len();
            match value.peek("apiVersion") {
                Some(version) if istio::is_istio(version) => {
                    let converted = istio.read(value).unwrap_or_default();
                    parsed.documents.extend(converted);
                }
                _ => parsed.documents.extend(document(value, note)),
            }
            for document in parsed.documents.iter_mut().skip(read) {
                sharing.share(document);
            }
        }
        parsed.mistakes.extend(report.into_diagnostics());
        parsed.notes.extend(notes.into_diagnostics());
    }
    refuse_duplicate_names(&parsed.documents, &mut parsed.mistakes);
    parsed
}

/// Reads a document; `note` is the same one, and what is said of it is no mistake.
fn document(value: Value<'_>, note: Value<'_>) -> Option<Document> {
    if !is_ours(value, note) {
        return None;
    }
    match value.peek("kind") {
        Some("AccessPolicy") => read_access_policy::read(value).map(Document::AccessPolicy),
        Some("TokenIssuer") => read_token_issuer::read(value).map(Document::TokenIssuer),
        Some("MeshMode") => mesh_mode::read(value).map(Document::MeshMode),
        Some("EgressPolicy") => egress_policy::read(value).map(Document::EgressPolicy),
        Some("TrustDomain") => trust_domain::read(value).map(Document::TrustDomain),
        Some("TransactionPolicy") => {
            transaction_policy::read(value).map(Document::TransactionPolicy)
        }
        Some(crate::testing::KIND) => value.mistake(
            "a PolicyTest is no policy: tests stand in files of their own that end in .test.yaml",
        ),
        Some(kind) => {
            let help = match closest(kind, KINDS) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expected one of {}", KINDS.join(", ")),
            };
            value.mistake(format!("unknown kind {kind:?}, {help}"))
        }
        None => value.mistake("missing field `kind`"),
    }
}

/// Whether the document is of this language; says so where it should be and is not.
fn is_ours(value: Value<'_>, note: Value<'_>) -> bool {
    if !value.is_mapping() {
        value.expected::<()>("a document with `apiVersion` and `kind`");
        return false;
    }
    match value.peek("apiVersion") {
        Some(API_VERSION) => true,
        Some(version) if version.starts_with(GROUP) => {
            value.note(format!(
                "unknown version {version:?}, expected {API_VERSION}"
            ));
            false
        }
        Some(group) => {
            note.note(format!(
                "skipped: a document of the API {group:?} is not of this language"
            ));
            false
        }
        None => {
            value.note(format!(
                "missing field `apiVersion`, expected {API_VERSION}"
            ));
            false
        }
    }
}

/// What every document has, and the `spec` of its kind.
pub(super) struct Whole<S> {
    pub(super) metadata: Metadata,
    pub(super) origin: Origin,
    pub(super) spec: S,
}

/// Reads a document; `spec` reads the fields of its `spec`.
pub(super) fn whole<'a, S>(
    value: Value<'a>,
    spec: impl FnOnce(&mut Fields<'a>) -> Option<S>,
) -> Option<Whole<S>> {
    value.mapping(|fields| {
        let metadata = header(fields);
        let spec = fields.required("spec", |value| value.mapping(spec));
        Some(Whole {
            metadata: metadata?,
            origin: origin(value),
            spec: spec?,
        })
    })
}

/// Reads `apiVersion`, `kind` and `metadata`.
fn header(fields: &mut Fields<'_>) -> Option<Metadata> {
    // Both are known to be there and right.
    let _ = fields.required("apiVersion", Value::text);
    let _ = fields.required("kind", Value::text);
    fields.required("metadata", |value| {
        value.mapping(|fields| {
            let name = fields.required("name", |v| v.parsed("a name such as orders"));
            let namespace = fields.required("namespace", |v| v.parsed("a namespace such as shop"));
            // Kubernetes' own; nothing here depends on them.
            let labels = fields.optional("labels", text_map);
            let annotations = fields.optional("annotations", text_map);
            labels?;
            annotations?;
            Some(Metadata {
                name: name?,
                namespace: namespace?,
            })
        })
    })
}

/// Labels or annotations.
pub(super) fn text_map(value: Value<'_>) -> Option<BTreeMap<String, String>> {
    let entries = value.entries("strings", |_, v| v.string_or_empty())?;
    Some(entries.into_iter().collect())
}

pub(crate) fn origin(value: Value<'_>) -> Origin {
    let position = value.position();
    Origin {
        file: value.file_name(),
        line: position.line,
        column: position.column,
    }
}

pub(crate) fn refuse_duplicate_names(documents: &[Document], diagnostics: &mut Vec<Diagnostic>) {
    let mut first = HashMap::new();
    for document in documents {
        let key = (document.kind(), document.metadata());
        if let Some(other) = first.get(&key) {
            let (kind, name) = key;
            diagnostics.push(
                document
                    .origin()
                    .diagnostic(format!("{kind} {name} is already defined at {other}")),
            );
        } else {
            first.insert(key, document.origin());
        }
    }
}
