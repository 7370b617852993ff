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
mod metadata;
mod path;
mod peer_authentication;
mod request_authentication;
mod selector;
mod term;

use self::budget::Budget;
use crate::Diagnostics;
use crate::document::{Document, refuse_duplicate_names};
use crate::pattern::Name;
use crate::yaml::{Report, Value, closest, read_documents};

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

/// Reads the documents of Istio in some files, pairs of a path, for messages, and a text. Lists of documents, as
/// `kubectl get -o yaml` writes them, are taken apart; other documents are skipped.
///
/// # Errors
/// Every mistake, by file and line.
pub fn parse(
    files: impl IntoIterator<Item = (String, String)>,
    options: Options,
) -> Result<Vec<Document>, Diagnostics> {
    let reader = Reader {
        options,
        budget: Budget::default(),
    };
    let mut documents = Vec::new();
    let mut diagnostics = Vec::new();
    for (file, text) in files {
        let report = Report::new(&file);
        for node in read_documents(&text, &report) {
            let value = report.value(&node);
            match (value.peek("kind"), value.peek("apiVersion")) {
                (Some("List"), _) => {
                    value.list_in("items", |item| documents.extend(reader.read_any(item)));
                }
                _ => documents.extend(reader.read_any(value)),
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

/// Reads documents of Istio.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    options: Options,
    budget: Budget,
}

impl Reader {
    /// Reads a document, or skips it if it is not Istio's.
    fn read_any(&self, value: Value<'_>) -> Vec<Document> {
        match value.peek("apiVersion") {
            Some(version) if is_istio(version) => self.read(value).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// Reads a document. `None` after a mistake was noted.
    pub(crate) fn read(&self, value: Value<'_>) -> Option<Vec<Document>> {
        read(value, &self.options, &self.budget)
    }
}

fn read(value: Value<'_>, options: &Options, budget: &Budget) -> Option<Vec<Document>> {
    match value.peek("apiVersion") {
        Some(version) if !API_VERSIONS.contains(&version) => {
            return value.mistake(format!(
                "unknown version {version:?}, expected {}",
                API_VERSIONS.join(" or ")
            ));
        }
        _ => {}
    }
    match value.peek("kind") {
        Some("AuthorizationPolicy") => {
            let policy = authorization_policy::read(value, options)?;
            convert::policy(policy, budget).map(|policy| vec![Document::AccessPolicy(policy)])
        }
        Some("RequestAuthentication") => request_authentication::read(value, options),
        Some("PeerAuthentication") => peer_authentication::read(value, options),
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
