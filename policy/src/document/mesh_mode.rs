//! `MeshMode`: how calls have to arrive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse::{Whole, whole};
use super::{Metadata, Origin, Target, target};
use crate::yaml::Value;

/// How calls to some workloads of a namespace have to arrive. Of several about one workload, one with a target
/// outranks one of the whole namespace, and that one of the root namespace; of equals, the strict one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshMode {
    /// Name and namespace.
    pub metadata: Metadata,
    /// Where the document starts.
    pub origin: Origin,
    /// To whom the calls are.
    pub target: Target,
    /// For ports that `ports` does not name. `None` leaves it to the document that this one outranks.
    pub mode: Option<PeerMode>,
    /// By called port.
    pub ports: BTreeMap<u16, PeerMode>,
    /// What becomes of a request whose path applications read in different ways. `None` leaves it to the document
    /// that this one outranks.
    pub ambiguous_paths: Option<AmbiguousPaths>,
}

/// Whether a caller has to prove an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "tools", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum PeerMode {
    /// Calls without an X.509-SVID are taken, too; rules know them as `anonymous`.
    Permissive,
    /// A call without an X.509-SVID is denied.
    #[default]
    Strict,
}

/// What becomes of a request whose path has an encoded slash, a backslash or anything else that applications read
/// in different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "tools", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum AmbiguousPaths {
    /// It is judged by every reading: an allow rule has to match all of them, a deny rule one.
    Accept,
    /// It is answered 400.
    #[default]
    Refuse,
}

pub(super) fn read(value: Value<'_>) -> Option<MeshMode> {
    let Whole {
        metadata,
        origin,
        spec: (target, mode, ports, ambiguous_paths),
    } = whole(value, |fields| {
        let target = fields.default("target", Target::default(), target::read);
        let modes = [
            ("strict", PeerMode::Strict),
            ("permissive", PeerMode::Permissive),
        ];
        let mode = fields.optional("mode", |v| v.choice(&modes));
        let ports = fields.default("ports", Vec::new(), |value| {
            value.entries("modes", |port, v| {
                Some((called_port(port, v), v.choice(&modes)?))
            })
        });
        let readings = [
            ("refuse", AmbiguousPaths::Refuse),
            ("accept", AmbiguousPaths::Accept),
        ];
        let ambiguous_paths = fields.optional("ambiguousPaths", |v| v.choice(&readings));
        let ports: Option<BTreeMap<u16, PeerMode>> = ports?
            .into_iter()
            .map(|(_, (port, mode))| Some((port?, mode)))
            .collect();
        let (mode, ports, ambiguous_paths) = (mode?, ports?, ambiguous_paths?);
        if mode.is_none() && ports.is_empty() && ambiguous_paths.is_none() {
            let spec = fields.value();
            return spec.mistake("expected `mode`, `ports` or `ambiguousPaths`");
        }
        Some((target?, mode, ports, ambiguous_paths))
    })?;
    Some(MeshMode {
        metadata,
        origin,
        target,
        mode,
        ports,
        ambiguous_paths,
    })
}

/// The key of a mapping by port.
fn called_port(key: &str, value: Value<'_>) -> Option<u16> {
    match key.parse() {
        Ok(port @ 1..) => Some(port),
        _ => value.mistake(format!(
            "expected a port from 1 to 65535 as key, got {key:?}"
        )),
    }
}
