//! `countersign-ca`: attests workloads and issues their X.509-SVIDs.

mod app;
mod attest;
mod authority;
mod ceremony_command;
mod config;
mod fault;
mod files;
mod housekeeping;
mod issue;
mod key_status;
mod kube_api;
mod log;
mod metrics;
mod open_files;
mod own_svid;
mod refusal;
mod root_command;
mod service;
mod store;
mod web;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use attest::join_token::JoinTokens;
use clap::{Args, Parser, Subcommand};
use config::Config;
use countersign_api::hardening;
use countersign_api::logging::{self, LogFormat};
use countersign_ca::csr;
use countersign_identity::SpiffeId;
use countersign_policy::yaml;
use log::commands::LogCommand;
use store::Store;

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
    /// Ask the issuance log: is it whole, who was issued what, give me all of it. Works while the CA runs.
    #[command(subcommand)]
    Log(LogCommand),
    /// Print a certification request for an intermediate, to be signed by an external root. Works while the CA runs, and
    /// before.
    Csr(ceremony_command::Csr),
    /// Check what an external root has signed, and put it in force. Works while the CA runs, and before.
    Install(ceremony_command::Install),
    /// Replace the root, step by step, without a failed call.
    Root(root_command::Root),
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
    let command = Cli::parse().command;
    if let Err(error) = hardening::protect_memory() {
        return fail(&error);
    }
    let result = match command {
        Command::Serve(arguments) => serve(&arguments).map(|()| true),
        Command::JoinToken(arguments) => join_token(&arguments).map(|()| true),
        Command::Log(command) => log(command),
        Command::Csr(arguments) => ceremony_command::csr(&arguments).map(|()| true),
        Command::Install(arguments) => ceremony_command::install(&arguments).map(|()| true),
        Command::Root(arguments) => root_command::run(&arguments).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // The answer is no.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    // Nothing is left to do if stderr is gone too.
    let _ = writeln!(std::io::stderr().lock(), "{error}");
    ExitCode::from(2)
}

fn serve(arguments: &Serve) -> Result<(), Failure> {
    logging::init(arguments.log_format)?;
    let config = Config::read(&arguments.config)?;
    Ok(runtime()?.block_on(app::serve(config))?)
}

/// One thread: signatures take microseconds, and waiting for the disk has threads of its own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn join_token(arguments: &JoinToken) -> Result<(), Failure> {
    let config = Config::read(&arguments.config)?;
    let Config {
        data_directory,
        postgres,
        trust_domain,
        ..
    } = config;
    let token = runtime()?.block_on(async {
        let store = Store::open(&data_directory, postgres.as_ref(), &trust_domain).await?;
        let tokens = JoinTokens::new(store.clone(), trust_domain);
        let now = SystemTime::now();
        let token = tokens
            .mint(&arguments.spiffe_id, arguments.ttl, now)
            .await?;
        store.close().await;
        Ok::<_, Failure>(token)
    })?;
    writeln!(std::io::stdout().lock(), "{}", token.as_str())?;
    Ok(())
}

fn log(command: LogCommand) -> Result<bool, Failure> {
    Ok(runtime()?.block_on(command.run())?)
}

fn duration(text: &str) -> Result<Duration, String> {
    yaml::parse_duration(text).ok_or_else(|| "expected a duration such as 10s, 5m or 1h".to_owned())
}
