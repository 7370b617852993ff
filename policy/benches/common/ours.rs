//! This project's engine.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_identity::{SpiffeId, TrustDomain};
use countersign_policy::{Policy, Request, Subject, Workload, WorkloadPolicy, document};

use super::calls::Call;
use super::measure::{cpu_time, median_cost};
use super::rules::files;

/// What it takes to get from YAML to what decides.
pub(crate) struct Compiled {
    pub(crate) policy: WorkloadPolicy,
    /// From text to documents.
    pub(crate) read: Duration,
    /// From documents to the compiled, indexed policy.
    pub(crate) compile: Duration,
}

/// Compiles the first rules; texts are made and read one at a time.
pub(crate) fn compile(rules: usize) -> Compiled {
    let mut writing = Duration::ZERO;
    let mut files = files(rules);
    let timed = std::iter::from_fn(|| {
        let start = cpu_time();
        let file = files.next();
        writing += cpu_time() - start;
        file
    });
    let start = cpu_time();
    let documents = document::parse(timed).unwrap();
    let read = cpu_time() - start - writing;
    let start = cpu_time();
    let domain = TrustDomain::parse("shop.example").unwrap();
    let policy = Policy::compile("r1", &domain, documents)
        .unwrap()
        .for_workload(&workload());
    let compile = cpu_time() - start;
    Compiled {
        policy,
        read,
        compile,
    }
}

fn workload() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        service_account: "orders".to_owned(),
        ..Workload::default()
    }
}

/// Nanoseconds of one decision, which has to come out as expected.
pub(crate) fn cost(policy: &WorkloadPolicy, of: &Call) -> f64 {
    let peer: SpiffeId = of.peer().parse().unwrap();
    let mut headers = http::HeaderMap::new();
    for (name, value) in [
        ("accept", "*/*"),
        ("user-agent", "bench"),
        ("x-tenant", "acme"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    let claims =
        serde_json::json!({"sub": "alice", "groups": ["staff", "buyer"], "tenant": "acme"});
    let subject = Subject {
        issuer: "shop/corp".to_owned(),
        claims: claims.as_object().unwrap().clone(),
        expires_at: SystemTime::now() + Duration::from_secs(3600),
    };
    let subjects: Vec<Arc<Subject>> = of.token.then(|| Arc::new(subject)).into_iter().collect();
    let call = countersign_policy::Call {
        peer: Some(&peer),
        source_ip: Some([10, 0, 0, 7].into()),
        destination_ip: None,
        port: of.port,
        sni: None,
        request: Some(Request {
            method: of.method,
            host: of.host,
            path: &of.path,
            headers: &headers,
        }),
        subjects: &subjects,
        intent: None,
        time: SystemTime::now(),
    };
    let decision = policy.decide(&call);
    assert_eq!(decision.reason.class(), of.class, "{}", decision.reason);
    assert_eq!(decision.is_allowed(), of.allowed);
    median_cost(|| {
        black_box(policy.decide(black_box(&call)));
    })
}
