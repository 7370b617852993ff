//! `countersign policy reach`: who may call whom, and how far somebody gets who has one workload.

mod answer;
mod dot;
mod svg;
mod text;

use std::io;
use std::path::PathBuf;

use clap::Args;
use countersign_identity::SpiffeId;
use countersign_policy::analysis::{Graph, TooLarge, reach};
use countersign_policy::{Diagnostics, Policy, Workload};

use super::args::TrustDomainArgument;
use super::directory;
use super::revision::{self, RevisionError};
use crate::output::{Answer as Status, Format, Output};
use answer::Answer;

/// `countersign policy reach`
#[derive(Debug, Args)]
pub(crate) struct ReachArguments {
    /// Policy: a directory, a file, or a git revision (main~1, v1:policies/)
    pub(crate) policy: String,
    #[command(flatten)]
    pub(crate) trust_domain: TrustDomainArgument,
    /// How far this workload gets: namespace/account, a SPIFFE ID, or a name of the graph
    #[arg(long, value_name = "ID")]
    pub(crate) from: Option<String>,
    /// Who gets to this workload
    #[arg(long, value_name = "ID")]
    pub(crate) to: Option<String>,
    /// The workloads that there are, as a directory file has them [default: those that the policy names]
    #[arg(long, value_name = "FILE")]
    pub(crate) directory: Option<PathBuf>,
    /// Tell what changed since this policy: a directory, a file, or a git revision
    #[arg(long, value_name = "OLD")]
    pub(crate) since: Option<String>,
    /// Print the graph for Graphviz
    #[arg(long)]
    pub(crate) dot: bool,
    /// Draw the graph into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// Why there is no graph.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error(transparent)]
    Revision(#[from] RevisionError),
    #[error("the directory has mistakes:\n{0}")]
    Directory(Diagnostics),
    #[error(
        "there is no {given} in the graph: expected namespace/account, a SPIFFE ID of {trust_domain}, or one of {}",
        nodes.join(", ")
    )]
    Unknown {
        given: String,
        trust_domain: String,
        nodes: Vec<String>,
    },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error(
        "a drawing of {nodes} nodes and {edges} edges is not readable: ask for a part with --from or --to, or draw the graph of --dot with Graphviz"
    )]
    Drawing { nodes: usize, edges: usize },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Prints the graph; with both ends given, the answer is no if there is no way.
pub(crate) fn run(arguments: &ReachArguments, output: &Output) -> Result<Status, ReachError> {
    let trust_domain = &arguments.trust_domain.trust_domain;
    let policy = revision::policy(&arguments.policy, trust_domain)?;
    let old = match &arguments.since {
        Some(old) => Some(revision::earlier_policy(old, trust_domain)?),
        None => None,
    };
    let workloads = match &arguments.directory {
        Some(path) => Some(directory::workloads(path).map_err(ReachError::Directory)?),
        None => None,
    };
    let ends = [&arguments.from, &arguments.to];
    let names: Vec<String> = ends
        .into_iter()
        .flatten()
        .map(|id| name_of(id, trust_domain.as_str()))
        .collect();
    // With a directory there are no others.
    let named: Vec<Workload> = match &workloads {
        Some(_) => Vec::new(),
        None => names.iter().filter_map(|name| workload_of(name)).collect(),
    };
    let first = old.as_ref().is_some_and(Policy::is_empty);
    let policies: Vec<_> = std::iter::once(&policy).chain(&old).collect();
    let mut graphs = reach(&policies, workloads.as_deref(), &named)?;
    let before = match graphs.len() {
        2 => graphs.pop(),
        _ => None,
    };
    let graph = graphs.pop().unwrap_or_default();
    let find = |given: &Option<String>| match given {
        None => Ok(None),
        Some(id) => find(&graph, id, trust_domain.as_str()).map(Some),
    };
    let answer = Answer {
        from: find(&arguments.from)?,
        to: find(&arguments.to)?,
        assumed: workloads.is_none(),
        empty_before: arguments.since.clone().filter(|_| first),
        graph,
        before,
    };
    if let Some(path) = &arguments.svg {
        let part = answer.part();
        let drawing = svg::draw(&part).ok_or(ReachError::Drawing {
            nodes: part.nodes.len(),
            edges: part.edges.len(),
        })?;
        std::fs::write(path, drawing).map_err(|source| ReachError::Write {
            path: path.clone(),
            source,
        })?;
    }
    match output.format {
        _ if arguments.dot => output.write(&dot::write(&answer.part()))?,
        Format::Text => output.write(&text::write(&answer, output.palette))?,
        Format::Json => output.write_json(&answer.json())?,
    }
    Ok(match (answer.from, answer.to) {
        (Some(from), Some(to)) if answer.graph.way(from, to).is_none() => Status::No,
        _ => Status::Yes,
    })
}

/// The name under which an ID would be in the graph.
fn name_of(id: &str, trust_domain: &str) -> String {
    let parsed = id.parse::<SpiffeId>().ok();
    let local = parsed.filter(|id| id.trust_domain().as_str() == trust_domain);
    match local.as_ref().and_then(SpiffeId::workload) {
        Some(name) => format!("{}/{}", name.namespace, name.service_account),
        None => id.to_owned(),
    }
}

fn workload_of(name: &str) -> Option<Workload> {
    let (namespace, account) = name.split_once('/')?;
    let is_name = |part: &str| part.parse::<countersign_policy::pattern::Name>().is_ok();
    (is_name(namespace) && is_name(account)).then(|| Workload {
        namespace: namespace.to_owned(),
        service_account: account.to_owned(),
        ..Workload::default()
    })
}

fn find(graph: &Graph, id: &str, trust_domain: &str) -> Result<usize, ReachError> {
    graph
        .find(&name_of(id, trust_domain))
        .ok_or_else(|| ReachError::Unknown {
            given: id.to_owned(),
            trust_domain: trust_domain.to_owned(),
            nodes: graph.nodes.iter().map(|node| node.name.clone()).collect(),
        })
}
