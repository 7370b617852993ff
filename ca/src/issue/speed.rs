//! How fast [`Issuance::issue`] is, with the log on a real disk, and what its phases cost: `make bench-ca`. Figures move with
//! the machine, so each stands beside this machine's own rate of signatures in the same run.
//!
//! The floor is what no CA can do without: one signature, and one verification of the request's.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use countersign_identity::{SvidKey, testing};
use nix::sys::resource::{UsageWho, getrusage};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use tokio::task::JoinSet;

use super::tests::{issuance, orders, svid_of};
use super::*;

/// How long each figure is measured.
const TURN: Duration = Duration::from_secs(5);
/// Certification requests are made before: that is the clients' work.
const REQUESTS: usize = 64;

/// The processor time of this process so far.
fn cpu() -> f64 {
    let used = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(used.user_time()) + seconds(used.system_time())
}

/// How often `work` can be done in a second of one core.
fn rate(mut work: impl FnMut()) -> f64 {
    let (start, used) = (Instant::now(), cpu());
    let mut done = 0.0;
    while start.elapsed() < TURN / 5 {
        for _ in 0..100 {
            work();
        }
        done += 100.0;
    }
    done / (cpu() - used)
}

/// The phases of an issuance, each by itself: its name, and how many signatures it costs.
async fn phases(clients: &Clients, signatures: f64) -> Vec<(&'static str, f64)> {
    let Clients {
        issuance, caller, ..
    } = clients;
    let (now, csr) = (SystemTime::now(), clients.requests.first().unwrap());
    let store = &issuance.attestors.store;
    let key = csr::check(csr).unwrap();
    let intermediate = issuance.authority.intermediate();
    let attested = crate::attest::renewal::attest(caller, store, now).unwrap();
    let validity = (now, now + Duration::from_hours(1));
    let sign = || intermediate.sign(attested.id(), key.public_key(), validity);
    let leaf = sign().await.unwrap();
    let svid = intermediate.svid(leaf.clone()).unwrap();
    let record = || Record::of_svid(&svid, &attested, key.thumbprint(), None, now);
    let costs = [
        (
            "check the request",
            rate(|| drop(black_box(csr::check(csr).unwrap()))),
        ),
        (
            "attest by the connection's SVID",
            rate(|| {
                drop(black_box(
                    crate::attest::renewal::attest(caller, store, now).unwrap(),
                ));
            }),
        ),
        (
            "make the certificate and sign it",
            rate(|| {
                // Ready at once: the key is in memory.
                let leaf = futures_util::FutureExt::now_or_never(sign());
                drop(black_box(leaf.unwrap().unwrap()));
            }),
        ),
        (
            "check its form",
            rate(|| {
                drop(black_box(intermediate.svid(leaf.clone()).unwrap()));
            }),
        ),
        (
            "make the record",
            rate(|| {
                drop(black_box(serde_json::to_string(&record()).unwrap()));
            }),
        ),
    ];
    let mut costs: Vec<_> = costs
        .into_iter()
        .map(|(name, rate)| (name, signatures / rate))
        .collect();
    let (mut entries, used, start) = (0.0, cpu(), Instant::now());
    while start.elapsed() < TURN / 2 {
        let together = (0..256).map(|number| {
            let mut record = record();
            // No serial number is in the log twice.
            record.serial = format!("{entries}-{number}");
            issuance.log.append(record)
        });
        for appended in futures_util::future::join_all(together).await {
            appended.unwrap();
        }
        entries += 256.0;
    }
    let logged = entries / (cpu() - used);
    costs.push(("log it, 256 at once", signatures / logged));
    costs
}

struct Clients {
    issuance: Arc<Issuance>,
    caller: Caller,
    requests: Vec<Vec<u8>>,
}

impl Clients {
    /// A renewal, as most requests are.
    fn request(&self, number: usize) -> Request {
        Request {
            csr: self.requests[number % REQUESTS].clone(),
            ttl: Duration::ZERO,
            evidence: Evidence::Renewal,
            caller: self.caller.clone(),
        }
    }
}

/// Certificates per second of time, and per second of processor, with so many that wait for one at any time.
async fn throughput(clients: &Arc<Clients>, concurrent: usize) -> (f64, f64) {
    let (start, used) = (Instant::now(), cpu());
    let mut tasks = JoinSet::new();
    for number in 0..concurrent {
        let clients = Arc::clone(clients);
        tasks.spawn(async move {
            let mut issued = 0_u32;
            while start.elapsed() < TURN {
                let request = clients.request(number + issued as usize);
                clients
                    .issuance
                    .issue(request, SystemTime::now())
                    .await
                    .unwrap();
                issued += 1;
            }
            f64::from(issued)
        });
    }
    let issued: f64 = tasks.join_all().await.into_iter().sum();
    (
        issued / start.elapsed().as_secs_f64(),
        issued / (cpu() - used),
    )
}

/// Latencies at a fixed rate, whatever comes of it: milliseconds, sorted.
async fn latencies(clients: &Arc<Clients>, per_second: f64) -> Vec<f64> {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let (start, mut tasks, mut sent) = (Instant::now(), JoinSet::new(), 0_usize);
    while start.elapsed() < TURN {
        ticks.tick().await;
        while (sent as f64) < start.elapsed().as_secs_f64() * per_second {
            let clients = Arc::clone(clients);
            let asked = Instant::now();
            tasks.spawn(async move {
                let request = clients.request(sent);
                clients
                    .issuance
                    .issue(request, SystemTime::now())
                    .await
                    .unwrap();
                asked.elapsed().as_secs_f64() * 1000.0
            });
            sent += 1;
        }
    }
    let mut latencies = tasks.join_all().await;
    latencies.sort_by(f64::total_cmp);
    latencies
}

#[tokio::test]
#[ignore = "measures, for half a minute: make bench-ca"]
async fn issuance_beside_signatures() {
    let mut out = std::io::stdout();
    let key = KeyPair::generate().unwrap();
    let signatures = rate(|| drop(key.sign(b"as many bytes as do not matter").unwrap()));
    let signature = key.sign(b"message").unwrap();
    let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.der_bytes());
    let verifications = rate(|| public_key.verify(b"message", &signature).unwrap());
    writeln!(
        out,
        "P-256 on one core: {signatures:.0} signatures per second, {verifications:.0} verifications. Of the signatures, a CA \
         that does nothing but verify a request and sign a certificate reaches {:.2}",
        1.0 / (1.0 + signatures / verifications)
    )
    .unwrap();

    // Not in /tmp, which may be memory.
    let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let now = SystemTime::now();
    let issuance = Arc::new(issuance(directory.path(), now).await);
    let caller = Caller {
        peer: Some(testing::peer(svid_of(&issuance, &orders(), now).await)),
        remote_addr: ([127, 0, 0, 1], 4711).into(),
        binding: countersign_api::x509_proof::ChannelBinding::made_up([0; 32]),
    };
    let request = |_| SvidKey::generate().unwrap().csr_der().unwrap();
    let requests = (0..REQUESTS).map(request).collect();
    let clients = Arc::new(Clients {
        issuance,
        caller,
        requests,
    });

    for (phase, cost) in phases(&clients, signatures).await {
        writeln!(out, "{phase:<34} {cost:>5.2} signatures").unwrap();
    }
    let mut most = 0.0_f64;
    for concurrent in [1, 16, 256] {
        let (per_second, per_core) = throughput(&clients, concurrent).await;
        most = most.max(per_second);
        writeln!(
            out,
            "{concurrent:>3} at once: {per_second:>6.0} certificates per second; per second of one core {per_core:>6.0}, \
             {:.2} of its signatures",
            per_core / signatures
        )
        .unwrap();
    }
    let latencies = latencies(&clients, most / 2.0).await;
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    writeln!(
        out,
        "at half load, {:.0} per second: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        most / 2.0,
        at(0.5),
        at(0.99),
        at(1.0)
    )
    .unwrap();
}
