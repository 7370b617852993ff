//! How many files may be open: every connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// When all sidecars of a large mesh come at once, they wait for their turn here; a connection that waits costs little.
const MOST_WAITING: u64 = 16_384;

/// Raises the limit as far as this process may, and says how many connections may wait: the other half is for those that are
/// served, and for all else.
pub(crate) fn for_waiting_connections() -> usize {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        // What a shell or systemd gives by default is small for the sake of programs that use select(2).
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(Ok(soft), |()| Ok(hard))
    });
    let allowed = allowed.unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files is not known; few connections may wait");
        0
    });
    waiting(allowed)
}

fn waiting(allowed: u64) -> usize {
    usize::try_from((allowed / 2).min(MOST_WAITING)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_files_are_left() {
        assert_eq!(waiting(1024), 512);
        assert_eq!(waiting(524_288), 16_384);
        assert_eq!(waiting(0), 0);
        assert!(for_waiting_connections() > 0);
    }
}
