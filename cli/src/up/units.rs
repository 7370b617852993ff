//! The children of a mesh, stage by stage: what each runs, when it is ready, how long it may take.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_identity::spiffe::system;

use super::configs::{CONTROL_TOKEN, sidecar_token};
use super::event::{Role, Who};
use super::layout::Layout;
use super::mesh::Mesh;
use super::prepare::Command;
use super::process::Launch;
use super::programs::Programs;
use super::supervise::{JoinToken, ReadyWhen, Unit};
use super::topology::{Instance, Topology};

/// How long a program of this project may take to get ready.
const PROGRAM_LIMIT: Duration = Duration::from_secs(30);

/// How long a workload may take until it listens on its ports.
const WORKLOAD_LIMIT: Duration = Duration::from_secs(30);

/// How long a child may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// The children, in the order of their stages: CA, control plane, sidecars, workloads.
pub(crate) fn plan(
    mesh: &Mesh,
    topology: &Topology,
    layout: &Layout,
    programs: &Programs,
    commands: &[Command],
) -> Vec<Vec<Unit>> {
    let ca = program(
        layout,
        Who {
            role: Role::Ca,
            name: "ca".to_owned(),
        },
        &programs.ca,
        &["serve"],
        &layout.ca_config(),
        topology.ca.ops,
        None,
    );
    let control_token = JoinToken {
        spiffe_id: system::control(&mesh.trust_domain),
        file: layout.join_token(CONTROL_TOKEN),
    };
    let control = program(
        layout,
        Who {
            role: Role::Control,
            name: "control".to_owned(),
        },
        &programs.control,
        &[],
        &layout.control_config(),
        topology.control.ops,
        Some(control_token),
    );
    let sidecars = topology
        .instances
        .iter()
        .map(|instance| sidecar(layout, programs, instance));
    let workloads = topology
        .instances
        .iter()
        .zip(commands)
        .map(|(i, c)| workload(layout, i, c));
    vec![
        vec![ca],
        vec![control],
        sidecars.collect(),
        workloads.collect(),
    ]
}

fn sidecar(layout: &Layout, programs: &Programs, instance: &Instance) -> Unit {
    let name = &instance.addresses.name;
    let token = JoinToken {
        spiffe_id: instance.spiffe_id.clone(),
        file: layout.join_token(&sidecar_token(name)),
    };
    program(
        layout,
        Who {
            role: Role::Sidecar,
            name: name.clone(),
        },
        &programs.proxy,
        &[],
        &layout.sidecar_config(name),
        instance.addresses.sidecar_ops,
        Some(token),
    )
}

/// A program of this project.
fn program(
    layout: &Layout,
    who: Who,
    program: &Path,
    arguments: &[&str],
    config: &Path,
    ops: SocketAddr,
    token: Option<JoinToken>,
) -> Unit {
    let arguments = arguments.iter().map(OsString::from);
    let config = [OsString::from("--config"), config.as_os_str().to_owned()];
    Unit {
        launch: Launch {
            program: program.to_owned(),
            arguments: arguments.chain(config).collect(),
            environment: BTreeMap::new(),
            directory: layout.directory().to_owned(),
            log: log(layout, &who),
        },
        who,
        ready: ReadyWhen::Says(ops),
        limit: PROGRAM_LIMIT,
        grace: GRACE,
        token,
    }
}

fn workload(layout: &Layout, instance: &Instance, command: &Command) -> Unit {
    let addresses = &instance.addresses;
    let who = Who {
        role: Role::Workload,
        name: addresses.name.clone(),
    };
    let ports = addresses
        .ports
        .iter()
        .map(|port| SocketAddr::from((addresses.ip, *port)));
    Unit {
        launch: Launch {
            program: command.program.clone(),
            arguments: command.arguments.clone(),
            environment: command.environment.clone(),
            directory: command.directory.clone(),
            log: log(layout, &who),
        },
        who,
        ready: ReadyWhen::Listens(ports.collect()),
        limit: WORKLOAD_LIMIT,
        grace: GRACE,
        token: None,
    }
}

fn log(layout: &Layout, who: &Who) -> PathBuf {
    match who.role {
        Role::Ca | Role::Control => layout.log(&who.name),
        Role::Sidecar => layout.log(&format!("sidecar-{}", who.name)),
        Role::Workload => layout.log(&format!("workload-{}", who.name)),
    }
}
