//! The program: its parts, built in the order in which they need each other.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_api::ops::{self, OpsEndpoint, Readiness};
use countersign_api::proto::certificate_authority_server::CertificateAuthorityServer;
use countersign_api::transport::{IncomingLimits, incoming};
use countersign_identity::IdentityStore;
use countersign_identity::keys::FollowError;
use countersign_identity::tls::{ClientAuth, TlsError, server_config};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::attest::Attestors;
use crate::attest::join_token::JoinTokens;
use crate::attest::jwt::JwtIssuers;
use crate::attest::kubernetes::Clusters;
use crate::attest::x509_proof::{RootsError, X509Proofs};
use crate::authority::replicas::{Presence, listen as listen_to_replicas};
use crate::authority::{Authorities, Authority, AuthorityError};
use crate::config::Config;
use crate::files::{FileError, cannot, private_directory};
use crate::housekeeping;
use crate::issue::token::TokenRules;
use crate::issue::{Issuance, Samples};
use crate::key_status::KeyStatus;
use crate::log::{IssuanceLog, LogError};
use crate::metrics::{AuthorityMetrics, LogMetrics, Metrics};
use crate::open_files;
use crate::own_svid::{self, OwnSvidError};
use crate::service::Service;
use crate::store::{Store, StoreError};
use crate::web::certificate::{self, CertificateError};
use crate::web::{self, bundle, oidc};

/// The longest request: a CSR and a JWT fit many times.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// How often it is looked whether an intermediate has been installed.
const INSTALL_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that the system takes while this process is busy; as many as Linux allows unless told otherwise.
const BACKLOG: u32 = 4096;
/// How long a call may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long calls under way may go on after the signal to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How long a start waits for a database that cannot be reached, and how long between two tries.
const STORE_LIMIT: Duration = Duration::from_secs(30);
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Why the CA does not run (any more).
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    /// Another one has the data directory.
    #[error(
        "another countersign-ca serves {}; stop it, or use another `dataDirectory`", directory.display()
    )]
    InUse {
        /// The data directory.
        directory: PathBuf,
    },
    /// The data directory fails.
    #[error(transparent)]
    File(#[from] FileError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The issuance log.
    #[error("the issuance log: {0}")]
    Log(#[from] LogError),
    /// The keys.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// An issuer.
    #[error(transparent)]
    Issuer(#[from] FollowError),
    /// Roots of others.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// Our own SVID.
    #[error("the CA's own SVID: {0}")]
    OwnSvid(#[from] OwnSvidError),
    /// An address.
    #[error("cannot listen on {address} (`{field}` of the configuration): {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Where it is configured.
        field: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate of a web endpoint.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A signal handler.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// The server.
    #[error("the server failed: {0}")]
    Server(#[from] tonic::transport::Error),
}

/// Runs the CA until SIGTERM or SIGINT.
///
/// # Errors
/// When a part cannot be built.
pub(crate) async fn serve(config: Config) -> Result<(), AppError> {
    let shutdown = on_signal()?;
    private_directory(&config.data_directory)?;
    let _lock = lock(&config.data_directory)?;

    let database = open_store(&config, shutdown.clone()).await?;
    let Some(database) = database else {
        return Ok(());
    };
    // With PostgreSQL, the replicas' authorities are the same ones.
    let shared = config.postgres.is_some().then_some(&database);
    let authority = tokio::select! {
        opened = open_authority(&config, shared) => Arc::new(opened?),
        () = closed(shutdown.clone()) => return Ok(()),
    };
    let replicas = shared.cloned();
    let (mut registry, readiness) = (Registry::default(), Readiness::new());
    let log_metrics = LogMetrics::register(&mut registry);
    let authority_metrics = AuthorityMetrics::register(&mut registry);
    let log = IssuanceLog::open(database.clone(), Arc::clone(&authority), log_metrics).await?;
    let store = IdentityStore::new((*authority.bundle()).clone());
    let attestors = Attestors {
        join_tokens: JoinTokens::new(database.clone(), config.trust_domain.clone()),
        jwt_issuers: JwtIssuers::start(config.issuers)?,
        clusters: Clusters::start(config.kubernetes, &config.trust_domain)?,
        x509_proofs: X509Proofs::read(config.x509_proof, authority.bundle().x509_authorities())?,
        store: Arc::clone(&store),
    };
    let key_status = KeyStatus::of(attestors.verifiers());
    let metrics = Metrics::register(&mut registry, key_status.clone());
    let issuance = Arc::new(Issuance {
        authority,
        attestors,
        limits: config.svid,
        tokens: TokenRules {
            ttl: config.jwt.ttl,
            issuer: config
                .oidc
                .as_ref()
                .map(|oidc| oidc::issuer_name(&oidc.issuer)),
        },
        log,
        samples: Samples::default(),
    });
    own_svid::issue(&issuance, &store).await?;

    let (ops_listener, ops_address) = listen(config.ops, "ops").await?;
    let (listener, address) = listen(config.listen, "listen").await?;
    let mut web = JoinSet::new();
    if let Some(oidc) = config.oidc {
        let (listener, address) = listen(oidc.listen, "oidc.listen").await?;
        let tls = certificate::server_config(oidc.certificate)?;
        let documents = oidc::documents(&oidc.issuer, &issuance.authority);
        web.spawn(web::serve(listener, tls.into(), documents));
        tracing::info!(%address, issuer = %oidc.issuer, "openid discovery served");
    }
    if let Some(endpoint) = config.bundle_endpoint {
        let (listener, address) = listen(endpoint.listen, "bundleEndpoint.listen").await?;
        let tls = match endpoint.certificate {
            Some(files) => certificate::server_config(files)?,
            None => server_config(&store, ClientAuth::Optional, &[b"http/1.1"])?,
        };
        let documents = bundle::documents(&issuance.authority, endpoint.refresh_hint);
        web.spawn(web::serve(listener, tls.into(), documents));
        tracing::info!(%address, "bundle endpoint served");
    }
    let identity = readiness.part("identity");
    identity.ready();
    let (mut renewals, news) = (JoinSet::new(), Arc::new(Notify::new()));
    renewals.spawn(housekeeping::keep(
        Arc::clone(&issuance.authority),
        Arc::clone(&store),
        authority_metrics,
        Arc::clone(&news),
    ));
    let presence = replicas.map(|database| {
        renewals.spawn(listen_to_replicas(database.clone(), news));
        Arc::new(Presence::new(database, address))
    });
    if let Some(presence) = &presence {
        let authority = Arc::clone(&issuance.authority);
        renewals.spawn(Arc::clone(presence).keep_telling(authority));
    }
    renewals.spawn(own_svid::keep_token_keys_fresh(
        Arc::clone(&issuance),
        Arc::clone(&store),
    ));
    renewals.spawn(own_svid::keep_fresh(
        Arc::clone(&issuance),
        Arc::clone(&store),
        identity,
    ));
    let (ops_stop, ops_stopped) = watch::channel(());
    let status = move || json!({"issuers": key_status.json(SystemTime::now())});
    let operator = OpsEndpoint::new(registry, readiness).json("/status", status);
    let operator = tokio::spawn(ops::serve(ops_listener, operator, closed(ops_stopped)));

    tracing::info!(%address, %ops_address, trust_domain = %config.trust_domain, "ready to issue");
    let limits = IncomingLimits {
        waiting: open_files::for_waiting_connections(),
        ..IncomingLimits::default()
    };
    let incoming = incoming(listener, &store, ClientAuth::Optional, limits)?;
    let service = CertificateAuthorityServer::new(Service::new(issuance, metrics))
        .max_decoding_message_size(MAX_REQUEST_BYTES);
    let server = tonic::transport::Server::builder()
        .timeout(CALL_LIMIT)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, closed(shutdown.clone()));
    let served = within_drain_limit(server, shutdown).await;

    web.shutdown().await;
    renewals.shutdown().await;
    if let Some(presence) = presence {
        presence.end().await;
    }
    // The operator's endpoint last: it tells how the rest ended.
    drop(ops_stop);
    let _ = operator.await;
    database.close().await;
    tracing::info!("stopped");
    Ok(served?)
}

/// Opens the database. One that cannot be reached may be starting too, and is waited for; then this start fails, and
/// whoever started this process knows of it. None if the process is told to stop meanwhile.
async fn open_store(
    config: &Config,
    shutdown: watch::Receiver<()>,
) -> Result<Option<Store>, StoreError> {
    let deadline = Instant::now() + STORE_LIMIT;
    let mut stopping = pin!(closed(shutdown));
    loop {
        let opening = Store::open(
            &config.data_directory,
            config.postgres.as_ref(),
            &config.trust_domain,
        );
        match opening.await {
            Err(error @ StoreError::Connect { .. }) if Instant::now() < deadline => {
                tracing::warn!(%error, "waiting for the database");
            }
            opened => return opened.map(Some),
        }
        tokio::select! {
            () = tokio::time::sleep(STORE_RETRY) => {}
            () = &mut stopping => return Ok(None),
        }
    }
}

/// Opens the authorities. Where the root is an external one, it waits until that has signed the intermediate, and tells the
/// operator so meanwhile.
async fn open_authority(config: &Config, shared: Option<&Store>) -> Result<Authority, AppError> {
    let authorities = Authorities::new(
        &config.data_directory,
        &config.trust_domain,
        &config.authority,
        shared,
    )?;
    // Ends with this function.
    let mut waiting = JoinSet::new();
    loop {
        let opened = Authority::open(
            authorities.clone(),
            config.jwt.lifetimes(config.svid),
            SystemTime::now(),
        );
        match opened.await {
            Err(error @ AuthorityError::NotInstalled) if config.authority.upstream => {
                if waiting.is_empty() {
                    tracing::warn!("{error}; waiting for that");
                    let readiness = Readiness::new();
                    readiness.part("identity").not_ready(error.to_string());
                    let (listener, _) = listen(config.ops, "ops").await?;
                    let endpoint = OpsEndpoint::new(Registry::default(), readiness);
                    waiting.spawn(ops::serve(listener, endpoint, std::future::pending()));
                }
                tokio::time::sleep(INSTALL_INTERVAL).await;
            }
            opened => {
                waiting.shutdown().await;
                return Ok(opened?);
            }
        }
    }
}

/// Makes sure that two servers do not write to one data directory. The lock is the kernel's, and ends with the process.
fn lock(directory: &Path) -> Result<File, AppError> {
    let path = directory.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(cannot("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AppError::InUse {
            directory: directory.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(cannot("lock", &path)(error).into()),
    }
}

/// Listens, and says where: port 0 asks for any free one.
async fn listen(
    address: SocketAddr,
    field: &'static str,
) -> Result<(TcpListener, SocketAddr), AppError> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections that ended a moment ago, those of a CA before, do not keep the address.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bind().map_err(|error| AppError::Listen {
        address,
        field,
        error,
    })
}

/// A channel that is closed when the process is told to stop.
fn on_signal() -> Result<watch::Receiver<()>, AppError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::Signals)?;
    let (stop, stopped) = watch::channel(());
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop: draining");
        drop(stop);
    });
    Ok(stopped)
}

async fn closed(mut channel: watch::Receiver<()>) {
    while channel.changed().await.is_ok() {}
}

/// Clients keep their connections open; those that do not close them in time are cut.
async fn within_drain_limit<E>(
    server: impl Future<Output = Result<(), E>>,
    shutdown: watch::Receiver<()>,
) -> Result<(), E> {
    let too_long = async {
        closed(shutdown).await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        served = server => served,
        () = too_long => {
            tracing::warn!("calls were still under way; they are cut");
            Ok(())
        }
    }
}
