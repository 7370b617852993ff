//! `countersign policy schema`: the JSON Schema of policy documents, for editors.

use std::io;

use countersign_policy::schema::json_schema;

use crate::output::{Answer, Output};

/// Why the schema could not be printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot print the schema")]
pub(crate) struct SchemaError(#[from] io::Error);

/// Prints the schema; it is JSON, whatever `-o` says.
pub(crate) fn run(output: &Output) -> Result<Answer, SchemaError> {
    output.write_json(&json_schema())?;
    Ok(Answer::Yes)
}
