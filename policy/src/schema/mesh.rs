//! `MeshMode`, `EgressPolicy`, `TrustDomain` and `TransactionPolicy`.

#![expect(dead_code, reason = "of these types there is only the schema")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::access_policy::{Operation, SubjectMatch};
use super::blocks::{List, Metadata, Port, Target};
use super::text::{DomainName, DurationText, HttpsUrl, Id, PortKey, RuleName, Scope, Text};
use super::{ApiVersion, kind};
use crate::document::{Action, AmbiguousPaths, PeerMode};
use crate::pattern::{Cidr, HostPattern};

kind!(MeshModeKind, "MeshMode");
kind!(EgressPolicyKind, "EgressPolicy");
kind!(TrustDomainKind, "TrustDomain");
kind!(TransactionPolicyKind, "TransactionPolicy");

/// How calls have to arrive. Of several about one workload, one with a target outranks one of the whole namespace, and
/// that one of the root namespace.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MeshMode {
    /// `countersign.dev/v1`
    api_version: ApiVersion,
    /// `MeshMode`
    kind: MeshModeKind,
    /// Name and namespace.
    metadata: Metadata,
    /// How calls have to arrive.
    spec: MeshModeSpec,
}

/// How calls have to arrive.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    {"required": ["mode"]}, {"required": ["ports"]}, {"required": ["ambiguousPaths"]}
]))]
struct MeshModeSpec {
    /// To which workloads. Left out: to all of the namespace.
    target: Option<Target>,
    /// Whether a caller has to prove an identity, on ports that `ports` does not name.
    mode: Option<PeerMode>,
    /// By called port.
    ports: Option<Ports>,
    /// What becomes of a request whose path applications read in different ways. Default: `refuse`.
    ambiguous_paths: Option<AmbiguousPaths>,
}

/// Modes by port.
#[derive(Debug)]
struct Ports;

impl JsonSchema for Ports {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": PortKey::json_schema(generator),
            "additionalProperties": generator.subschema_for::<PeerMode>(),
        })
    }
}

/// Who may call what is outside of the mesh. Nothing is allowed that no rule allows; deny wins.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EgressPolicy {
    /// `countersign.dev/v1`
    api_version: ApiVersion,
    /// `EgressPolicy`
    kind: EgressPolicyKind,
    /// Name and namespace.
    metadata: Metadata,
    /// What the policy says.
    spec: EgressPolicySpec,
}

/// What the policy says.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EgressPolicySpec {
    /// Who calls: workloads of the namespace. Left out: all of them.
    target: Option<Target>,
    /// At least one. Their order means nothing.
    rules: List<EgressRule>,
}

/// Which calls out of the mesh are allowed or denied.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EgressRule {
    /// What people call the rule; unique in the policy.
    name: RuleName,
    /// What follows when the rule matches.
    action: Action,
    /// What is called. Left out: everything.
    to: Option<List<External>>,
}

/// What is called outside of the mesh: all fields that are given have to hold.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
struct External {
    /// The name that is called, exactly or by suffix: the request's host, or the server name of TLS.
    hosts: Option<List<HostPattern>>,
    /// The address that is called: ranges or single ones.
    cidrs: Option<List<Cidr>>,
    /// The port that is called.
    ports: Option<List<Port>>,
}

/// A foreign trust domain whose workloads can be told apart. It is of the namespace `countersign-system`.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TrustDomain {
    /// `countersign.dev/v1`
    api_version: ApiVersion,
    /// `TrustDomain`
    kind: TrustDomainKind,
    /// Name and namespace.
    metadata: Metadata,
    /// Where its roots are.
    spec: TrustDomainSpec,
}

/// Where the roots of a trust domain are.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TrustDomainSpec {
    /// The foreign trust domain.
    trust_domain: DomainName,
    /// Whether it is the mesh's own trust domain under another name; default `false`.
    alias: Option<bool>,
    /// Where its bundle is.
    bundle_endpoint: BundleEndpoint,
}

/// A SPIFFE bundle endpoint.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend(
    "if" = {"properties": {"profile": {"const": "https_spiffe"}}},
    "then" = {"required": ["spiffeId"]},
    "else" = {"not": {"required": ["spiffeId"]}}
))]
struct BundleEndpoint {
    /// Its address.
    url: HttpsUrl,
    /// How it proves that it is the right one.
    profile: Profile,
    /// Its SPIFFE ID, for the profile `https_spiffe`.
    spiffe_id: Option<Id>,
}

/// How a bundle endpoint proves that it is the right one.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Profile {
    /// By a certificate of the web's public key infrastructure.
    HttpsWeb,
    /// By an X.509-SVID.
    HttpsSpiffe,
}

/// Which workload may start which intent: who may ask for a transaction token. Nothing is allowed that no rule allows.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TransactionPolicy {
    /// `countersign.dev/v1`
    api_version: ApiVersion,
    /// `TransactionPolicy`
    kind: TransactionPolicyKind,
    /// Name and namespace.
    metadata: Metadata,
    /// What the policy says.
    spec: TransactionPolicySpec,
}

/// What the policy says.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TransactionPolicySpec {
    /// Who asks: workloads of the namespace. Left out: all of them.
    target: Option<Target>,
    /// At least one. Their order means nothing.
    rules: List<TransactionRule>,
}

/// Which token may be asked for.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TransactionRule {
    /// What people call the rule; unique in the policy.
    name: RuleName,
    /// What the token may be for.
    scope: List<Scope>,
    /// On whose behalf.
    subject: Option<SubjectMatch>,
    /// Which requests, at the edge of a call chain, start it.
    to: Option<List<Operation>>,
    /// What goes into the token's context (`tctx`): name → the CEL expression that gives its value.
    context: Option<BTreeMap<String, Text>>,
    /// How long the token lives: whole seconds, from `15s` to `5m`. Default: `5m`.
    lifetime: Option<DurationText>,
}
