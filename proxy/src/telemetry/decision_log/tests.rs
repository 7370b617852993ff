use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_identity::SpiffeId;
use std::sync::Arc;

use countersign_policy::suggest::{Evidence, Options};
use countersign_policy::{FailedCondition, RuleOrigin, Verdict};
use serde_json::{Value, json};

use super::*;
use crate::telemetry::{CallProtocol, Ids, TraceParent};

/// Passes on what is written; while the gate is locked, writing blocks.
#[derive(Clone)]
struct Pipe {
    sent: mpsc::Sender<Vec<u8>>,
    gate: Arc<Mutex<()>>,
}

impl Pipe {
    fn new() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (sent, received) = mpsc::channel();
        (
            Self {
                sent,
                gate: Arc::default(),
            },
            received,
        )
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock().unwrap();
        self.sent
            .send(bytes.to_vec())
            .map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn record<'a>(ids: &Ids, path: &'a str) -> DecisionRecord<'a> {
    DecisionRecord {
        time: UNIX_EPOCH + Duration::new(1_795_428_000, 12_345_678),
        decision_id: ids.decision_id(),
        trace_id: None,
        verdict: Verdict::Allow,
        reason: &"allowed by a rule",
        reason_class: "allowed",
        rule: None,
        revision: None,
        peer: None,
        subject: None,
        source: SocketAddr::from(([127, 1, 2, 10], 40000)),
        destination: "shop/orders",
        port: 8080,
        protocol: CallProtocol::Http1,
        sni: None,
        method: Some("GET"),
        host: None,
        path: Some(path),
        observed: &[],
        failed_conditions: &[],
    }
}

fn received_lines(received: &mpsc::Receiver<Vec<u8>>) -> Vec<Value> {
    let text = String::from_utf8(received.try_iter().flatten().collect()).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_line_has_every_fact_in_its_place() {
    let (pipe, received) = Pipe::new();
    let log = DecisionLog::new(pipe, Counter::default()).unwrap();
    let ids = Ids::new();
    let trace = TraceParent::start(&ids).trace_id;
    let peer = SpiffeId::parse("spiffe://shop.example/ns/shop/sa/web").unwrap();
    let rule = RuleOrigin {
        policy: "shop/orders".into(),
        rule: "web \"creates\" orders".into(),
        file: "orders.yaml".into(),
        line: 12,
    };
    let failed = [FailedCondition {
        rule: Arc::new(rule.clone()),
        error: "there is no tenant".to_owned(),
    }];
    let full = DecisionRecord {
        failed_conditions: &failed,
        trace_id: Some(trace),
        verdict: Verdict::Deny,
        rule: Some(&rule),
        revision: Some("4f2a"),
        peer: Some(&peer),
        subject: Some(LoggedSubject {
            issuer: "shop/corp",
            sub: Some("alice"),
        }),
        sni: Some("tls.shop"),
        host: Some("orders.shop"),
        ..record(&ids, "/orders?card=4111")
    };
    log.record(&full);
    log.close(Duration::from_secs(60)).await;

    let text = String::from_utf8(received.try_iter().flatten().collect()).unwrap();
    let (id, trace) = (full.decision_id, trace);
    let expected = format!(
        concat!(
            r#"{{"time":"2026-11-23T10:00:00.012345Z","decision_id":"{id}","trace_id":"{trace}","#,
            r#""decision":"deny","reason":"allowed by a rule","reason_class":"allowed","#,
            r#""policy":"shop/orders","rule":"web \"creates\" orders","file":"orders.yaml","line":12,"#,
            r#""revision":"4f2a","peer":"spiffe://shop.example/ns/shop/sa/web","#,
            r#""subject":{{"issuer":"shop/corp","sub":"alice"}},"source":"127.1.2.10:40000","#,
            r#""destination":"shop/orders","port":8080,"protocol":"http/1.1","#,
            r#""sni":"tls.shop","method":"GET","host":"orders.shop","path":"/orders","#,
            r#""failed_conditions":[{{"policy":"shop/orders","rule":"web \"creates\" orders","file":"orders.yaml","line":12,"#,
            r#""error":"there is no tenant"}}]}}"#,
            "\n"
        ),
        id = id,
        trace = trace
    );
    assert_eq!(text, expected);
}

/// `countersign policy suggest` reads what is written here.
#[tokio::test]
async fn policy_can_be_suggested_from_the_lines() {
    let (pipe, received) = Pipe::new();
    let log = DecisionLog::new(pipe, Counter::default()).unwrap();
    let ids = Ids::new();
    let peer = SpiffeId::parse("spiffe://shop.example/ns/shop/sa/web").unwrap();
    let request = DecisionRecord {
        peer: Some(&peer),
        subject: Some(LoggedSubject {
            issuer: "shop/corp",
            sub: Some("alice"),
        }),
        host: Some("orders.shop"),
        ..record(&ids, "/orders?card=4111")
    };
    let connection = DecisionRecord {
        port: 7070,
        protocol: CallProtocol::Tcp,
        method: None,
        path: None,
        sni: Some("orders.shop"),
        subject: None,
        host: None,
        ..request
    };
    log.record(&request);
    log.record(&connection);
    log.record(&DecisionRecord {
        verdict: Verdict::Deny,
        ..request
    });
    log.close(Duration::from_secs(60)).await;

    let written: Vec<u8> = received.try_iter().flatten().collect();
    let mut evidence = Evidence::new(Options::default());
    evidence.read("log", written.as_slice()).unwrap();
    assert_eq!((evidence.bad(), evidence.other_lines()), (&[][..], 0));
    assert_eq!((evidence.different_calls(), evidence.left_out()), (2, 1));
    let suggestion = evidence.suggest(peer.trust_domain(), &[]).unwrap();
    assert_eq!(suggestion.uncovered, Vec::<String>::new());
    let text = suggestion.text();
    for expected in [
        "subject: {}",
        "to: [{ports: [8080], methods: [GET], paths: [\"/orders\"]}]",
        "to: [{ports: [7070], sni: [orders.shop]}]",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[tokio::test]
async fn absent_facts_are_left_out_and_long_ones_are_cut() {
    let (pipe, received) = Pipe::new();
    let log = DecisionLog::new(pipe, Counter::default()).unwrap();
    let ids = Ids::new();
    let path = "/ü".repeat(1000);
    let reason = format!("no rule allows {path}");
    log.record(&DecisionRecord {
        method: None,
        reason: &reason,
        ..record(&ids, &path)
    });
    log.close(Duration::from_secs(60)).await;

    let [line] = &received_lines(&received)[..] else {
        panic!("expected one line")
    };
    for absent in [
        "trace_id", "policy", "revision", "peer", "subject", "method", "host", "observed",
    ] {
        assert_eq!(line.get(absent), None, "{absent}");
    }
    let logged = line["path"].as_str().unwrap();
    assert!(logged.ends_with('…') && logged.len() < 1100, "{logged}");
    assert!(path.starts_with(logged.trim_end_matches('…')));
    assert_eq!(line["decision"], json!("allow"));
    let reason = line["reason"].as_str().unwrap();
    assert_eq!(reason, format!("no rule allows {}/…", "/ü".repeat(336)));
}

#[tokio::test]
async fn everything_recorded_is_written_at_the_end_in_order() {
    let (pipe, received) = Pipe::new();
    let dropped = Counter::default();
    let log = DecisionLog::new(pipe, dropped.clone()).unwrap();
    let ids = Ids::new();
    let paths: Vec<String> = (0..2000).map(|number| format!("/{number}")).collect();
    for path in &paths {
        log.record(&record(&ids, path));
    }
    log.close(Duration::from_secs(60)).await;

    let lines = received_lines(&received);
    let logged: Vec<_> = lines
        .iter()
        .map(|line| line["path"].as_str().unwrap())
        .collect();
    assert_eq!(logged, paths);
    assert_eq!(dropped.get(), 0);
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "the lock is the gate that holds the other thread back"
)]
async fn a_blocked_reader_costs_lines_but_neither_time_nor_memory() {
    let (pipe, received) = Pipe::new();
    let gate = Arc::clone(&pipe.gate);
    let blocked = gate.lock().unwrap();
    let dropped = Counter::default();
    let log = DecisionLog::new(pipe, dropped.clone()).unwrap();
    let ids = Ids::new();
    let path = "/p".repeat(400);
    // Far more than the writer's batch and the queue together can hold.
    let recorded = 4 * LIMIT / path.len();
    for _ in 0..recorded {
        log.record(&record(&ids, &path));
    }
    assert!(dropped.get() > 0);
    assert!(log.0.lock().bytes.len() < LIMIT + 2 * path.len());

    // The end does not wait for ever either; what is left is counted.
    log.close(Duration::from_millis(1)).await;
    assert_eq!(log.0.lock().lines, 0);
    drop(blocked);
    log.0.ended.cancelled().await;
    let written = received_lines(&received).len() as u64;
    assert_eq!(written + dropped.get(), recorded as u64);
}

#[tokio::test]
async fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
    let (pipe, received) = Pipe::new();
    drop(received);
    let dropped = Counter::default();
    let log = DecisionLog::new(pipe, dropped.clone()).unwrap();
    let ids = Ids::new();
    for _ in 0..10 {
        log.record(&record(&ids, "/"));
    }
    log.close(Duration::from_secs(60)).await;
    assert_eq!(dropped.get(), 10);
    log.record(&record(&ids, "/after the end"));
    assert_eq!(dropped.get(), 11);
}

#[test]
fn lines_that_went_out_whole_before_an_error_are_not_lost() {
    /// Takes so many bytes and then fails.
    struct Short(usize);
    impl Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = bytes.len().min(self.0).min(3);
            self.0 -= count;
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let written = write_lines(&mut Short(7), b"one\ntwo\nthree\n");
    assert_eq!(written.complete_lines, 1);
    assert_eq!(written.error.unwrap().kind(), io::ErrorKind::BrokenPipe);
    let written = write_lines(&mut Short(100), b"one\ntwo\nthree\n");
    assert_eq!(written.complete_lines, 3);
    assert!(written.error.is_none());
}

#[test]
fn times_follow_the_clock_across_seconds() {
    let mut text = TimeText::default();
    let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
    assert_eq!(
        text.at(at(1_795_428_000_001)),
        "2026-11-23T10:00:00.001000Z"
    );
    assert_eq!(
        text.at(at(1_795_428_000_999)),
        "2026-11-23T10:00:00.999000Z"
    );
    assert_eq!(
        text.at(at(1_795_428_001_000)),
        "2026-11-23T10:00:01.000000Z"
    );
    assert_eq!(
        text.at(at(1_795_427_999_000)),
        "2026-11-23T09:59:59.000000Z"
    );
    assert_eq!(
        text.at(SystemTime::UNIX_EPOCH),
        "1970-01-01T00:00:00.000000Z"
    );
}
