//! `PolicyTest`: what stands in files `*.test.yaml`.

#![expect(dead_code, reason = "of these types there is only the schema")]

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::blocks::{List, Port};
use super::text::Text;
use super::{ApiVersion, kind};
use crate::testing::{Fact, KIND};
use crate::{Reason, Verdict};

kind!(Kind, KIND);

/// Calls, and what is to be decided about them by the policy beside the file.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicyTest {
    /// `countersign.dev/v1`
    api_version: ApiVersion,
    /// `PolicyTest`
    kind: Kind,
    /// The name.
    metadata: Metadata,
    /// Calls and tests.
    spec: Spec,
}

/// What the tests are called together.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PolicyTestMetadata")]
struct Metadata {
    /// The name; results are told under it.
    name: Text,
}

/// Calls and tests.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PolicyTestSpec")]
struct Spec {
    /// Calls with a name, for several tests.
    calls: Option<BTreeMap<String, Call>>,
    /// At least one.
    tests: List<Test>,
}

/// A call, and what is to be decided about it.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Test {
    /// What people call the test; unique in its document.
    name: Text,
    /// The name of one of `calls`, or a call, written out.
    call: NamedOrWritten,
    /// What is taken away from the call.
    without: Option<List<FactName>>,
    /// What is then put into the call: fields of mappings one by one, everything else as a whole.
    with: Option<CallPart>,
    /// What has to be decided.
    expect: VerdictName,
    /// The name of the rule that has to decide.
    rule: Option<Text>,
    /// The policy that the deciding rule has to be of, `namespace/name`.
    policy: Option<PolicyName>,
    /// The class that the reason has to be of.
    reason: Option<ReasonClass>,
    /// Names of rules that have to match without deciding: audit rules, and those of policies in `mode: observe`.
    observed: Option<Vec<Text>>,
}

/// What has to be there in a whole call.
type Required<T> = T;

/// A call, and what it is made of. In a part of one, what a call has to have may be missing.
macro_rules! call {
    ($(#[$meta:meta])* $call:ident, $destination:ident, $request:ident, $subject:ident, $needed:ident) => {
        $(#[$meta])*
        #[derive(Debug, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $call {
            /// Who calls: a SPIFFE ID, or `namespace/account` of the mesh's trust domain. Left out: who has proved no
            /// identity.
            peer: Option<Peer>,
            /// The address that the peer's connection comes from.
            source_ip: Option<Address>,
            /// Who is called.
            destination: $needed<$destination>,
            /// The server name that the client of an opaque TLS connection asks for.
            sni: Option<Text>,
            /// The request. Left out: an opaque connection.
            request: Option<$request>,
            /// A verified token.
            subject: Option<$subject>,
            /// Verified tokens, if the call has several.
            subjects: Option<Vec<Subject>>,
            /// A verified transaction token.
            intent: Option<Intent>,
            /// When the call is judged (RFC 3339). Left out: now.
            time: Option<Time>,
        }

        /// The called workload and port.
        #[derive(Debug, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $destination {
            /// Its namespace.
            namespace: $needed<Text>,
            /// Its service account.
            workload: $needed<Text>,
            /// Its labels.
            labels: Option<BTreeMap<String, String>>,
            /// The called address.
            ip: Option<Address>,
            /// The called port.
            port: $needed<Port>,
        }

        /// The head of a request.
        #[derive(Debug, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $request {
            /// The method.
            method: $needed<Text>,
            /// `Host` or `:authority`.
            host: Option<String>,
            /// The path with its query.
            path: $needed<Text>,
            /// A name and its value, or a list of the values of several lines.
            headers: Option<BTreeMap<String, OneOrSeveral>>,
        }

        /// What a verified token says.
        #[derive(Debug, JsonSchema)]
        #[serde(deny_unknown_fields)]
        struct $subject {
            /// The TokenIssuer that it was verified by: a name of the called workload's namespace or else of the root
            /// namespace, or `namespace/name`.
            issuer: $needed<Text>,
            /// Its claims. After the time in `exp`, if there is one, the token does not count.
            claims: Option<BTreeMap<String, Value>>,
        }
    };
}

call! {
    /// A call. What is left out is not there.
    Call, Destination, Request, Subject, Required
}

call! {
    /// What is different in a call.
    CallPart, DestinationPart, RequestPart, SubjectPart, Option
}

/// What a verified transaction token says.
#[derive(Debug, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Intent {
    /// The scopes that it holds.
    scope: Option<Vec<Text>>,
    /// Its context.
    tctx: Option<BTreeMap<String, Value>>,
    /// Who asked for it: a SPIFFE ID, or `namespace/account` of the mesh's trust domain.
    requester: Option<Peer>,
    /// From when on it does not count, in seconds since 1970.
    exp: Option<u64>,
}

/// The name of a call, or a call.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum NamedOrWritten {
    /// The name of one of `calls`.
    Name(Text),
    /// A call.
    Call(Box<Call>),
}

/// A header's value, or those of several lines.
#[derive(Debug, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum OneOrSeveral {
    /// One line.
    One(String),
    /// Several lines.
    Several(Vec<String>),
}

/// A type of which there is only a schema, that stands wherever the type does.
macro_rules! inline {
    ($($(#[$meta:meta])* $type:ident: $schema:expr;)*) => {$(
        $(#[$meta])*
        #[derive(Debug)]
        struct $type;

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

/// One of some words.
fn names(names: &[&str]) -> Schema {
    json_schema!({"enum": names})
}

inline! {
    /// Who calls.
    Peer: json_schema!({"type": "string", "minLength": 1, "examples": ["shop/web", "spiffe://shop.example/ns/shop/sa/web"]});
    /// An IP address, loosely.
    Address: json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f:.]+$", "examples": ["10.0.0.7", "2001:db8::7"]});
    /// A time with its zone.
    Time: json_schema!({
        "type": "string",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+\u2212-][0-9]{2}:?[0-9]{2})$",
        "examples": ["2026-11-23T10:00:00Z"],
    });
    /// `namespace/name`.
    PolicyName: json_schema!({"type": "string", "pattern": "^[^/]*/[^/]*$", "examples": ["shop/orders"]});
    /// What can be taken away from a call.
    FactName: names(&Fact::ALL.map(Fact::as_str));
    /// A decision.
    VerdictName: names(&[Verdict::Allow, Verdict::Deny].map(Verdict::as_str));
    /// The class of a reason.
    ReasonClass: names(&Reason::CLASSES);
}
