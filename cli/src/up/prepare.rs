//! Everything that is looked at before anything is started, and every mistake found there at once.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_policy::yaml::Diagnostics;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::addresses::{self, AddressError, Claim};
use super::configs;
use super::issuer::{DevelopmentIssuer, IssuerKey};
use super::layout::{Layout, LayoutError};
use super::mesh::{self, Mesh, UnknownPlaceholder};
use super::policy_check;
use super::programs::{ProgramError, Programs};
use super::topology::{Instance, Topology, TopologyError};
use crate::mesh_state;
use crate::output::with_causes;

/// How long ports may stay in use: those of a mesh that has just been killed become free on their own.
const PORTS_LIMIT: Duration = Duration::from_secs(3);
const PORTS_GLANCE: Duration = Duration::from_millis(50);

/// Everything that is needed to start.
pub(crate) struct Prepared {
    pub(crate) mesh: Mesh,
    pub(crate) topology: Topology,
    pub(crate) layout: Layout,
    pub(crate) programs: Programs,
    /// What each instance runs, in the order of the topology.
    pub(crate) commands: Vec<Command>,
    pub(crate) issuers: Vec<DevelopmentIssuer>,
    pub(crate) issuer_listener: TcpListener,
    /// Held as long as the mesh is up.
    pub(crate) _claim: Claim,
}

/// What a workload runs.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) directory: PathBuf,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("{0}")]
    MeshFile(#[from] Diagnostics),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Addresses(#[from] AddressError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error("the development issuer cannot listen")]
    IssuerPort(#[source] io::Error),
    /// Several, one per line.
    #[error("{0}")]
    Several(Mistakes),
}

/// Mistakes of different kinds, shown one per line.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<String>);

impl Mistakes {
    /// Keeps what is good, and notes what is not.
    fn keep<T, E: Error + 'static>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.push(with_causes(&error));
                None
            }
        }
    }

    /// Like [`Mistakes::keep`] for what has several mistakes.
    fn keep_all<T, E: Display>(&mut self, result: Result<T, Vec<E>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(errors) => {
                self.0.extend(errors.iter().map(ToString::to_string));
                None
            }
        }
    }
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Reads the mesh file, and checks all that it speaks of. Starts nothing, but takes the state directory
/// and a `/24`, and writes the configuration files.
pub(crate) async fn prepare(
    mesh_file: &Path,
    state_directory: Option<&Path>,
) -> Result<Prepared, PrepareError> {
    let mesh = Mesh::read(mesh_file)?;
    let mesh_directory = mesh::directory_of(mesh_file);
    let default_state = mesh_directory.join(mesh_state::DEFAULT_DIRECTORY);
    let layout = Layout::open(state_directory.unwrap_or(&default_state))?;
    let claim = addresses::claim(layout.directory())?;
    let topology = Topology::new(&mesh, claim.subnet)?;

    let mut mistakes = Mistakes::default();
    mistakes.keep(policy_check::check(&mesh.policy, &mesh.trust_domain));
    let programs = mistakes.keep(Programs::beside_this());
    let commands = programs.as_ref().and_then(|programs| {
        mistakes.keep_all(programs.missing());
        mistakes.keep_all(commands(&topology, programs, &mesh_directory))
    });
    let issuers: Vec<_> = mesh
        .issuers
        .iter()
        .filter_map(|i| mistakes.keep(issuer(i, &layout)))
        .collect();
    mistakes.keep_all(until_ports_are_free(&topology).await);
    let (Some(programs), Some(commands), true) = (programs, commands, mistakes.0.is_empty()) else {
        return Err(PrepareError::Several(mistakes));
    };
    let issuer_listener = TcpListener::bind(topology.issuer)
        .await
        .map_err(PrepareError::IssuerPort)?;

    configs::write(&mesh, &topology, &layout)?;
    let mesh_file = mesh_file
        .canonicalize()
        .unwrap_or_else(|_| mesh_file.to_owned());
    let state = topology.state(&mesh, &mesh_file, &layout);
    let state = serde_json::to_value(&state).map_or_else(|_| String::new(), |s| format!("{s:#}\n"));
    layout.write(&layout.mesh_state(), &state)?;
    Ok(Prepared {
        mesh,
        topology,
        layout,
        programs,
        commands,
        issuers,
        issuer_listener,
        _claim: claim,
    })
}

fn issuer(
    issuer: &mesh::Issuer,
    layout: &Layout,
) -> Result<DevelopmentIssuer, super::issuer::IssuerKeyError> {
    Ok(DevelopmentIssuer {
        name: issuer.name.clone(),
        issuer: issuer.issuer.clone(),
        audiences: issuer.audiences.clone(),
        users: issuer.users.clone(),
        key: IssuerKey::open(&layout.issuer_key(&issuer.name))?,
    })
}

/// What every instance runs, or everything that cannot be run.
fn commands(
    topology: &Topology,
    programs: &Programs,
    mesh_directory: &Path,
) -> Result<Vec<Command>, Vec<CommandError>> {
    let path = std::env::var_os("PATH");
    let mut commands = Vec::new();
    let mut errors = Vec::new();
    for instance in &topology.instances {
        let (filled, environment) = match fill(instance) {
            Ok(filled) => filled,
            Err(error) => {
                errors.push(CommandError::Placeholder(error));
                continue;
            }
        };
        let Some((program, arguments)) = filled.split_first() else {
            continue;
        };
        let name = &instance.workload.name;
        match programs.command(name, program, mesh_directory, path.as_deref()) {
            Ok(program) => commands.push(Command {
                program,
                arguments: arguments.iter().map(OsString::from).collect(),
                environment,
                directory: mesh_directory.to_owned(),
            }),
            // Replicas all lack the same program; once is enough.
            Err(error) => {
                let told = errors.iter().any(|told| {
                    matches!(told, CommandError::Program(told) if told.to_string() == error.to_string())
                });
                if !told {
                    errors.push(CommandError::Program(error));
                }
            }
        }
    }
    if errors.is_empty() {
        Ok(commands)
    } else {
        Err(errors)
    }
}

#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Placeholder(UnknownPlaceholder),
    #[error(transparent)]
    Program(ProgramError),
}

type Filled = (Vec<String>, BTreeMap<String, String>);

/// The command and the environment of an instance, with its addresses in place.
fn fill(instance: &Instance) -> Result<Filled, UnknownPlaceholder> {
    let fill = |template: &mesh::Template| {
        template.fill(instance.addresses.ip, |service| instance.outbound(service))
    };
    let command = instance
        .workload
        .command
        .iter()
        .map(fill)
        .collect::<Result<_, _>>()?;
    let environment = instance
        .workload
        .env
        .iter()
        .map(|(name, value)| Ok((name.clone(), fill(value)?)))
        .collect::<Result<_, _>>()?;
    Ok((command, environment))
}

/// Waits until all ports can be had; gives those that cannot when the time is over.
async fn until_ports_are_free(topology: &Topology) -> Result<(), Vec<addresses::UnavailablePort>> {
    let wanted = topology.wanted_ports();
    let deadline = Instant::now() + PORTS_LIMIT;
    loop {
        let unavailable = addresses::unavailable(&wanted);
        if unavailable.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(unavailable);
        }
        tokio::time::sleep(PORTS_GLANCE).await;
    }
}
