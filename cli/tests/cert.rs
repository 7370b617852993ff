//! `countersign cert` on real files, as OpenSSL and others write them, a real TLS server and a real Workload API.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

#[path = "cert/workload_api.rs"]
mod workload_api;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::testing::TestAuthority;
use countersign_identity::tls::{ClientAuth, server_config};
use countersign_identity::{IdentityStore, SpiffeId, TrustDomain};
use serde_json::Value;
use tempfile::TempDir;

const HOUR: Duration = Duration::from_secs(3600);

/// Files of a trust domain: `root.pem`, `chain.pem`, `leaf.key`, and what OpenSSL makes of them.
struct Place(TempDir);

impl Place {
    /// A root, an intermediate and a leaf with its key, by OpenSSL.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write(
            "ca.ext",
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
             subjectAltName=URI:spiffe://shop.example\nsubjectKeyIdentifier=hash\n",
        );
        place.write(
            "leaf.ext",
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
             extendedKeyUsage=serverAuth,clientAuth\n\
             subjectAltName=critical,URI:spiffe://shop.example/ns/shop/sa/orders\n",
        );
        for name in ["root", "int", "leaf"] {
            place.openssl(&format!(
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
            ));
        }
        place.openssl("req -new -key root.key -subj /CN=root -out root.csr");
        place.openssl(
            "x509 -req -in root.csr -signkey root.key -days 3650 -extfile ca.ext -out root.pem",
        );
        // The root must allow an intermediate below it.
        place.write(
            "root.ext",
            &fs::read_to_string(place.path("ca.ext"))
                .unwrap()
                .replace("pathlen:0", "pathlen:1"),
        );
        place.openssl(
            "x509 -req -in root.csr -signkey root.key -days 3650 -extfile root.ext -out root.pem",
        );
        place.openssl("req -new -key int.key -subj /CN=intermediate -out int.csr");
        place.openssl(
            "x509 -req -in int.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 -extfile ca.ext -out int.pem",
        );
        place.openssl("req -new -key leaf.key -subj / -out leaf.csr");
        place.openssl(
            "x509 -req -in leaf.csr -CA int.pem -CAkey int.key -CAcreateserial -days 1 -extfile leaf.ext -out leaf.pem",
        );
        let chain = place.read("leaf.pem") + &place.read("int.pem");
        place.write("chain.pem", &chain);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Runs a command as the shell reads it; what it prints goes to a file for its owner alone.
    fn openssl_pipe(&self, command: &str, file: &str) {
        let output = Command::new("bash")
            .args(["-c", &format!("umask 077; {command} >{file}")])
            .current_dir(&self.0)
            .output()
            .unwrap();
        assert!(
            !self.read(file).is_empty(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args(arguments)
            .current_dir(&self.0)
            .env_remove("COUNTERSIGN_PASSWORD")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    /// The JSON of `cert inspect`.
    fn inspect(&self, arguments: &[&str]) -> (i32, Value) {
        let mut all = vec!["cert", "inspect", "-o", "json"];
        all.extend(arguments);
        let done = self.run(&all);
        let report = serde_json::from_str(&done.stdout);
        (
            done.status,
            report.unwrap_or_else(|_| Value::from(done.stderr)),
        )
    }
}

struct Done {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Done {
    fn of(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn codes(report: &Value) -> Vec<&str> {
    let findings = report["findings"].as_array().unwrap();
    findings
        .iter()
        .filter(|finding| finding["severity"] != "info")
        .map(|finding| finding["code"].as_str().unwrap())
        .collect()
}

const ORDERS: &str = "spiffe://shop.example/ns/shop/sa/orders";

#[test]
fn files_of_every_form_are_read() {
    let place = Place::new();
    place.openssl("x509 -in leaf.pem -outform DER -out leaf.der");
    place
        .openssl("pkcs12 -export -in chain.pem -inkey leaf.key -passout pass:geheim -out svid.p12");
    place.openssl("pkcs12 -export -in chain.pem -inkey leaf.key -passout pass: -out empty.p12");
    place.openssl("pkcs8 -topk8 -in leaf.key -passout pass:geheim -out locked.key");
    place.write("password", "geheim\n");
    let locked = place.read("chain.pem") + &place.read("locked.key");
    place.write("locked.pem", &locked);

    for arguments in [
        &["chain.pem"][..],
        &["leaf.der"],
        &["svid.p12", "--password-file", "password"],
        &["empty.p12"],
        &["locked.pem", "--password-file", "password"],
    ] {
        let (status, report) = place.inspect(arguments);
        assert_eq!(status, 0, "{arguments:?} {report:#}");
        assert_eq!(
            report["certificates"][0]["spiffe_id"], ORDERS,
            "{arguments:?}"
        );
        assert_eq!(report["verdict"], "good", "{arguments:?} {report:#}");
        if arguments[0] != "chain.pem" && arguments[0] != "leaf.der" {
            assert_eq!(report["groups"][0]["private_keys"][0]["state"], "matches");
        }
    }
    let (status, told) = place.inspect(&["svid.p12"]);
    assert_eq!(status, 2);
    assert!(told.as_str().unwrap().contains("--password-file"), "{told}");
    let (_, report) = place.inspect(&["locked.pem"]);
    assert_eq!(report["groups"][0]["private_keys"][0]["state"], "encrypted");
}

#[test]
fn kubernetes_files_are_read_with_their_keys() {
    let place = Place::new();
    let base64 = |name: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(place.read(name))
    };
    let (chain, key, root, other) = (
        base64("chain.pem"),
        base64("leaf.key"),
        base64("root.pem"),
        base64("int.key"),
    );
    place.write(
        "secret.yaml",
        &format!("apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: tls, creationTimestamp: null}}\ndata:\n  tls.crt: {chain}\n  tls.key: {key}\n  ca.crt: {root}\n"),
    );
    place.write(
        "opaque.yaml",
        &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: any}}\nstringData:\n  note: hello\n  server.pem: |\n{}\ndata:\n  server.key: {other}\n", indented(&place.read("chain.pem"))),
    );
    place.write(
        "kubeconfig",
        &format!("apiVersion: v1\nkind: Config\nclusters:\n- name: prod\n  cluster: {{server: \"https://a.example\", certificate-authority-data: {root}}}\nusers:\n- name: alice\n  user:\n    client-certificate: chain.pem\n    client-key-data: {key}\n"),
    );
    for file in ["secret.yaml", "kubeconfig"] {
        fs::set_permissions(
            place.path(file),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let (status, report) = place.inspect(&[file]);
        assert_eq!(status, 0, "{report:#}");
        assert_eq!(codes(&report), [""; 0], "{report:#}");
        let groups = report["groups"].as_array().unwrap();
        let kinds: Vec<_> = groups
            .iter()
            .map(|group| group["kind"].as_str().unwrap())
            .collect();
        assert!(
            kinds.contains(&"bundle") && kinds.contains(&"chain"),
            "{report:#}"
        );
        let matching = groups
            .iter()
            .filter(|group| group["private_keys"][0]["state"] == "matches");
        assert_eq!(matching.count(), 1, "{report:#}");
    }
    let (status, report) = place.inspect(&["opaque.yaml"]);
    assert_eq!(status, 1);
    assert_eq!(
        codes(&report),
        ["key-mismatch", "key-exposed"],
        "{report:#}"
    );
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn key_material_is_never_printed() {
    let place = Place::new();
    let svid = place.read("chain.pem") + &place.read("leaf.key");
    place.write("svid.pem", &svid);
    let key = place.read("leaf.key");
    let secret_line = key.lines().nth(1).unwrap();
    for format in ["text", "json", "yaml", "pem"] {
        let done = place.run(&["cert", "inspect", "svid.pem", "-o", format]);
        assert!(!done.stdout.is_empty());
        for output in [&done.stdout, &done.stderr] {
            assert!(!output.contains(secret_line) && !output.contains("PRIVATE KEY"));
        }
    }
}

#[test]
fn pem_output_is_in_order_and_reads_as_the_same() {
    let place = Place::new();
    let wrong = place.read("int.pem") + &place.read("leaf.pem");
    place.write("wrong.pem", &wrong);
    let (status, report) = place.inspect(&["wrong.pem"]);
    assert_eq!((status, codes(&report)), (0, vec!["chain-order"]));
    let done = place.run(&["cert", "inspect", "wrong.pem", "-o", "pem"]);
    place.write("right.pem", &done.stdout);
    let (_, report) = place.inspect(&["right.pem"]);
    assert_eq!(codes(&report), [""; 0]);
    assert_eq!(report["certificates"][0]["spiffe_id"], ORDERS);
}

#[test]
fn yaml_and_pem_are_for_inspect_alone() {
    let place = Place::new();
    let arguments = [
        "cert",
        "verify",
        "chain.pem",
        "--bundle",
        "root.pem",
        "--id",
        ORDERS,
        "-o",
        "yaml",
    ];
    let done = place.run(&arguments);
    assert_eq!(done.status, 2);
    assert!(
        done.stderr.contains("expected text or json"),
        "{}",
        done.stderr
    );
}

#[test]
fn verify_answers_in_one_line() {
    let place = Place::new();
    let stranger = Place::new();
    let web = "spiffe://shop.example/ns/shop/sa/web";
    let stranger = stranger.path("root.pem").display().to_string();
    for (bundle, id, status, told) in [
        (
            "root.pem",
            ORDERS,
            0,
            "verified: spiffe://shop.example/ns/shop/sa/orders, by a root in root.pem; 23h",
        ),
        (
            "root.pem",
            web,
            1,
            "not verified: it is of spiffe://shop.example/ns/shop/sa/orders, not of spiffe://shop.example/ns/shop/sa/web",
        ),
        (
            &stranger,
            ORDERS,
            1,
            "not verified: the certificate of spiffe://shop.example/ns/shop/sa/orders is not signed by an authority",
        ),
    ] {
        let done = place.run(&[
            "cert",
            "verify",
            "chain.pem",
            "--bundle",
            bundle,
            "--id",
            id,
        ]);
        assert_eq!(done.status, status, "{}{}", done.stdout, done.stderr);
        assert!(done.stdout.starts_with(told), "{}", done.stdout);
        assert_eq!(done.stdout.lines().count(), 1);
    }
}

fn orders() -> SpiffeId {
    SpiffeId::parse(ORDERS).unwrap()
}

fn authority() -> TestAuthority {
    TestAuthority::new(&TrustDomain::parse("shop.example").unwrap()).unwrap()
}

/// A server that demands an SVID, as a sidecar does; gives its address.
fn sidecar(authority: &TestAuthority) -> String {
    let now = SystemTime::now();
    let store = IdentityStore::new(authority.bundle().unwrap());
    let (svid, key) = authority.svid(&orders(), now - HOUR..=now + HOUR).unwrap();
    store.set_svid(svid, key).unwrap();
    let config = server_config(&store, ClientAuth::Required, &[b"h2"]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut socket).is_ok() {}
            // Session tickets, or the alert.
            let _ = connection.complete_io(&mut socket);
        }
    });
    address
}

#[test]
fn a_server_shows_its_chain_and_what_it_asks_of_clients() {
    let place = Place::new();
    let authority = authority();
    place.write("bundle.pem", &authority.bundle().unwrap().to_pem());
    let address = sidecar(&authority);

    let (status, report) = place.inspect(&[&address, "--bundle", "bundle.pem"]);
    assert_eq!(status, 0, "{report:#}");
    let connection = &report["connection"];
    assert_eq!(connection["version"], "TLS 1.3");
    assert_eq!(connection["key_exchange"], "X25519MLKEM768");
    assert_eq!(connection["alpn"], "h2");
    assert_eq!(connection["client_certificate"]["outcome"], "required");
    assert_eq!(report["groups"][0]["trust"]["verified"], true);

    // A certificate of a stranger: refused, and said so.
    let (status, report) = place.inspect(&[&address, "--cert", "chain.pem", "--key", "leaf.key"]);
    assert_eq!(status, 1, "{report:#}");
    assert_eq!(codes(&report), ["client-certificate-refused"]);

    let verified = place.run(&[
        "cert",
        "verify",
        &address,
        "--bundle",
        "bundle.pem",
        "--id",
        ORDERS,
    ]);
    assert_eq!(verified.status, 0, "{}{}", verified.stdout, verified.stderr);
}

/// OpenSSL as a server, of the versions that the arguments say.
struct OpenSslServer {
    child: Child,
    address: String,
}

impl OpenSslServer {
    fn start(place: &Place, arguments: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "chain.pem"])
            .args(["-cert_chain", "int.pem", "-key", "leaf.key"])
            .args(arguments)
            .current_dir(&place.0)
            // It would end the connection with its input.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address =
            lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned));
        // What it says of connections is read, so that it can say it.
        std::thread::spawn(move || lines.count());
        Self {
            child,
            address: address.unwrap(),
        }
    }
}

impl Drop for OpenSslServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_of_tls_1_2_is_read_and_an_older_one_told_how_to_be() {
    let place = Place::new();
    let server = OpenSslServer::start(&place, &["-tls1_2"]);
    let (status, report) = place.inspect(&[&server.address, "--bundle", "root.pem"]);
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["connection"]["version"], "TLS 1.2");
    assert_eq!(report["certificates"][0]["spiffe_id"], ORDERS);
    assert_eq!(report["groups"][0]["trust"]["verified"], true);
    assert_eq!(codes(&report), ["tls-version-old"]);

    for arguments in [
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
        // Of TLS 1.2, without AEAD.
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"],
    ] {
        let server = OpenSslServer::start(&place, arguments);
        let done = place.run(&["cert", "inspect", &server.address]);
        assert_eq!(done.status, 2, "{}", done.stdout);
        // What the message says to do brings what was asked for.
        let advice = done.stderr.split('`').nth(1).unwrap();
        let (read, _) = advice.split_once(" | countersign").unwrap();
        place.openssl_pipe(read, "read.pem");
        let (status, report) = place.inspect(&["read.pem"]);
        assert_eq!(status, 0, "{report:#}");
        assert_eq!(report["certificates"][0]["spiffe_id"], ORDERS);
    }
}

#[test]
fn an_old_pkcs12_file_says_what_it_is_and_how_to_read_it() {
    let place = Place::new();
    place.write("password", "geheim\n");
    for (schemes, name) in [
        ("-legacy", "RC2"),
        ("-certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES", "triple DES"),
    ] {
        place.openssl(&format!(
            "pkcs12 -export {schemes} -in chain.pem -inkey leaf.key -passout file:password -out old.p12"
        ));
        let done = place.run(&["cert", "inspect", "old.p12", "--password-file", "password"]);
        assert_eq!(done.status, 2, "{}", done.stdout);
        let expected = format!("old.p12: the PKCS#12 file is encrypted with {name}, ");
        assert!(done.stderr.contains(&expected), "{}", done.stderr);
        let advice = done.stderr.split('`').nth(1).unwrap();
        let read = advice.replace("FILE", "old.p12") + " -passin file:password";
        place.openssl_pipe(&read, "new.pem");
        let (status, report) = place.inspect(&["new.pem"]);
        assert_eq!(status, 0, "{report:#}");
        assert_eq!(report["groups"][0]["private_keys"][0]["state"], "matches");
    }
}

#[test]
fn the_workload_api_shows_svids_keys_and_bundles() {
    let place = Place::new();
    let api = workload_api::Server::start(&place.path("api.sock"), ORDERS, &place);
    let target = format!("unix:{}", place.path("api.sock").display());
    let (status, report) = place.inspect(&[&target]);
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(report["form"], "Workload API");
    assert_eq!(report["certificates"][0]["spiffe_id"], ORDERS);
    assert_eq!(report["groups"][0]["private_keys"][0]["state"], "matches");
    assert_eq!(report["groups"][0]["trust"]["verified"], true, "{report:#}");
    assert_eq!(report["groups"][1]["name"], "bundle of shop.example");
    drop(api);

    let (status, told) = place.inspect(&["unix:/nowhere/api.sock"]);
    assert_eq!(status, 2);
    assert!(
        told.as_str()
            .unwrap()
            .contains("is a sidecar or SPIRE agent running there?"),
        "{told}"
    );
}

#[test]
fn without_a_cluster_a_pod_says_what_is_needed() {
    let place = Place::new();
    let output = place
        .command(&["cert", "inspect", "shop/orders-0"])
        .env("PATH", place.path("empty"))
        .output()
        .unwrap();
    let done = Done::of(output);
    assert_eq!(done.status, 2);
    assert!(
        done.stderr.contains("`kubectl` is needed"),
        "{}",
        done.stderr
    );
}

/// A running `cert watch`, and its lines.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watch {
    fn start(place: &Place, target: &str) -> Self {
        let mut child = place
            .command(&["cert", "watch", target, "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn watch_tells_a_rotation_of_a_file() {
    let place = Place::new();
    let mut watch = Watch::start(&place, "leaf.pem");
    let first = watch.next();
    assert_eq!(first["event"], "first");
    assert_eq!(first["certificate"]["name"], ORDERS);
    place.openssl(
        "x509 -req -in leaf.csr -CA int.pem -CAkey int.key -CAcreateserial -days 2 -extfile leaf.ext -out next.pem",
    );
    fs::rename(place.path("next.pem"), place.path("leaf.pem")).unwrap();
    let second = watch.next();
    assert_eq!(second["event"], "changed");
    assert_eq!(second["changed"], serde_json::json!(["serial", "validity"]));
    fs::remove_file(place.path("leaf.pem")).unwrap();
    // Something is there, and readable: it is not for the test to say what a path without a file is.
    assert_eq!(watch.next()["event"], "unreadable");
}

#[test]
fn watch_tells_a_rotation_of_the_workload_api() {
    let place = Place::new();
    let api = workload_api::Server::start(&place.path("api.sock"), ORDERS, &place);
    let mut watch = Watch::start(
        &place,
        &format!("unix:{}", place.path("api.sock").display()),
    );
    assert_eq!(watch.next()["event"], "first");
    place.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out leaf.key");
    place.openssl("req -new -key leaf.key -subj / -out leaf.csr");
    place.openssl(
        "x509 -req -in leaf.csr -CA int.pem -CAkey int.key -CAcreateserial -days 1 -extfile leaf.ext -out leaf.pem",
    );
    let chain = place.read("leaf.pem") + &place.read("int.pem");
    place.write("chain.pem", &chain);
    api.rotate(&place);
    let changed = watch.next();
    assert_eq!(changed["event"], "changed", "{changed}");
    let what = changed["changed"].as_array().unwrap();
    assert!(what.contains(&"key".into()) && what.contains(&"serial".into()));
}

/// What a test of the Workload API serves.
impl workload_api::Files for Place {
    fn pem(&self, name: &str) -> Vec<Vec<u8>> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let path: &Path = &self.path(name);
        let certificates = CertificateDer::pem_file_iter(path).unwrap();
        certificates.map(|der| der.unwrap().to_vec()).collect()
    }

    fn key(&self) -> Vec<u8> {
        use rustls::pki_types::PrivateKeyDer;
        use rustls::pki_types::pem::PemObject as _;
        let key = PrivateKeyDer::from_pem_file(self.path("leaf.key")).unwrap();
        key.secret_der().to_vec()
    }
}
