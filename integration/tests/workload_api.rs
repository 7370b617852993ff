//! Unmodified SPIFFE clients get their identity from a sidecar, and unmodified OpenID Connect clients verify it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign_integration::clients::{go_client, python_client};
use countersign_integration::mesh::{Mesh, eventually, until_ready};
use countersign_integration::process::Program;
use countersign_integration::shop::{ORDERS, POLICY, WEB};
use serde_json::Value;

const ID: &str = "spiffe://shop.example/ns/shop/sa/web";

/// A CA and the sidecar of `web`, which serves the Workload API.
struct Served {
    mesh: Mesh,
    socket: PathBuf,
    _ca: Program,
    sidecar: Program,
}

impl Served {
    /// `svid` are the lifetimes of SVIDs, `more` is more of the CA's configuration.
    fn start(svid: &str, more: impl FnOnce(&Mesh) -> String) -> Self {
        let mesh = Mesh::new(svid, &[ORDERS, WEB]).unwrap();
        mesh.write("policy/orders.yaml", POLICY).unwrap();
        let more = more(&mesh);
        append(&mesh.path("ca.yaml"), &more);
        append(
            &mesh.path("web.yaml"),
            "workloadApi: {socket: run/workload.sock}\n",
        );
        let ca = mesh.start_ca().unwrap();
        mesh.join_token("shop", "web").unwrap();
        let sidecar = mesh.start_sidecar("web").unwrap();
        let socket = mesh.path("run/workload.sock");
        eventually("the socket", || socket.exists()).unwrap();
        Self {
            mesh,
            socket,
            _ca: ca,
            sidecar,
        }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Runs a client to its end; the objects that it has told.
fn told_by(command: &mut Command) -> Vec<Value> {
    let output = command.output().unwrap();
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}\n{out}\n{error}");
    out.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// So short that a rotation comes within the test.
const SHORT: &str = "{defaultTtl: 6s, minTtl: 2s}";

#[test]
fn go_spiffe_fetches_watches_a_rotation_and_verifies_a_jwt_svid() {
    let Some(client) = go_client().unwrap() else {
        return;
    };
    let served = Served::start(SHORT, |_| String::new());
    let mut command = Command::new(client);
    command.arg("identity").arg(&served.socket).arg("db");
    let told = told_by(&mut command);
    let (jwt, svids) = told.split_last().unwrap();
    assert!(svids.len() >= 2, "{told:?}");
    assert!(
        svids
            .iter()
            .all(|svid| svid["id"] == ID && svid["bundles"] == 1)
    );
    assert_eq!(jwt["jwt"], ID);
    assert_eq!(jwt["claims"]["aud"], serde_json::json!(["db"]));

    // Who has connected is in the sidecar's log; no key or token is.
    let log = served.sidecar.stderr().unwrap();
    let uid = nix::unistd::getuid().to_string();
    let line = log
        .lines()
        .find(|line| line.contains("workload api connection"));
    assert!(
        line.is_some_and(|line| line.contains(&format!("uid={uid}"))),
        "{log}"
    );
    assert!(!log.contains("eyJ"), "{log}");
    assert!(served.sidecar.terminate().unwrap().success());
    assert!(!served.socket.exists(), "the socket goes with the sidecar");
}

#[test]
fn python_spiffe_fetches_watches_a_rotation_and_verifies_a_jwt_svid() {
    let Some((python, client)) = python_client().unwrap() else {
        return;
    };
    let served = Served::start(SHORT, |_| String::new());
    let mut command = Command::new(python);
    command.arg(client).arg(&served.socket).arg("db");
    let told = told_by(&mut command);
    let (jwt, svids) = told.split_last().unwrap();
    assert!(svids.len() >= 2 && svids.iter().all(|svid| svid["id"] == ID));
    assert_ne!(svids[0]["serial"], svids[svids.len() - 1]["serial"]);
    assert_eq!((&jwt["jwt"], &jwt["validated"]), (&ID.into(), &ID.into()));
}

#[test]
fn go_spiffe_calls_a_sidecar_over_mutual_tls() {
    let Some(client) = go_client().unwrap() else {
        return;
    };
    let served = Served::start("{defaultTtl: 1h}", |_| String::new());
    let mesh = &served.mesh;
    let application = TcpListener::bind(mesh.address(ORDERS.host, ORDERS.port)).unwrap();
    std::thread::spawn(move || answer(&application));
    let _control = mesh.start_control().unwrap();
    mesh.join_token("shop", "orders").unwrap();
    let _orders = mesh.start_sidecar("orders").unwrap();
    until_ready("the sidecar", mesh.address(ORDERS.host, 15020)).unwrap();

    let url = format!("https://{}/", mesh.address(ORDERS.host, 15008));
    let call = |server: &str| {
        let mut command = Command::new(&client);
        command.arg("call").arg(&served.socket).args([&url, server]);
        command
    };
    let told = told_by(&mut call("spiffe://shop.example/ns/shop/sa/orders"));
    assert_eq!(told[0]["status"], 200, "{told:?}");
    // The application hears who calls.
    assert!(told[0]["body"].as_str().unwrap().contains(ID), "{told:?}");
    // And the client goes to nobody else.
    let refused = call("spiffe://shop.example/ns/shop/sa/payments")
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

/// An application that answers with what it was asked.
fn answer(listener: &TcpListener) {
    use std::io::Read as _;
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            request.push(byte[0]);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            request.len()
        );
        // A caller that goes away is its own affair.
        let _ = stream.write_all(&[head.as_bytes(), &request].concat());
    }
}

#[test]
fn an_openid_connect_client_verifies_a_jwt_svid() {
    let Some(client) = go_client().unwrap() else {
        return;
    };
    const ISSUER: &str = "https://ids.shop.example";
    let served = Served::start("{defaultTtl: 1h}", |mesh| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["ids.shop.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        mesh.write("oidc.pem", &certificate.pem()).unwrap();
        mesh.write("oidc.key.pem", &key.serialize_pem()).unwrap();
        format!(
            "oidc: {{issuer: '{ISSUER}', listen: '{}', certificate: {{chainFile: {}, keyFile: {}}}}}\n",
            mesh.address(1, 15014),
            mesh.path("oidc.pem").display(),
            mesh.path("oidc.key.pem").display()
        )
    });
    let mut command = Command::new(&client);
    command.arg("jwt").arg(&served.socket).arg("db");
    let token = told_by(&mut command)[0]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let verify = |audience: &str| {
        let mut command = Command::new(&client);
        command
            .args(["oidc", ISSUER, &served.mesh.address(1, 15014).to_string()])
            .arg(served.mesh.path("oidc.pem"))
            .args([audience, &token]);
        command
    };
    let told = told_by(&mut verify("db"));
    assert_eq!(
        (&told[0]["subject"], &told[0]["issuer"]),
        (&ID.into(), &ISSUER.into())
    );
    assert!(!verify("cache").output().unwrap().status.success());
}

/// The examples of the documentation are what these clients do.
#[test]
fn the_documentation_shows_what_these_clients_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let page = read("../docs/workload-api.md");
    for (language, client) in [
        ("go", "clients/go-spiffe/main.go"),
        ("python", "clients/python-spiffe/client.py"),
    ] {
        let source: Vec<String> = read(client)
            .lines()
            .map(|line| line.trim().to_owned())
            .collect();
        let fence = format!("```{language}\n");
        let mut examples = page.split(&fence).skip(1).peekable();
        assert!(examples.peek().is_some(), "no example in {language}");
        for example in examples {
            let (example, _) = example.split_once("```").unwrap();
            for line in example
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
            {
                assert!(
                    source.iter().any(|known| known == line),
                    "{client} has no line {line:?}"
                );
            }
        }
    }
}
