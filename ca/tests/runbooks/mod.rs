//! `docs/ca-keys.md`, executed as written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Ca, Home, Starting, binary};

const DOCUMENT: &str = include_str!("../../../docs/ca-keys.md");
const PATIENCE: Duration = Duration::from_secs(60);

/// The blocks of one runbook, in their order.
fn blocks(language: &str, runbook: &str) -> Vec<&'static str> {
    let opening = format!("```{language} {runbook}\n");
    let blocks: Vec<_> = DOCUMENT
        .split(opening.as_str())
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect();
    assert!(!blocks.is_empty(), "no {language} blocks of {runbook}");
    blocks
}

/// Runs a block as somebody in the directory of `ca.yaml` would. What is refused as too early is tried until it is not, as
/// the document says.
fn run(home: &Home, block: &str) -> String {
    let started = Instant::now();
    let program = Path::new(env!("CARGO_BIN_EXE_countersign-ca"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    loop {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(home.config().parent().unwrap())
            .env("PATH", &path)
            .env("SOFTHSM2_CONF", softhsm(home))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() {
            return said;
        }
        assert!(
            (said.contains("is safe from") || said.contains("the issuance log shows"))
                && started.elapsed() < PATIENCE,
            "{block}\n{said}"
        );
        std::thread::park_timeout(Duration::from_millis(100));
    }
}

/// The settings of SoftHSM for one test.
fn softhsm(home: &Home) -> PathBuf {
    home.config().with_file_name("softhsm2.conf")
}

fn run_all(home: &Home, runbook: &str) -> String {
    let said = blocks("sh", runbook)
        .into_iter()
        .map(|block| run(home, block));
    said.collect()
}

fn is_ready(ca: &Ca) -> bool {
    ca.get("/ready").ends_with("ready\n") && !ca.get("/ready").contains("503")
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited for {what}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn an_offline_root_signs_the_intermediate() {
    let home = Home::new(blocks("yaml", "offline")[0]);
    let waiting = Starting::spawn(binary("serve", &home.config()));
    let said = run_all(&home, "offline");
    assert!(said.contains("signs from now on"), "{said}");
    let ca = waiting.ready();
    eventually("the CA to be ready", || is_ready(&ca));
    home.join_token("spiffe://shop.example/ns/shop/sa/orders");
    // And the next one, while it runs.
    let said = blocks("sh", "offline")[1..]
        .iter()
        .map(|block| run(&home, block))
        .collect::<String>();
    assert!(said.contains("signs from now on"), "{said}");
    eventually("the CA to notice", || {
        ca.get("/metrics")
            .contains("countersign_ca_intermediate_expiry_seconds 155")
    });
    assert!(ca.stop().success());
}

#[test]
fn a_root_is_replaced_in_four_steps_or_not_at_all() {
    let home = Home::new(
        "svid: {defaultTtl: 2s, minTtl: 1s, maxTtl: 2s}\nauthority: {bundlePropagation: 1s}\n",
    );
    let ca = Ca::start(&home);
    let before = std::fs::read_to_string(home.data().join("bundle.pem")).unwrap();
    let said = run_all(&home, "abandon");
    assert!(said.contains("is abandoned"), "{said}");
    assert_eq!(
        std::fs::read_to_string(home.data().join("bundle.pem")).unwrap(),
        before
    );
    let said = run_all(&home, "rotation");
    for expected in ["is prepared", "is active", "is tainted", "is revoked"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let after = std::fs::read_to_string(home.data().join("bundle.pem")).unwrap();
    assert_ne!(before, after);
    assert_eq!(after.matches("BEGIN").count(), 1);
    assert!(is_ready(&ca));
    assert!(ca.stop().success());
}

/// Lifetimes that were lowered since say less than the log.
#[tokio::test]
async fn a_root_in_use_is_not_revoked() {
    use crate::support::client::{ask, join, request};
    let long = "svid: {defaultTtl: 20m, minTtl: 1s, maxTtl: 1h}\n";
    let home = Home::new(long);
    let ca = Ca::start(&home);
    let token = home.join_token("spiffe://shop.example/ns/shop/sa/orders");
    let svid = ask(&ca, &home, request(join(&token))).await.unwrap();
    assert!(ca.stop().success());
    home.configure(
        "svid: {defaultTtl: 1s, minTtl: 1s, maxTtl: 1s}\nauthority: {bundlePropagation: 1s}\n",
    );
    for block in &blocks("sh", "rotation")[..3] {
        run(&home, block);
    }
    let revoke = |more: &str| {
        let arguments = ["revoke", "--config", "ca.yaml", more];
        let arguments = arguments.iter().filter(|argument| !argument.is_empty());
        Command::new(env!("CARGO_BIN_EXE_countersign-ca"))
            .arg("root")
            .args(arguments)
            .current_dir(home.config().parent().unwrap())
            .output()
            .unwrap()
    };
    let refused = revoke("");
    assert_eq!(refused.status.code(), Some(2));
    let refused = String::from_utf8(refused.stderr).unwrap();
    // That of the caller, and the CA's own.
    let ends = rfc3339(svid.not_after());
    assert!(
        refused.contains("that are valid: 2, the last until"),
        "{refused}"
    );
    assert!(refused.contains(&ends), "{ends}: {refused}");
    assert!(revoke("--force").status.success());
}

/// RFC 3339, in seconds.
fn rfc3339(time: SystemTime) -> String {
    chrono::DateTime::<chrono::Utc>::from(time).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[test]
fn a_token_makes_and_keeps_the_keys() {
    let home = Home::new(blocks("yaml", "hsm")[0]);
    let tokens = home.config().with_file_name("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let settings = format!("directories.tokendir = {}\n", tokens.display());
    std::fs::write(softhsm(&home), settings).unwrap();
    run_all(&home, "hsm");
    let ca = Ca::start(&home);
    assert!(is_ready(&ca));
    assert!(ca.stop().success());
    assert!(!home.data().join("keys").exists());

    let objects = run(
        &home,
        "pkcs11-tool --module /usr/lib/softhsm/libsofthsm2.so --token-label countersign --login --pin 12345678 -O",
    );
    let private = objects.matches("Private Key Object").count();
    assert_eq!(
        private, 4,
        "a root's, an intermediate's and those for tokens: {objects}"
    );
    let kept = "sensitive, always sensitive, never extractable";
    assert_eq!(objects.matches(kept).count(), private, "{objects}");

    // It is used again, also for a rotation.
    let bundle = std::fs::read(home.data().join("bundle.pem")).unwrap();
    let ca = Ca::start(&home);
    assert_eq!(
        std::fs::read(home.data().join("bundle.pem")).unwrap(),
        bundle
    );
    run(
        &home,
        "countersign-ca root prepare --config ca.yaml && countersign-ca root activate --force --config ca.yaml",
    );
    assert!(ca.stop().success());

    std::fs::write(home.config().with_file_name("pin"), "00000000").unwrap();
    let refused = home.failing_start();
    assert!(refused.contains("does not accept the PIN"), "{refused}");
    assert!(!refused.contains("00000000") && !refused.contains("12345678"));
    std::fs::remove_file(home.config().with_file_name("pin")).unwrap();
    let refused = home.failing_start();
    assert!(refused.contains("there is no PIN"), "{refused}");
}
