//! `countersign`: the one command people type.
//!
//! Every subcommand takes `-o text|json` and ends with 0 (fine), 1 (the answer is no) or
//! 2 (wrong use, or it could not run).

mod args;
mod ca;
mod cert;
mod guard;
mod http_client;
mod instant;
mod mesh_state;
mod output;
mod policy;
mod provider;
mod token;
mod up;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};
use crate::output::{Answer, Output};
use crate::policy::PolicyCommand;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Command::Guard(guard) = &arguments.command {
        return guard::run(guard);
    }
    if let Command::Ca(ca) = &arguments.command {
        let error = ca::run(ca);
        output::report_failure(&error);
        return ExitCode::from(2);
    }
    match run(&arguments) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(error) => {
            output::report_failure(error.as_ref());
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Answer, Box<dyn Error>> {
    // Certificates can also be had as YAML and PEM.
    if let Command::Cert(command) = &arguments.command {
        return cert::run(command, arguments.output);
    }
    // Findings can also be had as SARIF.
    if let Command::Policy(PolicyCommand::Check(check)) = &arguments.command {
        return policy::check(check, arguments.output);
    }
    let output = Output::to_stdout(arguments.output.plain()?);
    match &arguments.command {
        Command::Up(up) => up::run(up, &output).map_err(Into::into),
        Command::Token(command) => token::run(command, &output),
        Command::Policy(command) => policy::run(command, &output),
        // Have been run before.
        Command::Cert(_) | Command::Ca(_) | Command::Guard(_) => Ok(Answer::Yes),
    }
}
