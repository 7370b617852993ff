//! `countersign-ca`: attests workloads and issues their X.509-SVIDs.

mod app;
mod attest;
mod authority;
mod config;
mod csr;
mod issue;
mod log;
mod metrics;
mod own_svid;
mod refusal;
mod service;
mod web;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use attest::join_token::JoinTokens;
use clap::{Args, Parser, Subcommand};
use config::Config;
use countersign_api::logging::{self, LogFormat};
use countersign_identity::SpiffeId;
use countersign_policy::yaml;

/// Countersign's certificate authority: attests workloads and issues short-lived X.509-SVIDs.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the CA until it is told to stop.
    Serve(Serve),
    /// Make a one-time join token for a SPIFFE ID, and print it. Works while the CA runs, and before.
    JoinToken(JoinToken),
}

#[derive(Args)]
struct Serve {
    /// The configuration, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How diagnostics are written to stderr: text or json.
    #[arg(long, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

#[derive(Args)]
struct JoinToken {
    /// The configuration of the CA, a YAML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Whom the token proves, such as spiffe://shop.example/ns/shop/sa/orders.
    #[arg(long, value_name = "ID")]
    spiffe_id: SpiffeId,
    /// How long the token can be used, such as 10m.
    #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = duration)]
    ttl: Duration,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(arguments) => serve(&arguments),
        Command::JoinToken(arguments) => join_token(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if stderr is gone too.
            let _ = writeln!(std::io::stderr().lock(), "{error}");
            ExitCode::from(2)
        }
    }
}

fn serve(arguments: &Serve) -> Result<(), Failure> {
    logging::init(arguments.log_format)?;
    let config = Config::read(&arguments.config)?;
    // One thread: signatures take microseconds, and waiting for the disk has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(app::serve(config))?)
}

fn join_token(arguments: &JoinToken) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    let tokens = JoinTokens::open(&config.data_directory, &config.trust_domain)?;
    let token = tokens.mint(&arguments.spiffe_id, arguments.ttl, SystemTime::now())?;
    writeln!(std::io::stdout().lock(), "{}", token.as_str())?;
    Ok(())
}

fn duration(text: &str) -> Result<Duration, String> {
    yaml::parse_duration(text).ok_or_else(|| "expected a duration such as 10s, 5m or 1h".to_owned())
}
