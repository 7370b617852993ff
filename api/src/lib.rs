//! What Countersign's programs say to one another: the gRPC contracts, and how they are carried.

/// The messages, clients and servers generated from `proto/countersign/v1`.
#[expect(missing_docs, clippy::all, reason = "generated code; the .proto files hold the documentation")]
pub mod proto {
    tonic::include_proto!("countersign.v1");
}
