//! What of the CA others may use and test: the reader of certification requests, which strangers send before they have
//! proved anything. All else is the program's own.

pub mod csr;
#[cfg(any(test, fuzzing))]
pub mod laws;
mod roca;
