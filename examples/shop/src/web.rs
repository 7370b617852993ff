//! `web`: what a customer's browser talks to.
//!
//! It has no opinion of its own about who may do what: it passes the customer's token on, and shows the answer.

use std::{io, net::SocketAddr};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::http::{answer, no_such_thing, problem, read_body};

/// The name that `orders` is called by, whatever address leads there.
const ORDERS: HeaderValue = HeaderValue::from_static("orders.shop:8080");

const PAGE: &str = "The shop.\n\
    POST   /orders        {\"item\": \"kettle\", \"cents\": 2900}\n\
    GET    /orders/ID\n\
    DELETE /orders/ID\n\
    Send your token as `authorization: Bearer …`.\n";

pub(crate) async fn serve(listener: TcpListener, orders: SocketAddr) -> io::Result<()> {
    crate::http::serve(listener, orders, handle).await
}

async fn handle(orders: SocketAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/" if request.method() == Method::GET => {
            answer(StatusCode::OK, "text/plain; charset=utf-8", PAGE)
        }
        path if path == "/orders" || path.starts_with("/orders/") => {
            ask_orders(orders, request).await.unwrap_or_else(|error| {
                problem(
                    StatusCode::BAD_GATEWAY,
                    &format!("orders did not answer: {error}"),
                )
            })
        }
        path => no_such_thing(request.method(), path),
    }
}

#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no connection to {address}: {source}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

/// Asks `orders` the same, on behalf of the same customer, and answers what it answers.
async fn ask_orders(
    orders: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, CallError> {
    let (head, body) = request.into_parts();
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(answer) => return Ok(answer),
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    request.headers_mut().insert(header::HOST, ORDERS);
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = head.headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }

    let stream = TcpStream::connect(orders)
        .await
        .map_err(|source| CallError::Connect {
            address: orders,
            source,
        })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the request; a failure shows in the answer.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();

    let mut response = Response::new(Full::new(body));
    *response.status_mut() = head.status;
    for name in [header::CONTENT_TYPE, header::WWW_AUTHENTICATE] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}
