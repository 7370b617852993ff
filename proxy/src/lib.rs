//! Countersign's sidecar: it gives a workload its identity, carries its calls over mutual TLS, and judges every call that
//! comes in.
//!
//! A library only so that tests and benchmarks reach its parts; `main.rs` is the program.

pub mod app;
mod application;
pub mod backoff;
mod balance;
pub mod config;
pub mod control;
mod counted;
pub mod detect;
pub mod directory;
pub mod drain;
mod exchange;
pub mod http1;
mod http2;
pub mod identity;
mod inbound;
mod judge;
mod listen;
mod outbound;
pub mod parts;
mod problem;
mod relay;
pub mod state;
pub mod telemetry;
#[cfg(test)]
mod testing;
mod wire;
pub mod workload_api;
