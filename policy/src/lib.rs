//! Countersign's policy language: documents, their compiled form, and decisions.
//!
//! - [`yaml`] reads YAML with positions and reports every mistake of a file at once. The programs
//!   read their configuration with it, too.
//! - [`document`] has the documents of the language ([`document::AccessPolicy`],
//!   [`document::TokenIssuer`]), as types that hold only what is valid.

pub mod yaml;

pub use yaml::{Diagnostic, Diagnostics};
