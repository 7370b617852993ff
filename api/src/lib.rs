//! What Countersign's programs say to one another: the gRPC contracts, and how they are carried.

pub mod bundle;
pub mod hardening;
pub mod logging;
pub mod ops;
pub mod svid;
#[cfg(test)]
mod test_ca;
pub mod tokens;
pub mod transport;
pub mod x509_proof;

/// The messages, clients and servers generated from `proto/countersign/v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated code; the .proto files hold the documentation"
)]
pub mod proto {
    tonic::include_proto!("countersign.v1");
}

/// The SPIFFE Workload API, generated from `proto/spiffe/workload.proto`. Its service has no package.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated code; the .proto file holds the documentation"
)]
pub mod workload {
    tonic::include_proto!("_");

    /// The metadata key that every call carries, with the value `true`, so that no request that a browser or a confused
    /// proxy was made to send is answered (SPIFFE Workload Endpoint, section 4.3).
    pub const SECURITY_HEADER: &str = "workload.spiffe.io";
}
