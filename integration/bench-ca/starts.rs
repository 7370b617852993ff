//! How long starts take: of the CA until it answers, of a sidecar until it has its first certificate.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::BenchError;
use crate::countersign::{Ca, TRUST_DOMAIN, program};
use crate::figures::{Times, verdict};
use crate::process::{Process, free_address, write};

/// What a sidecar logs when it has its certificate.
const OBTAINED: &str = "svid obtained";
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(rounds: u32, out: &mut impl Write) -> Result<(), BenchError> {
    let (mut first, mut later, mut sidecars) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let directory = tempfile::tempdir()?;
        first.push(Ca::start(directory.path()).await?.started_in);
        let ca = Ca::start(directory.path()).await?;
        later.push(ca.started_in);
        sidecars.push(sidecar(&ca, directory.path()).await?);
    }
    for (what, times, goal) in [
        ("first start of the CA until it answers", first, 200.0),
        ("later start of the CA until it answers", later, 200.0),
        (
            "start of a sidecar until its first certificate",
            sidecars,
            50.0,
        ),
    ] {
        let times = Times::new(times);
        writeln!(
            out,
            "{what}, {rounds} times: {}; goal {goal} ms: {}",
            times.line(),
            verdict(times.at(0.5) <= goal)
        )?;
    }
    Ok(())
}

async fn sidecar(ca: &Ca, directory: &Path) -> Result<Duration, BenchError> {
    let config = json!({
        "workload": "client",
        "trustDomain": TRUST_DOMAIN,
        "identity": {
            "ca": ca.address.to_string(),
            "bundle": directory.join("ca/bundle.pem"),
            "jwtFile": ca.token,
        },
        // Nobody: the certificate comes first.
        "control": free_address()?,
        "inbound": free_address()?,
        "outbound": [],
        "ops": "127.0.0.1:0",
    });
    let file = directory.join("sidecar.yaml");
    write(&file, config.to_string())?;
    let mut command = Command::new(program("countersign-proxy")?);
    command.arg("--config").arg(&file);
    let start = Instant::now();
    let sidecar = Process::start("sidecar", &mut command, directory)?;
    let log = directory.join("sidecar.log");
    loop {
        let said = fs::read_to_string(&log)?;
        if said.contains(OBTAINED) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > PATIENCE {
            let name = sidecar.name();
            return Err(BenchError::failed(format!(
                "{name} got none; it says:\n{said}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
