//! What a running sidecar shows: by its address, by its pod, and to a client of older TLS.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use countersign_integration::kubernetes::Cluster;
use countersign_integration::mesh::{Mesh, until_ready};
use countersign_integration::process::Program;
use countersign_integration::shop::{ORDERS, POLICY};
use countersign_integration::tools::is_there;
use serde_json::json;

use super::{Done, command, issue, run};

struct Running {
    mesh: Mesh,
    _programs: [Program; 3],
}

impl Running {
    fn start() -> Self {
        let mesh = Mesh::new("{defaultTtl: 1h}", &[ORDERS]).unwrap();
        mesh.write("policy/orders.yaml", POLICY).unwrap();
        let (ca, control) = (mesh.start_ca().unwrap(), mesh.start_control().unwrap());
        mesh.join_token("shop", "orders").unwrap();
        let sidecar = mesh.start_sidecar("orders").unwrap();
        until_ready("the sidecar", mesh.address(ORDERS.host, 15020)).unwrap();
        Self {
            mesh,
            _programs: [ca, control, sidecar],
        }
    }

    fn wire(&self) -> SocketAddr {
        self.mesh.address(ORDERS.host, 15008)
    }
}

const ID: &str = "spiffe://shop.example/ns/shop/sa/orders";

#[test]
fn a_sidecar_speaks_tls_1_3_and_nothing_older() {
    let running = Running::start();
    let shakes_hands = |version: &str| {
        let output = Command::new("openssl")
            .args(["s_client", version, "-connect", &running.wire().to_string()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let new = shakes_hands("-tls1_3");
    assert!(new.contains("New, TLSv1.3"), "{new}");
    for version in ["-tls1_2", "-tls1_1"] {
        let old = shakes_hands(version);
        let refused = old.contains("no peer certificate available") && old.contains("alert");
        assert!(
            refused || old.contains("no protocols available"),
            "{version}: {old}"
        );
    }
    let address = running.wire().to_string();
    let arguments = [
        "cert",
        "inspect",
        &address,
        "--bundle",
        "ca/bundle.pem",
        "-o",
        "json",
    ];
    let report = run(command(&running.mesh, &arguments)).json();
    assert_eq!(report["certificates"][0]["spiffe_id"], ID);
    assert_eq!(report["connection"]["version"], "TLS 1.3");
}

/// The pods are objects of a real API server; no kubelet runs them, and one has the address of the sidecar.
#[test]
fn a_pod_is_found_and_its_sidecar_inspected() {
    if !is_there("kubectl", "apt-get install kubernetes-client") {
        return;
    }
    let Some(cluster) = Cluster::start().unwrap() else {
        return;
    };
    let running = Running::start();
    let mesh = &running.mesh;
    cluster.service_account("shop", "orders").unwrap();
    let pod = |name: &str, address: Option<SocketAddr>| {
        cluster.pod("shop", name, "orders", None).unwrap();
        if let Some(address) = address.map(|address| address.ip()) {
            let status = json!({"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]});
            let path = format!("/api/v1/namespaces/shop/pods/{name}/status");
            cluster.patch(&path, &json!({"status": status})).unwrap();
        }
    };
    pod("orders-1", Some(running.wire()));
    pod("orders-2", None);
    pod("orders-3", Some(mesh.address(77, 15008)));
    let kubeconfig = cluster.kubeconfig().unwrap();
    let countersign = |arguments: &[&str]| -> Done {
        let mut command = command(mesh, arguments);
        command.env("KUBECONFIG", &kubeconfig);
        run(command)
    };
    let inspect = [
        "cert",
        "inspect",
        "shop/orders-1",
        "--bundle",
        "ca/bundle.pem",
    ];
    let told = countersign(&inspect);
    assert_eq!(told.status, 0, "{}{}", told.stdout, told.stderr);
    assert!(
        told.stdout.starts_with("pod shop/orders-1: TLS handshake"),
        "{}",
        told.stdout
    );
    let report = countersign(&[&inspect[..], &["-o", "json"]].concat()).json();
    assert_eq!(report["certificates"][0]["spiffe_id"], ID);
    assert_eq!(report["groups"][0]["trust"]["verified"], true);
    assert_eq!(report["connection"]["address"], running.wire().to_string());
    assert_eq!(
        report["connection"]["client_certificate"]["outcome"],
        "required"
    );

    // With an SVID of the mesh, the sidecar is content.
    mesh.join_token("shop", "web").unwrap();
    let issued = issue(mesh, &["--join-token-file", "web.token", "--out", "."], &[]);
    assert_eq!(issued.status, 0, "{}", issued.stderr);
    let own = ["-o", "json", "--cert", "svid.pem", "--key", "svid_key.pem"];
    let report = countersign(&[&inspect[..], &own[..]].concat()).json();
    assert_eq!(
        report["connection"]["client_certificate"]["outcome"],
        "accepted"
    );
    let verify = [
        "cert",
        "verify",
        "shop/orders-1",
        "--bundle",
        "ca/bundle.pem",
        "--id",
        ID,
    ];
    assert_eq!(countersign(&verify).status, 0);

    for (pod, expected) in [
        (
            "shop/orders-2",
            "pod shop/orders-2 has no address: it is Pending",
        ),
        ("shop/orders-9", "kubectl does not find it"),
        (
            "shop/orders-3",
            "nor `kubectl port-forward` leads to its sidecar on port 15008",
        ),
    ] {
        let failed = countersign(&["cert", "inspect", pod]);
        assert_eq!(failed.status, 2, "{}", failed.stdout);
        assert!(
            failed.stderr.contains(expected),
            "{expected}: {}",
            failed.stderr
        );
    }
}
