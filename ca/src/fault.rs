//! Places at which a test has the process die, as if its machine had lost power there. Only with the cargo feature
//! `fault-points`, which no release build may have; without it, nothing is left of them.

#[cfg(all(feature = "fault-points", not(debug_assertions)))]
compile_error!(
    "`fault-points` is for tests: a release must not have a way to be killed by its environment"
);

/// Ends the process here, if `COUNTERSIGN_FAULT` says so: `NAME:abort`, or `NAME:abort:2` for the second time.
#[cfg(feature = "fault-points")]
pub(crate) fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static FAULT: LazyLock<Option<(String, u32)>> = LazyLock::new(|| {
        let text = std::env::var("COUNTERSIGN_FAULT").ok()?;
        let (name, rest) = text.split_once(":abort")?;
        let time = rest.strip_prefix(':').map_or(Some(1), |n| n.parse().ok())?;
        Some((name.to_owned(), time))
    });
    static PASSED: AtomicU32 = AtomicU32::new(0);

    if let Some((fault, time)) = FAULT.as_ref()
        && fault == name
        && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *time
    {
        tracing::error!(name, "fault point: the process ends here");
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub(crate) fn point(_name: &str) {}
