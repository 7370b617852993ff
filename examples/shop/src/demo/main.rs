//! `make demo`: the shop on a mesh, called by those who may and by those who may not.
//!
//! Real processes, real sockets. Every step says what was tried, what was expected and what happened; the exit status is 0 only if
//! all of it came out as expected (1 if not, 2 if there was nothing to demonstrate).

mod account;
mod decisions;
mod git;
mod http;
mod mesh;
mod steps;
mod stranger;
mod wait;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    account::{Account, chain},
    decisions::FindError,
    mesh::{Mesh, MeshError},
};

#[derive(Parser)]
#[command(
    name = "shop-demo",
    about = "Show what the mesh allows in the shop, and what it does not"
)]
struct Arguments {
    /// The example: a mesh file and its policy
    #[arg(long, value_name = "DIR", default_value = "examples/shop")]
    example: PathBuf,
}

/// Why the demo could not be given to its end.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Decisions(#[from] FindError),
    #[error("the account cannot be written")]
    Write(#[from] io::Error),
    #[error("interrupted")]
    Interrupted,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = runtime
        .map_err(DemoError::Write)
        .and_then(|runtime| runtime.block_on(show(&arguments)));
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing is left to tell it to if standard error is gone.
            let _ = writeln!(io::stderr(), "shop-demo: {}", chain(&error));
            ExitCode::from(2)
        }
    }
}

/// Starts the mesh, goes through the steps, stops the mesh; true if all came out as expected.
async fn show(arguments: &Arguments) -> Result<bool, DemoError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut account = Account::to_stdout();

    let started = Instant::now();
    account.say("Starting a mesh: a CA, a control plane, five workloads with a sidecar each …")?;
    let mut mesh = tokio::select! {
        mesh = Mesh::start(&arguments.example) => mesh?,
        _ = interrupt.recv() => return Err(DemoError::Interrupted),
        _ = terminate.recv() => return Err(DemoError::Interrupted),
    };
    account.say(format_args!(
        "It is up after {:.1} s.\n",
        started.elapsed().as_secs_f64()
    ))?;

    let result = tokio::select! {
        result = steps::all(&mesh, &mut account) => result,
        _ = interrupt.recv() => Err(DemoError::Interrupted),
        _ = terminate.recv() => Err(DemoError::Interrupted),
    };
    let good = result.and_then(|()| Ok(account.finish()?));
    if matches!(good, Ok(false)) {
        account.say(format_args!(
            "The mesh's logs are kept in {}",
            mesh.keep().display()
        ))?;
    }
    mesh.stop().await?;
    if matches!(good, Ok(true)) {
        let seconds = started.elapsed().as_secs_f64();
        account.say(format_args!(
            "Everything is stopped again, after {seconds:.1} s in all."
        ))?;
    }
    good
}
