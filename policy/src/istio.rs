//! Policy of Istio (`security.istio.io`), read as it is and converted into the documents of this language.
//!
//! ```text
//! YAML ── authorization_policy ──▶ terms ── convert ──▶ AccessPolicy
//!      ── request_authentication ─────────────────────▶ TokenIssuer, one per rule
//!      ── peer_authentication ────────────────────────▶ MeshMode
//! ```
//!
//! Nothing behind [`document::parse`](crate::document::parse) knows of Istio. `docs/istio.md` says what is read, what
//! means what, and what is refused.

mod authorization_policy;
mod budget;
mod condition;
mod convert;
#[cfg(feature = "tools")]
mod import;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod metadata;
mod path;
mod peer_authentication;
mod request_authentication;
mod selector;
mod term;

use std::cell::RefCell;

use self::budget::Budget;
#[cfg(feature = "tools")]
pub use self::import::{Imported, import};
use crate::Diagnostic;
use crate::document::{Document, origin};
use crate::pattern::Name;
use crate::yaml::{Value, closest};
#[cfg(feature = "tools")]
use crate::{
    Diagnostics,
    document::refuse_duplicate_names,
    yaml::{Report, read_documents},
};

/// The versions that are read; they have the same fields.
pub const API_VERSIONS: [&str; 2] = ["security.istio.io/v1", "security.istio.io/v1beta1"];

const GROUP: &str = "security.istio.io/";
const KINDS: [&str; 3] = [
    "AuthorizationPolicy",
    "RequestAuthentication",
    "PeerAuthentication",
];

/// What an Istio document does not say itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Istio's root namespace (`meshConfig.rootNamespace`): its documents are about the whole mesh.
    pub root_namespace: Name,
}

impl Options {
    /// The namespace that is the root of this mesh.
    fn own_root(&self) -> Name {
        Name::root_namespace()
    }
}

/// Istio's root namespace is `istio-system`, as it is installed.
impl Default for Options {
    fn default() -> Self {
        Self {
            root_namespace: Name::istio_system(),
        }
    }
}

/// Whether a document's `apiVersion` is one of Istio's security policy.
pub(crate) fn is_istio(api_version: &str) -> bool {
    api_version.starts_with(GROUP)
}

/// What an import tells of documents that are no mistake.
#[derive(Debug, Default)]
struct Notes(RefCell<Vec<Diagnostic>>);

#[cfg(feature = "tools")]
impl Notes {
    fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.0.into_inner()
    }
}

/// Reads documents of Istio.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    options: Options,
    budget: Budget,
    /// Kept for an import only.
    notes: Option<Notes>,
}

impl Reader {
    /// Reads the documents of Istio in some files. Lists of documents, as `kubectl get -o yaml` writes them, are taken
    /// apart; other documents are skipped.
    #[cfg(feature = "tools")]
    fn read_files(
        &self,
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Vec<Document>, Diagnostics> {
        let mut documents = Vec::new();
        let mut diagnostics = Vec::new();
        for (file, text) in files {
            let report = Report::new(&file);
            for node in read_documents(&text, &report) {
                let value = report.value(&node);
                match value.peek("kind") {
                    Some("List") => {
                        value.list_in("items", |item| documents.extend(self.read_any(item)));
                    }
                    _ => documents.extend(self.read_any(value)),
                }
            }
            diagnostics.extend(report.into_diagnostics());
        }
        refuse_duplicate_names(&documents, &mut diagnostics);
        match diagnostics.is_empty() {
            true => Ok(documents),
            false => Err(Diagnostics::new(diagnostics)),
        }
    }

    /// Reads a document, or skips it if it is not Istio's.
    #[cfg(feature = "tools")]
    fn read_any(&self, value: Value<'_>) -> Vec<Document> {
        match value.peek("apiVersion") {
            Some(version) if is_istio(version) => self.read(value).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Notes for an import what is no mistake.
    fn note(&self, at: Value<'_>, message: &str) {
        if let Some(notes) = &self.notes {
            notes.0.borrow_mut().push(origin(at).diagnostic(message));
        }
    }

    /// Reads a document. `None` after a mistake was noted.
    pub(crate) fn read(&self, value: Value<'_>) -> Option<Vec<Document>> {
        match value.peek("apiVersion") {
            Some(version) if !API_VERSIONS.contains(&version) => value.mistake(format!(
                "unknown version {version:?}, expected {}",
                API_VERSIONS.join(" or ")
            )),
            _ => self.read_kind(value),
        }
    }

    fn read_kind(&self, value: Value<'_>) -> Option<Vec<Document>> {
        match value.peek("kind") {
            Some("AuthorizationPolicy") => {
                let policy = authorization_policy::read(value, &self.options)?;
                convert::policy(policy, &self.budget)
                    .map(|policy| vec![Document::AccessPolicy(policy)])
            }
            Some("RequestAuthentication") => request_authentication::read(value, self),
            Some("PeerAuthentication") => peer_authentication::read(value, self),
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
}
