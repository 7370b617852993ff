//! Countersign's sidecar: it gives a workload its identity, carries its calls over mutual TLS, and judges every call that
//! comes in.
//!
//! A library only so that tests and benchmarks reach its parts; `main.rs` is the program.

pub mod detect;
pub mod drain;
pub mod http1;
pub mod telemetry;
