//! `orders`: charges an order with `payments` (gRPC), then keeps it in `store` (TCP).

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use countersign_example_shop::payments_api::{ChargeRequest, payments_client::PaymentsClient};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};

use crate::{
    http::{answer, json, no_such_thing, problem, read_body},
    store::Store,
};

/// What a customer asks for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOrder {
    item: String,
    cents: u64,
}

/// What is kept of it.
#[derive(Serialize)]
struct Order<'a> {
    id: &'a str,
    item: &'a str,
    cents: u64,
    receipt: &'a str,
}

struct Orders {
    payments: PaymentsClient<Channel>,
    store: Store,
    next: AtomicU64,
}

/// Why an order could not be taken or read; each is the failure of another service.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("payments did not take the money: {}: {}", .0.code(), .0.message())]
    Payments(#[from] Box<tonic::Status>),
    #[error("the store did not answer: {0}")]
    Store(#[from] io::Error),
}

pub(crate) async fn serve(
    listener: TcpListener,
    payments: SocketAddr,
    store: SocketAddr,
) -> io::Result<()> {
    let channel = Endpoint::from_shared(format!("http://{payments}"))
        .map_err(io::Error::other)?
        .origin(Uri::from_static("http://payments.shop:9090"))
        .connect_lazy();
    let orders = Arc::new(Orders {
        payments: PaymentsClient::new(channel),
        store: Store::at(store),
        next: AtomicU64::new(1),
    });
    crate::http::serve(listener, orders, handle).await
}

async fn handle(orders: Arc<Orders>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let result = match (&head.method, path.strip_prefix("/orders/")) {
        (&Method::POST, None) if path == "/orders" => orders.take(body).await,
        (&Method::GET, Some(id)) if is_order_id(id) => orders.show(id).await,
        (&Method::DELETE, Some(id)) if is_order_id(id) => orders.cancel(id).await,
        (method, _) => Ok(no_such_thing(method, path)),
    };
    result.unwrap_or_else(|error| problem(StatusCode::BAD_GATEWAY, &error.to_string()))
}

/// Order IDs are decimal numbers: nothing else may get into a line of the store's protocol.
fn is_order_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 20 && id.bytes().all(|byte| byte.is_ascii_digit())
}

impl Orders {
    async fn take(&self, body: Incoming) -> Result<Response<Full<Bytes>>, OrderError> {
        let body = match read_body(body).await {
            Ok(body) => body,
            Err(answer) => return Ok(answer),
        };
        let new: NewOrder = match serde_json::from_slice(&body) {
            Ok(new) => new,
            Err(error) => {
                let detail = format!("expected {{\"item\": text, \"cents\": number}}: {error}");
                return Ok(problem(StatusCode::BAD_REQUEST, &detail));
            }
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let charge = ChargeRequest {
            order_id: id.clone(),
            cents: new.cents,
        };
        let mut payments = self.payments.clone();
        let receipt = payments
            .charge(charge)
            .await
            .map_err(Box::new)?
            .into_inner()
            .receipt;
        let order = Order {
            id: &id,
            item: &new.item,
            cents: new.cents,
            receipt: &receipt,
        };
        // `serde_json` escapes line breaks, so an order is one line.
        let line = serde_json::to_string(&order).map_err(io::Error::other)?;
        self.store.put(&id, &line).await?;
        Ok(json(StatusCode::CREATED, &order))
    }

    async fn show(&self, id: &str) -> Result<Response<Full<Bytes>>, OrderError> {
        Ok(match self.store.get(id).await? {
            Some(line) => answer(StatusCode::OK, "application/json", line),
            None => problem(StatusCode::NOT_FOUND, &format!("there is no order {id}")),
        })
    }

    async fn cancel(&self, id: &str) -> Result<Response<Full<Bytes>>, OrderError> {
        self.store.delete(id).await?;
        Ok(answer(
            StatusCode::OK,
            "application/json",
            format!("{{\"cancelled\":\"{id}\"}}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::is_order_id;

    #[test]
    fn an_order_id_is_a_number_and_nothing_else() {
        assert!(is_order_id("1"));
        for id in ["", "1 2", "1\nDEL 2", "a", "../1", "123456789012345678901"] {
            assert!(!is_order_id(id), "{id:?}");
        }
    }
}
