//! The documents of the policy language, as types that hold only what is valid.
//!
//! They are read from YAML by [`parse`], which knows every place of a file, and sent to sidecars as
//! JSON (`serde`), in which an unknown field is an error: a sidecar must not enforce half of a
//! document that it does not understand.

mod access_policy;
mod claims;
mod egress_policy;
mod excluded;
mod mesh_mode;
mod parse;
mod read_access_policy;
mod read_match;
mod read_token_issuer;
mod seconds;
mod sharing;
mod target;
#[cfg(feature = "tools")]
mod to_yaml;
mod token_issuer;
mod transaction_policy;
mod trust_domain;

use serde::{Deserialize, Serialize};

pub use access_policy::{
    AccessPolicy, Action, Condition, DefaultAction, GrpcMethod, IntentMatch, Mode, Operation,
    OperationFields, Ports, RequesterPattern, Rule, Source, SourceFields, SubjectMatch,
};
pub use claims::Claims;
pub use egress_policy::{EgressPolicy, EgressRule, External};
pub use excluded::Excluded;
pub use mesh_mode::{AmbiguousPaths, MeshMode, PeerMode};
pub(crate) use parse::origin;
#[cfg(feature = "tools")]
pub(crate) use parse::refuse_duplicate_names;
pub use parse::{API_VERSION, Parsed, parse, parse_all};
pub(crate) use read_token_issuer::told_apart;
pub(crate) use sharing::Sharing;
pub use target::Target;
#[cfg(feature = "tools")]
pub use to_yaml::{Comments, to_yaml};
pub use token_issuer::{KeySource, TokenIssuer, TokenLocation};
pub use transaction_policy::{TransactionPolicy, TransactionRule};
pub use trust_domain::{BundleEndpoint, EndpointProfile, TrustDomainDocument};

use crate::pattern::Name;
pub use crate::text::Text;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Document {
    /// Who may call whom.
    AccessPolicy(AccessPolicy),
    /// Whose tokens are believed.
    TokenIssuer(TokenIssuer),
    /// How calls have to arrive.
    MeshMode(MeshMode),
    /// Who may call what is outside of the mesh.
    EgressPolicy(EgressPolicy),
    /// Which other trust domain is believed.
    TrustDomain(TrustDomainDocument),
    /// Which workload may start which intent.
    TransactionPolicy(TransactionPolicy),
}

impl Document {
    /// The kind as it is written in `kind:`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AccessPolicy(_) => "AccessPolicy",
            Self::TokenIssuer(_) => "TokenIssuer",
            Self::MeshMode(_) => "MeshMode",
            Self::EgressPolicy(_) => "EgressPolicy",
            Self::TrustDomain(_) => "TrustDomain",
            Self::TransactionPolicy(_) => "TransactionPolicy",
        }
    }

    /// Name and namespace.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::AccessPolicy(policy) => &policy.metadata,
            Self::TokenIssuer(issuer) => &issuer.metadata,
            Self::MeshMode(mode) => &mode.metadata,
            Self::EgressPolicy(policy) => &policy.metadata,
            Self::TrustDomain(domain) => &domain.metadata,
            Self::TransactionPolicy(policy) => &policy.metadata,
        }
    }

    /// Where the document starts.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        match self {
            Self::AccessPolicy(policy) => &policy.origin,
            Self::TokenIssuer(issuer) => &issuer.origin,
            Self::MeshMode(mode) => &mode.origin,
            Self::EgressPolicy(policy) => &policy.origin,
            Self::TrustDomain(domain) => &domain.origin,
            Self::TransactionPolicy(policy) => &policy.origin,
        }
    }

    /// The workloads of its namespace that it is about; `None` for what concerns the whole mesh.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::AccessPolicy(policy) => Some(&policy.target),
            Self::TokenIssuer(issuer) => Some(&issuer.target),
            Self::MeshMode(mode) => Some(&mode.target),
            Self::EgressPolicy(policy) => Some(&policy.target),
            Self::TrustDomain(_) => None,
            Self::TransactionPolicy(policy) => Some(&policy.target),
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
    pub file: Text,
    /// 1-based line.
    pub line: usize,
    /// 1-based column, counted in characters.
    pub column: usize,
}

impl Origin {
    /// A mistake at this place.
    #[must_use]
    pub fn diagnostic(&self, message: impl Into<String>) -> crate::Diagnostic {
        crate::Diagnostic {
            file: self.file.as_str().to_owned(),
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
