//! What end-to-end tests need to run Countersign's real programs: where the binaries are, processes that do not outlive
//! the test, and loopback addresses that no other test or mesh uses.
//!
//! Helpers return errors, and tests unwrap them.

pub mod clients;
pub mod http;
pub mod issuer;
pub mod kubernetes;
pub mod loopback;
pub mod mesh;
pub mod oidc_provider;
pub mod process;
pub mod programs;
pub mod shop;
pub mod tools;
