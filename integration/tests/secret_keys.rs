//! The CA's keys in a Secret of a real kube-apiserver.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that fails should fail where it stands"
)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use countersign_integration::kubernetes::Cluster;
use countersign_integration::mesh::{Mesh, eventually};
use countersign_integration::programs::program;
use serde_json::{Value, json};

const DOCUMENT: &str = include_str!("../../docs/ca-keys.md");
const SECRET: &str = "/api/v1/namespaces/countersign-system/secrets/countersign-ca-keys";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// The block of the documentation that is marked so.
fn block(name: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("```yaml {name}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// A CA whose keys are in the Secret.
fn ca(cluster: &Cluster, token: &Path) -> Mesh {
    let mesh = Mesh::new("{defaultTtl: 1h}", &[]).unwrap();
    let config = fs::read_to_string(mesh.path("ca.yaml")).unwrap();
    let api_server = format!(
        "name: countersign-ca-keys, apiServer: {{url: '{}', caFile: {}, tokenFile: {}}}}}",
        cluster.issuer(),
        cluster.path("ca.pem").display(),
        token.display()
    );
    let secret = block("secret").replace("name: countersign-ca-keys}", &api_server);
    assert!(secret.contains("apiServer"));
    mesh.write("ca.yaml", &format!("{config}{secret}")).unwrap();
    mesh
}

/// Runs the CA, which ends by itself: what it says.
fn run(mesh: &Mesh, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program("countersign-ca").unwrap())
        .args(arguments)
        .arg("--config")
        .arg(mesh.path("ca.yaml"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    (output.status.success(), said)
}

fn entries(cluster: &Cluster) -> Vec<String> {
    let secret = cluster.get(SECRET).unwrap();
    let data = secret["data"].as_object().unwrap();
    data.keys().cloned().collect()
}

fn count(entries: &[String], kind: &str) -> usize {
    entries.iter().filter(|name| name.starts_with(kind)).count()
}

#[test]
fn keys_live_in_a_secret_that_nobody_overwrites() {
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    let token = cluster.ca_account().unwrap();

    // Without the rights.
    let meshes: Vec<_> = (0..4).map(|_| ca(&cluster, &token)).collect();
    let (started, said) = run(&meshes[0], &["serve"]);
    assert!(!started);
    assert!(
        said.contains("it needs to get and update this Secret"),
        "{said}"
    );
    assert!(!said.contains(fs::read_to_string(&token).unwrap().trim()));

    let (role, binding) = block("rbac").split_once("---\n").unwrap();
    cluster.create_yaml(RBAC, "roles", role).unwrap();
    cluster.create_yaml(RBAC, "rolebindings", binding).unwrap();

    // Four CAs make the Secret, and their keys in it, at once.
    let running: Vec<_> = thread::scope(|scope| {
        let starting: Vec<_> = meshes
            .iter()
            .map(|mesh| scope.spawn(|| mesh.start_ca().unwrap()))
            .collect();
        let running = starting.into_iter().map(|start| start.join().unwrap());
        running.collect()
    });
    let all = entries(&cluster);
    for (kind, expected) in [("root-", 4), ("intermediate-", 4), ("token-", 8)] {
        assert_eq!(count(&all, kind), expected, "{all:?}");
    }
    for mesh in &meshes {
        assert!(!mesh.path("ca/keys").exists());
    }
    let labels = cluster.get(SECRET).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["app.kubernetes.io/managed-by"], "countersign-ca");

    // A command makes keys, and the CA that runs finds them there.
    for step in [
        &["root", "prepare"][..],
        &["root", "activate", "--force"],
        &["root", "taint"],
    ] {
        let (done, said) = run(&meshes[0], step);
        assert!(done, "{said}");
    }
    let all = entries(&cluster);
    assert_eq!((count(&all, "root-"), count(&all, "intermediate-")), (5, 5));
    eventually("the CA to sign with the new key", || {
        running[0].stderr().unwrap().contains("tainted=1")
    })
    .unwrap();

    // It is used again, and what else somebody wrote into the Secret stays.
    cluster
        .patch(SECRET, &json!({"data": {"note": "bm90ZQ=="}}))
        .unwrap();
    drop(running);
    let bundle = fs::read(meshes[0].path("ca/bundle.pem")).unwrap();
    let again = meshes[0].start_ca().unwrap();
    assert_eq!(fs::read(meshes[0].path("ca/bundle.pem")).unwrap(), bundle);
    let (done, said) = run(&meshes[0], &["root", "prepare"]);
    assert!(done, "{said}");
    assert!(entries(&cluster).contains(&"note".to_owned()));
    drop(again);

    // A damaged entry, and a Secret that is gone, stop the start by their names.
    let name = entries(&cluster)
        .into_iter()
        .find(|name| {
            let state = fs::read_to_string(meshes[1].path("ca/authority.json")).unwrap();
            let state: Value = serde_json::from_str(&state).unwrap();
            let key = state["intermediates"][0]["key"]
                .as_str()
                .unwrap()
                .to_owned();
            *name == format!("{key}.key.pem")
        })
        .unwrap();
    let damage = json!({"data": {&name: "ZGFtYWdlZA=="}});
    cluster.patch(SECRET, &damage).unwrap();
    let (started, said) = run(&meshes[1], &["serve"]);
    assert!(!started && said.contains(&name), "{said}");
    assert!(said.contains("expected a P-256 private key"), "{said}");
    cluster.delete(SECRET).unwrap();
    let (started, said) = run(&meshes[2], &["serve"]);
    assert!(!started, "{said}");
    assert!(
        said.contains("in the Secret countersign-system/countersign-ca-keys"),
        "{said}"
    );
}
