//! `countersign-proxy`: the sidecar. See the library for what it is made of.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use countersign_api::logging::{self, LogFormat};
use countersign_proxy::app::{self, Ended};
use countersign_proxy::config::Config;

/// Wrong use, or it could not run.
const COULD_NOT_RUN: u8 = 2;
/// Ended by a second signal, calls cut.
const KILLED: u8 = 1;

/// Countersign's sidecar: identity, mutual TLS and a policy decision on every call.
#[derive(Debug, Parser)]
#[command(name = "countersign-proxy", version)]
struct Arguments {
    /// The configuration, proxy.yaml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Only read the configuration and say what is wrong with it.
    #[arg(long)]
    check: bool,

    /// How diagnostics are written to standard error: text or json.
    #[arg(long, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
}

fn main() -> ExitCode {
    let started = Instant::now();
    let arguments = Arguments::parse();
    let config = match Config::read(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return could_not_run(&mistakes),
    };
    if arguments.check {
        return ExitCode::SUCCESS;
    }
    if let Err(error) = logging::init(arguments.log_format) {
        return could_not_run(&error);
    }
    match app::run(config, started) {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::Killed) => KILLED.into(),
        Err(error) => could_not_run(&error),
    }
}

fn could_not_run(reason: &dyn Display) -> ExitCode {
    // If standard error is gone there is nobody to tell; the exit code still says it.
    let _ = writeln!(std::io::stderr().lock(), "{reason}");
    COULD_NOT_RUN.into()
}
