//! Two meshes, each with a CA and a control plane of its own, and calls from the one to the other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use countersign_integration::clients::go_client;
use countersign_integration::http;
use countersign_integration::mesh::{
    Mesh, PATIENCE, TRUST_DOMAIN, Workload, eventually, metric, until_ready,
};
use countersign_integration::process::Program;
use serde_json::Value;

const PARTNER: &str = "partner.example";

/// In `shop.example`; calls the partner.
const WEB: Workload<'static> = Workload {
    name: "web",
    host: 13,
    port: 80,
    calls: &[(16001, "billing.partner:9090")],
};

/// In `partner.example`.
const BILLING: Workload<'static> = Workload {
    name: "billing",
    host: 12,
    port: 9090,
    calls: &[],
};

const WEB_ID: &str = "spiffe://shop.example/ns/shop/sa/web";
const NOT_AFTER: &str = "countersign_proxy_identity_not_after_timestamp_seconds";
/// Where each CA publishes its bundle.
const BUNDLES: u16 = 15015;

/// Both meshes, with their CAs and control planes and a workload each. Each follows the other's bundle endpoint: the shop
/// over `https_spiffe`, the partner over `https_web`.
struct Meshes {
    shop: Mesh,
    partner: Mesh,
    billing: Program,
    _programs: Vec<Program>,
}

impl Meshes {
    fn start() -> Self {
        // So short that connections are made anew again and again.
        let shop = Mesh::of(TRUST_DOMAIN, "{defaultTtl: 20s, minTtl: 2s}", &[WEB]).unwrap();
        let settings = "{defaultTtl: 1h}\nauthority: {bundlePropagation: 15s}";
        let partner = Mesh::of(PARTNER, settings, &[BILLING]).unwrap();
        name_foreign_workload(&shop, partner.address(BILLING.host, 15008), &partner);
        web_certificate(&shop);
        let endpoint = |mesh: &Mesh, more: &str| {
            let listen = mesh.address(1, BUNDLES);
            let text = format!("bundleEndpoint: {{listen: \"{listen}\", refreshHint: 5s{more}}}\n");
            append(mesh, "ca.yaml", &text);
        };
        let files = |name: &str| shop.path(name).display().to_string();
        let (chain, key) = (files("web-endpoint.pem"), files("web-endpoint.key.pem"));
        endpoint(
            &shop,
            &format!(", certificate: {{chainFile: {chain}, keyFile: {key}}}"),
        );
        endpoint(&partner, "");
        for (mesh, sidecar) in [(&shop, "web.yaml"), (&partner, "billing.yaml")] {
            append(mesh, sidecar, "workloadApi: {socket: run/workload.sock}\n");
        }
        let first = partner.path("ca/bundle.pem").display().to_string();
        append(
            &shop,
            "control.yaml",
            &format!(
                "federation: [{{trustDomain: {PARTNER}, allowPrivateAddresses: true, bundleFile: {first}}}]\n"
            ),
        );
        append(
            &partner,
            "control.yaml",
            &format!(
                "federation: [{{trustDomain: {TRUST_DOMAIN}, allowPrivateAddresses: true, caFile: {}}}]\n",
                files("web-root.pem")
            ),
        );
        let ca = format!("spiffe://{PARTNER}/ns/countersign-system/sa/countersign-ca");
        let profile = format!("profile: https_spiffe, spiffeId: '{ca}'");
        follow(&shop, &partner, PARTNER, &profile, "");
        follow(&partner, &shop, TRUST_DOMAIN, "profile: https_web", "");

        let mut programs = vec![partner.start_ca().unwrap(), shop.start_ca().unwrap()];
        for mesh in [&shop, &partner] {
            programs.push(mesh.start_control().unwrap());
        }
        let sidecar = |mesh: &Mesh, workload: Workload<'_>| {
            mesh.join_token("shop", workload.name).unwrap();
            let sidecar = mesh.start_sidecar(workload.name).unwrap();
            until_ready(workload.name, mesh.address(workload.host, 15020)).unwrap();
            sidecar
        };
        programs.push(sidecar(&shop, WEB));
        let billing = sidecar(&partner, BILLING);
        for mesh in [&shop, &partner] {
            eventually("the other's bundle", || {
                followed(mesh)
                    .get("fetchedAt")
                    .is_some_and(Value::is_string)
            })
            .unwrap();
        }
        serve(partner.address(BILLING.host, BILLING.port));
        Self {
            shop,
            partner,
            billing,
            _programs: programs,
        }
    }

    /// Where `web` calls `billing`.
    fn outbound(&self) -> SocketAddr {
        self.shop.address(WEB.host, 16001)
    }

    /// The status and the body of one call.
    fn call(&self) -> (u16, String) {
        http::get(self.outbound(), "/").unwrap_or((0, String::new()))
    }

    fn until_status(&self, what: &str, wanted: impl Fn(u16) -> bool) {
        let mut last = (0, String::new());
        let reached = eventually(what, || {
            last = self.call();
            wanted(last.0)
        });
        assert!(reached.is_ok(), "{what}: the last answer was {last:?}");
    }

    /// The rules of the partner's policy for calls to `billing`.
    fn rules(&self, from: &str) {
        let text = format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: billing, namespace: shop}}\n\
             spec:\n  rules:\n  - {{name: callers, action: allow, from: [{from}]}}\n"
        );
        self.partner.write("policy/billing.yaml", &text).unwrap();
    }
}

fn append(mesh: &Mesh, file: &str, text: &str) {
    let path = mesh.path(file);
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Puts the partner's `billing` into the shop's directory, and the service that `web` calls it by.
fn name_foreign_workload(shop: &Mesh, wire: SocketAddr, partner: &Mesh) {
    let application = partner.address(BILLING.host, BILLING.port);
    let workload = format!(
        "workloads:\n- {{name: billing, namespace: shop, serviceAccount: billing, trustDomain: {PARTNER}, \
         wireAddress: \"{wire}\", ports: [{{port: 9090, destination: \"{application}\", application: \"{application}\"}}]}}\n"
    );
    let directory = fs::read_to_string(shop.path("directory.yaml")).unwrap();
    let directory = directory.replacen("workloads:\n", &workload, 1);
    let service = "- {name: \"billing.partner:9090\", port: 9090, workloads: [billing]}\n";
    shop.write("directory.yaml", &format!("{directory}{service}"))
        .unwrap();
}

/// A certificate of the web's kind for the shop's bundle endpoint.
fn web_certificate(shop: &Mesh) {
    let root_key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::new([]).unwrap();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&root_key).unwrap();
    shop.write("web-root.pem", &root_certificate.pem()).unwrap();
    let issuer = rcgen::Issuer::new(root, root_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let address = shop.address(1, BUNDLES).ip().to_string();
    let leaf = rcgen::CertificateParams::new([address]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    shop.write("web-endpoint.pem", &leaf.pem()).unwrap();
    shop.write("web-endpoint.key.pem", &key.serialize_pem())
        .unwrap();
}

/// Has the policy of `mesh` name the trust domain of `other`.
fn follow(mesh: &Mesh, other: &Mesh, trust_domain: &str, profile: &str, more: &str) {
    let text = format!(
        "apiVersion: countersign.dev/v1\nkind: TrustDomain\nmetadata: {{name: other, namespace: countersign-system}}\n\
         spec: {{trustDomain: {trust_domain}, {more}bundleEndpoint: {{url: 'https://{}/', {profile}}}}}\n",
        other.address(1, BUNDLES)
    );
    mesh.write("policy/other.yaml", &text).unwrap();
}

/// What the control plane tells of the trust domain that it follows.
fn followed(mesh: &Mesh) -> Value {
    let (_, status) = http::get(mesh.control_ops(), "/status").unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    status.pointer("/federation/0").cloned().unwrap_or_default()
}

/// An application that answers with the head that it got; at `/wait` it does not come to an end.
fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let reader = BufReader::new(stream.try_clone().unwrap());
                let mut head = String::new();
                for line in reader.lines().map_while(Result::ok) {
                    head += &line;
                    head += "\n";
                    if line.is_empty() {
                        let rest = if head.starts_with("GET /wait ") {
                            1000
                        } else {
                            0
                        };
                        let answer = format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}",
                            head.len() + rest
                        );
                        // A caller that goes away is its own affair.
                        let _ = stream.write_all(answer.as_bytes());
                        head.clear();
                    }
                }
            });
        }
    });
}

/// Calls that go on in the background until they are dropped.
struct Calls {
    made: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    enough: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Calls {
    fn start(address: SocketAddr) -> Self {
        let calls = Self {
            made: Arc::default(),
            failed: Arc::default(),
            enough: Arc::default(),
            thread: None,
        };
        let (made, failed, enough) = (
            Arc::clone(&calls.made),
            Arc::clone(&calls.failed),
            Arc::clone(&calls.enough),
        );
        let thread = thread::spawn(move || {
            while !enough.load(Ordering::Relaxed) {
                match http::get(address, "/") {
                    Ok((200, _)) => {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                    other => failed.lock().unwrap().push(format!("{other:?}")),
                }
            }
        });
        Self {
            thread: Some(thread),
            ..calls
        }
    }

    fn until_more(&self, when: &str) {
        let before = self.made.load(Ordering::Relaxed);
        eventually(&format!("calls {when}"), || {
            let failed = self.failed.lock().unwrap();
            assert!(failed.is_empty(), "{when}: {failed:?}");
            self.made.load(Ordering::Relaxed) > before + 20
        })
        .unwrap();
    }

    fn end(mut self) {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        assert_eq!(*self.failed.lock().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn meshes_that_follow_each_other_call_each_other_through_a_rotation_and_no_longer_than_that() {
    let meshes = Meshes::start();
    let Meshes { shop, partner, .. } = &meshes;

    // Who it is is known, and nothing is allowed that no rule allows. `shop/web` is the partner's own.
    meshes.rules("{workload: shop/web}");
    meshes.until_status("a denial", |status| status == 403);
    meshes.rules(&format!("{{spiffe: '{WEB_ID}'}}"));
    meshes.until_status("an allowed call", |status| status == 200);
    let (_, received) = meshes.call();
    let header = format!("countersign-peer: {WEB_ID}");
    assert!(received.contains(&header), "{received}");
    meshes.rules(&format!(
        "{{trustDomain: {TRUST_DOMAIN}, workload: shop/other}}"
    ));
    meshes.until_status("another denial", |status| status == 403);
    meshes.rules(&format!(
        "{{trustDomain: {TRUST_DOMAIN}, workload: shop/web}}"
    ));
    meshes.until_status("an allowed call", |status| status == 200);

    // The partner replaces its root.
    let calls = Calls::start(meshes.outbound());
    calls.until_more("before");
    let before = followed(shop)["sequence"].as_u64().unwrap();
    let (prepared, said) = partner.root(&["prepare"]).unwrap();
    assert!(prepared, "{said}");
    eventually("both roots to be known", || {
        followed(shop)["x509Authorities"] == 2
    })
    .unwrap();
    eventually("the step to be safe", || {
        partner.root(&["activate"]).unwrap().0
    })
    .unwrap();
    let ops = partner.address(BILLING.host, 15020);
    let renewed = |ops: SocketAddr, before: f64| {
        eventually("a sidecar to renew", || {
            metric(ops, NOT_AFTER).is_ok_and(|renewed| renewed > before)
        })
        .unwrap();
    };
    let expiry = metric(ops, NOT_AFTER).unwrap();
    let (tainted, said) = partner.root(&["taint"]).unwrap();
    assert!(tainted, "{said}");
    renewed(ops, expiry);
    calls.until_more("after taint");
    // With its next SVID, the shop's sidecar makes a new connection, on which it sees the renewed one.
    let ops = shop.address(WEB.host, 15020);
    renewed(ops, metric(ops, NOT_AFTER).unwrap());
    calls.until_more("on a new connection");
    let (revoked, said) = partner.root(&["revoke", "--force"]).unwrap();
    assert!(revoked, "{said}");
    eventually("the old root to be forgotten", || {
        followed(shop)["x509Authorities"] == 1
    })
    .unwrap();
    assert!(followed(shop)["sequence"].as_u64().unwrap() > before);
    calls.until_more("after revoke");
    calls.end();

    // A call that lasts, until the partner does not know the shop any more.
    let mut waiting = TcpStream::connect(meshes.outbound()).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    waiting
        .write_all(b"GET /wait HTTP/1.1\r\nHost: billing.partner\r\n\r\n")
        .unwrap();
    let mut begun = [0; 15];
    waiting.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");
    fs::remove_file(partner.path("policy/other.yaml")).unwrap();
    let mut rest = Vec::new();
    // Cut short, with or without an error; not the end of our patience.
    let ended = waiting.read_to_end(&mut rest);
    assert!(
        ended.is_ok()
            || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        "the call goes on"
    );
    meshes.until_status("a refusal", |status| status != 200);
    assert!(
        !partner
            .path("control/federation/shop.example.json")
            .exists()
    );
    let open = "countersign_proxy_wire_connections{direction=\"inbound\"}";
    eventually("their connections to end", || {
        metric(partner.address(BILLING.host, 15020), open).is_ok_and(|open| open == 0.0)
    })
    .unwrap();

    // As another name of the partner's own trust domain, its workloads are judged as the partner's.
    meshes.rules("{workload: shop/web}");
    follow(
        partner,
        shop,
        TRUST_DOMAIN,
        "profile: https_web",
        "alias: true, ",
    );
    meshes.until_status("a call of an alias", |status| status == 200);
    let log = meshes.billing.stdout().unwrap();
    let decision: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&decision["peer"], &decision["decision"]),
        (&WEB_ID.into(), &"allow".into())
    );
}

#[test]
fn go_spiffe_gets_the_bundles_of_other_trust_domains_and_verifies_their_tokens() {
    let Some(client) = go_client().unwrap() else {
        return;
    };
    let Meshes {
        shop,
        partner,
        billing: _billing,
        _programs,
    } = Meshes::start();
    let sockets = [&shop, &partner].map(|mesh| mesh.path("run/workload.sock"));
    let mut command = Command::new(client);
    command.arg("federated").args(&sockets).arg("db");
    command.arg(PARTNER);
    let mut output = command.output().unwrap();
    eventually("the partner's bundle to be told", || {
        output = command.output().unwrap();
        output.status.success()
    })
    .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["jwt"], "spiffe://partner.example/ns/shop/sa/billing");
    assert_eq!(told["x509"], told["theirs"], "{told}");
}
