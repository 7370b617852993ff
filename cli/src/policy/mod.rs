//! `countersign policy`: write, check, test and understand policy, by the very engine that enforces it.
//!
//! A file per subcommand, with its arguments in it.

mod args;
mod check;
mod decide;
mod diff;
mod directory;
mod explain;
mod format;
mod import;
mod load;
mod reach;
mod revision;
mod schema;
mod sources;
mod suggest;
mod test;

use std::error::Error;

use clap::Subcommand;

use crate::output::{Answer, FormatChoice, Output};

/// `countersign policy …`, in the order in which the help tells them.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Find mistakes in policy, and what is hardly meant
    Check(check::CheckArguments),
    /// Run the tests beside the policy (*.test.yaml)
    Test(test::TestArguments),
    /// Give policy files their canonical layout; comments stay where they are
    Format(format::FormatArguments),
    /// Print the JSON Schema of policy documents or of their tests, for editors
    Schema(schema::SchemaArguments),
    /// Decide calls: one JSON call per line in, one JSON decision per line out
    Decide(decide::DecideArguments),
    /// Show for a call every rule, and why it did or did not match
    Explain(explain::ExplainArguments),
    /// Tell which calls become allowed and which denied by a change of policy
    Diff(diff::DiffArguments),
    /// Tell who may call whom, and how far a compromised workload gets
    Reach(reach::ReachArguments),
    /// Suggest the least policy that allows what decision logs show
    Suggest(suggest::SuggestArguments),
    /// Write other meshes' policy in the kinds of this one
    Import(import::ImportArguments),
}

/// Runs `check`, whose findings can also be had as SARIF.
///
/// # Errors
/// Why it could not do its work.
pub(crate) fn check(
    arguments: &check::CheckArguments,
    format: FormatChoice,
) -> Result<Answer, Box<dyn Error>> {
    Ok(check::run(arguments, format)?)
}

/// Runs a subcommand.
///
/// # Errors
/// Why it could not do its work.
pub(crate) fn run(command: &PolicyCommand, output: &Output) -> Result<Answer, Box<dyn Error>> {
    Ok(match command {
        // Has been run before.
        PolicyCommand::Check(_) => Answer::Yes,
        PolicyCommand::Test(arguments) => test::run(arguments, output)?,
        PolicyCommand::Format(arguments) => format::run(arguments, output)?,
        PolicyCommand::Schema(arguments) => schema::run(arguments, output)?,
        PolicyCommand::Decide(arguments) => decide::run(arguments)?,
        PolicyCommand::Explain(arguments) => explain::run(arguments, output)?,
        PolicyCommand::Diff(arguments) => diff::run(arguments, output)?,
        PolicyCommand::Reach(arguments) => reach::run(arguments, output)?,
        PolicyCommand::Suggest(arguments) => suggest::run(arguments, output)?,
        PolicyCommand::Import(arguments) => import::run(arguments, output)?,
    })
}
