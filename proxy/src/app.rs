//! The program: builds the parts in start-up order, runs them, and takes them down again.
//!
//! Nothing else starts tasks behind the reader's back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_api::hardening::{self, HardeningError};
use countersign_api::ops::{self, OpsEndpoint, Readiness};
use countersign_api::tokens::TokenClient;
use countersign_identity::tls::TlsError;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::control::{ControlReadiness, ControlStream, Subscription};
use crate::drain::Drain;
use crate::identity::{self, Identity, IdentityError};
use crate::inbound::{self, Inbound};
use crate::outbound::{self, Destination, Outbound};
use crate::parts::Parts;
use crate::state::State;
use crate::telemetry::{DecisionLog, DecisionLogError, Ids, Metrics};
use crate::wire;
use crate::workload_api::{self, Socket, SocketError, WorkloadApiConfig};

/// How long the decision log may take to write its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why the sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Memory cannot be protected.
    #[error(transparent)]
    Hardening(#[from] HardeningError),
    /// No runtime, or no signals.
    #[error("the system refuses what the sidecar runs on: {0}")]
    Runtime(#[source] io::Error),
    /// An address is not to be had.
    #[error("cannot listen on {address}, which is {wanted_by} of this sidecar: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it was for: the field of the configuration.
        wanted_by: String,
        /// Why not.
        source: io::Error,
    },
    /// No decision log.
    #[error(transparent)]
    DecisionLog(#[from] DecisionLogError),
    /// No way to get an identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No socket for the workload to get it from.
    #[error(transparent)]
    WorkloadApi(#[from] SocketError),
    /// No mutual TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// How the sidecar ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// After a first signal, when no call was left or the time was up.
    Drained,
    /// At once, by a second signal.
    Killed,
}

/// Runs the sidecar until it is told to stop. `started` is when the process began.
///
/// # Errors
/// It cannot start.
pub fn run(config: Config, started: Instant) -> Result<Ended, AppError> {
    hardening::protect_memory()?;
    // One thread: a sidecar beside every workload must be small, and calls share their wire connections without locks.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AppError::Runtime)?;
    let ended = runtime.block_on(serve(config, started));
    // Nothing that is still on a blocking thread (a file read) is worth waiting for.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Config, started: Instant) -> Result<Ended, AppError> {
    let config = Arc::new(config);
    let mut signals = Signals::new().map_err(AppError::Runtime)?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let decisions = DecisionLog::stdout(metrics.decision_log_dropped().clone())?;
    let store = identity::store(&config.identity, &config.trust_domain)?;
    let readiness = Readiness::new();
    let identity_ready = readiness.part("identity");
    let mut identity = Identity::new(
        &config.identity,
        Arc::clone(&store),
        identity_ready,
        metrics.clone(),
    )?;

    // All addresses are taken before anything is waited for, so that one that is not to be had is told at once.
    let listeners = Listeners::bind(&config).await?;
    let parts = Parts {
        config: Arc::clone(&config),
        identity: Arc::clone(&store),
        state: State::new(),
        metrics: metrics.clone(),
        decisions: decisions.clone(),
        ids: Arc::new(Ids::new()),
        drain: Drain::new(),
    };
    // Answers that there is no identity until there is one.
    let workload_api = match &config.workload_api {
        Some(WorkloadApiConfig { socket, mode }) => {
            let client = TokenClient::new(Arc::clone(&store), config.identity.ca.clone());
            let socket = Socket::bind(socket, *mode)?;
            Some(workload_api::serve(socket, Arc::clone(&store), client))
        }
        None => None,
    };
    let control = ControlStream::new(
        subscription(&config),
        store,
        Arc::clone(&parts.state),
        ControlReadiness::new(&readiness),
        metrics,
    );

    // Aborted when this function returns: until then the operator is told of the drain, and policy goes on to change.
    let mut tasks = JoinSet::new();
    let endpoint = OpsEndpoint::new(registry, readiness.clone());
    tasks.spawn(ops::serve(listeners.ops, endpoint, std::future::pending()));
    if let Some(serving) = workload_api {
        tasks.spawn(async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the workload api failed");
            }
        });
    }
    // Calls are taken from now on; before there is a policy, all are denied.
    let tls = wire::server_config(&parts.identity)?;
    tasks.spawn(inbound::serve(
        Inbound::new(parts.clone()),
        listeners.inbound,
        tls,
    ));
    let outbound = Outbound::new(parts.clone());
    for (listener, wanted) in listeners.outbound.into_iter().zip(&config.outbound) {
        let destination = Destination::from(wanted);
        tasks.spawn(outbound::serve(
            Arc::clone(&outbound),
            listener,
            destination,
        ));
    }
    tasks.spawn(async move { outbound.follow_directory().await });

    let until_ready = async {
        identity.obtain().await?;
        // The control plane is asked as soon as there is an identity to ask with.
        tasks.spawn(async { match identity.keep_fresh().await {} });
        tasks.spawn(async { match control.follow().await {} });
        readiness.ready().await;
        tracing::info!(after = ?started.elapsed(), "ready");
        Ok::<_, AppError>(())
    };
    tokio::select! {
        result = until_ready => {
            result?;
            signals.next().await;
        }
        () = signals.next() => {}
    }
    Ok(stop(&parts, &readiness, signals).await)
}

/// Lets the calls in flight end, and writes the last lines of the decision log.
async fn stop(parts: &Parts, readiness: &Readiness, mut signals: Signals) -> Ended {
    let limit = parts.config.drain_timeout;
    readiness.part("drain").not_ready("stopping");
    tracing::info!(calls = parts.drain.calls_in_flight(), ?limit, "draining");
    let ended = tokio::select! {
        drained = parts.drain.run(limit) => {
            if drained.cut > 0 {
                tracing::warn!(calls = drained.cut, "time is up, calls are cut");
            }
            Ended::Drained
        }
        () = signals.next() => Ended::Killed,
    };
    parts.decisions.close(LAST_LINES).await;
    tracing::info!("stopped");
    ended
}

fn subscription(config: &Config) -> Subscription {
    let mut services: Vec<String> = config
        .outbound
        .iter()
        .map(|outbound| outbound.service.clone())
        .collect();
    services.sort_unstable();
    services.dedup();
    Subscription {
        address: config.control.clone(),
        workload: config.workload.clone(),
        trust_domain: config.trust_domain.clone(),
        services,
    }
}

/// Everything that the sidecar listens on.
struct Listeners {
    ops: TcpListener,
    inbound: TcpListener,
    /// In the order of the configuration.
    outbound: Vec<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, AppError> {
        let ops = listen(config.ops, || "`ops`".to_owned()).await?;
        let inbound = listen(config.inbound, || "`inbound`".to_owned()).await?;
        let mut outbound = Vec::with_capacity(config.outbound.len());
        for wanted in &config.outbound {
            let listener = listen(wanted.listen, || {
                format!("`outbound` for {}", wanted.service)
            });
            outbound.push(listener.await?);
        }
        Ok(Self {
            ops,
            inbound,
            outbound,
        })
    }
}

async fn listen(
    address: SocketAddr,
    wanted_by: impl FnOnce() -> String,
) -> Result<TcpListener, AppError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| AppError::Listen {
            address,
            wanted_by: wanted_by(),
            source,
        })
}

/// SIGTERM (the orchestrator) and SIGINT (Ctrl-C).
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
