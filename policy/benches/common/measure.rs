//! How long a decision takes: of processor time, so that other work on the machine does not count.

use std::hint::black_box;
use std::time::Duration;

const ROUNDS: usize = 31;
/// How long a round is meant to be. The kernel's account is exact to some microseconds.
const ROUND: Duration = Duration::from_millis(2);
/// And all of them: what is slow is asked less often.
const ALL_ROUNDS: Duration = Duration::from_secs(2);

/// Median nanoseconds of one run.
pub(crate) fn median_cost(mut run: impl FnMut()) -> f64 {
    // So many runs that the account is exact; they warm up what there is to be warm, too.
    let mut runs = 1;
    let mut all = cost(runs, &mut run);
    while all < ROUND.as_nanos() as f64 {
        runs *= 2;
        all = cost(runs, &mut run);
    }
    let rounds = (ALL_ROUNDS.as_nanos() as f64 / all).clamp(3.0, ROUNDS as f64);
    let mut costs: Vec<f64> = (0..rounds as usize)
        .map(|_| cost(runs, &mut run) / f64::from(runs))
        .collect();
    median(&mut costs)
}

/// Nanoseconds of some runs.
fn cost(runs: u32, run: &mut impl FnMut()) -> f64 {
    let start = cpu_time();
    for _ in 0..runs {
        black_box(&mut *run)();
    }
    (cpu_time() - start).as_nanos() as f64
}

/// The value in the middle.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What this thread has used of a processor.
pub(crate) fn cpu_time() -> Duration {
    // The kernel brings the account up to date when it schedules.
    std::thread::yield_now();
    // proc(5): the first number is the time spent on the CPU, in nanoseconds.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let used = text.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(used)
}

/// The memory that this process has of the system, in bytes.
pub(crate) fn resident() -> u64 {
    status("VmRSS:")
}

/// The most that it has had since [`forget_peak`].
pub(crate) fn peak_resident() -> u64 {
    status("VmHWM:")
}

/// proc(5), `clear_refs`: 5 sets the peak to what there is now.
pub(crate) fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}
