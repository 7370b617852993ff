//! Reads a `PeerAuthentication`, which is a [`MeshMode`].
//!
//! <https://istio.io/latest/docs/reference/config/security/peer_authentication/>

use std::collections::BTreeMap;

use super::{Reader, metadata, selector};
use crate::document::{Document, MeshMode, PeerMode, Target, origin};
use crate::pattern::Name;
use crate::yaml::{Fields, Value};

/// No document, if it leaves everything to those that it would outrank.
pub(super) fn read(value: Value<'_>, reader: &Reader) -> Option<Vec<Document>> {
    value.mapping(|fields| {
        let header = metadata::read(fields, &reader.options);
        let spec = fields.nullable("spec", |value| value.mapping(|fields| spec(fields, reader)));
        let (metadata, (target, mode, ports)) = (header?.metadata, spec?.unwrap_or_default());
        let is_mesh_wide = metadata.namespace == Name::root_namespace() && target.is_all();
        let mode = match mode {
            // Without a parent, what is unset is permissive.
            None if is_mesh_wide => Some(PeerMode::Permissive),
            mode => mode,
        };
        if mode.is_none() && ports.is_empty() {
            reader.note(
                value,
                "the document leaves everything as it is: nothing is written for it",
            );
            return Some(Vec::new());
        }
        Some(vec![Document::MeshMode(MeshMode {
            metadata,
            origin: origin(value),
            target,
            mode,
            ports,
            ambiguous_paths: None,
        })])
    })
}

type Spec = (Target, Option<PeerMode>, BTreeMap<u16, PeerMode>);

fn spec(fields: &mut Fields<'_>, reader: &Reader) -> Option<Spec> {
    let value = fields.value();
    let target = selector::read(fields);
    let mode = fields.nullable("mtls", |value| mutual_tls(value, reader));
    let ports = fields.nullable("portLevelMtls", |value| {
        let ports = value.entries("modes", |port, value| {
            let mode = mutual_tls(value, reader);
            match super::term::port(port) {
                Some(port) => Some((port, mode?)),
                None => value.mistake(format!(
                    "expected a port from 1 to 65535 as key, got {port:?}"
                )),
            }
        })?;
        Some(
            ports
                .into_iter()
                .map(|(_, entry)| entry)
                .collect::<Vec<_>>(),
        )
    });
    let (target, mode, ports) = (target?, mode?.flatten(), ports?.unwrap_or_default());
    if target.is_all() && !ports.is_empty() {
        return value.mistake("`portLevelMtls` stands with a `selector` only");
    }
    let ports = ports
        .into_iter()
        .filter_map(|(port, mode)| Some((port, mode?)))
        .collect();
    Some((target, mode, ports))
}

/// `Some(None)` is unset: as the document that this one outranks has it.
fn mutual_tls(value: Value<'_>, reader: &Reader) -> Option<Option<PeerMode>> {
    let modes = [
        ("UNSET", None),
        ("STRICT", Some(PeerMode::Strict)),
        ("PERMISSIVE", Some(PeerMode::Permissive)),
        // Calls without TLS are taken. Those over mTLS are, too, which takes nothing from who relies on the former.
        ("DISABLE", Some(PeerMode::Permissive)),
    ];
    value.mapping(|fields| {
        fields.default("mode", None, |value| {
            if value.is_string() && value.text()? == "DISABLE" {
                reader.note(
                    value,
                    "DISABLE becomes permissive: calls over mutual TLS are taken, too",
                );
            }
            value.choice(&modes)
        })
    })
}
