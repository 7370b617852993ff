//! `countersign cert`: certificates as people need to see them.
//!
//! ```text
//! target ── source ──▶ Found ── entries (facts, links) ── findings ──▶ Report ── render, JSON, YAML
//! ```
//!
//! `source` gets certificates from wherever they are, `facts` reads what one says, `links` who issued
//! whom, `findings` what is wrong, and `render` shows it. A file per subcommand besides.

mod access;
mod args;
mod entry;
mod facts;
mod findings;
mod inspect;
mod issue;
mod links;
mod render;
mod report;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod trust;
mod verify;
mod watch;
mod yaml;

use std::error::Error;
use std::io;

pub(crate) use self::args::CertCommand;
pub(crate) use self::findings::Severity;

use self::access::AccessError;
use self::issue::IssueError;
use self::source::ReadError;
use crate::mesh_state::MeshStateError;
use crate::output::{Answer, FormatChoice, Output, UnsupportedFormat};

/// Why a command on certificates could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("the trusted roots: {0}")]
    Roots(#[source] ReadError),
    #[error(transparent)]
    MeshState(#[from] MeshStateError),
    #[error("standard input does not change: name a file, a server, a socket or a pod")]
    WatchStdin,
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Runs a subcommand.
pub(crate) fn run(command: &CertCommand, format: FormatChoice) -> Result<Answer, Box<dyn Error>> {
    match command {
        CertCommand::Inspect(arguments) => {
            if format == FormatChoice::Sarif {
                return Err(UnsupportedFormat.into());
            }
            if format == FormatChoice::Sarif {
                format.plain()?;
            }
            let output = Output::to_stdout(format.text_or_json());
            Ok(inspect::inspect(arguments, format, &output)?)
        }
        CertCommand::Verify(arguments) => Ok(verify::verify(
            arguments,
            &Output::to_stdout(format.plain()?),
        )?),
        CertCommand::Issue(arguments) => Ok(issue::issue(
            arguments,
            &Output::to_stdout(format.plain()?),
        )?),
        CertCommand::Watch(arguments) => Ok(watch::watch(
            arguments,
            &Output::to_stdout(format.plain()?),
        )?),
    }
}
