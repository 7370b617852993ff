//! How many certificates a CA issues, and what they cost it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use rcgen::{KeyPair, SigningKey as _};
use tokio::task::JoinSet;

use crate::BenchError;
use crate::figures::Times;
use crate::process::Process;

/// Certificates that are asked for at any time. Enough that the disk never waits for requests.
const CONCURRENT: usize = 128;

/// Somebody with a connection to a CA.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    /// Asks for one certificate.
    fn ask(&self) -> impl Future<Output = Result<(), BenchError>> + Send;
}

/// What a CA did.
pub(crate) struct Rate {
    /// Certificates per second.
    pub(crate) per_second: f64,
    /// Certificates per second of processor time of the CA's process.
    pub(crate) per_core: f64,
}

/// P-256 signatures per second of one core of this machine, whatever else it does: by processor time, as all rates here.
pub(crate) fn signatures() -> Result<f64, BenchError> {
    let key = KeyPair::generate().map_err(BenchError::failed)?;
    let cpu = || {
        let used = getrusage(UsageWho::RUSAGE_SELF).map_err(BenchError::failed)?;
        let time = used.user_time() + used.system_time();
        let seconds = u64::try_from(time.num_microseconds()).unwrap_or_default();
        Ok::<_, BenchError>(Duration::from_micros(seconds))
    };
    let (start, used, mut count) = (Instant::now(), cpu()?, 0_u32);
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..50 {
            key.sign(b"as many bytes as do not matter")
                .map_err(BenchError::failed)?;
        }
        count += 50;
    }
    Ok(f64::from(count) / cpu()?.saturating_sub(used).as_secs_f64())
}

/// How many certificates there are when as many are asked for as can be had.
pub(crate) async fn throughput(
    clients: &[impl Client],
    ca: &Process,
    length: Duration,
) -> Result<Rate, BenchError> {
    // Statements are prepared, and pages are in memory, when it counts.
    for client in clients {
        client.ask().await?;
    }
    let (start, used) = (Instant::now(), ca.cpu()?);
    let mut tasks = JoinSet::new();
    for client in clients.iter().cycle().take(CONCURRENT) {
        let client = client.clone();
        tasks.spawn(async move {
            let mut issued = 0_u32;
            while start.elapsed() < length {
                client.ask().await?;
                issued += 1;
            }
            Ok::<_, BenchError>(issued)
        });
    }
    let mut issued = 0.0;
    for done in tasks.join_all().await {
        issued += f64::from(done?);
    }
    let spent = ca.cpu()?.saturating_sub(used);
    Ok(Rate {
        per_second: issued / start.elapsed().as_secs_f64(),
        per_core: issued / spent.as_secs_f64(),
    })
}

/// How long each of them takes when they are asked for at a fixed rate, whatever comes of it.
pub(crate) async fn latencies(
    clients: &[impl Client],
    per_second: f64,
    length: Duration,
) -> Result<Times, BenchError> {
    let (start, next) = (Instant::now(), AtomicUsize::new(0));
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (mut tasks, mut asked) = (JoinSet::new(), 0.0);
    while start.elapsed() < length {
        ticks.tick().await;
        while asked < start.elapsed().as_secs_f64() * per_second {
            let number = next.fetch_add(1, Ordering::Relaxed) % clients.len().max(1);
            let Some(client) = clients.get(number).cloned() else {
                break;
            };
            // From when it was due: what waits behind others is part of it.
            let due = start + Duration::from_secs_f64(asked / per_second);
            tasks.spawn(async move { client.ask().await.map(|()| due.elapsed()) });
            asked += 1.0;
        }
    }
    let times: Result<Vec<_>, _> = tasks.join_all().await.into_iter().collect();
    Ok(Times::new(times?))
}

/// Things to take one after the other, again and again.
pub(crate) struct Cycle<T> {
    things: Vec<T>,
    next: AtomicUsize,
}

impl<T> Cycle<T> {
    pub(crate) fn new(things: Vec<T>) -> Arc<Self> {
        Arc::new(Self {
            things,
            next: AtomicUsize::new(0),
        })
    }

    pub(crate) fn next(&self) -> Option<&T> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.things.get(number % self.things.len().max(1))
    }
}
