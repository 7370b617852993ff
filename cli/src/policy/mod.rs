//! `countersign policy`: write, check, test and understand policy, by the very engine that enforces it.
//!
//! A file per subcommand, with its arguments in it.

mod args;
mod check;
mod sources;

use std::error::Error;

use clap::Subcommand;

use crate::output::{Answer, Output};

/// `countersign policy …`, in the order in which the help tells them.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Find mistakes in policy, and what is hardly meant
    Check(check::CheckArguments),
}

/// Runs a subcommand.
///
/// # Errors
/// Why it could not do its work.
pub(crate) fn run(command: &PolicyCommand, output: &Output) -> Result<Answer, Box<dyn Error>> {
    Ok(match command {
        PolicyCommand::Check(arguments) => check::run(arguments, output)?,
    })
}
