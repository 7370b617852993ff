//! The root is replaced while two replicas serve, and one of them dies in the midst of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use countersign_api::svid::{Evidence, SvidClient};
use countersign_api::tokens::TokenClient;
use countersign_identity::IdentityStore;
use countersign_identity::jwt::svid;
use serde_json::Value;
use tokio::task::JoinSet;

use super::ORDERS;
use crate::support::postgres::Postgres;
use crate::support::{Ca, Home};

/// A rotation takes as long as the last SVID of the old root and the time that replicas are given to notice.
const PATIENCE: Duration = Duration::from_secs(90);

/// Two workloads, each of which renews its SVID at a replica of its own without pause, and shows it, and a token, to the
/// other one.
struct Workloads {
    stores: [Arc<IdentityStore>; 2],
    /// Where each asks.
    addresses: [Mutex<String>; 2],
    rounds: [AtomicUsize; 2],
    stop: AtomicBool,
    failed: Mutex<Vec<String>>,
}

impl Workloads {
    fn start(cas: [(&Ca, &Home); 2]) -> (Arc<Self>, JoinSet<()>) {
        let workloads = Arc::new(Self {
            stores: cas.map(|(_, home)| home.store()),
            addresses: cas.map(|(ca, _)| Mutex::new(ca.address.clone())),
            rounds: Default::default(),
            stop: AtomicBool::default(),
            failed: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for (index, (_, home)) in cas.into_iter().enumerate() {
            let token = home.join_token(ORDERS);
            tasks.spawn(Arc::clone(&workloads).renew(index, token));
        }
        (workloads, tasks)
    }

    async fn renew(self: Arc<Self>, index: usize, token: String) {
        let (store, other) = (&self.stores[index], &self.stores[1 - index]);
        while !self.stop.load(Ordering::Relaxed) {
            let address = self.addresses[index].lock().unwrap().clone();
            let evidence = Evidence::JoinToken(token.clone().into());
            let mut svids = SvidClient::new(Arc::clone(store), address.clone(), evidence);
            let tokens = TokenClient::new(Arc::clone(store), address.clone());
            while !self.stop.load(Ordering::Relaxed) {
                let is_moved = || *self.addresses[index].lock().unwrap() != address;
                if let Err(error) = svids.obtain().await {
                    if !is_moved() {
                        // Its replica may have died just now.
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        if !is_moved() {
                            self.fail(format!("{index} is not issued an svid: {error}"));
                        }
                    }
                    break;
                }
                let (svid, now) = (store.svid().unwrap(), SystemTime::now());
                // The other one begins with an SVID later than this one.
                if other.svid().is_some() {
                    let shown = tokens.issue_jwt(vec!["db".to_owned()]).await;
                    let believed = svid.verify(&other.bundle(), now);
                    if let Err(error) = believed {
                        self.fail(format!("{index} is not believed: {error}"));
                    }
                    if let Ok(issued) = shown
                        && let Err(error) = svid::verify(&issued.token, "db", &other.bundle(), now)
                    {
                        self.fail(format!("the token of {index} is not believed: {error}"));
                    }
                }
                self.rounds[index].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn fail(&self, what: String) {
        self.failed.lock().unwrap().push(what);
    }

    /// Waits until each has done so much more, without a failure.
    async fn go_on(&self, when: &str) {
        let counts = || [0, 1].map(|index: usize| self.rounds[index].load(Ordering::Relaxed));
        let before = counts();
        eventually(&format!("workloads {when}"), || {
            let failed = self.failed.lock().unwrap();
            assert!(failed.is_empty(), "{when}: {failed:?}");
            let now = counts();
            now[0] > before[0] + 5 && now[1] > before[1] + 5
        })
        .await;
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `root …`: its JSON, or what it says.
async fn root(home: &Home, arguments: &[&str]) -> Result<Value, String> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_countersign-ca"));
    command.arg("root").args(arguments);
    command.arg("--config").arg(home.config());
    let output = command.args(["-o", "json"]).output().await.unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

/// Takes a step as soon as it is safe.
async fn step(home: &Home, step: &str) {
    let started = Instant::now();
    while let Err(refused) = root(home, &[step]).await {
        let is_early = refused.contains("is safe from")
            || refused.contains("still give out")
            || refused.contains("the issuance log shows");
        assert!(
            is_early && started.elapsed() < PATIENCE,
            "{step}: {refused}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until so many replicas are there, and each has what the state says.
async fn until_all_have_it(home: &Home, replicas: usize) -> Value {
    let started = Instant::now();
    loop {
        let status = root(home, &["status"]).await.unwrap();
        let current = status["replicas"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|replica| {
                replica["bundle"] == "current"
                    && replica["intermediate"] == status["intermediate"]["id"]
            });
        if current.count() == replicas {
            return status;
        }
        assert!(started.elapsed() < PATIENCE, "{status:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_root_is_replaced_while_two_replicas_serve_and_one_dies() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let config = format!(
        "{}svid: {{defaultTtl: 5s, minTtl: 1s, maxTtl: 5s}}\njwt: {{keyLifetime: 30s}}\n",
        postgres.storage()
    );
    let [one, other] = Home::replicas(&config, "  bundlePropagation: 2s\n");
    let (first, second) = (Ca::start(&one), Ca::start(&other));
    let before = until_all_have_it(&one, 2).await;
    let (workloads, tasks) = Workloads::start([(&first, &one), (&second, &other)]);
    workloads.go_on("at first").await;

    step(&one, "prepare").await;
    until_all_have_it(&other, 2).await;
    workloads.go_on("with two roots").await;
    step(&other, "activate").await;
    let status = until_all_have_it(&one, 2).await;
    assert_ne!(status["intermediate"], before["intermediate"]);
    workloads.go_on("under the new root").await;

    // One dies; its workload goes to the other one.
    first.kill();
    *workloads.addresses[0].lock().unwrap() = second.address.clone();
    workloads.go_on("with one replica").await;
    step(&one, "taint").await;
    workloads.go_on("with the old root tainted").await;
    let again = Ca::start(&one);
    *workloads.addresses[0].lock().unwrap() = again.address.clone();
    step(&one, "revoke").await;
    until_all_have_it(&other, 2).await;
    workloads.go_on("without the old root").await;

    workloads.stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    assert_eq!(*workloads.failed.lock().unwrap(), [""; 0]);
    for home in [&one, &other] {
        let bundle = std::fs::read_to_string(home.data().join("bundle.pem")).unwrap();
        assert_eq!(bundle.matches("BEGIN").count(), 1);
    }
    // What stops says so; what died is silent.
    assert!(again.stop().success());
    let status = until_all_have_it(&other, 1).await;
    let replicas = status["replicas"].as_array().unwrap();
    assert!(replicas.len() <= 2, "{status:#}");
    assert!(second.stop().success());
}

#[tokio::test]
async fn a_replica_with_keys_of_its_own_does_not_join() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let (one, other) = (
        Home::new(&postgres.storage()),
        Home::new(&postgres.storage()),
    );
    let ca = Ca::start(&one);
    let refused = other.failing_start();
    assert!(
        refused.contains("Replicas have their keys in common"),
        "{refused}"
    );
    assert!(ca.stop().success());
}

#[tokio::test]
async fn the_database_tells_all_replicas_of_a_change() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let [one, other] = Home::replicas(&postgres.storage(), "");
    let (_first, _second) = (Ca::start(&one), Ca::start(&other));
    let listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'";
    eventually("both to listen", || {
        postgres.sql("countersign", listeners).trim() == "2"
    })
    .await;
    let channel = "countersign_authority_state";
    let heard = postgres.heard(channel, || {
        let prepared = one.root(&["prepare"]);
        assert!(prepared.status.success(), "{prepared:?}");
    });
    assert!(
        heard.contains(&format!("notification \"{channel}\"")),
        "{heard}"
    );
    let silence = postgres.heard(channel, || {
        assert!(one.root(&["prepare"]).status.success(), "it is prepared");
    });
    assert!(!silence.contains("notification"), "{silence}");
}
