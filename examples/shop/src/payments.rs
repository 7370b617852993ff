//! `payments`: takes the money, over gRPC.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use countersign_example_shop::payments_api::{
    ChargeReply, ChargeRequest, RefundReply, RefundRequest,
    payments_server::{Payments, PaymentsServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

pub(crate) async fn serve(listener: TcpListener) -> io::Result<()> {
    Server::builder()
        .add_service(PaymentsServer::new(Till {
            receipts: AtomicU64::new(0),
        }))
        .serve_with_incoming(TcpIncoming::from(listener))
        .await
        .map_err(io::Error::other)
}

struct Till {
    receipts: AtomicU64,
}

#[tonic::async_trait]
impl Payments for Till {
    async fn charge(
        &self,
        request: Request<ChargeRequest>,
    ) -> Result<Response<ChargeReply>, Status> {
        let ChargeRequest { order_id, cents } = request.into_inner();
        if cents == 0 {
            return Err(Status::invalid_argument(format!(
                "order {order_id} costs nothing"
            )));
        }
        let number = self.receipts.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(ChargeReply {
            receipt: format!("R-{number:04}"),
        }))
    }

    async fn refund(
        &self,
        _request: Request<RefundRequest>,
    ) -> Result<Response<RefundReply>, Status> {
        Ok(Response::new(RefundReply {}))
    }
}
