//! Clients that do not finish a handshake: all are let go within ten seconds, and nothing of them stays.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use countersign_integration::mesh::{Mesh, eventually, metric, until_ready};
use countersign_integration::shop::ORDERS;

/// What the documentation promises, and what a busy machine may take longer.
const LIMIT: Duration = Duration::from_secs(10 + 5);

/// How many clients of each kind.
const EACH: usize = 50;

#[test]
fn half_open_and_garbage_clients_are_closed_in_time_and_leave_nothing() {
    let mesh = Mesh::new("{defaultTtl: 1h}", &[ORDERS]).unwrap();
    let _ca = mesh.start_ca().unwrap();
    let _control = mesh.start_control().unwrap();
    mesh.join_token("shop", ORDERS.name).unwrap();
    let _sidecar = mesh.start_sidecar(ORDERS.name).unwrap();
    let ops = mesh.address(ORDERS.host, 15020);
    let wire = mesh.address(ORDERS.host, 15008);
    // It need not have a policy to be attacked.
    eventually("an identity", || {
        metric(
            ops,
            "countersign_proxy_identity_not_after_timestamp_seconds",
        )
        .is_ok_and(|not_after| not_after > 0.0)
    })
    .unwrap();

    let started = Instant::now();
    // The beginning of a ClientHello (RFC 8446 §4.1.2) that never goes on.
    let begun: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let mut clients = Vec::new();
    for first in [
        &b""[..],
        begun,
        b"GET / HTTP/1.1\r\nHost: orders\r\n\r\n",
        &[0xff; 4096],
    ] {
        for _ in 0..EACH {
            let mut client = TcpStream::connect(wire).unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            // One that is refused already is as good.
            let _refused = client.write_all(first);
            clients.push(client);
        }
    }
    for mut client in clients {
        match client.read_to_end(&mut Vec::new()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("a client was kept"),
            // An end, an alert and an end, or a reset.
            _ => {}
        }
    }
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    eventually("every connection's end", || open_connections(wire) == 0).unwrap();
    until_ready("the sidecar", mesh.control_ops()).unwrap();
}

/// How many connections the kernel knows on the accepting side of `address`, those aside that only wait for their time to
/// be over.
fn open_connections(address: SocketAddr) -> usize {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("{address} is not of the loopback network");
    };
    let local = format!(
        "{:08X}:{:04X}",
        u32::from_le_bytes(ip.octets()),
        address.port()
    );
    // TCP_TIME_WAIT and TCP_LISTEN.
    let passive = ["06", "0A"];
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let states = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == local).then(|| fields.nth(1)).flatten()
    });
    states.filter(|state| !passive.contains(state)).count()
}
