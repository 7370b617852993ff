//! Sidecars that come all at once: for their first certificates, to renew them, and after the CA was away. Each has a
//! connection of its own, as sidecars do, and when it fails it waits and tries again, as they do.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_api::svid::{Evidence, SvidClient, SvidClientError};
use countersign_identity::IdentityStore;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::BenchError;
use crate::countersign::Ca;
use crate::figures::Times;

/// The waits after failures: doubled each time, from the first to the longest, as in `countersign_api::svid`.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Who has no certificate after that has failed.
const LIMIT: Duration = Duration::from_secs(180);

struct Sidecar {
    store: Arc<IdentityStore>,
    client: SvidClient,
}

/// What became of one sidecar.
struct Outcome {
    sidecar: Sidecar,
    /// How long it took, if there is a certificate.
    took: Option<Duration>,
    /// Why attempts failed.
    failures: Vec<SvidClientError>,
}

/// Raises the limit of open files as far as this user may; the CA that is started here has it too.
pub(crate) fn allow_many_files() -> Result<(), BenchError> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(BenchError::failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(BenchError::failed)
}

pub(crate) async fn measure(count: u32, out: &mut impl Write) -> Result<(), BenchError> {
    let directory = tempfile::tempdir()?;
    let ca = Ca::start(directory.path()).await?;
    let sidecar = |_| {
        let store = IdentityStore::new(ca.bundle.clone());
        let evidence = Evidence::JwtFile(ca.token.clone());
        let client = SvidClient::new(Arc::clone(&store), ca.address.to_string(), evidence);
        Sidecar { store, client }
    };
    writeln!(
        out,
        "\n{count} sidecars at once, a connection each, the load on the same machine"
    )?;
    let sidecars = (0..count).map(sidecar).collect();
    let start = Instant::now();
    let sidecars = tell(
        out,
        "  first certificates",
        all(sidecars, start).await,
        start,
    )?;
    let start = Instant::now();
    let sidecars = tell(out, "  renewals", all(sidecars, start).await, start)?;

    // As good as expired: a new store knows of no certificate.
    let anew = sidecars.iter().map(|sidecar| sidecar.store.bundle());
    let sidecars = anew
        .map(|bundle| {
            let store = IdentityStore::new((*bundle).clone());
            let evidence = Evidence::JwtFile(ca.token.clone());
            let client = SvidClient::new(Arc::clone(&store), ca.address.to_string(), evidence);
            Sidecar { store, client }
        })
        .collect();
    drop(ca);
    let start = Instant::now();
    let coming = tokio::spawn(all(sidecars, start));
    // All of them have failed at least once.
    tokio::time::sleep(FIRST_WAIT * 2).await;
    let ca = Ca::start(directory.path()).await?;
    let back = Instant::now();
    let outcomes = coming.await.map_err(BenchError::failed)?;
    tell(out, "  all anew, after the CA was away", outcomes, back)?;
    let memory = ca.process.memory()?;
    writeln!(
        out,
        "  countersign-ca after that: {} MiB resident, {} of them its own",
        memory.resident_kib / 1024,
        memory.private_kib / 1024
    )?;
    Ok(())
}

async fn all(sidecars: Vec<Sidecar>, start: Instant) -> Vec<Outcome> {
    let mut tasks = JoinSet::new();
    for sidecar in sidecars {
        tasks.spawn(until_it_has_one(sidecar, start));
    }
    tasks.join_all().await
}

async fn until_it_has_one(mut sidecar: Sidecar, start: Instant) -> Outcome {
    let (mut failures, mut wait) = (Vec::new(), FIRST_WAIT);
    while start.elapsed() < LIMIT {
        match sidecar.client.obtain().await {
            Ok(()) => {
                return Outcome {
                    took: Some(start.elapsed()),
                    sidecar,
                    failures,
                };
            }
            Err(error) => failures.push(error),
        }
        let part = sidecar_jitter(&sidecar);
        tokio::time::sleep(wait.mul_f64(0.5 + 0.5 * part)).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    Outcome {
        took: None,
        sidecar,
        failures,
    }
}

/// From 0 to 1, different for each: an address in memory is chance enough.
fn sidecar_jitter(sidecar: &Sidecar) -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let hash = RandomState::new().hash_one(Arc::as_ptr(&sidecar.store).addr());
    f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

fn tell(
    out: &mut impl Write,
    what: &str,
    outcomes: Vec<Outcome>,
    from: Instant,
) -> Result<Vec<Sidecar>, BenchError> {
    let whole = from.elapsed();
    let without = outcomes.iter().filter(|outcome| outcome.took.is_none());
    let without = without.count();
    let failures = outcomes.iter().map(|outcome| outcome.failures.len());
    let failures: usize = failures.sum();
    let times = Times::new(outcomes.iter().filter_map(|outcome| outcome.took));
    writeln!(
        out,
        "{what}: {}; all of them {:.1} s; failed attempts {failures}, sidecars without a certificate {without}",
        times.line(),
        whole.as_secs_f64()
    )?;
    let mut reasons: Vec<String> = outcomes
        .iter()
        .flat_map(|outcome| &outcome.failures)
        .map(ToString::to_string)
        .collect();
    reasons.sort();
    for same in reasons.chunk_by(|one, other| one == other).take(5) {
        if let Some(reason) = same.first() {
            writeln!(out, "    {} times: {reason}", same.len())?;
        }
    }
    Ok(outcomes
        .into_iter()
        .map(|outcome| outcome.sidecar)
        .collect())
}
