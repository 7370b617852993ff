//! What a decision costs as the number of rules in force for one workload grows, and what it takes to compile them.
//!
//! `cargo bench -p countersign-policy` prints medians, in nanoseconds of CPU per decision. `make bench-policy` measures the
//! same beside other engines.

#![expect(clippy::unwrap_used, reason = "a benchmark ends where it cannot go on")]

mod common;

use std::io::Write as _;

use common::{calls::calls, measure, ours, rules::files};

fn main() {
    let out = std::io::stdout();
    let mut out = out.lock();
    write!(out, "{:>8}", "rules").unwrap();
    for call in calls(10) {
        write!(out, " {:>9}", call.kind).unwrap();
    }
    writeln!(
        out,
        " {:>9} {:>11} {:>9} {:>9}",
        "read ms", "compile ms", "peak MB", "held MB"
    )
    .unwrap();
    for rules in common::SIZES {
        // Once for all: what the process keeps from now on is the policy's.
        assert!(files(rules.min(1_000)).count() > 0);
        let before = measure::resident();
        measure::forget_peak();
        let compiled = ours::compile(rules);
        let peak = measure::peak_resident().saturating_sub(before);
        let held = measure::resident().saturating_sub(before);
        write!(out, "{rules:>8}").unwrap();
        for call in calls(rules) {
            write!(out, " {:>9.0}", ours::cost(&compiled.policy, &call)).unwrap();
        }
        writeln!(
            out,
            " {:>9} {:>11} {:>9.1} {:>9.1}",
            compiled.read.as_millis(),
            compiled.compile.as_millis(),
            peak as f64 / 1e6,
            held as f64 / 1e6
        )
        .unwrap();
    }
    writeln!(
        out,
        "ns of CPU per decision; memory as the system counts it, with the texts, read one at a time"
    )
    .unwrap();
}
