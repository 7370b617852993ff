//! `AccessPolicy`.

#![expect(dead_code, reason = "of these types there is only the schema")]

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::blocks::{ByName, Claims, List, Metadata, OneOrMore, Port, Target};
use super::text::{Requester, RuleName, Scope, Text};
use super::{ApiVersion, kind};
use crate::document::{Action, DefaultAction, Mode};
use crate::pattern::{
    Cidr, HeaderName, HostPattern, Method, Name, PathPattern, SpiffePattern, TrustDomainPattern,
    WorkloadPattern,
};

kind!(Kind, "AccessPolicy");

/// Who may call whom. Nothing is allowed that no rule allows; a rule that denies wins over every rule that allows.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AccessPolicy {
    /// `countersign.dev/v1`
    api_version: ApiVersion,
    /// `AccessPolicy`
    kind: Kind,
    /// Name and namespace.
    metadata: Metadata,
    /// What the policy says.
    spec: Spec,
}

/// What the policy says.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    rename = "AccessPolicySpec",
    extend("anyOf" = [{"required": ["rules"]}, {"required": ["default"]}])
)]
struct Spec {
    /// To whom calls are judged by it: workloads of the policy's namespace. Left out: all of them.
    target: Option<Target>,
    /// Whether the policy is enforced. Default: `enforce`.
    mode: Option<Mode>,
    /// What follows where no rule decides. A call is allowed so only if every enforced policy about the workload says
    /// `allow`. Default: `deny`.
    default: Option<DefaultAction>,
    /// At least one, unless `default` is given. Their order means nothing.
    rules: Option<List<Rule>>,
}

/// It matches when every part that is given matches. The entries of a list are alternatives; the fields of one entry all
/// have to hold.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    /// What people call the rule; unique in the policy. Denials and logs name it.
    name: RuleName,
    /// What follows when the rule matches.
    action: Action,
    /// Who calls.
    from: Option<List<Source>>,
    /// On whose behalf.
    subject: Option<SubjectMatch>,
    /// What for.
    intent: Option<IntentMatch>,
    /// What is called.
    to: Option<List<Operation>>,
    /// What else has to be true: an expression of the Common Expression Language over `peer`, `subject`, `intent`,
    /// `request`, `destination`, `path` and `time`.
    when: Option<Text>,
}

/// A struct, and a second one with the same fields that need not hold and may not: `not`.
macro_rules! with_not {
    (
        $(#[$meta:meta])* struct $name:ident, $fields:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)*
        }
        $(#[$not_meta:meta])* not: $not:ty
    ) => {
        $(#[$meta])*
        #[derive(Debug, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[schemars(extend("minProperties" = 1))]
        pub(super) struct $name {
            $($(#[$field_meta])* $field: Option<$type>,)*
            $(#[$not_meta])*
            not: Option<$not>,
        }

        /// Fields of which none may hold.
        #[derive(Debug, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[schemars(extend("minProperties" = 1))]
        struct $fields {
            $($(#[$field_meta])* $field: Option<$type>,)*
        }
    };
}

with_not! {
    /// A caller: all fields that are given have to hold.
    struct Source, NotSource {
        /// The peer's namespace and service account, `namespace/account`; either may be `*`.
        workload: WorkloadPattern,
        /// The peer's namespace.
        namespace: Name,
        /// The peer's SPIFFE ID exactly, or, ending in `/**`, every ID below.
        spiffe: SpiffePattern,
        /// The peer's trust domain, in which `workload` and `namespace` are read; `*` is any that the mesh knows the
        /// roots of. Left out, it is the mesh's own.
        trust_domain: TrustDomainPattern,
        /// The address that the peer's connection comes from: a range or one address.
        cidr: Cidr,
        /// The last address of `X-Forwarded-For`, which the peer has added; without one, the address that its
        /// connection comes from.
        forwarded_for: Cidr,
        /// The peer has proved no identity: only where a MeshMode is permissive.
        anonymous: True,
    }
    /// Fields of which none may hold. Several entries are several such callers.
    not: OneOrMore<NotSource>
}

/// `true`, which is all that the field can say.
#[derive(Debug)]
struct True;

impl JsonSchema for True {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "True".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"const": true})
    }
}

/// On whose behalf: one verified token has to have all of it. Empty, it asks for any verified token.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SubjectMatch {
    /// The token was verified by this TokenIssuer of the policy's namespace or, if there is none, of the root namespace.
    issuer: Option<Name>,
    /// One of the token's audiences.
    audience: Option<Text>,
    /// Claims that it has: dotted path → the value, or one of a list of values. A claim that is an array matches when it
    /// contains one.
    claims: Option<Claims>,
    /// Claims that it has not.
    not: Option<NotSubject>,
}

/// Claims that the token has not.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NotSubject {
    /// None of these claims has one of these values.
    claims: Claims,
}

/// What for: the call's verified transaction token has all of it.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IntentMatch {
    /// Scopes, all of which it holds.
    scope: Option<List<Scope>>,
    /// What its context (`tctx`) has: dotted path → the value, or one of a list of values.
    context: Option<Claims>,
    /// Who asked for it (`req_wl`): `namespace/account`, or a SPIFFE ID, exact or ending in `/**`.
    requester: Option<Requester>,
}

with_not! {
    /// What is called: all fields that are given have to hold.
    struct Operation, NotOperation {
        /// Ports of the called workload.
        ports: List<Port>,
        /// The request's method, in upper case.
        methods: List<Method>,
        /// The host, exactly or by suffix: `*.example.com`. Case, port and a final dot do not count.
        hosts: List<HostPattern>,
        /// The path. `*` and `{name}` stand for one segment, `**` at the end for any rest. The query is not looked at.
        paths: List<PathPattern>,
        /// gRPC methods, or all of a service.
        grpc: List<GrpcMethod>,
        /// Headers that have to be there, all of them: name → the value, or one of a list of values.
        headers: ByName<HeaderName, OneOrMore<String>>,
        /// Names that the client of an opaque TLS connection asks for, exactly or by suffix.
        sni: List<HostPattern>,
    }
    /// Fields of which none may hold.
    not: NotOperation
}

/// A gRPC method: the path `/service/method`.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GrpcMethod {
    /// The full name, `package.Service`.
    service: Name,
    /// Left out: every method.
    method: Option<Name>,
}
