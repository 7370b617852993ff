//! `make bench`: wrk → proxy → mutual TLS → proxy → nginx, for Countersign and for what it is compared with.
//!
//! All setups run side by side from the start, and take turns under load, round by round, so that what disturbs the
//! machine disturbs all of them. Absolute figures move with the machine: quote ratios of one run.

mod certificates;
mod load;
mod process;
mod report;
mod setups;
mod tools;

use std::{
    env, fs,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;

use crate::{
    certificates::Pki,
    load::LoadError,
    process::{Memory, ProcessError},
    report::{Footprint, Report, Row, Sample},
    setups::{Setup, SetupError},
    tools::{ToolError, Tools},
};

#[derive(Parser)]
#[command(
    name = "countersign-bench",
    about = "Measure Countersign beside nginx and Envoy"
)]
struct Arguments {
    /// How often each setup has its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a turn is, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Numbers of connections to measure with.
    #[arg(long, value_delimiter = ',', default_value = "64,1")]
    connections: Vec<u32>,
}

#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("{setup}: {source}")]
    Load {
        setup: &'static str,
        source: LoadError,
    },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("the report could not be written: {0}")]
    Report(#[from] io::Error),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell it to if standard error is gone.
            let _ = writeln!(io::stderr(), "countersign-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BenchError> {
    let mut out = io::stdout().lock();
    let tools = Tools::find()?;
    let directory = tempfile::tempdir()?;
    let place = directory.path();
    let pki = Pki::make(place).map_err(SetupError::from)?;
    let (_server, server) = setups::nginx::server(&tools.nginx, place)?;

    let mut setups = vec![
        setups::nginx::direct(server, place)?,
        setups::nginx::hops(&tools.nginx, server, &pki, place)?,
    ];
    match &tools.envoy {
        Ok(envoy) => setups.push(setups::envoy::hops(envoy, server, &pki, place)?),
        Err(missing) => writeln!(out, "no ratios to Envoy: {missing}")?,
    }
    setups.push(setups::countersign::hops(server, place)?);
    let idle = memory(&setups)?;

    let mut rows = Vec::new();
    for &connections in &arguments.connections {
        rows.extend(measure(arguments, connections, &setups, &tools, &mut out)?);
    }
    let memory = idle
        .into_iter()
        .zip(memory(&setups)?)
        .map(|((process, idle), (_, after_load))| Footprint {
            process,
            idle,
            after_load,
        })
        .collect();
    let mut report = Report {
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        rows,
        memory,
    };
    report.compare();
    report.print(&mut out)?;
    let path = write_json(&report)?;
    writeln!(out, "\nalso in {}", path.display())?;
    Ok(())
}

/// Every setup in turn, round by round.
fn measure(
    arguments: &Arguments,
    connections: u32,
    setups: &[Setup],
    tools: &Tools,
    out: &mut impl Write,
) -> Result<Vec<Row>, BenchError> {
    let mut samples: Vec<Vec<Sample>> = setups.iter().map(|_| Vec::new()).collect();
    for setup in setups {
        // Connections, caches and branch predictors are warm when it counts.
        turn(setup, tools, connections, 1)?;
    }
    for round in 1..=arguments.rounds {
        for (setup, samples) in setups.iter().zip(&mut samples) {
            let sample = turn(setup, tools, connections, arguments.seconds)?;
            writeln!(
                out,
                "{connections:>3} connections, round {round}/{}: {:<15} {:>7.0} requests/s",
                arguments.rounds, setup.name, sample.load.per_second
            )?;
            samples.push(sample);
        }
    }
    Ok(setups
        .iter()
        .zip(&samples)
        .map(|(setup, samples)| Row::new(setup, connections, samples))
        .collect())
}

fn turn(
    setup: &Setup,
    tools: &Tools,
    connections: u32,
    seconds: u32,
) -> Result<Sample, BenchError> {
    let cpu = || {
        setup
            .hops
            .iter()
            .map(process::Process::cpu)
            .collect::<Result<Vec<_>, _>>()
    };
    let before = cpu()?;
    let load = load::run(&tools.wrk, setup.target, connections, seconds).map_err(|source| {
        BenchError::Load {
            setup: setup.name,
            source,
        }
    })?;
    let spent = cpu()?
        .iter()
        .zip(&before)
        .map(|(after, before)| after.saturating_sub(*before))
        .collect();
    Ok(Sample { load, cpu: spent })
}

fn memory(setups: &[Setup]) -> Result<Vec<(String, Memory)>, ProcessError> {
    let processes = setups.iter().flat_map(|setup| &setup.hops);
    processes
        .map(|process| Ok((process.name().to_owned(), process.memory()?)))
        .collect()
}

/// Beside this program, in `target/bench/`.
fn write_json(report: &Report) -> Result<PathBuf, io::Error> {
    let executable = env::current_exe()?;
    let target = executable.parent().and_then(|profile| profile.parent());
    let directory = target
        .map_or_else(env::temp_dir, PathBuf::from)
        .join("bench");
    fs::create_dir_all(&directory)?;
    let path = directory.join("report.json");
    fs::write(&path, serde_json::to_vec_pretty(report)?)?;
    Ok(path)
}
