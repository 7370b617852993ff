//! The operator's HTTP endpoint that every program serves: `/metrics`, `/ready`, `/live`, and what the program adds.
//!
//! Plain HTTP/1.1, read only, no secrets. One request per connection, bounded in time and number, so that a client that
//! stalls holds nothing for long.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long a client may take to send its request's head.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a whole exchange may take.
const EXCHANGE_TIME: Duration = Duration::from_secs(30);
/// How many clients are served at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 64;
/// A pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What `prometheus_client` writes: the OpenMetrics text format, version 1.0.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Which parts of a program are ready. Cheap to clone; all clones are one.
///
/// A program names its parts at start (`"identity"`, `"policy"`); each begins as not ready. It is ready when all are.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    parts: watch::Sender<Parts>,
}

/// Why each part is not ready; `None` for one that is.
type Parts = BTreeMap<&'static str, Option<String>>;

impl Readiness {
    /// A program without parts: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part that is not ready yet, and returns the handle by which its owner reports.
    pub fn part(&self, name: &'static str) -> ReadyPart {
        self.parts.send_modify(|parts| {
            parts.insert(name, Some("starting".to_owned()));
        });
        ReadyPart {
            name,
            parts: self.parts.clone(),
        }
    }

    /// Whether every part is ready.
    pub fn is_ready(&self) -> bool {
        self.parts.borrow().values().all(Option::is_none)
    }

    /// Waits until every part is ready.
    pub async fn ready(&self) {
        let mut parts = self.parts.subscribe();
        // Cannot fail: `self` keeps the sender.
        let _ = parts
            .wait_for(|parts| parts.values().all(Option::is_none))
            .await;
    }
}

/// One line: `ready`, or `not ready: identity: waiting for the CA; policy: no commit accepted yet`.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.borrow();
        let mut missing = parts
            .iter()
            .filter_map(|(name, reason)| Some((name, reason.as_ref()?)));
        let Some((name, reason)) = missing.next() else {
            return f.write_str("ready");
        };
        write!(f, "not ready: {name}: {}", OneLine(reason))?;
        missing.try_for_each(|(name, reason)| write!(f, "; {name}: {}", OneLine(reason)))
    }
}

struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.lines().enumerate() {
            let separator = if index == 0 { "" } else { " | " };
            write!(f, "{separator}{line}")?;
        }
        Ok(())
    }
}

/// The readiness of one part, reported by its owner.
#[derive(Clone, Debug)]
pub struct ReadyPart {
    name: &'static str,
    parts: watch::Sender<Parts>,
}

impl ReadyPart {
    /// This part does its job.
    pub fn ready(&self) {
        self.set(None);
    }

    /// This part does not do its job (yet, or any more), for this reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.parts.send_if_modified(|parts| {
            parts.insert(self.name, reason.clone()).as_ref() != Some(&reason)
        });
    }
}

type JsonRoute = Box<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the operator's endpoint shows.
pub struct OpsEndpoint {
    registry: Registry,
    readiness: Readiness,
    routes: BTreeMap<&'static str, JsonRoute>,
    header_time: Duration,
}

impl OpsEndpoint {
    /// The endpoint of a program with these metrics and parts.
    pub fn new(registry: Registry, readiness: Readiness) -> Self {
        Self {
            registry,
            readiness,
            routes: BTreeMap::new(),
            header_time: HEADER_TIME,
        }
    }

    /// Serves the JSON that `value` returns, made anew for every request, at `path` (such as `/status`).
    #[must_use]
    pub fn json(
        mut self,
        path: &'static str,
        value: impl Fn() -> serde_json::Value + Send + Sync + 'static,
    ) -> Self {
        self.routes.insert(path, Box::new(value));
        self
    }

    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let known =
            matches!(path, "/metrics" | "/ready" | "/live") || self.routes.contains_key(path);
        if !known {
            let paths = ["/live", "/metrics", "/ready"]
                .into_iter()
                .chain(self.routes.keys().copied());
            let list = paths.collect::<Vec<_>>().join(" ");
            return answer(
                StatusCode::NOT_FOUND,
                TEXT,
                format!("not here; there are {list}\n"),
            );
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = answer(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "expected GET or HEAD\n".to_owned(),
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => self.metrics(),
            "/ready" => {
                let line = format!("{}\n", self.readiness);
                let status = if line == "ready\n" {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                answer(status, TEXT, line)
            }
            "/live" => answer(StatusCode::OK, TEXT, "live\n".to_owned()),
            _ => match self.routes.get(path) {
                Some(value) => answer(StatusCode::OK, JSON, format!("{}\n", value())),
                None => answer(StatusCode::NOT_FOUND, TEXT, String::new()),
            },
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => answer(StatusCode::OK, OPEN_METRICS, text),
            Err(fmt::Error) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "a metric cannot be written\n".to_owned(),
            ),
        }
    }
}

impl fmt::Debug for OpsEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpsEndpoint")
            .field("readiness", &self.readiness)
            .field("routes", &self.routes.keys())
            .finish_non_exhaustive()
    }
}

fn answer(status: StatusCode, content_type: HeaderValue, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Serves the endpoint until `shutdown` is complete. Exchanges that are under way then are cut: a program that drains
/// should end this last.
pub async fn serve(
    listener: TcpListener,
    endpoint: OpsEndpoint,
    shutdown: impl Future<Output = ()>,
) {
    let endpoint = Arc::new(endpoint);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        // The semaphore is never closed, so a slot always comes.
        let accept = async {
            (
                Arc::clone(&slots).acquire_owned().await,
                listener.accept().await,
            )
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let endpoint = Arc::clone(&endpoint);
                connections.spawn(async move {
                    exchange(stream, endpoint).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the operator's endpoint");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request. What goes wrong concerns only that client, who sees it.
async fn exchange(stream: TcpStream, endpoint: Arc<OpsEndpoint>) {
    let header_time = endpoint.header_time;
    let service = service_fn(|request: Request<Incoming>| {
        let response = endpoint.respond(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(EXCHANGE_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the operator's endpoint failed"),
        Err(_) => tracing::debug!("a client of the operator's endpoint was too slow"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;

    struct Served {
        addr: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    async fn served(endpoint: OpsEndpoint) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, endpoint, async {
            let _ = stopped.await;
        }));
        Served { addr, stop, task }
    }

    async fn ask(addr: SocketAddr, request_line: &str) -> String {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nHost: ops\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn ready_names_the_parts_that_are_missing() {
        let readiness = Readiness::new();
        let identity = readiness.part("identity");
        let policy = readiness.part("policy");
        let served = served(OpsEndpoint::new(Registry::default(), readiness.clone())).await;

        identity.not_ready("the CA cannot be reached\nconnection refused");
        let response = ask(served.addr, "GET /ready").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(
            response.ends_with(
                "\r\n\r\nnot ready: identity: the CA cannot be reached | connection refused; policy: starting\n"
            ),
            "{response}"
        );

        identity.ready();
        policy.ready();
        readiness.ready().await;
        let response = ask(served.addr, "GET /ready").await;
        assert!(
            response.starts_with("HTTP/1.1 200 ") && response.ends_with("\r\n\r\nready\n"),
            "{response}"
        );

        policy.not_ready("gone");
        assert!(!readiness.is_ready());
        assert!(
            ask(served.addr, "GET /live")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }

    #[tokio::test]
    async fn metrics_and_the_programs_own_routes_are_served() {
        let mut registry = Registry::default();
        let calls = Counter::<u64>::default();
        registry.register("calls", "Calls", calls.clone());
        calls.inc_by(7);
        let endpoint = OpsEndpoint::new(registry, Readiness::new())
            .json("/status", || serde_json::json!({ "sidecars": [] }));
        let served = served(endpoint).await;

        let metrics = ask(served.addr, "GET /metrics").await;
        assert!(
            metrics.contains("content-type: application/openmetrics-text; version=1.0.0"),
            "{metrics}"
        );
        assert!(metrics.contains("\ncalls_total 7\n"), "{metrics}");
        let status = ask(served.addr, "GET /status?pretty").await;
        assert!(
            status.contains("content-type: application/json\r\n"),
            "{status}"
        );
        assert!(status.ends_with("\r\n\r\n{\"sidecars\":[]}\n"), "{status}");
        let head = ask(served.addr, "HEAD /status").await;
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn other_methods_and_paths_are_refused() {
        let served = served(OpsEndpoint::new(Registry::default(), Readiness::new())).await;
        let post = ask(served.addr, "POST /metrics").await;
        assert!(
            post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD\r\n"),
            "{post}"
        );
        let missing = ask(served.addr, "GET /debug").await;
        assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
        assert!(
            missing.ends_with("not here; there are /live /metrics /ready\n"),
            "{missing}"
        );
        assert!(
            ask(served.addr, "nonsense")
                .await
                .starts_with("HTTP/1.1 400 ")
        );
    }

    #[tokio::test]
    async fn clients_that_stall_do_not_keep_others_waiting_for_ever() {
        let mut endpoint = OpsEndpoint::new(Registry::default(), Readiness::new());
        endpoint.header_time = Duration::from_millis(100);
        let served = served(endpoint).await;
        let mut stalled = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(served.addr).await.unwrap();
            stream.write_all(b"GET /live HTTP/1.1\r\n").await.unwrap();
            stalled.push(stream);
        }
        assert!(
            ask(served.addr, "GET /live")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }

    #[tokio::test]
    async fn shutdown_ends_the_service() {
        let served = served(OpsEndpoint::new(Registry::default(), Readiness::new())).await;
        served.stop.send(()).unwrap();
        served.task.await.unwrap();
        assert!(TcpStream::connect(served.addr).await.is_err());
    }
}
