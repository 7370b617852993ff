//! Countersign's control plane: it follows policy in git and the directory of workloads, and streams to each sidecar what
//! concerns it.

mod app;
mod config;
mod directory;
mod directory_file;
mod federation;
mod git;
mod history;
mod identity;
mod issuers;
mod metrics;
mod mirror;
mod plain;
mod policy;
mod service;
mod session;
mod sidecars;
mod signatures;
mod snapshot;
mod source;
mod state;
mod status;
mod subprocess;
#[cfg(test)]
mod testing;
mod world;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use countersign_api::hardening;
use countersign_api::logging::{self, LogFormat};

/// Follows policy in git and the directory of workloads, and streams to each sidecar what concerns it.
#[derive(Parser)]
#[command(name = "countersign-control", version)]
struct Arguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How the log on stderr is written: text or json.
    #[arg(long, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = hardening::protect_memory() {
        return fail(&error);
    }
    if let Err(error) = logging::init(arguments.log_format) {
        return fail(&error);
    }
    let config = match config::read_file(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return fail(&mistakes),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match runtime.block_on(app::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Says what is wrong, one mistake per line and nothing around it. The exit code is that of all programs here for what
/// could not run.
fn fail(error: &dyn Error) -> ExitCode {
    // There is nobody left to tell when stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{error}");
    ExitCode::from(2)
}
