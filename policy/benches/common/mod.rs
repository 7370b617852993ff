//! What the benchmarks share: the rules of a large mesh, calls that they are about, and how a decision is timed.

// Every benchmark uses its own part.
#![allow(dead_code, reason = "each benchmark uses its own part")]

pub(crate) mod calls;
pub(crate) mod measure;
pub(crate) mod ours;
pub(crate) mod rules;

/// Numbers of rules in force for one workload that are measured with.
pub(crate) const SIZES: [usize; 4] = [10, 1_000, 10_000, 100_000];
