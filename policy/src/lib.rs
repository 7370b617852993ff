//! Countersign's policy language: documents, their compiled form, and decisions.
//!
//! ```text
//! files ── document::parse ──▶ documents ── Policy::compile ──▶ Policy ── for_workload ──▶ WorkloadPolicy
//!                                  │ JSON, to the sidecars                                     │ decide(Call)
//!                                  ▼                                                           ▼
//!                              Policy::compile there, too                                  Decision
//! ```
//!
//! - [`yaml`] reads YAML with positions and reports every mistake of a file at once. The programs
//!   read their configuration with it, too.
//! - [`document`] has the documents of the language ([`document::AccessPolicy`],
//!   [`document::TokenIssuer`]), and [`pattern`] what their fields accept, as types that hold only
//!   what is valid.

mod aliases;
#[cfg(feature = "tools")]
pub mod analysis;
mod arrival;
mod call;
pub mod call_json;
#[cfg(feature = "tools")]
pub mod check;
mod condition;
mod decision;
mod decision_json;
#[cfg(feature = "tools")]
pub mod directory;
pub mod document;
mod explain;
pub mod files;
#[cfg(feature = "tools")]
pub mod format;
mod index;
pub mod istio;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod near_miss;
mod normal_path;
pub mod pattern;
mod policy;
mod readings;
mod rule;
#[cfg(feature = "tools")]
pub mod schema;
#[cfg(feature = "tools")]
pub mod suggest;
pub mod testing;
mod text;
mod workload_policy;
pub mod yaml;

pub use call::{Call, Headers, Intent, Request, Subject, Workload};
pub use condition::{FieldType, MAX_EXPRESSION_BYTES, ObjectCondition, ObjectShape};
pub use decision::{
    Decision, DocumentOrigin, FailedCondition, Observed, Reason, RuleOrigin, Verdict,
};
pub use document::{Document, TokenIssuer};
pub use explain::{Alternative, Explanation, FieldAnswer, Part, RuleExplanation};
pub use near_miss::NearMiss;
pub use normal_path::AmbiguousPath;
pub use policy::Policy;
pub use workload_policy::WorkloadPolicy;
pub use yaml::{Diagnostic, Diagnostics};
