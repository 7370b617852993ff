//! The control plane's own SVID: obtained from the CA, kept fresh, and watched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_api::ops::ReadyPart;
use countersign_api::svid::{Evidence, SvidClient, SvidClientError};
use countersign_api::tokens::TokenClient;
use countersign_identity::spiffe::system;
use countersign_identity::{Bundle, BundleError, IdentityStore, SpiffeId, TrustDomain};
use zeroize::Zeroizing;

use crate::config::{EvidenceFile, IdentityConfig};
use crate::world::WorldSender;

/// How long to wait between attempts to obtain the first SVID: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often it is checked that the SVID has not expired.
const EXPIRY_CHECK: Duration = Duration::from_secs(5);
/// How often the CA is asked for a newer bundle: one connection of one control plane.
const BUNDLE_INTERVAL: Duration = Duration::from_secs(5);

/// The control plane cannot come to an identity.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot read the bundle {} (identity.bundle), by which the CA is known: {source}", path.display())]
    ReadBundle { path: PathBuf, source: io::Error },
    #[error("the bundle {} (identity.bundle): {source}", path.display())]
    Bundle { path: PathBuf, source: BundleError },
    #[error(
        "cannot read the join token {} (identity.joinTokenFile): {source}; a token is of use once, make another with \
         `countersign-ca join-token --spiffe-id {id}`", path.display()
    )]
    JoinToken {
        path: PathBuf,
        id: SpiffeId,
        source: io::Error,
    },
    #[error("the join token {} (identity.joinTokenFile) was refused: {source}", path.display())]
    Refused {
        path: PathBuf,
        source: SvidClientError,
    },
    #[error(
        "expected an SVID of {expected} from the CA, got one of {issued}; make its join token for the former"
    )]
    OtherIdentity {
        expected: SpiffeId,
        issued: SpiffeId,
    },
}

/// A store with the bundle by which the CA is known, and no SVID yet.
pub(crate) fn store(
    config: &IdentityConfig,
    trust_domain: &TrustDomain,
) -> Result<Arc<IdentityStore>, IdentityError> {
    let path = || config.bundle.clone();
    let pem = fs::read_to_string(&config.bundle).map_err(|source| IdentityError::ReadBundle {
        path: path(),
        source,
    })?;
    let bundle = Bundle::from_pem(trust_domain.clone(), &pem);
    Ok(IdentityStore::new(bundle.map_err(|source| {
        IdentityError::Bundle {
            path: path(),
            source,
        }
    })?))
}

/// A client of the CA with the evidence that the configuration names.
pub(crate) fn client(
    config: &IdentityConfig,
    trust_domain: &TrustDomain,
    store: &Arc<IdentityStore>,
) -> Result<SvidClient, IdentityError> {
    let evidence = match &config.evidence {
        EvidenceFile::Jwt(path) => Evidence::JwtFile(path.clone()),
        EvidenceFile::JoinToken(path) => {
            let token = fs::read_to_string(path)
                .map(Zeroizing::new)
                .map_err(|source| IdentityError::JoinToken {
                    path: path.clone(),
                    id: system::control(trust_domain),
                    source,
                })?;
            Evidence::JoinToken(Zeroizing::new(token.trim().to_owned()))
        }
    };
    Ok(SvidClient::new(
        Arc::clone(store),
        config.ca.clone(),
        evidence,
    ))
}

/// Obtains the first SVID, as often as it takes.
///
/// # Errors
/// The join token is refused, which no further attempt would change; or the SVID is not the control plane's.
pub(crate) async fn obtain(
    client: &mut SvidClient,
    evidence: &EvidenceFile,
    store: &IdentityStore,
    ready: &ReadyPart,
) -> Result<(), IdentityError> {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = client.obtain().await {
        if let (EvidenceFile::JoinToken(path), SvidClientError::Refused { .. }) = (evidence, &error)
        {
            return Err(IdentityError::Refused {
                path: path.clone(),
                source: error,
            });
        }
        tracing::warn!(%error, "no svid yet, trying again");
        ready.not_ready(format!("no SVID yet: {error}"));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let expected = system::control(store.bundle().trust_domain());
    if let Some(svid) = store.svid() {
        if *svid.id() != expected {
            return Err(IdentityError::OtherIdentity {
                expected,
                issued: svid.id().clone(),
            });
        }
        tracing::info!(id = %svid.id(), "svid obtained");
    }
    if let EvidenceFile::JoinToken(path) = evidence {
        remove_used(path);
    }
    Ok(())
}

fn remove_used(token: &Path) {
    if let Err(error) = fs::remove_file(token) {
        tracing::warn!(path = %token.display(), %error, "cannot remove the used join token");
    }
}

/// Asks the CA for the bundle again and again, for ever: whoever verifies must have a new root or token key before it signs,
/// and every sidecar has its bundle from us.
pub(crate) async fn follow_bundle(client: TokenClient) {
    loop {
        tokio::time::sleep(BUNDLE_INTERVAL).await;
        match client.refresh_bundle().await {
            Ok(true) => tracing::info!("newer bundle"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "bundle not refreshed"),
        }
    }
}

/// Tells the world of every new bundle, and the operator whether the SVID is valid, for ever.
pub(crate) async fn watch(store: Arc<IdentityStore>, world: WorldSender, ready: ReadyPart) {
    let mut changes = store.changes();
    loop {
        let bundle = store.bundle();
        world.send_if_modified(|world| {
            let changed = world.bundle.as_ref() != Some(&bundle);
            if changed {
                world.bundle = Some(bundle);
            }
            changed
        });
        match store.svid() {
            Some(svid) if svid.not_after() > SystemTime::now() => ready.ready(),
            Some(_) => {
                ready.not_ready("the SVID has expired and could not be renewed; the log says why")
            }
            // `obtain` says why.
            None => {}
        }
        // Ends at a change or after a while, whichever is first.
        let _ = tokio::time::timeout(EXPIRY_CHECK, changes.changed()).await;
    }
}
