//! A small shop: `web` → `orders` → `payments` (gRPC) and `store` (a line protocol over TCP).
//!
//! Nothing here knows of the mesh. Every service speaks plain text to the address that it was given, as
//! services do; who may call whom is in `policy/`, and the sidecars see to it.

mod http;
mod orders;
mod payments;
mod store;
mod web;

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[derive(Parser)]
#[command(name = "shop", about = "A small shop on a mesh", version)]
struct Arguments {
    #[command(subcommand)]
    service: Service,
}

#[derive(Subcommand)]
enum Service {
    /// The front: takes a customer's request and asks `orders`.
    Web {
        /// Where to serve HTTP/1.1.
        #[arg(long)]
        listen: SocketAddr,
        /// Where `orders` is reached (HTTP/1.1).
        #[arg(long)]
        orders: SocketAddr,
    },
    /// Takes orders: charges them with `payments` and keeps them in `store`.
    Orders {
        /// Where to serve HTTP/1.1.
        #[arg(long)]
        listen: SocketAddr,
        /// Where `payments` is reached (gRPC).
        #[arg(long)]
        payments: SocketAddr,
        /// Where `store` is reached (TCP).
        #[arg(long)]
        store: SocketAddr,
    },
    /// Takes the money.
    Payments {
        /// Where to serve gRPC.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Keeps lines by key, in memory.
    Store {
        /// Where to serve the line protocol.
        #[arg(long)]
        listen: SocketAddr,
    },
}

impl Service {
    fn listen(&self) -> SocketAddr {
        match self {
            Self::Web { listen, .. }
            | Self::Orders { listen, .. }
            | Self::Payments { listen }
            | Self::Store { listen } => *listen,
        }
    }
}

fn main() -> ExitCode {
    let service = Arguments::parse().service;
    let listen = service.listen();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime.and_then(|runtime| runtime.block_on(run(service))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell it to if standard error is gone.
            let _ = writeln!(io::stderr(), "shop: serving on {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
async fn run(service: Service) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = serve(service) => result,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn serve(service: Service) -> io::Result<()> {
    let listener = TcpListener::bind(service.listen()).await?;
    match service {
        Service::Web { orders, .. } => web::serve(listener, orders).await,
        Service::Orders {
            payments, store, ..
        } => orders::serve(listener, payments, store).await,
        Service::Payments { .. } => payments::serve(listener).await,
        Service::Store { .. } => store::serve(listener).await,
    }
}
