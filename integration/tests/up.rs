//! `countersign up` with the real programs: what it refuses, what it starts, and that nothing is left.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

#[path = "up/mesh.rs"]
mod mesh;
#[path = "up/processes.rs"]
mod processes;

use std::net::TcpListener;

use mesh::{Directory, Up, countersign};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A workload that starts a child in its own group and one that daemonises itself, and stays.
const FAMILY: &str = r#"[sh, -c, "sleep 1000 & setsid sleep 1000 & wait"]"#;

/// Four guards; CA, control plane, sidecar; the shell and its two children.
const FULL_HOUSE: usize = 10;

fn mesh_of(command: &str) -> String {
    format!(
        "trustDomain: up.test
policy: {{repository: ./policy}}
issuers:
- name: corp
  issuer: https://login.up.test
  audiences: [shop]
  users: [{{name: alice, claims: {{groups: [buyer]}}}}]
workloads:
- {{name: one, namespace: shop, command: {command}}}
"
    )
}

#[test]
fn mistakes_are_told_and_nothing_is_started() {
    let directory = Directory::new(&mesh_of("[no-such-program]").replace("policy:", "polcy:"));
    let (status, stderr) = directory.up_fails();
    assert_eq!(status, 2);
    let file = directory.mesh_file();
    let expected = [
        format!("{file}:1:1: missing field `policy`"),
        format!("{file}:2:1: unknown field `polcy`, did you mean `policy`?"),
    ];
    let told: Vec<_> = stderr.lines().collect();
    assert_eq!(
        told,
        [
            "countersign: nothing was started:",
            &expected[0],
            &expected[1]
        ]
    );
    assert!(!directory.state().exists());
}

#[test]
fn a_broken_policy_and_a_missing_command_are_told_together() {
    let directory = Directory::new(&mesh_of("[no-such-program]"));
    directory.write_policy("apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: 5\n");
    let (status, stderr) = directory.up_fails();
    assert_eq!(status, 2);
    assert!(stderr.contains("policy.yaml:3:11: "), "{stderr}");
    assert!(
        stderr.contains("workload one: the command no-such-program was not found"),
        "{stderr}"
    );
    assert!(!directory.state().join("mesh.json").exists());
}

#[test]
fn a_port_in_use_is_told_with_who_wants_it() {
    let directory = Directory::new(&mesh_of("[sleep, '1000']"));
    let up = Up::start(&directory);
    let wire = up.state()["workloads"][0]["wire"]
        .as_str()
        .unwrap()
        .to_owned();
    up.stop(Signal::SIGTERM);
    let _taken = TcpListener::bind(&wire).unwrap();
    let (status, stderr) = directory.up_fails();
    assert_eq!(status, 2);
    let expected = format!("port {wire} is in use, wanted by the sidecar of workload one");
    assert!(stderr.contains(&expected), "{stderr}");
}

#[test]
fn everything_stops_in_the_opposite_order() {
    let directory = Directory::new(&mesh_of(FAMILY));
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let up = Up::start(&directory);
        let children = processes::wait_for_descendants(up.pid(), FULL_HOUSE);
        let events = up.stop(signal);
        let of = |event: &str| -> Vec<_> {
            let these = events.iter().filter(|told| told["event"] == event);
            these.map(|told| told["role"].as_str().unwrap()).collect()
        };
        assert_eq!(of("ready"), ["ca", "control", "sidecar", "workload"]);
        assert_eq!(of("stopped"), ["workload", "sidecar", "control", "ca"]);
        processes::assert_gone(&children);
    }
}

/// proc(5): a process's `name` in `stat` has 15 characters.
#[test]
fn programs_that_hold_private_keys_write_no_core_dump() {
    let directory = Directory::new(&mesh_of("[sleep, '1000']"));
    let up = Up::start(&directory);
    let children = processes::descendants(up.pid());
    for name in ["countersign-ca", "countersign-con", "countersign-pro"] {
        let these: Vec<_> = children.iter().filter(|child| child.name == name).collect();
        assert!(!these.is_empty(), "no {name} among {children:?}");
        for process in these {
            assert_eq!(processes::core_limits(process), ["0", "0"], "{name}");
        }
    }
    up.stop(Signal::SIGTERM);
}

#[test]
fn nothing_is_left_when_up_is_killed() {
    let directory = Directory::new(&mesh_of(FAMILY));
    let up = Up::start(&directory);
    let children = processes::wait_for_descendants(up.pid(), FULL_HOUSE);
    up.kill();
    processes::wait_until_gone(&children);
    // And the next start finds everything free again.
    Up::start(&directory).stop(Signal::SIGTERM);
}

#[test]
fn a_second_start_has_the_same_roots_and_addresses() {
    let directory = Directory::new(&mesh_of("[sleep, '1000']"));
    let first = Up::start(&directory);
    let (state, roots) = (first.state(), directory.roots());
    // Meanwhile nobody else can use the directory.
    let (status, stderr) = directory.up_fails();
    assert_eq!(status, 2);
    assert!(
        stderr.contains("a mesh is up already with the state directory"),
        "{stderr}"
    );
    first.stop(Signal::SIGTERM);

    let second = Up::start(&directory);
    assert_eq!(directory.roots(), roots);
    assert_eq!(second.state()["workloads"], state["workloads"]);
    second.stop(Signal::SIGTERM);
}

#[test]
fn two_meshes_are_up_at_once() {
    let (one, two) = (
        Directory::new(&mesh_of("[sleep, '1']")),
        Directory::new(&mesh_of("[sleep, '1']")),
    );
    let (one, two) = (Up::start(&one), Up::start(&two));
    assert_ne!(one.state()["ca"], two.state()["ca"]);
    one.stop(Signal::SIGTERM);
    two.stop(Signal::SIGTERM);
}

#[test]
fn a_child_that_dies_is_told_with_its_last_words_and_started_again() {
    let directory = Directory::new(&mesh_of(r#"[sh, -c, "echo out of luck >&2; exit 3"]"#));
    let mut up = Up::start(&directory);
    let died = up.wait_for(|event| event["event"] == "died" && event["role"] == "workload");
    assert_eq!(died["how"], "exit status 3");
    assert_eq!(died["last_lines"], serde_json::json!(["out of luck"]));
    up.wait_for(|event| event["event"] == "starting" && event["role"] == "workload");
    // A program of the mesh likewise: the sidecar gets a new join token and is ready again.
    let sidecar = processes::descendants(up.pid())
        .into_iter()
        .find(|process| process.name == "countersign-pro")
        .unwrap();
    processes::kill(&sidecar);
    let died = up.wait_for(|event| event["event"] == "died" && event["role"] == "sidecar");
    assert_eq!(died["how"], "killed by SIGKILL");
    up.wait_for(|event| event["event"] == "ready" && event["role"] == "sidecar");
    up.stop(Signal::SIGTERM);
}

#[test]
fn a_bad_commit_is_refused_and_a_good_one_is_taken() {
    let directory = Directory::new(&mesh_of("[sleep, '1000']"));
    let good = directory.commit_policy(mesh::POLICY);
    let mut up = Up::start(&directory);
    let is = |word: &'static str, revision: String| {
        move |event: &Value| event["event"] == word && event["revision"] == revision
    };
    up.wait_for(is("policy-taken", good.clone()));
    let bad = directory.commit_policy("apiVersion: countersign.dev/v1\nkind: AccessPolicy\n");
    let refused = up.wait_for(is("policy-refused", bad));
    assert_eq!(refused["stays"], good);
    let mistake = refused["mistakes"][0].as_str().unwrap();
    assert!(mistake.starts_with("policy.yaml:1:1: "), "{mistake}");
    let better = directory.commit_policy(&mesh::POLICY.replace("nobody", "somebody"));
    up.wait_for(is("policy-taken", better));
    up.stop(Signal::SIGTERM);
}

#[test]
fn tokens_are_minted_and_certificates_inspected() {
    let directory = Directory::new(&mesh_of("[sleep, '1000']"));
    let state = directory.state().display().to_string();
    let refused = countersign(&["token", "mint", "alice", "--state", &state]);
    assert_eq!(refused.status.code(), Some(2));
    let up = Up::start(&directory);

    let minted = countersign(&["token", "mint", "alice", "--ttl", "-5m", "--state", &state]);
    assert_eq!(minted.status.code(), Some(0), "{minted:?}");
    let token = String::from_utf8(minted.stdout).unwrap();
    let inspected = countersign(&["token", "inspect", token.trim(), "-o", "json"]);
    assert_eq!(inspected.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(report["claims"]["sub"], "alice");
    assert_eq!(report["validity"]["state"], "expired");

    let wire = up.state()["workloads"][0]["wire"]
        .as_str()
        .unwrap()
        .to_owned();
    let inspected = countersign(&["cert", "inspect", &wire, "--state", &state, "-o", "json"]);
    let report: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected.status.code(), Some(0), "{report:#}");
    assert_eq!(
        report["certificates"][0]["spiffe_id"],
        "spiffe://up.test/ns/shop/sa/one"
    );
    assert_eq!(report["verdict"], "good", "{report:#}");
    assert_eq!(report["groups"][0]["trust"]["verified"], true, "{report:#}");
    assert_eq!(
        report["connection"]["client_certificate"]["outcome"],
        "required"
    );
    up.stop(Signal::SIGTERM);
}
