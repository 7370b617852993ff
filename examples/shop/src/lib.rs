//! What the shop's programs share: the contract of `payments`.

/// The messages, client and server generated from `proto/payments.proto`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "generated code; the .proto file holds the documentation"
)]
pub mod payments_api {
    tonic::include_proto!("shop.payments.v1");
}
