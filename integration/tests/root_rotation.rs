//! A root is replaced while calls go on, and not one of them fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use countersign_api::svid::{Evidence, SvidClient};
use countersign_identity::tls::{
    ExpectedPeer, PeerIdentity, client_config, peer_of_connected, server_name,
};
use countersign_identity::{Bundle, IdentityStore, TrustDomain};
use countersign_integration::mesh::{
    Mesh, PATIENCE, TRUST_DOMAIN, Workload, eventually, metric, until_ready,
};
use countersign_integration::shop::{self, ORDERS, POLICY};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Speaks HTTP/2.
const PAYMENTS: Workload<'static> = Workload {
    name: "payments",
    host: 12,
    port: 9090,
    calls: &[],
};

/// Calls both; [`ORDERS`] speaks HTTP/1.1.
const WEB: Workload<'static> = Workload {
    calls: &[(16001, "orders.shop:8080"), (16002, "payments.shop:9090")],
    ..shop::WEB
};

const NOT_AFTER: &str = "countersign_proxy_identity_not_after_timestamp_seconds";

/// What came of the calls so far.
#[derive(Default)]
struct Calls {
    http1: AtomicU64,
    http2: AtomicU64,
    failed: Mutex<Vec<String>>,
    enough: AtomicBool,
}

impl Calls {
    fn go_on(&self) -> bool {
        !self.enough.load(Ordering::Relaxed)
    }

    fn failed(&self, what: String) {
        self.failed.lock().unwrap().push(what);
    }

    /// Waits until each kind has been made so many times more, and none has failed.
    fn until_more(&self, when: &str) {
        let counts = [&self.http1, &self.http2];
        let before = counts.map(|count| count.load(Ordering::Relaxed));
        eventually(&format!("calls {when}"), || {
            let failed = self.failed.lock().unwrap();
            assert!(failed.is_empty(), "{when}: {failed:?}");
            let mut both = counts.iter().zip(before);
            both.all(|(count, before)| count.load(Ordering::Relaxed) > before + 50)
        })
        .unwrap();
    }
}

/// An application that answers every HTTP/1.1 request.
fn serve_http1(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let reader = BufReader::new(stream.try_clone().unwrap());
                for line in reader.lines().map_while(Result::ok) {
                    if line.is_empty() {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(answer).unwrap();
                    }
                }
            });
        }
    });
}

/// An application that answers every HTTP/2 request.
async fn serve_http2(listener: tokio::net::TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let answer = http::Response::new(());
                let mut send = respond.send_response(answer, false).unwrap();
                send.send_data(Bytes::from_static(b"ok"), true).unwrap();
            }
        });
    }
}

/// Calls one after the other on one connection.
fn call_http1(address: SocketAddr, calls: &Calls) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connection = BufReader::new(stream);
    while calls.go_on() {
        match one_http1(&mut connection) {
            Ok(()) => {
                calls.http1.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                calls.failed(format!("HTTP/1.1: {error}"));
                return;
            }
        }
    }
}

fn one_http1(connection: &mut BufReader<TcpStream>) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let request = b"GET / HTTP/1.1\r\nHost: orders.shop\r\n\r\n";
    connection.get_mut().write_all(request).map_err(failed)?;
    let (mut head, mut line) = (String::new(), String::new());
    while line != "\r\n" {
        line.clear();
        if connection.read_line(&mut line).map_err(failed)? == 0 {
            return Err(format!("the connection ended after {head:?}"));
        }
        head += &line;
    }
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(head);
    }
    connection.read_exact(&mut [0; 2]).map_err(failed)
}

/// As [`call_http1`], with HTTP/2.
async fn call_http2(address: SocketAddr, calls: Arc<Calls>) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    while calls.go_on() {
        match tokio::time::timeout(PATIENCE, one_http2(client.clone())).await {
            Ok(Ok(())) => {
                calls.http2.fetch_add(1, Ordering::Relaxed);
            }
            failed => {
                calls.failed(format!("HTTP/2: {failed:?}"));
                return;
            }
        }
    }
}

async fn one_http2(client: h2::client::SendRequest<Bytes>) -> Result<(), String> {
    let failed = |error: h2::Error| error.to_string();
    let request = http::Request::get("http://payments.shop/")
        .body(())
        .unwrap();
    let mut client = client.ready().await.map_err(failed)?;
    let (response, _) = client.send_request(request, true).map_err(failed)?;
    let response = response.await.map_err(failed)?;
    if response.status() != 200 {
        return Err(response.status().to_string());
    }
    let mut body = response.into_body();
    while let Some(data) = body.data().await {
        let length = data.map_err(failed)?.len();
        let _ = body.flow_control().release_capacity(length);
    }
    Ok(())
}

fn status(mesh: &Mesh) -> Value {
    let (succeeded, said) = mesh.root(&["status"]).unwrap();
    assert!(succeeded, "{said}");
    serde_json::from_str(&said).unwrap()
}

fn phases(mesh: &Mesh) -> Vec<String> {
    let status = status(mesh);
    let roots = status.get("roots").and_then(Value::as_array).unwrap();
    let phase = |root: &Value| {
        root.get("phase")
            .and_then(Value::as_str)
            .unwrap()
            .to_owned()
    };
    roots.iter().map(phase).collect()
}

/// A connection to the wire or to a server of the mesh, by which the peer has taken us for who we are.
async fn connect(
    address: SocketAddr,
    store: &Arc<IdentityStore>,
) -> Result<(PeerIdentity, TlsStream<tokio::net::TcpStream>), String> {
    let expected = ExpectedPeer::TrustDomainMember;
    let config = client_config(store, expected.clone(), &[b"h2"]).unwrap();
    let tcp = tokio::net::TcpStream::connect(address).await;
    let tcp = tcp.map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(config).connect(server_name(), tcp).await;
    let mut tls = tls.map_err(|error| error.to_string())?;
    let peer = peer_of_connected(tls.get_ref().1, store, &expected, SystemTime::now());
    let peer = peer.map_err(|error| error.to_string())?;
    // In TLS 1.3 the client is done first: that the server has accepted it shows when it speaks HTTP/2 (RFC 9113 §3.4).
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let sent = async {
        tls.write_all(preface).await?;
        tls.flush().await
    };
    sent.await.map_err(|error| error.to_string())?;
    match tls.read(&mut [0; 9]).await {
        Ok(0) => Err("closed".to_owned()),
        Ok(_) => Ok((peer, tls)),
        Err(error) => Err(error.to_string()),
    }
}

/// The certificate of the intermediate that a server's SVID is of.
fn issuer_of(runtime: &Runtime, address: SocketAddr, store: &Arc<IdentityStore>) -> Vec<u8> {
    let issuer: Option<CertificateDer<'_>> = runtime
        .block_on(connect(address, store))
        .ok()
        .and_then(|(peer, _)| peer.svid().chain().get(1).cloned());
    issuer.map(|der| der.to_vec()).unwrap_or_default()
}

/// The bundle that the CA publishes for everybody to read.
fn bundle(mesh: &Mesh) -> Bundle {
    let pem = std::fs::read_to_string(mesh.path("ca/bundle.pem")).unwrap();
    Bundle::from_pem(TrustDomain::parse(TRUST_DOMAIN).unwrap(), &pem).unwrap()
}

#[test]
fn a_root_is_replaced_without_a_failed_call_and_the_old_one_is_refused_in_the_end() {
    let settings = "{defaultTtl: 1h}\nauthority: {bundlePropagation: 15s}";
    let mesh = Mesh::new(settings, &[ORDERS, PAYMENTS, WEB]).unwrap();
    mesh.write("policy/shop.yaml", POLICY).unwrap();
    let _ca = mesh.start_ca().unwrap();
    let _control = mesh.start_control().unwrap();
    let _sidecars = [ORDERS, PAYMENTS, WEB].map(|workload| {
        mesh.join_token("shop", workload.name).unwrap();
        let sidecar = mesh.start_sidecar(workload.name).unwrap();
        until_ready(workload.name, mesh.address(workload.host, 15020)).unwrap();
        sidecar
    });
    let runtime = Runtime::new().unwrap();

    // Somebody who obtains an SVID before, and does not hear of anything later.
    let [ca, control] = [15010, 15012].map(|port| mesh.address(1, port));
    let wire = mesh.address(ORDERS.host, 15008);
    let token = std::fs::read_to_string(mesh.join_token("shop", "web").unwrap()).unwrap();
    let late = IdentityStore::new(bundle(&mesh));
    let evidence = Evidence::JoinToken(token.trim().to_owned().into());
    let mut client = SvidClient::new(Arc::clone(&late), ca.to_string(), evidence);
    runtime.block_on(client.obtain()).unwrap();
    let (_, mut old_connection) = runtime.block_on(connect(wire, &late)).unwrap();
    let old_issuer = issuer_of(&runtime, ca, &late);
    assert!(!old_issuer.is_empty());

    serve_http1(mesh.address(ORDERS.host, ORDERS.port));
    let listener = tokio::net::TcpListener::bind(mesh.address(PAYMENTS.host, PAYMENTS.port));
    let listener = runtime.block_on(listener).unwrap();
    runtime.spawn(serve_http2(listener));
    let calls = Arc::new(Calls::default());
    let caller = thread::spawn({
        let (calls, address) = (Arc::clone(&calls), mesh.address(WEB.host, 16001));
        move || call_http1(address, &calls)
    });
    let other = runtime.spawn(call_http2(
        mesh.address(WEB.host, 16002),
        Arc::clone(&calls),
    ));
    calls.until_more("before");

    let (prepared, said) = mesh.root(&["prepare"]).unwrap();
    assert!(prepared, "{said}");
    let (early, said) = mesh.root(&["activate"]).unwrap();
    assert!(!early && said.contains("is safe from"), "{said}");
    eventually("the step to be safe", || {
        mesh.root(&["activate"]).unwrap().0
    })
    .unwrap();
    assert_eq!(phases(&mesh), ["old", "active"]);
    calls.until_more("after activate");

    let both = bundle(&mesh);
    assert_eq!(both.x509_authorities().len(), 2);
    late.set_bundle(both).unwrap();
    let ops = [ORDERS, PAYMENTS, WEB].map(|workload| mesh.address(workload.host, 15020));
    let renewed_before = ops.map(|ops| metric(ops, NOT_AFTER).unwrap());
    let (tainted, said) = mesh.root(&["taint"]).unwrap();
    assert!(tainted, "{said}");
    for (ops, before) in ops.into_iter().zip(renewed_before) {
        eventually("a sidecar to renew", || {
            metric(ops, NOT_AFTER).is_ok_and(|renewed| renewed > before)
        })
        .unwrap();
    }
    let servers = [ca, control, wire, mesh.address(PAYMENTS.host, 15008)];
    for server in servers {
        eventually("a server to renew", || {
            let issuer = issuer_of(&runtime, server, &late);
            !issuer.is_empty() && issuer != old_issuer
        })
        .unwrap();
    }
    calls.until_more("after taint");

    // The one who does not hear has a valid SVID: the CA knows.
    let (revoked, said) = mesh.root(&["revoke"]).unwrap();
    assert!(
        !revoked && said.contains("the issuance log shows"),
        "{said}"
    );
    calls.until_more("after everybody has renewed");
    let (revoked, said) = mesh.root(&["revoke", "--force"]).unwrap();
    assert!(revoked, "{said}");
    assert_eq!(phases(&mesh), ["revoked", "active"]);
    assert_eq!(bundle(&mesh).x509_authorities().len(), 1);
    eventually("the old SVID to be refused", || {
        runtime.block_on(connect(wire, &late)).is_err()
    })
    .unwrap();
    assert!(late.svid().unwrap().not_after() > SystemTime::now() + Duration::from_mins(50));
    // And the connection that was made with it has ended.
    let ended = runtime.block_on(async {
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, old_connection.read_to_end(&mut rest)).await
    });
    assert!(ended.is_ok(), "the old connection goes on");
    calls.until_more("after revoke");

    calls.enough.store(true, Ordering::Relaxed);
    caller.join().unwrap();
    runtime.block_on(other).unwrap();
    assert_eq!(*calls.failed.lock().unwrap(), Vec::<String>::new());
    let left = metric(
        mesh.address(1, 15011),
        "countersign_ca_intermediate_expiry_seconds",
    );
    assert!(left.unwrap() > 89.0 * 86400.0);
}
