//! Keeps the keys in memory from leaving it.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// The system did not let us protect our memory.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    /// Core dumps could not be turned off.
    #[error("core dumps, which would hold private keys, cannot be turned off: {0}")]
    CoreDumps(#[source] nix::Error),
    /// The process could not be closed to debuggers.
    #[error("the process, which holds private keys, cannot be closed to other processes: {0}")]
    Dumpable(#[source] nix::Error),
}

/// Writes no core dump, and lets no process of the same user read our memory (`prctl(2)`, PR_SET_DUMPABLE).
///
/// # Errors
/// The system refuses; then there had better be no keys.
pub fn protect_memory() -> Result<(), HardeningError> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(HardeningError::CoreDumps)?;
    prctl::set_dumpable(false).map_err(HardeningError::Dumpable)
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::getrlimit;

    use super::*;

    #[test]
    fn no_core_dump_is_written_and_no_debugger_let_in() {
        protect_memory().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
        assert!(!prctl::get_dumpable().unwrap());
    }
}
