//! The stream from the control plane: policy, directory, issuer keys and bundle, for as long as the sidecar runs.
//!
//! Losing it is not failing. What was last known good stays in force; log and metrics say how old it is.

mod apply;
mod document;
mod federated;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_api::ops::{Readiness, ReadyPart};
use countersign_api::proto::mesh_client::MeshClient;
use countersign_api::proto::watch_request::Message;
use countersign_api::proto::{Hello, Subscribe, WatchRequest};
use countersign_api::transport::{self, ChannelError};
use countersign_identity::tls::ExpectedPeer;
use countersign_identity::{IdentityStore, TrustDomain, spiffe};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::backoff::Backoff;
use crate::state::State;
use crate::telemetry::Metrics;
use apply::Applier;

/// The largest message that is taken from the control plane, in bytes.
const LARGEST_UPDATE: usize = 16 << 20;
/// How many messages to the control plane may wait until it takes them.
const OUTBOX: usize = 8;
/// How long the control plane may take to accept the stream.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// What the stream is about.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The control plane, `host:port`.
    pub address: String,
    /// The workload's name in the directory.
    pub workload: String,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// The services that the workload calls.
    pub services: Vec<String>,
}

/// Follows the control plane.
#[derive(Debug)]
pub struct ControlStream {
    subscription: Subscription,
    store: Arc<IdentityStore>,
    metrics: Metrics,
    applier: Applier,
    last_update: Option<Instant>,
}

/// The parts of readiness that hang on the control plane: ready with the first good snapshot, and for good.
#[derive(Clone, Debug)]
pub struct ControlReadiness {
    policy: ReadyPart,
    directory: ReadyPart,
}

impl ControlReadiness {
    /// Adds the parts `policy` and `directory`.
    #[must_use]
    pub fn new(readiness: &Readiness) -> Self {
        Self {
            policy: readiness.part("policy"),
            directory: readiness.part("directory"),
        }
    }
}

/// Why a stream ended. There will be another.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("{}", transport::describe(.0))]
    Status(Box<Status>),
    #[error("the control plane did not accept the stream within {} s", OPEN_LIMIT.as_secs())]
    NotAccepted,
    #[error("the control plane ended the stream")]
    ByServer,
    #[error("the control plane does not take our messages")]
    OutboxFull,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl ControlStream {
    /// A stream that is not open yet. `store` must have an SVID before [`follow`](Self::follow).
    #[must_use]
    pub fn new(
        subscription: Subscription,
        store: Arc<IdentityStore>,
        state: Arc<State>,
        ready: ControlReadiness,
        metrics: Metrics,
    ) -> Self {
        let applier = Applier::new(
            subscription.trust_domain.clone(),
            Arc::clone(&store),
            state,
            ready,
            metrics.clone(),
        );
        Self {
            subscription,
            store,
            metrics,
            applier,
            last_update: None,
        }
    }

    /// Keeps the state up to date, reconnecting for ever.
    pub async fn follow(mut self) -> Infallible {
        let mut backoff = Backoff::new();
        loop {
            let before = self.last_update;
            let Err(ended) = self.session().await;
            self.metrics.control_connected(false);
            if self.last_update != before {
                backoff.reset();
            }
            let wait = backoff.next_wait();
            self.tell(&ended, wait);
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream, from connecting to its end.
    async fn session(&mut self) -> Result<Infallible, Ended> {
        let control = spiffe::system::control(&self.subscription.trust_domain);
        let expected = ExpectedPeer::Id(control);
        let channel = transport::channel(&self.subscription.address, &self.store, expected)?;
        let mut client = MeshClient::new(channel).max_decoding_message_size(LARGEST_UPDATE);

        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        for message in self.first_messages() {
            send(&outbox, message)?;
        }
        let opened = client.watch(ReceiverStream::new(outgoing));
        let opened = tokio::time::timeout(OPEN_LIMIT, opened);
        let mut updates = opened.await.map_err(|_| Ended::NotAccepted)??.into_inner();
        self.metrics.control_connected(true);
        tracing::info!(control = self.subscription.address, "control stream open");

        while let Some(update) = updates.message().await? {
            let now = SystemTime::now();
            self.last_update = Some(Instant::now());
            self.metrics.control_updated(now);
            if let Some(status) = self.applier.apply(update, now) {
                send(&outbox, Message::PolicyStatus(status))?;
            }
        }
        Err(Ended::ByServer)
    }

    fn first_messages(&self) -> [Message; 2] {
        let Subscription {
            workload, services, ..
        } = &self.subscription;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        [
            Message::Hello(Hello {
                workload: workload.clone(),
                version,
            }),
            Message::Subscribe(Subscribe {
                services: services.clone(),
            }),
        ]
    }

    fn tell(&self, ended: &Ended, wait: Duration) {
        // Before the first snapshot nothing is in force, and whoever waits for the sidecar wants to know why.
        self.applier.waiting_because(ended);
        match self.last_update {
            Some(at) => tracing::warn!(
                error = %ended,
                retry_in = ?wait,
                last_update_seconds = at.elapsed().as_secs(),
                "control stream lost; the last known good state stays in force"
            ),
            None => tracing::warn!(
                error = %ended,
                retry_in = ?wait,
                "no control stream yet; every call is denied until there is a policy"
            ),
        }
    }
}

fn send(outbox: &mpsc::Sender<WatchRequest>, message: Message) -> Result<(), Ended> {
    // Never waits: a control plane that does not read must not keep us from reading.
    outbox
        .try_send(WatchRequest {
            message: Some(message),
        })
        .map_err(|_| Ended::OutboxFull)
}

#[cfg(test)]
mod tests;
