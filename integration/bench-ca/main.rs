//! `make bench-ca`: what the CA does as a process, beside this machine's rate of signatures and beside step-ca.
//!
//! All of it is one run on one machine. Absolute figures move with the machine and what else it does: quote the ratios.

#[path = "../bench/process.rs"]
mod process;

mod countersign;
mod figures;
mod https;
mod rates;
mod stampede;
mod starts;
mod step_ca;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::countersign::Ca;
use crate::process::ProcessError;
use crate::rates::Rate;

#[derive(Parser)]
#[command(
    name = "countersign-bench-ca",
    about = "Measure the CA beside step-ca, and many sidecars that come at once"
)]
struct Arguments {
    /// How long each rate is measured, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many sidecars come at once.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    sidecars: u32,
    /// How often a start is measured.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,
    /// step-ca, if it is there: `make step-ca` builds it.
    #[arg(long, value_name = "FILE")]
    step_ca: Option<std::path::PathBuf>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a CA was asked for a certificate: {0}")]
    Failed(String),
}

impl BenchError {
    fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = runtime
        .map_err(BenchError::from)
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell it to if standard error is gone.
            let _ = writeln!(io::stderr(), "countersign-bench-ca: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let mut out = io::stdout();
    // Every sidecar has a connection, and every connection a file at both ends.
    stampede::allow_many_files()?;
    let signatures = rates::signatures()?;
    writeln!(
        out,
        "P-256 signatures per second of one core: {signatures:.0}\n"
    )?;
    let length = Duration::from_secs(arguments.seconds.into());

    starts::measure(arguments.starts, &mut out).await?;

    let directory = tempfile::tempdir()?;
    let ca = Ca::start(directory.path()).await?;
    writeln!(
        out,
        "\ncertificates over kept connections, new P-256 keys, each in the log on the disk first{:>8} {:>8} {:>12} {:>7}",
        "", "/s", "/s of core", "of sigs"
    )?;
    let show = |out: &mut io::Stdout, name: &str, rate: &Rate| {
        writeln!(
            out,
            "  {name:<74} {:>8.0} {:>12.0} {:>7.3}",
            rate.per_second,
            rate.per_core,
            rate.per_core / signatures
        )
    };
    let renewals = countersign::renewals(&ca).await?;
    let renewed = rates::throughput(&renewals, &ca.process, length).await?;
    show(&mut out, "countersign-ca, renewal by SVID", &renewed)?;
    let attestations = countersign::attestations(&ca).await?;
    let attested = rates::throughput(&attestations, &ca.process, length).await?;
    show(&mut out, "countersign-ca, attestation by JWT", &attested)?;
    if let Some(program) = &arguments.step_ca {
        let step = step_ca::Ca::start(program, directory.path())?;
        let renewals = step_ca::renewals(&step).await?;
        let rekeyed = rates::throughput(&renewals, &step.process, length).await?;
        show(
            &mut out,
            "step-ca, renewal by certificate (/1.0/rekey)",
            &rekeyed,
        )?;
        writeln!(
            out,
            "  per second of core, countersign-ca renews {:.2} times as many as step-ca",
            renewed.per_core / rekeyed.per_core
        )?;
    } else {
        writeln!(out, "  step-ca: not measured; `make bench-ca` builds it")?;
    }
    let half = attested.per_second / 2.0;
    let latencies = rates::latencies(&attestations, half, length).await?;
    writeln!(
        out,
        "\nattestation to certificate at half load, {half:.0}/s: {}; goal p99 at most 10 ms: {}",
        latencies.line(),
        figures::verdict(latencies.at(0.99) <= 10.0)
    )?;
    drop(ca);
    stampede::measure(arguments.sidecars, &mut out).await
}
