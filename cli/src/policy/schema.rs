//! `countersign policy schema`: the JSON Schema of policy documents and of their tests, for editors.

use std::io;

use clap::Args;
use countersign_policy::schema::{json_schema, test_json_schema};

use crate::output::{Answer, Output};

/// `countersign policy schema`
#[derive(Debug, Args)]
pub(crate) struct SchemaArguments {
    /// The schema of tests (*.test.yaml) in the place of that of policy
    #[arg(long)]
    pub(crate) tests: bool,
}

/// Why the schema could not be printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot print the schema")]
pub(crate) struct SchemaError(#[from] io::Error);

/// Prints the schema; it is JSON, whatever `-o` says.
pub(crate) fn run(arguments: &SchemaArguments, output: &Output) -> Result<Answer, SchemaError> {
    let schema = match arguments.tests {
        true => test_json_schema(),
        false => json_schema(),
    };
    output.write_json(&schema)?;
    Ok(Answer::Yes)
}
