//! A CA that is away, for longer than certificates live: sidecars go on until theirs ends, then fail closed, and recover by
//! themselves when it is back; and it serves all of them when they come at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use countersign_api::svid::{Evidence, SvidClient};
use countersign_identity::{Bundle, IdentityStore, TrustDomain};
use countersign_integration::http;
use countersign_integration::issuer::Issuer;
use countersign_integration::mesh::{
    Mesh, TRUST_DOMAIN, Workload, eventually, metric, until_ready,
};
use countersign_integration::programs::program;
use tokio::task::JoinSet;

const ORDERS: Workload<'static> = Workload {
    name: "orders",
    host: 11,
    port: 8080,
    calls: &[],
};

const WEB: Workload<'static> = Workload {
    name: "web",
    host: 13,
    port: 80,
    calls: &[(16001, "orders.shop:8080")],
};

const POLICY: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - {name: web, action: allow, from: [{workload: shop/web}]}
";

const NOT_AFTER: &str = "countersign_proxy_identity_not_after_timestamp_seconds";
/// Longer than a test lasts.
const HOUR: Duration = Duration::from_secs(3600);

/// An application that answers every request.
fn serve(address: SocketAddr) {
    use std::io::{BufRead as _, BufReader, Write as _};
    let listener = std::net::TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            thread::spawn(move || {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                for _ in lines.filter(String::is_empty) {
                    // A caller that goes away is its own affair.
                    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                }
            });
        }
    });
}

fn seconds_now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

#[test]
fn a_sidecar_goes_on_until_its_svid_ends_then_fails_closed_and_recovers_by_itself() {
    let mesh = Mesh::new("{defaultTtl: 8s, minTtl: 2s}", &[ORDERS, WEB]).unwrap();
    mesh.write("policy/orders.yaml", POLICY).unwrap();
    let issuer = Issuer::new().unwrap();
    mesh.attest_by(&issuer, &["orders", "web"]).unwrap();
    for workload in ["orders", "web"] {
        let token = issuer.token(workload, HOUR).unwrap();
        mesh.write(&format!("{workload}.jwt"), &token).unwrap();
    }
    let ca = mesh.start_ca().unwrap();
    let _control = mesh.start_control().unwrap();
    let _orders = mesh.start_sidecar("orders").unwrap();
    let _web = mesh.start_sidecar("web").unwrap();
    serve(mesh.address(ORDERS.host, ORDERS.port));
    let sidecars = [ORDERS, WEB].map(|workload| mesh.address(workload.host, 15020));
    for ops in sidecars {
        until_ready("a sidecar", ops).unwrap();
    }
    let outbound = mesh.address(WEB.host, 16001);
    let call = || http::get(outbound, "/orders");
    eventually("a call to be answered", || {
        call().is_ok_and(|(status, _)| status == 200)
    })
    .unwrap();

    assert!(ca.terminate().unwrap().success());
    // Calls go on for as long as both certificates are good.
    let ends = sidecars.map(|ops| metric(ops, NOT_AFTER).unwrap());
    let ends = ends.into_iter().fold(f64::INFINITY, f64::min);
    let mut answered = 0;
    loop {
        let (status, said) = call().unwrap();
        if seconds_now() >= ends {
            break;
        }
        assert_eq!(status, 200, "{said}");
        answered += 1;
    }
    assert!(
        answered > 0,
        "the certificates ended before there was a call"
    );

    // Then nothing goes through, and everybody is told.
    for ops in sidecars {
        eventually("the end of the identity to be told", || {
            let expired = "identity: the SVID has expired";
            http::get(ops, "/ready")
                .is_ok_and(|(status, said)| status == 503 && said.contains(expired))
        })
        .unwrap();
    }
    let (status, said) = call().unwrap();
    assert_eq!(status, 503, "{said}");
    assert!(said.contains("no valid SVID"), "{said}");

    // Nobody touches the sidecars: they attest anew.
    let _ca = mesh.start_ca().unwrap();
    for ops in sidecars {
        until_ready("a sidecar, again", ops).unwrap();
    }
    eventually("calls to be answered again", || {
        call().is_ok_and(|(status, _)| status == 200)
    })
    .unwrap();
}

/// So many that the CA has to make them wait, and so few that they fit beside other tests.
const CLIENTS: usize = 200;

#[test]
fn a_ca_that_was_down_for_a_lifetime_serves_all_who_come_back_at_once() {
    let mesh = Mesh::new("{defaultTtl: 10s, minTtl: 2s}", &[]).unwrap();
    let issuer = Issuer::new().unwrap();
    mesh.attest_by(&issuer, &[]).unwrap();
    let evidence = mesh.path("client.jwt");
    mesh.write("client.jwt", &issuer.token("client", HOUR).unwrap())
        .unwrap();
    let ca = mesh.start_ca().unwrap();
    let pem = std::fs::read_to_string(mesh.path("ca/bundle.pem")).unwrap();
    let trust_domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
    let bundle = Bundle::from_pem(trust_domain, &pem).unwrap();
    let stores: Vec<_> = (0..CLIENTS)
        .map(|_| IdentityStore::new(bundle.clone()))
        .collect();

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut clients = JoinSet::new();
    for store in &stores {
        let evidence = Evidence::JwtFile(evidence.clone());
        let client = SvidClient::new(Arc::clone(store), mesh.ca().to_string(), evidence);
        clients.spawn_on(client.keep_fresh(std::future::pending()), runtime.handle());
    }
    let are_valid = || {
        let now = SystemTime::now();
        stores
            .iter()
            .filter(|store| store.svid().is_some_and(|svid| svid.not_after() > now))
            .count()
    };
    eventually("everybody's SVID", || are_valid() == CLIENTS).unwrap();
    assert!(ca.terminate().unwrap().success());
    eventually("everybody's SVID to end", || are_valid() == 0).unwrap();

    let ca = mesh.start_ca().unwrap();
    eventually("everybody's SVID, again", || are_valid() == CLIENTS).unwrap();
    let refused = http::get(mesh.ca_ops(), "/metrics").unwrap().1;
    let refused: Vec<&str> = refused
        .lines()
        .filter(|line| line.starts_with("countersign_ca_refused_total"))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    drop(clients);
    drop(runtime);
    assert!(ca.terminate().unwrap().success());

    // All of it is in the log.
    let verified = std::process::Command::new(program("countersign-ca").unwrap())
        .args(["log", "verify", "--config"])
        .arg(mesh.path("ca.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{said}");
}
