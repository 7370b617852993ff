//! What is left of an issuance when the CA dies in the midst of it, or its disk is full: nothing half-done.
//!
//! Needs the cargo feature `fault-points`; `make test` runs it with that.
#![cfg(feature = "fault-points")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that fails should fail where it stands, and show the CA's log"
)]

mod support;

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::client::{ask, ask_by, client, join, jwt, request};
use support::postgres::Postgres;
use support::{Ca, Home, Issuer, Starting, binary};
use tonic::Code;

const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";
const ABORTED: Option<i32> = Some(nix::libc::SIGABRT);

/// A place at which the CA dies while it issues for a caller.
struct Point {
    name: &'static str,
    /// The CA's own SVID, at its start, passes most of them first.
    time: u32,
    /// Whether the join token is used up then.
    used: bool,
    /// Whether the issuance is in the log then.
    logged: bool,
}

const POINTS: [Point; 6] = [
    Point {
        name: "after-check",
        time: 1,
        used: false,
        logged: false,
    },
    Point {
        name: "after-attest",
        time: 1,
        used: true,
        logged: false,
    },
    Point {
        name: "after-sign",
        time: 2,
        used: true,
        logged: false,
    },
    Point {
        name: "before-commit",
        time: 2,
        used: true,
        logged: false,
    },
    Point {
        name: "after-commit",
        time: 2,
        used: true,
        logged: true,
    },
    Point {
        name: "after-log",
        time: 2,
        used: true,
        logged: true,
    },
];

/// The IDs in the log, which must be whole.
fn logged(home: &Home) -> Vec<String> {
    let (text, status) = home.ask_log(&["verify"]);
    assert_eq!(status, 0, "{text}");
    let id = |record: Value| record["spiffe_id"].as_str().unwrap().to_owned();
    home.log().into_iter().map(id).collect()
}

#[tokio::test]
async fn a_ca_that_dies_while_it_issues_leaves_nothing_half_done() {
    for Point {
        name,
        time,
        used,
        logged: is_logged,
    } in POINTS
    {
        let home = Home::new("");
        let token = home.join_token(ORDERS);
        let ca = Ca::starting(&home, "COUNTERSIGN_FAULT", &format!("{name}:abort:{time}")).ready();
        let refused = ask(&ca, &home, request(join(&token))).await.unwrap_err();
        assert!(
            matches!(refused.code(), Code::Unavailable | Code::Unknown),
            "{name}: {refused}"
        );
        ca.said().wait_for("fault point");
        assert_eq!(ca.ends().signal(), ABORTED, "{name}");

        // Before anything has repaired anything.
        let of_caller = |ids: &[String]| ids.iter().filter(|id| *id == ORDERS).count();
        let ids = logged(&home);
        assert_eq!(
            (ids.len(), of_caller(&ids)),
            (1 + usize::from(is_logged), usize::from(is_logged)),
            "{name}"
        );

        let ca = Ca::start(&home);
        let again = ask(&ca, &home, request(join(&token))).await;
        assert_eq!(again.is_err(), used, "{name}");
        if let Err(refused) = again {
            assert!(
                refused
                    .message()
                    .starts_with("this join token has been used"),
                "{name}: {refused}"
            );
            ask(&ca, &home, request(join(&home.join_token(ORDERS))))
                .await
                .unwrap();
        }
        let ids = logged(&home);
        assert_eq!(of_caller(&ids), 1 + usize::from(is_logged), "{name}");
    }
}

#[tokio::test]
async fn a_ca_that_dies_while_it_starts_starts_again() {
    for name in ["after-sign", "before-commit", "after-commit", "after-log"] {
        let home = Home::new("");
        let starting = Ca::starting(&home, "COUNTERSIGN_FAULT", &format!("{name}:abort"));
        assert_eq!(starting.ends().signal(), ABORTED, "{name}");
        let committed = usize::from(matches!(name, "after-commit" | "after-log"));
        assert_eq!(logged(&home).len(), committed, "{name}");
        let ca = Ca::start(&home);
        ask(&ca, &home, request(join(&home.join_token(ORDERS))))
            .await
            .unwrap();
        assert_eq!(logged(&home).len(), committed + 2, "{name}");
    }
}

/// The data directory on a file system of its own, with hardly any room.
#[tokio::test]
async fn a_full_disk_stops_issuance_with_a_reason_until_there_is_room() {
    let issuer = Issuer::start();
    let home = Home::new(&issuer.config());
    let Some((ca, data)) = on_a_small_disk(&home) else {
        let missing =
            "this machine lets a test mount no file system: unshare --mount --map-root-user fails";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        eprintln!("skipped: {missing}");
        return;
    };
    // SQLite follows the link to the CA's root as if it led to ours, and so looks at a copy in the end.
    let copy = Home::new(&issuer.config());
    std::fs::create_dir(copy.data()).unwrap();
    let copy_files = |names: &[&str]| {
        for name in names {
            std::fs::copy(data.join(name), copy.data().join(name)).unwrap();
        }
    };
    copy_files(&["bundle.pem"]);
    let store = copy.store();
    let mut asker = client(&ca, &store);
    let asked = || request(jwt(issuer.token(&json!({}))));
    ask_by(&mut asker, &store, asked()).await.unwrap();
    let filler = data.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    // To the last byte.
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    drop(file);

    let mut issued = 1;
    let refused = loop {
        match ask_by(&mut asker, &store, asked()).await {
            Ok(_) => issued += 1,
            Err(refused) => break refused,
        }
        assert!(issued < 1000, "the disk is full at some time");
    };
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(
        refused.message(),
        "the CA cannot issue now, for a reason that its log tells (log); try again"
    );
    ca.said().wait_for("database or disk is full");

    std::fs::remove_file(&filler).unwrap();
    ask_by(&mut asker, &store, asked()).await.unwrap();
    copy_files(&["ca.db", "ca.db-wal"]);
    assert_eq!(
        logged(&copy).len(),
        1 + issued + 1,
        "its own, and each that was handed out"
    );
}

/// A CA in a mount namespace of its own, and the path by which others see its data directory.
fn on_a_small_disk(home: &Home) -> Option<(Ca, PathBuf)> {
    let works = Command::new("unshare")
        .args([
            "--mount",
            "--map-root-user",
            "mount",
            "-t",
            "tmpfs",
            "none",
            "/mnt",
        ])
        .output();
    if !works.is_ok_and(|output| output.status.success()) {
        return None;
    }
    std::fs::create_dir(home.data()).unwrap();
    let script = r#"mount -t tmpfs -o size=1m,mode=700 none "$1" && exec "$2" serve --config "$3" "$4" "$5""#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(home.data())
        .arg(env!("CARGO_BIN_EXE_countersign-ca"))
        .arg(home.config())
        .env_remove("RUST_LOG");
    let ca = Starting::spawn(command).ready();
    let root = PathBuf::from(format!("/proc/{}/root", ca.id()));
    let data = root.join(home.data().strip_prefix("/").unwrap());
    Some((ca, data))
}

/// The places that a change of the authorities passes, in their order.
const AUTHORITY_POINTS: [&str; 5] = [
    "after-root-key",
    "after-intermediate-key",
    "before-authority-state",
    "after-authority-state",
    "after-bundle",
];

#[test]
fn a_rotation_that_is_cut_short_anywhere_goes_on() {
    for point in AUTHORITY_POINTS {
        cut_short_at(point, &Home::new(""));
    }
}

#[test]
fn a_rotation_of_replicas_that_is_cut_short_anywhere_goes_on() {
    for point in AUTHORITY_POINTS {
        let Some(postgres) = Postgres::start() else {
            return;
        };
        let [home, other] = Home::replicas(&postgres.storage(), "");
        cut_short_at(point, &home);
        // The other one has not been there, and has all of it.
        let ca = Ca::start(&other);
        let bundle = |home: &Home| std::fs::read(home.data().join("bundle.pem")).unwrap();
        assert_eq!(bundle(&home), bundle(&other), "{point}");
        assert!(ca.stop().success(), "{point}");
    }
}

/// A first start, and then each step of a rotation, dies there, and is taken again.
fn cut_short_at(point: &str, home: &Home) {
    let fault = format!("{point}:abort");
    let first = Ca::starting(home, "COUNTERSIGN_FAULT", &fault);
    assert!(!first.ends().success(), "the first start passes {point}");
    assert!(Ca::start(home).stop().success(), "{point}");
    let mut cut_short = 0;
    for step in [
        &["prepare"][..],
        &["activate", "--force"],
        &["taint"],
        &["revoke", "--force"],
    ] {
        let mut command = binary("root", &home.config());
        command.args(step).env("COUNTERSIGN_FAULT", &fault);
        cut_short += usize::from(!command.output().unwrap().status.success());
        // Whatever there is now can be served from.
        assert!(Ca::start(home).stop().success(), "{point} {step:?}");
        let again = home.root(step);
        let said = String::from_utf8_lossy(&again.stderr).into_owned();
        assert!(again.status.success(), "{point} {step:?}: {said}");
        assert!(Ca::start(home).stop().success(), "{point} {step:?}");
    }
    assert!(cut_short > 0, "some step passes {point}");
    let status = home.root(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let roots = status["roots"].as_array().unwrap();
    let phases: Vec<_> = roots
        .iter()
        .map(|root| root["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["revoked", "active"], "{point}");
    let bundle = std::fs::read_to_string(home.data().join("bundle.pem")).unwrap();
    assert_eq!(bundle.matches("BEGIN").count(), 1, "{point}");
}
