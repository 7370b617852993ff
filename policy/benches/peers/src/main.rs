//! `make bench-policy`: this project's engine beside Cedar, Rego (regorus) and Envoy's RBAC filter, with the same rules and
//! the same calls, in one run.
//!
//! Every engine is given the rules in its own language, in the way that its documentation recommends, and has to answer
//! every call as ours does. And `countersign policy decide`, by itself. Quote ratios: absolute figures move with the machine.

#[path = "../../common/mod.rs"]
mod common;

mod cedar;
mod envoy;
mod rego;
mod scratch;
mod stream;

use std::process::ExitCode;

use common::{
    SIZES,
    calls::{CONDITION, Call, calls},
    measure, ours,
};

/// An engine with the rules of one size.
trait Peer {
    /// Nanoseconds of one decision, which has to come out as expected.
    fn cost(&self, call: &Call) -> f64;
}

/// The costs of one engine, a column for each kind of call.
struct Row {
    engine: &'static str,
    costs: Vec<f64>,
}

/// Numbers of rules may be given as arguments; all of [`SIZES`] are measured otherwise.
fn main() -> ExitCode {
    let given: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|size| size.parse().ok())
        .collect();
    let sizes = if given.is_empty() {
        SIZES.to_vec()
    } else {
        given
    };
    let mut all: Vec<(usize, Vec<Row>)> = Vec::new();
    println!("ns of CPU per decision, medians\n");
    print!("{:>8} {:<22}", "rules", "");
    for call in calls(10) {
        print!(" {:>12}", call.kind);
    }
    println!();
    for &size in &sizes {
        measure::forget_peak();
        let compiled = ours::compile(size);
        let calls = calls(size);
        let own = |call: &Call| ours::cost(&compiled.policy, call);
        let mut rows = vec![row(size, "countersign", &calls, own)];
        let cedar = cedar::Cedar::new(size);
        rows.push(row(size, "cedar-policy", &calls, |call| cedar.cost(call)));
        drop(cedar);
        let rego = rego::Rego::new(size);
        rows.push(row(size, "regorus", &calls, |call| rego.cost(call)));
        println!(
            "{size:>8} countersign: read {} ms, compiled {} ms",
            compiled.read.as_millis(),
            compiled.compile.as_millis()
        );
        all.push((size, rows));
    }
    println!();
    envoy::measure(&sizes);
    println!();
    let code = goals(&all);
    stream_goal();
    code
}

fn stream_goal() {
    match stream::measure() {
        Ok(Some(measured)) => {
            for (calls, rate) in measured {
                let what =
                    format!("decisions of `policy decide` a second of CPU, of {calls} calls");
                tell(&what, rate, "", 200_000.0, false);
            }
        }
        Ok(None) => println!("no figures of `policy decide`: countersign is not built"),
        Err(error) => println!("no figures of `policy decide`: {error}"),
    }
}

fn row(size: usize, engine: &'static str, calls: &[Call], cost: impl Fn(&Call) -> f64) -> Row {
    print!("{size:>8} {engine:<22}");
    let costs = calls.iter().map(|call| {
        let cost = cost(call);
        print!(" {cost:>12.0}");
        cost
    });
    let costs = costs.collect();
    println!();
    Row { engine, costs }
}

/// What the figures of this run say of the goals.
fn goals(all: &[(usize, Vec<Row>)]) -> ExitCode {
    let kinds: Vec<&str> = calls(10).iter().map(|call| call.kind).collect();
    let structured = |costs: &[f64]| -> Vec<f64> {
        let pairs = costs.iter().zip(&kinds);
        pairs
            .filter(|(_, kind)| **kind != CONDITION)
            .map(|(cost, _)| *cost)
            .collect()
    };
    let own = |rows: &[Row]| structured(&rows[0].costs);
    let (Some((_, first)), Some((_, last))) = (all.first(), all.last()) else {
        return ExitCode::from(2);
    };
    tell(
        "median of the kinds of decision without CEL with most rules",
        measure::median(&mut own(last)),
        "ns",
        1000.0,
        true,
    );
    let dearest = own(last).into_iter().fold(0.0, f64::max);
    tell(
        "dearest decision without CEL with most rules",
        dearest,
        "ns",
        1000.0,
        true,
    );
    let growth = own(last)
        .iter()
        .zip(own(first))
        .map(|(last, first)| last / first)
        .fold(0.0, f64::max);
    tell(
        "most growth from the fewest to the most rules",
        growth,
        "×",
        1.5,
        true,
    );
    if let Some((_, rows)) = all.iter().find(|(size, _)| *size == 10_000) {
        for peer in &rows[1..] {
            let ratios = structured(&peer.costs);
            let least = ratios
                .iter()
                .zip(own(rows))
                .map(|(peer, own)| peer / own)
                .fold(f64::INFINITY, f64::min);
            let what = format!("least ratio to {} at 10,000 rules", peer.engine);
            tell(&what, least, "×", 20.0, false);
        }
    }
    ExitCode::SUCCESS
}

fn tell(what: &str, value: f64, unit: &str, goal: f64, at_most: bool) {
    let met = if at_most {
        value <= goal
    } else {
        value >= goal
    };
    let bound = if at_most { "at most" } else { "at least" };
    let verdict = if met { "met" } else { "not met" };
    println!("goal: {what}, {bound} {goal}{unit}: {value:.2}{unit}, {verdict}");
}
