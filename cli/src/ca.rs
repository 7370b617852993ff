//! `countersign ca`: the program `countersign-ca` beside this one, under the name that people type.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use crate::args::CaArguments;
use crate::up::programs::{ProgramError, Programs};

/// Becomes `countersign-ca`, with its exit status and all. Returns only if that fails.
pub(crate) fn run(arguments: &CaArguments) -> ProgramError {
    let programs = match Programs::beside_this() {
        Ok(programs) => programs,
        Err(error) => return error,
    };
    let source = Command::new(&programs.ca).args(&arguments.arguments).exec();
    ProgramError::Run {
        program: programs.ca,
        source,
    }
}
