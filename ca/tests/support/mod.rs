//! A real CA process, and a real issuer on loopback.

#![allow(dead_code, reason = "every test program uses its part of this")]

pub(crate) mod client;
pub(crate) mod postgres;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_identity::{Bundle, IdentityStore, TrustDomain};
use serde_json::{Value, json};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn shop() -> TrustDomain {
    TrustDomain::parse("shop.example").unwrap()
}

/// A data directory with a configuration beside it.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    /// `more` is appended to the configuration.
    pub(crate) fn new(more: &str) -> Self {
        let home = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        home.configure(more);
        home
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, more: &str) {
        let data = self.data().display().to_string();
        let config = format!(
            "trustDomain: shop.example\ndataDirectory: {data}\nlisten: 127.0.0.1:0\nops: 127.0.0.1:0\n{more}"
        );
        std::fs::write(self.config(), config).unwrap();
    }

    /// Those of so many replicas, which have their keys in common. `authority` are more fields of that name.
    pub(crate) fn replicas<const N: usize>(more: &str, authority: &str) -> [Self; N] {
        let homes: [Self; N] = std::array::from_fn(|_| Self::new(""));
        let keys = homes[0].config().with_file_name("keys");
        for home in &homes {
            let keys = keys.display();
            home.configure(&format!(
                "{more}authority:\n  keys: {{directory: {keys}}}\n{authority}"
            ));
        }
        homes
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("ca.yaml")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let (command, rest) = arguments.split_first().unwrap();
        binary(command, &self.config()).args(rest).output().unwrap()
    }

    /// Runs `root …` to its end.
    pub(crate) fn root(&self, arguments: &[&str]) -> Output {
        let (step, rest) = arguments.split_first().unwrap();
        let mut command = binary("root", &self.config());
        command.arg(step).args(rest).output().unwrap()
    }

    pub(crate) fn join_token(&self, id: &str) -> String {
        let output = self.run(&["join-token", "--spiffe-id", id]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A start that is refused: what it says.
    pub(crate) fn failing_start(&self) -> String {
        let output = self.run(&["serve"]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    }

    /// The records of the issuance log.
    pub(crate) fn log(&self) -> Vec<Value> {
        let (output, _) = self.ask_log(&["export"]);
        let lines = output.lines().map(serde_json::from_str::<Value>);
        let records = lines.filter_map(|line| line.unwrap().get_mut("record").map(Value::take));
        records.collect()
    }

    /// Runs `log …`: what it prints, and its exit status.
    pub(crate) fn ask_log(&self, arguments: &[&str]) -> (String, i32) {
        let (command, rest) = arguments.split_first().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_countersign-ca"))
            .args(["log", command, "--config"])
            .arg(self.config())
            .args(rest)
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            String::from_utf8(text).unwrap(),
            output.status.code().unwrap(),
        )
    }

    /// A store that believes this CA, and has no identity yet.
    pub(crate) fn store(&self) -> Arc<IdentityStore> {
        let pem = std::fs::read_to_string(self.data().join("bundle.pem")).unwrap();
        IdentityStore::new(Bundle::from_pem(shop(), &pem).unwrap())
    }
}

pub(crate) fn binary(command: &str, config: &Path) -> Command {
    let mut binary = Command::new(env!("CARGO_BIN_EXE_countersign-ca"));
    binary
        .arg(command)
        .arg("--config")
        .arg(config)
        .current_dir(config.parent().unwrap())
        .env("SOFTHSM2_CONF", config.with_file_name("softhsm2.conf"))
        .env_remove("RUST_LOG");
    binary
}

/// A running CA. Killed when dropped.
pub(crate) struct Ca {
    child: Child,
    pub(crate) address: String,
    pub(crate) ops: SocketAddr,
    said: Said,
}

/// What a CA wrote to its log so far.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Said {
    fn add(&self, line: String) {
        self.0.0.lock().unwrap().push(line);
        self.0.1.notify_all();
    }

    /// Waits until a line has `text` in it.
    pub(crate) fn wait_for(&self, text: &str) {
        let (lines, more) = &*self.0;
        let silent = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
        let (_lines, waited) = more
            .wait_timeout_while(lines.lock().unwrap(), PATIENCE, silent)
            .unwrap();
        assert!(!waited.timed_out(), "the CA says {text:?} in time");
    }
}

impl Said {
    /// The line with this message, which has been written.
    fn event(&self, message: &str) -> Value {
        let lines = self.0.0.lock().unwrap();
        let mut events = lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
        events
            .find(|event| event["message"] == message)
            .expect(message)
    }
}

/// A CA that is starting.
pub(crate) struct Starting {
    child: Child,
    ready: mpsc::Receiver<Value>,
    pub(crate) said: Said,
}

impl Starting {
    /// `command` is one that becomes a `countersign-ca serve`.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .args(["--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (ready, is_ready) = mpsc::channel();
        let said = Said::default();
        let says = said.clone();
        // Reads to the end, so that the CA never waits for its log to be read.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "ready to issue" {
                    let _ = ready.send(event);
                } else {
                    eprintln!("ca: {line}");
                }
                says.add(line);
            }
        });
        Self {
            child,
            ready: is_ready,
            said,
        }
    }

    /// Waits until it can issue.
    pub(crate) fn ready(self) -> Ca {
        let event = self.ready.recv_timeout(PATIENCE).expect("the CA starts");
        let address = |field: &str| event[field].as_str().unwrap().to_owned();
        Ca {
            child: self.child,
            address: address("address"),
            ops: address("ops_address").parse().unwrap(),
            said: self.said,
        }
    }

    /// Waits until it has ended.
    pub(crate) fn ends(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Ca {
    pub(crate) fn start(home: &Home) -> Self {
        Starting::spawn(binary("serve", &home.config())).ready()
    }

    /// With something in its environment.
    pub(crate) fn starting(home: &Home, name: &str, value: &str) -> Starting {
        let mut command = binary("serve", &home.config());
        command.env(name, value);
        Starting::spawn(command)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The line with this message that it logged before it was ready.
    pub(crate) fn event(&self, message: &str) -> Value {
        self.said.event(message)
    }

    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    /// As if its machine had lost power.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ends(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let id = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }

    /// A page of the operator's endpoint.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.ops).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: ops\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Ca {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An OpenID provider with one ES256 key.
pub(crate) struct Issuer {
    address: SocketAddr,
    key: EcdsaKeyPair,
}

impl Issuer {
    pub(crate) fn start() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": "ci-1", "use": "sig", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        let base = format!("http://{address}");
        let metadata = json!({"issuer": base, "jwks_uri": format!("{base}/keys")}).to_string();
        let keys = json!({"keys": [jwk]}).to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is its own affair.
                let _ = answer(stream.unwrap(), &metadata, &keys);
            }
        });
        Self { address, key }
    }

    pub(crate) fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `issuers` of a configuration that trusts this one.
    pub(crate) fn config(&self) -> String {
        format!(
            "issuers:\n- issuer: {}\n  audiences: [countersign-ca]\n  allowHttp: true\n  allowPrivateAddresses: true\n  \
             spiffeId: \"spiffe://shop.example/ns/{{claims.ns}}/sa/{{claims.sa}}\"\n",
            self.name()
        )
    }

    /// A good token, with these changes.
    pub(crate) fn token(&self, changes: &Value) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": self.name(), "aud": "countersign-ca", "sub": "job 7", "exp": now + 300, "iat": now,
            "ns": "shop", "sa": "orders",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let header = json!({"alg": "ES256", "kid": "ci-1", "typ": "JWT"}).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn answer(stream: TcpStream, metadata: &str, keys: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let body = if request.starts_with("GET /keys ") {
        keys
    } else {
        metadata
    };
    let length = body.len();
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}
