//! The documents of the policy language, as types that hold only what is valid.
//!
//! They are read from YAML by [`parse`], which knows every place of a file, and sent to sidecars as
//! JSON (`serde`), in which an unknown field is an error: a sidecar must not enforce half of a
//! document that it does not understand.

mod access_policy;
mod parse;
mod read_access_policy;
mod read_match;
mod read_token_issuer;
mod token_issuer;

use serde::{Deserialize, Serialize};

pub use access_policy::{
    AccessPolicy, Action, Claims, Condition, GrpcMethod, Mode, Operation, OperationFields, Rule,
    Source, SourceFields, SubjectMatch, Target,
};
pub use parse::{API_VERSION, parse};
pub use token_issuer::{KeySource, TokenIssuer, TokenLocation};

use crate::pattern::Name;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Document {
    /// Who may call whom.
    AccessPolicy(AccessPolicy),
    /// Whose tokens are believed.
    TokenIssuer(TokenIssuer),
}

impl Document {
    /// The kind as it is written in `kind:`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AccessPolicy(_) => "AccessPolicy",
            Self::TokenIssuer(_) => "TokenIssuer",
        }
    }

    /// Name and namespace.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::AccessPolicy(policy) => &policy.metadata,
            Self::TokenIssuer(issuer) => &issuer.metadata,
        }
    }

    /// Where the document starts.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        match self {
            Self::AccessPolicy(policy) => &policy.origin,
            Self::TokenIssuer(issuer) => &issuer.origin,
        }
    }
}

/// What a document is called. Unique within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The namespace that it belongs to.
    pub namespace: Name,
    /// Its name in the namespace.
    pub name: Name,
}

/// `namespace/name`.
impl std::fmt::Display for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The file, as [`parse`] was given it.
    pub file: String,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, counted in characters.
    pub column: usize,
}

impl Origin {
    /// A mistake at this place.
    pub(crate) fn diagnostic(&self, message: impl Into<String>) -> crate::Diagnostic {
        crate::Diagnostic {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
        }
    }
}

/// `file:line`.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

#[cfg(test)]
mod tests;
