//! The least rules that allow what was seen, from the decision logs of sidecars.
//!
//! ```text
//! log lines ── log::Line ──▶ Evidence (each different call once) ── paths::patterns ──▶ operations ──▶ documents
//!                                            │                                                          │
//!                                            └──────────────── verify: every call, by the engine ◀──────┘
//! ```
//!
//! A rule is about one caller of one workload, and allows the ports, methods and paths that it was seen with, in the
//! combinations that it was seen with. A path is generalised only where different values of one form (numbers, UUIDs, …)
//! stand in one place of otherwise equal paths; two words are never merged.

mod evidence;
mod log;
mod operations;
mod paths;
mod verify;
mod write;

pub use evidence::{Evidence, Options};

use countersign_identity::TrustDomain;

use crate::Diagnostics;
use crate::document::Document;

/// Documents that allow what was seen.
#[derive(Clone, Debug, Default)]
pub struct Suggestion {
    /// One for each called workload, by namespace and name.
    pub policies: Vec<SuggestedPolicy>,
    /// Calls that no rule can allow, or that these do not; each with why, in one line.
    pub uncovered: Vec<String>,
}

/// An `AccessPolicy` about one workload.
#[derive(Clone, Debug)]
pub struct SuggestedPolicy {
    /// Of the called workload, and of the document.
    pub namespace: String,
    /// The called workload's service account, and the document's name.
    pub name: String,
    /// The document in canonical layout, with comments that say what each rule rests on.
    pub text: String,
}

impl Suggestion {
    /// All documents as one file.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .policies
            .iter()
            .map(|policy| policy.text.as_str())
            .collect();
        texts.join("---\n")
    }
}

impl Evidence {
    /// Suggests documents, and lets the engine judge every call by them.
    ///
    /// Workloads of `trust_domain` are named by namespace and service account, others by their SPIFFE IDs. `known` are
    /// documents that are in force: a rule about callers that all had a verified token names its `TokenIssuer` if that is
    /// among them, and else asks for any token.
    ///
    /// # Errors
    /// None is expected: that what was written is not policy.
    pub fn suggest(
        &self,
        trust_domain: &TrustDomain,
        known: &[Document],
    ) -> Result<Suggestion, Diagnostics> {
        let mut policies = Vec::new();
        for (destination, callers) in self.by_destination() {
            if let Some(text) = write::policy(self, trust_domain, known, destination, &callers) {
                let text = crate::format::format("suggested", &text)?;
                let (namespace, name) = destination;
                policies.push(SuggestedPolicy {
                    namespace: namespace.to_owned(),
                    name: name.to_owned(),
                    text,
                });
            }
        }
        let uncovered = verify::uncovered(self, trust_domain, known, &policies)?;
        Ok(Suggestion {
            policies,
            uncovered,
        })
    }
}

#[cfg(test)]
mod tests;
