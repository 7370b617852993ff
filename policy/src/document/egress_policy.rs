//! `EgressPolicy`: who may call what is outside of the mesh.

use serde::{Deserialize, Serialize};

use super::access_policy::Action;
use super::parse::{Whole, origin, whole};
use super::read_access_policy::{action, rule_name, target_and_rules};
use super::{Metadata, Origin, Target};
use crate::pattern::{Cidr, HostPattern};
use crate::yaml::Value;

/// Rules about calls that workloads of a namespace make to what is not in the mesh. Nothing is allowed that no rule
/// allows; deny wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressPolicy {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where the document starts.
    pub origin: Origin,
    /// Who calls.
    pub target: Target,
    /// At least one.
    pub rules: Vec<EgressRule>,
}

/// One rule of an [`EgressPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRule {
    /// What people call it; unique in its policy.
    pub name: String,
    /// Where it starts.
    pub origin: Origin,
    /// What follows.
    pub action: Action,
    /// What is called; none is everything.
    pub to: Vec<External>,
}

/// What is called outside of the mesh: every field that is given has to hold, of a list one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct External {
    /// The name that is called: the request's host, or the server name of TLS.
    pub hosts: Vec<HostPattern>,
    /// The address that is called.
    pub cidrs: Vec<Cidr>,
    /// The port that is called.
    pub ports: Vec<u16>,
}

pub(super) fn read(value: Value<'_>) -> Option<EgressPolicy> {
    let Whole {
        metadata,
        origin,
        spec: (target, rules),
    } = whole(value, |fields| {
        target_and_rules(fields, rule, |rule| (&rule.name, &rule.origin))
    })?;
    Some(EgressPolicy {
        metadata,
        origin,
        target,
        rules,
    })
}

fn rule(value: Value<'_>) -> Option<EgressRule> {
    value.mapping(|fields| {
        let name = fields.required("name", rule_name);
        let action = fields.required("action", action);
        let to = fields.default("to", Vec::new(), |value| {
            value.non_empty_list("destinations", external)
        });
        Some(EgressRule {
            name: name?,
            origin: origin(value),
            action: action?,
            to: to?,
        })
    })
}

fn external(value: Value<'_>) -> Option<External> {
    value.mapping(|fields| {
        let hosts = fields.default("hosts", Vec::new(), |value| {
            value.non_empty_list("hosts", |v| {
                v.parsed("a host such as api.example.com or *.example.com")
            })
        });
        let cidrs = fields.default("cidrs", Vec::new(), |value| {
            value.non_empty_list("addresses", |v| {
                v.parsed("an IP address or range such as 10.0.0.0/8")
            })
        });
        let ports = fields.default("ports", Vec::new(), |value| {
            value.non_empty_list("ports", Value::port)
        });
        let external = External {
            hosts: hosts?,
            cidrs: cidrs?,
            ports: ports?,
        };
        if external == External::default() {
            return value.mistake("expected at least one field, got an empty mapping");
        }
        Some(external)
    })
}
