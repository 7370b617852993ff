//! What the real binary says when it cannot start.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

fn run(directory: &tempfile::TempDir, config: &str) -> Output {
    let path = directory.path().join("control.yaml");
    fs::write(&path, config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_countersign-control"))
        .arg("--config")
        .arg(path)
        .output()
        .unwrap()
}

fn config(listen: &str, bundle: &str) -> String {
    format!(
        "trustDomain: shop.example\nlisten: {listen}\nops: 127.0.0.1:0\nstateDirectory: state\n\
         identity: {{ca: \"127.0.0.1:1\", bundle: {bundle}, joinTokenFile: token}}\n\
         policy: {{repository: policy}}\ndirectory: directory.yaml\n"
    )
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_mistake_of_the_configuration_is_told_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let text = config("127.0.0.1", "bundle.pem").replace("directory:", "direktory:");
    let told = refused(&run(&directory, &text));
    let path = directory.path().join("control.yaml").display().to_string();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 3, "{told}");
    assert_eq!(lines[0], format!("{path}:1:1: missing field `directory`"));
    assert!(
        lines[1].starts_with(&format!(
            "{path}:2:9: expected an address such as 127.0.0.1:15012"
        )),
        "{told}"
    );
    assert_eq!(
        lines[2],
        format!("{path}:7:1: unknown field `direktory`, did you mean `directory`?")
    );
    assert!(
        !directory.path().join("state").exists(),
        "nothing is started"
    );
}

#[test]
fn a_missing_bundle_token_or_port_is_named_with_its_setting() {
    let directory = tempfile::tempdir().unwrap();
    let told = refused(&run(&directory, &config("127.0.0.1:0", "bundle.pem")));
    assert!(
        told.contains("bundle.pem (identity.bundle), by which the CA is known: "),
        "{told}"
    );

    let key = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    fs::write(directory.path().join("bundle.pem"), key.cert.pem()).unwrap();
    let told = refused(&run(&directory, &config("127.0.0.1:0", "bundle.pem")));
    assert!(told.contains("bundle.pem (identity.bundle): "), "{told}");

    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let pem = authority.self_signed(&key.signing_key).unwrap().pem();
    fs::write(directory.path().join("bundle.pem"), pem).unwrap();
    let told = refused(&run(&directory, &config("127.0.0.1:0", "bundle.pem")));
    assert!(
        told.contains("cannot read the join token") && told.contains("countersign-ca join-token"),
        "{told}"
    );

    fs::write(directory.path().join("token"), "token").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let told = refused(&run(&directory, &config(&address, "bundle.pem")));
    assert!(
        told.contains(&format!(
            "cannot listen on {address} (`listen` of the configuration)"
        )),
        "{told}"
    );
}

#[test]
fn two_do_not_share_a_state_directory() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("state")).unwrap();
    let lock = fs::File::create(directory.path().join("state/lock")).unwrap();
    lock.lock().unwrap();
    let told = refused(&run(&directory, &config("127.0.0.1:0", "bundle.pem")));
    assert!(
        told.contains("another countersign-control uses the state directory"),
        "{told}"
    );
}
