//! The gRPC service that sidecars watch: who is admitted, and as what.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign_api::proto;
use countersign_api::proto::mesh_server::{Mesh, MeshServer};
use countersign_api::proto::watch_request::Message;
use countersign_api::transport::{Caller, Incoming};
use countersign_identity::IdentityStore;
use countersign_identity::tls::PeerIdentity;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::metrics::ServiceMetrics;
use crate::session::{Session, workload_of};
use crate::sidecars::{Sidecar, Sidecars};
use crate::world::WorldReceiver;

/// After how much silence a sidecar is asked whether it is still there, …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and how long it may take to answer.
const KEEP_ALIVE_LIMIT: Duration = Duration::from_secs(10);
/// From what age on a connection takes no further stream. A stream that ends because the sidecar's SVID has expired is
/// then followed by one on a new connection, which shows the renewed SVID. Far less than what an SVID has
/// left when it is due for renewal.
pub(crate) const CONNECTION_AGE: Duration = Duration::from_secs(60);
/// The longest message that a sidecar may send, in bytes.
const MESSAGE_LIMIT: usize = 1 << 20;
/// How long a client may take to say hello.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// How much of a text of the sidecar's choosing is kept, in characters.
const KEPT_TEXT: usize = 2000;

/// What every stream needs.
#[derive(Clone)]
pub(crate) struct MeshService {
    pub(crate) world: WorldReceiver,
    pub(crate) store: Arc<IdentityStore>,
    pub(crate) sidecars: Sidecars,
    pub(crate) metrics: ServiceMetrics,
    /// True once the control plane stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Mesh for MeshService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::Update, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<proto::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = Caller::of(&request)?.clone();
        let (updates, sent) = mpsc::channel(1);
        // The session runs as the stream is read, and ends with it. What it returns is how the stream ends.
        let session = self.clone().watched(caller, request.into_inner(), updates);
        let end = stream::once(async move { Err(session.await) });
        let updates = ReceiverStream::new(sent).map(Ok);
        Ok(Response::new(Box::pin(stream::select(updates, end))))
    }
}

impl MeshService {
    /// Serves sidecars until the control plane stops and their streams have ended.
    pub(crate) async fn serve(
        self,
        incoming: Incoming,
        connection_age: Duration,
    ) -> Result<(), tonic::transport::Error> {
        let mut stopping = self.stopping.clone();
        Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_LIMIT))
            .max_connection_age(connection_age)
            .add_service(MeshServer::new(self).max_decoding_message_size(MESSAGE_LIMIT))
            .serve_with_incoming_shutdown(incoming, async move {
                let _ = stopping.wait_for(|stopping| *stopping).await;
            })
            .await
    }

    /// Serves one stream until it ends, and returns why it did.
    async fn watched(
        self,
        caller: Caller,
        mut requests: Streaming<proto::WatchRequest>,
        updates: mpsc::Sender<proto::Update>,
    ) -> Status {
        let refused = self.metrics.refused.clone();
        let session = match self.admit(caller, &mut requests).await {
            Ok(session) => session,
            Err(status) => {
                refused.inc();
                tracing::info!(reason = status.message(), "sidecar refused");
                return status;
            }
        };
        session.run(requests, updates).await
    }

    /// Waits for the caller's hello, and checks that it is the workload that it says.
    async fn admit(
        self,
        caller: Caller,
        requests: &mut Streaming<proto::WatchRequest>,
    ) -> Result<Session, Status> {
        let Some(peer) = caller.peer else {
            return Err(Status::unauthenticated(
                "expected a client certificate, got none",
            ));
        };
        let hello = hello(requests).await?;
        self.check(&peer, &hello.workload)?;
        let entry = self.sidecars.enter(Sidecar {
            workload: hello.workload.clone(),
            spiffe_id: peer.id().clone(),
            version: shortened(&hello.version),
            address: caller.remote_addr,
            status: None,
        });
        let (workload, address) = (&hello.workload, caller.remote_addr);
        tracing::info!(workload, id = %peer.id(), %address, version = %shortened(&hello.version), "sidecar connected");
        Ok(Session::new(self, peer, hello.workload, entry))
    }

    fn check(&self, peer: &PeerIdentity, workload: &str) -> Result<(), Status> {
        workload_of(&self.world.borrow(), peer.id(), workload).map(drop)
    }
}

async fn hello(requests: &mut Streaming<proto::WatchRequest>) -> Result<proto::Hello, Status> {
    let first = tokio::time::timeout(HELLO_TIME, requests.message()).await;
    let Ok(first) = first else {
        let message = format!(
            "expected a hello within {} s, got nothing",
            HELLO_TIME.as_secs()
        );
        return Err(Status::deadline_exceeded(message));
    };
    match first?.and_then(|request| request.message) {
        Some(Message::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument(
            "expected a hello as the first message",
        )),
    }
}

/// A text of the sidecar's, cut where it is longer than anyone will read.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(KEPT_TEXT).collect()
}

#[cfg(test)]
mod tests;
