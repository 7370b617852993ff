//! The CA on a real PostgreSQL: replicas, a killed one, a database that goes away.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails should fail where it stands, and show the CA's log"
)]

#[path = "postgres/rotation.rs"]
mod rotation;
mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use support::client::{ask, ask_by, client, client_at, join, jwt, request};
use support::postgres::Postgres;
use support::{Ca, Home, Issuer, PATIENCE, Starting, binary};
use tonic::Code;

const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";

/// Clients that ask without pause until told to stop. What they were handed out is in `issued`.
struct Load {
    stop: Arc<AtomicBool>,
    issued: Arc<Mutex<Vec<String>>>,
    clients: tokio::task::JoinSet<()>,
}

impl Load {
    fn start(cas: &[(&Ca, &Home)], issuer: &Arc<Issuer>) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            issued: Arc::default(),
            clients: tokio::task::JoinSet::new(),
        };
        for (ca, home) in cas {
            for _ in 0..4 {
                let (address, store) = (ca.address.clone(), home.store());
                let (stop, issued) = (Arc::clone(&load.stop), Arc::clone(&load.issued));
                let issuer = Arc::clone(issuer);
                load.clients.spawn(async move {
                    let mut client = client_at(&address, &store);
                    while !stop.load(Ordering::Relaxed) {
                        let asked = request(jwt(issuer.token(&json!({}))));
                        match ask_by(&mut client, &store, asked).await {
                            Ok(svid) => issued.lock().unwrap().push(svid.serial().to_owned()),
                            // The replica was killed.
                            Err(_) => tokio::task::yield_now().await,
                        }
                    }
                });
            }
        }
        load
    }

    fn count(&self) -> usize {
        self.issued.lock().unwrap().len()
    }

    async fn until(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.count() < count {
            assert!(Instant::now() < deadline, "{count} SVIDs in time");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        std::mem::take(&mut *self.issued.lock().unwrap())
    }
}

#[tokio::test]
async fn a_replica_killed_under_load_loses_and_doubles_no_issuance() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let issuer = Arc::new(Issuer::start());
    let config = format!("{}{}", postgres.storage(), issuer.config());
    let [one, other] = Home::replicas(&config, "");
    let (killed, survivor) = (Ca::start(&one), Ca::start(&other));
    let load = Load::start(&[(&killed, &one), (&survivor, &other)], &issuer);
    load.until(100).await;
    killed.kill();
    let before = load.count();
    load.until(before + 100).await;
    let issued = load.stop().await;

    let log = other.log();
    let serials: Vec<_> = log
        .iter()
        .map(|record| record["serial"].as_str().unwrap())
        .collect();
    let once: HashSet<_> = serials.iter().copied().collect();
    assert_eq!(once.len(), serials.len(), "no issuance is in the log twice");
    for serial in &issued {
        assert!(
            once.contains(serial.as_str()),
            "{serial} was handed out, and is not in the log"
        );
    }
    // Those that were committed when the replica died, and could not be handed out, and each start's own.
    let not_handed_out = serials.len() - issued.len();
    eprintln!("{} issued, {not_handed_out} more in the log", issued.len());
    assert!(not_handed_out <= 3 + 4, "{not_handed_out}");
    let (text, status) = other.ask_log(&["verify"]);
    assert_eq!(status, 0, "{text}");

    // And it comes back.
    let again = Ca::start(&one);
    ask(&again, &one, request(jwt(issuer.token(&json!({})))))
        .await
        .unwrap();
    let (text, status) = one.ask_log(&["verify"]);
    assert_eq!(status, 0, "{text}");
    drop(survivor);
}

#[tokio::test]
async fn many_replicas_start_at_once_on_an_empty_database() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let homes: [Home; 4] = Home::replicas(&postgres.storage(), "");
    let starting: Vec<_> = homes
        .iter()
        .map(|home| Starting::spawn(binary("serve", &home.config())))
        .collect();
    let running: Vec<_> = starting.into_iter().map(Starting::ready).collect();
    let versions = postgres.sql("countersign", "SELECT version FROM _sqlx_migrations");
    assert_eq!(versions, "1\n2\n");
    let bundles = homes
        .iter()
        .map(|home| std::fs::read_to_string(home.data().join("bundle.pem")).unwrap());
    let bundles: HashSet<_> = bundles.collect();
    assert_eq!(bundles.len(), 1, "all have the same root");
    assert_eq!(homes[0].log().len(), 4, "each one's own");
    drop(running);
}

#[tokio::test]
async fn a_join_token_works_once_at_whichever_replica() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let [one, other] = Home::replicas(&postgres.storage(), "");
    let (first, second) = (Ca::start(&one), Ca::start(&other));
    for _ in 0..5 {
        let token = one.join_token(ORDERS);
        let (at_first, at_second) = tokio::join!(
            ask(&first, &one, request(join(&token))),
            ask(&second, &other, request(join(&token))),
        );
        assert!(
            at_first.is_ok() != at_second.is_ok(),
            "{at_first:?} {at_second:?}"
        );
        let refused = at_first.err().or(at_second.err()).unwrap();
        assert!(
            refused
                .message()
                .starts_with("this join token has been used"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_database_that_goes_away_is_a_reason_to_try_again() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let issuer = Issuer::start();
    let home = Home::new(&format!("{}{}", postgres.storage(), issuer.config()));
    let ca = Ca::start(&home);
    let store = home.store();
    let mut asker = client(&ca, &store);
    let asked = || request(jwt(issuer.token(&json!({}))));
    ask_by(&mut asker, &store, asked()).await.unwrap();

    postgres.stop();
    for _ in 0..3 {
        let refused = ask_by(&mut asker, &store, asked()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert_eq!(
            refused.message(),
            "the CA cannot issue now, for a reason that its log tells (log); try again"
        );
    }
    ca.said()
        .wait_for("the database gave no connection within 3 s");
    assert!(
        ca.get("/metrics")
            .contains("countersign_ca_log_commit_failures_total 3")
    );

    postgres.run();
    ask_by(&mut asker, &store, asked()).await.unwrap();
    assert_eq!(
        home.log().len(),
        3,
        "its own, and the two that were handed out"
    );
    let (text, status) = home.ask_log(&["verify"]);
    assert_eq!(status, 0, "{text}");
}

#[tokio::test]
async fn a_start_waits_for_its_database() {
    let Some(mut postgres) = Postgres::start() else {
        return;
    };
    let home = Home::new(&postgres.storage());
    postgres.stop();
    let starting = Starting::spawn(binary("serve", &home.config()));
    starting
        .said
        .wait_for("the database cannot be reached at postgres://countersign@localhost");
    postgres.run();
    let ca = starting.ready();
    ask(&ca, &home, request(join(&home.join_token(ORDERS))))
        .await
        .unwrap();
}

#[test]
fn the_server_must_prove_who_it_is_and_the_password_is_never_told() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let good = postgres.storage();
    let home = Home::new(&good);
    let secret = home.config().with_file_name("secret");
    std::fs::write(&secret, "a wrong passphrase").unwrap();
    let key = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        &secret,
        key,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .unwrap();
    let line = good
        .lines()
        .find(|line| line.contains("passwordFile"))
        .unwrap();
    let wrong = format!("    passwordFile: {}", secret.display());
    let message = failing_join_token(&good.replace(line, &wrong));
    assert!(
        message.contains("password authentication failed"),
        "{message}"
    );
    assert!(
        !message.contains("passphrase") && !message.contains("horse"),
        "{message}"
    );

    // Another CA's certificate.
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&secret, other.cert.pem()).unwrap();
    let line = good.lines().find(|line| line.contains("caFile")).unwrap();
    let message =
        failing_join_token(&good.replace(line, &format!("    caFile: {}", secret.display())));
    assert!(message.contains("cannot be reached"), "{message}");
    assert!(message.to_lowercase().contains("certificate"), "{message}");
}

fn failing_join_token(config: &str) -> String {
    let home = Home::new(config);
    let output = home.run(&["join-token", "--spiffe-id", ORDERS]);
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_database_refuses_changes_and_verify_finds_those_of_its_owner() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let home = Home::new(&postgres.storage());
    assert!(Ca::start(&home).stop().success());
    assert!(Ca::start(&home).stop().success());
    for statement in [
        "UPDATE issuance_log SET record = '{}'",
        "DELETE FROM issuance_log",
        "TRUNCATE issuance_log CASCADE",
        "UPDATE issuance_log_checkpoint SET time = 0",
        "DELETE FROM issuance_log_checkpoint",
        "TRUNCATE issuance_log_checkpoint",
    ] {
        let answer = postgres.sql("countersign", statement);
        assert!(answer.contains("is append-only"), "{statement}: {answer}");
    }
    let (text, status) = home.ask_log(&["verify"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("2 entries, 2 signed checkpoints"), "{text}");

    postgres.sql(
        "countersign",
        "ALTER TABLE issuance_log DISABLE TRIGGER ALL; \
         UPDATE issuance_log SET record = replace(record, 'countersign-ca', 'nobody') WHERE sequence = 2",
    );
    let (text, status) = home.ask_log(&["verify"]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("entry 2: its record has the hash"), "{text}");
}

#[test]
fn a_newer_schema_is_refused() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let home = Home::new(&postgres.storage());
    assert!(Ca::start(&home).stop().success());
    postgres.sql(
        "countersign",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'later', true, '', 0)",
    );
    let message = home.failing_start();
    assert!(
        message.contains("a newer countersign-ca has used it"),
        "{message}"
    );
}
