//! Countersign's sidecar: it gives a workload its identity, carries its calls over mutual TLS, and judges every call that
//! comes in.
//!
//! A library only so that tests and benchmarks reach its parts; `main.rs` is the program.

pub mod app;
pub mod backoff;
pub mod config;
pub mod control;
pub mod detect;
pub mod directory;
pub mod drain;
pub mod hardening;
pub mod http1;
pub mod identity;
pub mod parts;
pub mod state;
pub mod telemetry;
