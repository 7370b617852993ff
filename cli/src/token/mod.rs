//! `countersign token`: tokens to develop with, and what tokens say and are worth.

mod args;
mod findings;
mod inspect;
mod mint;
mod verify;

use std::error::Error;

pub(crate) use self::args::TokenCommand;

use crate::output::{Answer, Output};

/// Runs a subcommand.
pub(crate) fn run(command: &TokenCommand, output: &Output) -> Result<Answer, Box<dyn Error>> {
    match command {
        TokenCommand::Mint(arguments) => Ok(mint::mint(arguments, output)?),
        TokenCommand::Inspect(arguments) => Ok(inspect::inspect(arguments, output)?),
        TokenCommand::Verify(arguments) => Ok(verify::verify(arguments, output)?),
    }
}
