//! The path that an application gets through two sidecars is the one that policy has judged.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use countersign_integration::mesh::{Mesh, PATIENCE, until_ready};
use countersign_integration::shop::{ORDERS, WEB};
use serde_json::Value;

const POLICY: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec:
  rules:
  - {name: web reads a, action: allow, from: [{workload: shop/web}], to: [{paths: [/a/**]}]}
  - {name: nobody reads its secrets, action: deny, to: [{paths: [/a/secret/**]}]}
";

/// What a raw client sends, the status that it gets, and what the application gets or policy says.
const EXAMPLES: [(&str, u16, &str); 13] = [
    ("GET /a/b?q=//%2e%2f", 200, "GET /a/b?q=//%2e%2f"),
    ("GET //a/./b/../c?q=%5c", 200, "GET /a/c?q=%5c"),
    ("GET /x/%2e%2E/%61/b", 200, "GET /a/b"),
    ("GET http://orders.shop//a/b?q", 200, "GET /a/b?q"),
    // Which path `*` is, nobody knows: a deny rule that asks for one matches.
    ("OPTIONS *", 403, "denied-by-rule"),
    ("GET /a/../b", 403, "no-rule-matched"),
    ("GET /a//secret/x", 403, "denied-by-rule"),
    ("GET /a/b/%2e%2e/s%65cret", 403, "denied-by-rule"),
    ("GET http://orders.shop/a/./secret", 403, "denied-by-rule"),
    ("GET //a/./b/..%2fx", 400, "ambiguous-path"),
    ("GET /a/..\\secret", 400, "ambiguous-path"),
    ("GET /a/%00", 400, "ambiguous-path"),
    ("GET /a/%zz", 400, "ambiguous-path"),
];

/// An application that answers every request with its first line.
fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let reader = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            for line in reader.lines().map_while(Result::ok) {
                if first.is_empty() {
                    first = line;
                } else if line.is_empty() {
                    let length = first.len();
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    stream.write_all((answer + &first).as_bytes()).unwrap();
                    first.clear();
                }
            }
        }
    });
}

/// Sends a request as it is; the answer's status and content.
fn call(connection: &mut BufReader<TcpStream>, line: &str) -> (u16, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: orders.shop\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line);
    }
    let mut content = vec![0; length];
    connection.read_exact(&mut content).unwrap();
    let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
    (status, String::from_utf8(content).unwrap())
}

#[test]
fn what_arrives_is_what_was_judged_or_nothing_does() {
    let mesh = Mesh::new("{defaultTtl: 1h}", &[ORDERS, WEB]).unwrap();
    mesh.write("policy/orders.yaml", POLICY).unwrap();
    let _ca = mesh.start_ca().unwrap();
    let _control = mesh.start_control().unwrap();
    let sidecars = [ORDERS, WEB].map(|workload| {
        mesh.join_token("shop", workload.name).unwrap();
        let sidecar = mesh.start_sidecar(workload.name).unwrap();
        until_ready(workload.name, mesh.address(workload.host, 15020)).unwrap();
        sidecar
    });
    serve(mesh.address(ORDERS.host, ORDERS.port));
    let stream = TcpStream::connect(mesh.address(WEB.host, 16001)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut connection = BufReader::new(stream);
    for (sent, status, told) in EXAMPLES {
        let (answered, content) = call(&mut connection, sent);
        assert_eq!(answered, status, "{sent}: {content}");
        if status == 200 {
            assert_eq!(content, format!("{told} HTTP/1.1"), "{sent}");
        } else {
            let problem: Value = serde_json::from_str(&content).unwrap();
            assert_eq!(problem["reason"], told, "{sent}");
        }
    }
    drop(connection);
    for sidecar in sidecars {
        assert!(sidecar.terminate().unwrap().success());
    }
}
