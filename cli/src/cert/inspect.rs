//! `countersign cert inspect`: what certificates say, and what is wrong with them.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::CertError;
use super::access::access;
use super::args::InspectArguments;
use super::entry::entries;
use super::findings::Judged;
use super::findings::Strictness;
use super::findings::chain::path;
use super::report::examine;
use super::source::{Found, Target, write_pem};
use super::trust::Roots;
use super::{render, yaml};
use crate::mesh_state::{DEFAULT_DIRECTORY, MeshState};
use crate::output::{Answer, FormatChoice, Output, terminal_width};

/// Prints the certificates of a target and what is found of them; the answer is no if there are errors.
pub(crate) fn inspect(
    arguments: &InspectArguments,
    format: FormatChoice,
    output: &Output,
) -> Result<Answer, CertError> {
    let access = access(&arguments.access)?;
    let found = Target::parse(&arguments.target)?.read(&access)?;
    let roots = roots(arguments)?;
    let now = SystemTime::now();
    let pem = (format == FormatChoice::Pem).then(|| pem(&found, now));
    let strictness = Strictness {
        svid: arguments.svid,
        expires_within: arguments
            .expires_within
            .map(|within| Duration::from_secs(within.seconds().unsigned_abs())),
    };
    let report = examine(found, roots.as_ref(), strictness, now);
    match (format, pem) {
        (_, Some(pem)) => output.write(&pem)?,
        (FormatChoice::Json, _) => output.write_json(&report)?,
        (FormatChoice::Yaml, _) => {
            let value = serde_json::to_value(&report).map_err(std::io::Error::other)?;
            output.write(&yaml::document(&value))?;
        }
        _ => output.write(&render::text(&report, output.palette, terminal_width()))?,
    }
    Ok(if report.holds() {
        Answer::Yes
    } else {
        Answer::No
    })
}

/// The certificates in PEM, each chain in its right order, each with its name above it.
fn pem(found: &Found, now: SystemTime) -> String {
    let entries = entries(found, now);
    let mut text = String::new();
    for group in 0..found.groups.len() {
        let judged = Judged::of(group, found, &entries);
        let mut ordered = match judged.leaf() {
            Some(leaf) => path(leaf, &entries),
            None => Vec::new(),
        };
        ordered.retain(|entry| entry.group == group);
        let others = judged
            .entries
            .iter()
            .filter(|entry| !ordered.iter().any(|done| done.number == entry.number));
        let others: Vec<_> = others.copied().collect();
        for entry in ordered.into_iter().chain(others) {
            if let Some(facts) = entry.facts() {
                text.push_str(&format!("# {}\n", facts.title));
            }
            text.push_str(&write_pem("CERTIFICATE", entry.der));
        }
    }
    text
}

/// The roots to verify against: those asked for, else those of the mesh whose state is at hand.
fn roots(arguments: &InspectArguments) -> Result<Option<Roots>, CertError> {
    let path = match (&arguments.bundle, &arguments.state) {
        (Some(bundle), _) => bundle.clone(),
        (None, Some(state)) => MeshState::read(state)?.bundle,
        (None, None) => match MeshState::read(Path::new(DEFAULT_DIRECTORY)) {
            Ok(state) => state.bundle,
            // No mesh here, and none was asked for: inspect without verifying the chain.
            Err(_) => return Ok(None),
        },
    };
    let roots = Roots::read(&path).map_err(CertError::Roots)?;
    Ok(Some(Roots {
        asked_for: arguments.bundle.is_some(),
        ..roots
    }))
}
