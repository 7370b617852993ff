//! A sidecar's life: it becomes ready, renews its identity, outlives the control plane, and drains.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

use countersign_integration::http;
use countersign_integration::mesh::{Mesh, PATIENCE, Workload, eventually, metric, until_ready};
use countersign_integration::shop::{self, POLICY, WEB};
use serde_json::Value;

const ORDERS: Workload<'static> = Workload {
    calls: &[(16001, "payments.shop:9090")],
    ..shop::ORDERS
};

const PAYMENTS: Workload<'static> = Workload {
    name: "payments",
    host: 12,
    port: 9090,
    calls: &[],
};

const CONNECTED: &str = "countersign_proxy_control_connected";
const NOT_AFTER: &str = "countersign_proxy_identity_not_after_timestamp_seconds";

fn mesh(svid: &str) -> Mesh {
    let mesh = Mesh::new(svid, &[ORDERS, PAYMENTS, WEB]).unwrap();
    mesh.write("policy/orders.yaml", POLICY).unwrap();
    mesh
}

fn ops(mesh: &Mesh) -> SocketAddr {
    mesh.address(ORDERS.host, 15020)
}

fn is_ready(ops: SocketAddr) -> bool {
    matches!(http::get(ops, "/ready"), Ok((200, _)))
}

/// What the control plane says of itself.
fn status(mesh: &Mesh) -> Value {
    let (_, status) = http::get(mesh.control_ops(), "/status").unwrap();
    serde_json::from_str(&status).unwrap()
}

/// The revision that the control plane has accepted.
fn revision(mesh: &Mesh) -> String {
    status(mesh)["policy"]["revision"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn has_in_force(ops: SocketAddr, revision: &str) -> bool {
    let name = format!("countersign_proxy_policy_info{{revision=\"{revision}\"}}");
    metric(ops, &name).is_ok_and(|value| value == 1.0)
}

#[test]
fn becomes_ready_renews_outlives_control_and_drains() {
    // So short that half of it is over within the test.
    let mesh = mesh("{defaultTtl: 6s, minTtl: 2s}");
    let _ca = mesh.start_ca().unwrap();
    let control = mesh.start_control().unwrap();
    let token = mesh.join_token("shop", "orders").unwrap();
    let sidecar = mesh.start_sidecar("orders").unwrap();
    let ops = ops(&mesh);
    until_ready("the sidecar", ops).unwrap();
    assert!(!token.exists(), "the token is of use once, and removed");
    let first = revision(&mesh);
    assert!(has_in_force(ops, &first));

    let not_after = metric(ops, NOT_AFTER).unwrap();
    eventually("a renewal", || {
        metric(ops, NOT_AFTER).is_ok_and(|renewed| renewed > not_after)
    })
    .unwrap();
    assert!(is_ready(ops));

    // Losing the control plane is not failing.
    assert!(control.terminate().unwrap().success());
    eventually("the loss to be seen", || {
        metric(ops, CONNECTED).is_ok_and(|value| value == 0.0)
    })
    .unwrap();
    assert!(is_ready(ops));
    assert!(has_in_force(ops, &first));

    mesh.write(
        "policy/orders.yaml",
        &POLICY.replace("shop/web", "shop/checkout"),
    )
    .unwrap();
    let _control = mesh.start_control().unwrap();
    let second = revision(&mesh);
    assert_ne!(first, second);
    eventually("the new policy", || has_in_force(ops, &second)).unwrap();
    assert_eq!(metric(ops, CONNECTED).unwrap(), 1.0);

    // A bad change is the control plane's to refuse: the sidecar hears nothing of it.
    mesh.write("policy/orders.yaml", "kind: AccessPolicy")
        .unwrap();
    eventually("the refusal", || {
        !status(&mesh)["policy"]["rejected"].is_null()
    })
    .unwrap();
    assert!(has_in_force(ops, &second));
    mesh.write("policy/orders.yaml", POLICY).unwrap();
    eventually("the first policy again", || has_in_force(ops, &first)).unwrap();

    let ended = sidecar.terminate().unwrap();
    assert!(ended.success(), "{ended}");
}

#[test]
fn waits_for_a_ca_and_a_control_plane_that_come_later() {
    let mesh = mesh("{defaultTtl: 1h}");
    // The CA has to have been there once, to make the bundle that a sidecar is given.
    let ca = mesh.start_ca().unwrap();
    mesh.join_token("shop", "orders").unwrap();
    assert!(ca.terminate().unwrap().success());

    let sidecar = mesh.start_sidecar("orders").unwrap();
    let ops = ops(&mesh);
    let says = |text: &str| {
        http::get(ops, "/ready").is_ok_and(|(status, said)| status == 503 && said.contains(text))
    };
    eventually("the missing CA to be told", || says("identity: the CA at ")).unwrap();
    let _ca = mesh.start_ca().unwrap();
    eventually("the identity", || {
        metric(ops, NOT_AFTER).is_ok_and(|value| value > 0.0)
    })
    .unwrap();
    eventually("the missing control plane to be told", || {
        says("policy: ") && !says("identity: ")
    })
    .unwrap();
    let _control = mesh.start_control().unwrap();
    until_ready("the sidecar", ops).unwrap();
    assert!(sidecar.terminate().unwrap().success());
}

#[test]
fn what_cannot_work_ends_with_2_and_says_why() {
    let mesh = mesh("{defaultTtl: 1h}");
    let _ca = mesh.start_ca().unwrap();

    // A mistake in the configuration: every one is told.
    let good = std::fs::read_to_string(mesh.path("orders.yaml")).unwrap();
    mesh.write(
        "orders.yaml",
        &good
            .replace("control: ", "contrl: ")
            .replace("workload: orders\n", ""),
    )
    .unwrap();
    let mut sidecar = mesh.start_sidecar("orders").unwrap();
    assert_eq!(sidecar.wait().unwrap().code(), Some(2));
    let told = sidecar.stderr().unwrap();
    for mistake in [
        "missing field `workload`",
        "missing field `control`",
        "unknown field `contrl`, did you mean `control`?",
    ] {
        assert!(told.contains(mistake), "{told}");
    }
    mesh.write("orders.yaml", &good).unwrap();

    // A token that the CA never made.
    mesh.write("orders.token", "not-a-token-of-this-ca")
        .unwrap();
    let mut sidecar = mesh.start_sidecar("orders").unwrap();
    assert_eq!(sidecar.wait().unwrap().code(), Some(2));
    let told = sidecar.stderr().unwrap();
    assert!(told.contains("orders.token was refused: "), "{told}");

    // A port that somebody else has.
    mesh.join_token("shop", "orders").unwrap();
    let taken = mesh.address(ORDERS.host, 16001);
    let _holder = TcpListener::bind(taken).unwrap();
    let mut sidecar = mesh.start_sidecar("orders").unwrap();
    assert_eq!(sidecar.wait().unwrap().code(), Some(2));
    let told = sidecar.stderr().unwrap();
    let expected = format!(
        "cannot listen on {taken}, which is `outbound` for payments.shop:9090 of this sidecar: "
    );
    assert!(told.contains(&expected), "{told}");
    assert!(
        mesh.path("orders.token").exists(),
        "the token is kept for the next attempt"
    );
}

/// An application that answers one request, when it is told to.
struct SlowApplication {
    arrived: mpsc::Receiver<()>,
    answer: mpsc::Sender<()>,
}

impl SlowApplication {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let (tell_arrived, arrived) = mpsc::channel();
        let (answer, may_answer) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let head = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map(Result::unwrap);
            assert!(head.take_while(|line| !line.is_empty()).count() > 0);
            tell_arrived.send(()).unwrap();
            may_answer.recv().unwrap();
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone";
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Self { arrived, answer }
    }
}

#[test]
fn a_call_in_flight_ends_before_the_sidecar_does() {
    let mesh = mesh("{defaultTtl: 1h}");
    let _ca = mesh.start_ca().unwrap();
    let _control = mesh.start_control().unwrap();
    mesh.join_token("shop", "orders").unwrap();
    mesh.join_token("shop", "web").unwrap();
    let mut orders = mesh.start_sidecar("orders").unwrap();
    let _web = mesh.start_sidecar("web").unwrap();
    let ops = ops(&mesh);
    until_ready("the sidecar of orders", ops).unwrap();
    until_ready("the sidecar of web", mesh.address(WEB.host, 15020)).unwrap();
    let application = SlowApplication::start(mesh.address(ORDERS.host, ORDERS.port));

    let outbound = mesh.address(WEB.host, 16001);
    let call = thread::spawn(move || http::get(outbound, "/orders?secret=1").unwrap());
    application.arrived.recv_timeout(PATIENCE).unwrap();
    orders.ask_to_stop().unwrap();
    let draining =
        || http::get(ops, "/ready").is_ok_and(|(_, said)| said.contains("drain: stopping"));
    eventually("the drain", draining).unwrap();
    assert_eq!(
        metric(ops, "countersign_proxy_live_calls{direction=\"inbound\"}").unwrap(),
        1.0
    );

    application.answer.send(()).unwrap();
    assert_eq!(call.join().unwrap(), (200, "done".to_owned()));
    let ended = orders.wait().unwrap();
    assert!(ended.success(), "{ended}");

    // The last line of the decision log is out before the sidecar is gone.
    let log = orders.stdout().unwrap();
    let [line] = &log.lines().collect::<Vec<_>>()[..] else {
        panic!("expected one line:\n{log}")
    };
    let decision: Value = serde_json::from_str(line).unwrap();
    assert_eq!(decision["decision"], "allow");
    assert_eq!(decision["peer"], "spiffe://shop.example/ns/shop/sa/web");
    assert_eq!(decision["policy"], "shop/orders");
    assert_eq!(decision["path"], "/orders");
    assert_eq!(decision["revision"], revision(&mesh));
}
