//! `AccessPolicy`: who may call whom.
//!
//! Lists are alternatives, and an empty list (or map) is a field that was left out. The fields of one entry all have
//! to hold. `docs/policy.md` says what each means.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Claims, Excluded, Metadata, Origin, Target, Text};
use crate::pattern::{
    Cidr, HeaderName, HostPattern, Method, Name, PathPattern, SpiffePattern, TrustDomainPattern,
    WorkloadPattern,
};

/// Rules about calls to some workloads of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessPolicy {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where the document starts.
    pub origin: Origin,
    /// To whom calls are judged by it.
    pub target: Target,
    /// Whether it is enforced.
    pub mode: Mode,
    /// What follows where no rule decides. Calls are allowed so only if every enforced policy about the workload
    /// says [`DefaultAction::Allow`].
    pub default: DefaultAction,
    /// At least one, unless `default` is given. Shared with the compiled policy.
    #[serde(with = "shared")]
    pub rules: Vec<Arc<Rule>>,
}

/// Whether a policy is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "tools", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// It is enforced.
    Enforce,
    /// Its rules are matched and reported, and decide nothing.
    Observe,
}

/// What follows where no rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "tools", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum DefaultAction {
    /// The call is denied.
    Deny,
    /// The call is allowed, if no other policy about the workload says otherwise.
    Allow,
}

/// What follows when a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "tools", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// The call is allowed, unless a rule denies it.
    Allow,
    /// The call is denied, whatever else matches.
    Deny,
    /// The call is reported, and others decide.
    Audit,
}

impl Action {
    /// The word as it is written in a policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Audit => "audit",
        }
    }
}

/// One rule. It matches when every part that is given does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// What people call it; unique in its policy.
    pub name: Text,
    /// Where it starts.
    pub origin: Origin,
    /// What follows.
    pub action: Action,
    /// Who calls. Shared by the rules of a revision about the same callers.
    #[serde(with = "shared_sources")]
    pub from: Arc<[Source]>,
    /// On whose behalf.
    pub subject: Option<Box<SubjectMatch>>,
    /// What for.
    pub intent: Option<Box<IntentMatch>>,
    /// What is called.
    pub to: Vec<Operation>,
    /// What else has to be true.
    pub when: Option<Box<Condition>>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// What has to hold.
    pub is: SourceFields,
    /// Of what nothing may hold, in whichever entry.
    pub not: Vec<SourceFields>,
}

/// The fields of a [`Source`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceFields {
    /// The peer has proved no identity.
    pub anonymous: bool,
    /// The peer's namespace and service account.
    pub workload: Option<WorkloadPattern>,
    /// The peer's namespace.
    pub namespace: Option<Name>,
    /// The peer's SPIFFE ID.
    pub spiffe: Option<SpiffePattern>,
    /// The peer's trust domain.
    pub trust_domain: Option<TrustDomainPattern>,
    /// The address that the peer's connection comes from.
    pub cidr: Option<Cidr>,
    /// The last address of `X-Forwarded-For`, which the peer has added; without one, the address that
    /// its connection comes from.
    pub forwarded_for: Option<Cidr>,
}

/// On whose behalf: one verified token has to have all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubjectMatch {
    /// Where it is written.
    pub origin: Origin,
    /// The name of a [`TokenIssuer`](super::TokenIssuer) document, of the policy's namespace or else
    /// of the root namespace.
    pub issuer: Option<Name>,
    /// One of the token's audiences.
    pub audience: Option<String>,
    /// Claims that it has.
    pub claims: Claims,
    /// Claims of which it has none.
    pub not_claims: Claims,
}

/// What for: the call's verified transaction token has all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntentMatch {
    /// All have to be held.
    pub scope: Vec<String>,
    /// What the token's `tctx` has.
    pub context: Claims,
    /// Who asked for the token (`req_wl`).
    pub requester: Option<RequesterPattern>,
}

/// A workload as a transaction token names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequesterPattern {
    /// Of the mesh's own trust domain.
    Workload(WorkloadPattern),
    /// By its SPIFFE ID.
    Spiffe(SpiffePattern),
}

/// What is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// What has to hold.
    pub is: OperationFields,
    /// Of what nothing may hold.
    pub not: Excluded,
}

/// Ports: so few as there mostly are take no memory of their own.
pub type Ports = SmallVec<[u16; 4]>;

/// The fields of an [`Operation`]. All but `ports` and `sni` are facts of HTTP.
///
/// Of a large policy, these are most of the memory. So the lists have no space to grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperationFields {
    /// Ports of the called workload.
    pub ports: Ports,
    /// Methods.
    pub methods: Box<[Method]>,
    /// Hosts.
    pub hosts: Box<[HostPattern]>,
    /// Paths.
    pub paths: Box<[PathPattern]>,
    /// gRPC methods.
    pub grpc: Box<[GrpcMethod]>,
    /// Name of a header → accepted values. All headers have to be there.
    pub headers: BTreeMap<HeaderName, Vec<String>>,
    /// Names that the client of an opaque TLS connection asks for (RFC 6066 §3).
    pub sni: Box<[HostPattern]>,
}

impl OperationFields {
    /// Whether a field is given that only an HTTP request can answer.
    #[must_use]
    pub fn is_http(&self) -> bool {
        let Self {
            ports: _,
            methods,
            hosts,
            paths,
            grpc,
            headers,
            sni: _,
        } = self;
        !(methods.is_empty()
            && hosts.is_empty()
            && paths.is_empty()
            && grpc.is_empty()
            && headers.is_empty())
    }
}

/// A gRPC service, or one method of it. It is matched by its path, `/service/method`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcMethod {
    /// The full name, `package.Service`.
    pub service: Name,
    /// `None` is every method.
    pub method: Option<Name>,
}

/// A CEL expression. Compiled by [`Policy::compile`](crate::Policy::compile).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Where it is written.
    pub origin: Origin,
    /// The expression.
    pub expression: String,
}

/// What is shared here is sent whole.
mod shared_sources {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Source;

    pub(super) fn serialize<S: Serializer>(sources: &[Source], to: S) -> Result<S::Ok, S::Error> {
        sources.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<[Source]>, D::Error> {
        Ok(Vec::<Source>::deserialize(from)?.into())
    }
}

/// What is shared here is sent whole.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::Rule;

    pub(super) fn serialize<S: Serializer>(rules: &[Arc<Rule>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(rules.iter().map(|rule| &**rule))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Arc<Rule>>, D::Error> {
        Ok(Vec::<Rule>::deserialize(from)?
            .into_iter()
            .map(Arc::new)
            .collect())
    }
}
