//! The control plane's parts, in start-up order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::ops::{self, OpsEndpoint, Readiness};
use countersign_api::tokens::TokenClient;
use countersign_api::transport::{IncomingLimits, incoming};
use countersign_identity::tls::{ClientAuth, TlsError};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::directory_file::DirectoryFile;
use crate::federation::Federation;
use crate::git::Git;
use crate::identity::IdentityError;
use crate::metrics::Metrics;
use crate::policy::{Origin, PolicyKeeper};
use crate::service::{CONNECTION_AGE, MeshService};
use crate::sidecars::Sidecars;
use crate::source::Source;
use crate::state::{StateDirectory, StateError};
use crate::world::World;
use crate::{identity, issuers, status};

/// How long streams may take to end when the control plane stops.
const STOP_TIME: Duration = Duration::from_secs(5);

/// The control plane cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error("cannot listen on {address} (`{setting}` of the configuration): {source}")]
    Listen {
        setting: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("serving sidecars failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    #[error("cannot await signals: {0}")]
    Signals(#[source] io::Error),
}

/// Runs the control plane until SIGTERM or SIGINT.
pub(crate) async fn run(config: Config) -> Result<(), AppError> {
    let stopping = stop_on_signal()?;
    // What can be wrong with this machine is found out before anything is started.
    let state = StateDirectory::open(&config.state_directory)?;
    let store = identity::store(&config.identity, &config.trust_domain)?;
    let mut svid_client = identity::client(&config.identity, &config.trust_domain, &store)?;
    let ops_listener = listen("ops", config.ops).await?;
    let listener = listen("listen", config.listen).await?;

    // Dropped in the end, which ends all of them.
    let mut parts = JoinSet::new();
    let world = watch::Sender::new(World::default());
    let readiness = Readiness::new();
    let (identity_ready, policy_ready, directory_ready) = (
        readiness.part("identity"),
        readiness.part("policy"),
        readiness.part("directory"),
    );
    let metrics = Metrics::default();
    let sidecars = Sidecars::default();

    // The operator's endpoint comes first: it tells what the others wait for.
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let (seen, listed) = (world.subscribe(), sidecars.clone());
    let endpoint = OpsEndpoint::new(registry, readiness).json("/status", move || {
        status::status(&seen.borrow().clone(), &listed, SystemTime::now())
    });
    parts.spawn(ops::serve(ops_listener, endpoint, std::future::pending()));

    let directory = DirectoryFile {
        path: config.directory,
        trust_domain: config.trust_domain.clone(),
        world: world.clone(),
        ready: directory_ready,
        metrics: metrics.directory,
    };
    parts.spawn(directory.follow());

    let (repository, branch) = (config.policy.repository, config.policy.branch);
    let origin = Origin {
        repository: repository.to_string(),
        branch: branch.to_string(),
    };
    let federation = Federation::new(
        config.federation,
        state.path(),
        world.clone(),
        metrics.federation,
    );
    parts.spawn(federation.follow());
    let source = Source::new(
        Git::default(),
        repository,
        branch,
        config.policy.interval,
        config.policy.signers,
        state.path(),
    );
    let policy = PolicyKeeper {
        trust_domain: config.trust_domain,
        origin,
        state,
        world: world.clone(),
        ready: policy_ready,
        metrics: metrics.policy,
    };
    parts.spawn(policy.follow(source));
    parts.spawn(issuers::follow(config.issuers, world.clone()));

    // Sidecars are served once there is an identity to serve them with.
    let mut stop = stopping.clone();
    tokio::select! {
        _ = stop.wait_for(|stopping| *stopping) => return Ok(()),
        obtained = identity::obtain(&mut svid_client, &config.identity.evidence, &store, &identity_ready) => obtained?,
    }
    parts.spawn(svid_client.keep_fresh(std::future::pending()));
    parts.spawn(identity::follow_bundle(TokenClient::new(
        Arc::clone(&store),
        config.identity.ca.clone(),
    )));
    parts.spawn(identity::watch(
        Arc::clone(&store),
        world.clone(),
        identity_ready,
    ));

    let incoming = incoming(
        listener,
        &store,
        ClientAuth::Required,
        IncomingLimits::default(),
    )?;
    let metrics = metrics.service;
    let service = MeshService {
        world: world.subscribe(),
        store,
        sidecars,
        metrics,
        stopping: stopping.clone(),
    };
    let server = service.serve(incoming, CONNECTION_AGE);
    tracing::info!(address = %config.listen, "serving sidecars");
    tokio::select! {
        served = server => served?,
        () = async { stopped(stopping).await; tokio::time::sleep(STOP_TIME).await } => {
            tracing::warn!("some streams did not end in time");
        }
    }
    tracing::info!("stopped");
    Ok(())
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| AppError::Listen {
            setting,
            address,
            source,
        })
}

/// Becomes true at SIGTERM or SIGINT.
fn stop_on_signal() -> Result<watch::Receiver<bool>, AppError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Signals)?;
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.send_replace(true);
        // Kept, so that nobody takes its end for a signal.
        stop.closed().await;
    });
    Ok(stopping)
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
