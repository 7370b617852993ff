//! Who is calling: SPIFFE IDs, X.509-SVIDs, trust bundles, mutual TLS and JWT verification.
//!
//! - [`spiffe`]: the names. [`svid`]: a certificate that proves one. [`key`]: the key behind it.
//! - [`bundle`]: the roots that are believed. [`store`]: the live identity of a process.
//! - [`tls`]: rustls configurations that demand a SPIFFE ID where others demand a host name.
//! - [`jwt`]: tokens, verified. `keys` (feature "fetch"): an issuer's keys, found and kept fresh.

pub mod bundle;
pub mod jwt;
pub mod key;
#[cfg(feature = "fetch")]
pub mod keys;
#[cfg(any(test, fuzzing))]
pub mod laws;
pub mod spiffe;
pub mod store;
pub mod svid;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
mod x509;

pub use bundle::{Bundle, BundleError};
pub use key::{KeyError, SvidKey};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain, WorkloadName};
pub use store::{IdentityStore, StoreError};
pub use svid::{SvidError, X509Svid};
