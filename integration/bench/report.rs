//! The table, and the same as JSON.

use std::{
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use serde::Serialize;

use crate::{load::Load, process::Memory, setups::Setup};

/// One run of one setup.
pub(crate) struct Sample {
    pub(crate) load: Load,
    /// Processor time of each hop during the run.
    pub(crate) cpu: Vec<Duration>,
}

/// All runs of one setup with one number of connections.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) setup: &'static str,
    pub(crate) connections: u32,
    /// Medians over the rounds.
    pub(crate) requests_per_second: f64,
    pub(crate) median_latency_us: f64,
    /// Processor time per request of each hop, in order, and the mean of the hops.
    pub(crate) hop_cpu_us: Vec<f64>,
    pub(crate) cpu_us: Option<f64>,
    /// The mean of the hops in the cheapest and in the dearest round.
    pub(crate) cpu_us_range: Option<[f64; 2]>,
    /// `cpu_us` of this row by that of Envoy in the same run.
    pub(crate) cpu_by_envoy: Option<f64>,
}

/// The memory of one proxy.
#[derive(Serialize)]
pub(crate) struct Footprint {
    pub(crate) process: String,
    /// Ready, and nothing asked of it yet.
    pub(crate) idle: Memory,
    /// After the last round.
    pub(crate) after_load: Memory,
}

/// Everything that is reported.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) rows: Vec<Row>,
    pub(crate) memory: Vec<Footprint>,
}

/// The name of the setup that the others are compared with.
const PEER: &str = "Envoy ×2";
/// And of the one that has goals.
const OURS: &str = "Countersign ×2";

impl Row {
    pub(crate) fn new(setup: &Setup, connections: u32, samples: &[Sample]) -> Self {
        let per_request =
            |sample: &Sample, cpu: Duration| cpu.as_secs_f64() * 1e6 / as_f64(sample.load.requests);
        let hop_cpu_us: Vec<f64> = (0..setup.hops.len())
            .map(|hop| {
                let values = samples
                    .iter()
                    .filter_map(|sample| sample.cpu.get(hop).map(|cpu| per_request(sample, *cpu)));
                median(values.collect())
            })
            .collect();
        let hops = as_f64(setup.hops.len() as u64);
        let mut means: Vec<f64> = samples
            .iter()
            .map(|sample| per_request(sample, sample.cpu.iter().sum()) / hops)
            .collect();
        means.sort_by(f64::total_cmp);
        let proxied = !setup.hops.is_empty();
        let range = means
            .first()
            .zip(means.last())
            .map(|(low, high)| [*low, *high]);
        Self {
            setup: setup.name,
            connections,
            requests_per_second: median(samples.iter().map(|s| s.load.per_second).collect()),
            median_latency_us: median(
                samples
                    .iter()
                    .map(|s| s.load.median_latency.as_secs_f64() * 1e6)
                    .collect(),
            ),
            hop_cpu_us,
            cpu_us: proxied.then(|| median(means)),
            cpu_us_range: range.filter(|_| proxied),
            cpu_by_envoy: None,
        }
    }
}

impl Report {
    /// Fills in the ratios.
    pub(crate) fn compare(&mut self) {
        let peers: Vec<(u32, f64)> = self
            .rows
            .iter()
            .filter(|row| row.setup == PEER)
            .filter_map(|row| Some((row.connections, row.cpu_us?)))
            .collect();
        for row in &mut self.rows {
            let peer = peers
                .iter()
                .find(|(connections, _)| *connections == row.connections);
            row.cpu_by_envoy = row.cpu_us.zip(peer).map(|(own, (_, envoy))| own / envoy);
        }
    }

    /// For people.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "\nMedians of {} interleaved rounds of {} s. CPU: µs per request and proxy, mean of the two (least–most).\n",
            self.rounds, self.seconds
        )?;
        writeln!(
            out,
            "{:<15} {:>6} {:>12} {:>10} {:>22} {:>15} {:>9}",
            "", "conns", "requests/s", "p50 µs", "CPU µs", "hop 1 + hop 2", "by Envoy"
        )?;
        for row in &self.rows {
            let cpu = row.cpu_us.zip(row.cpu_us_range).map_or_else(
                || "–".to_owned(),
                |(cpu, [low, high])| format!("{cpu:.1} ({low:.1}–{high:.1})"),
            );
            let mut hops = String::new();
            for cpu in &row.hop_cpu_us {
                let plus = if hops.is_empty() { "" } else { " + " };
                // Writing to a string cannot fail.
                let _ = write!(hops, "{plus}{cpu:.1}");
            }
            let ratio = row
                .cpu_by_envoy
                .map_or_else(|| "–".to_owned(), |r| format!("{r:.2}×"));
            writeln!(
                out,
                "{:<15} {:>6} {:>12.0} {:>10.0} {cpu:>22} {hops:>15} {ratio:>9}",
                row.setup, row.connections, row.requests_per_second, row.median_latency_us
            )?;
        }
        writeln!(
            out,
            "\n{:<18} {:>24} {:>24}",
            "memory, MiB", "idle (private)", "after load (private)"
        )?;
        for footprint in &self.memory {
            writeln!(
                out,
                "{:<18} {:>24} {:>24}",
                footprint.process,
                mebibytes(footprint.idle),
                mebibytes(footprint.after_load)
            )?;
        }
        self.print_goals(out)
    }

    fn print_goals(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out)?;
        for (connections, goal) in [(64, 0.25), (1, 0.45)] {
            let row = self
                .rows
                .iter()
                .find(|row| row.setup == OURS && row.connections == connections);
            if let Some(ratio) = row.and_then(|row| row.cpu_by_envoy) {
                writeln!(
                    out,
                    "goal: CPU at {connections:>2} connections at most {goal:.2}× Envoy's: {ratio:.2}×, {}",
                    verdict(ratio <= goal)
                )?;
            }
        }
        let sidecars = self
            .memory
            .iter()
            .filter(|f| f.process.starts_with("countersign"));
        if let Some(largest) = sidecars.map(|f| f.idle.resident_kib).max() {
            let mebibytes = as_f64(largest) / 1024.0;
            writeln!(
                out,
                "goal: an idle sidecar at most 12 MiB resident: {mebibytes:.1} MiB, {}",
                verdict(mebibytes <= 12.0)
            )?;
        }
        Ok(())
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "not met" }
}

fn mebibytes(memory: Memory) -> String {
    let mib = |kib| as_f64(kib) / 1024.0;
    format!(
        "{:.1} ({:.1})",
        mib(memory.resident_kib),
        mib(memory.private_kib)
    )
}

/// The middle value, or the mean of the two in the middle; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or(0.0);
    if values.len().is_multiple_of(2) {
        let lower = middle
            .checked_sub(1)
            .and_then(|index| values.get(index))
            .copied();
        (lower.unwrap_or(0.0) + upper) / 2.0
    } else {
        upper
    }
}

/// Counts here are far below 2⁵³, where a float stops being exact.
#[expect(
    clippy::as_conversions,
    reason = "there is no other way from u64 to f64"
)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }
}
