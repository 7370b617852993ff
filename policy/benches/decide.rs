//! What a decision costs as the number of rules in force for one workload grows.
//!
//! `cargo bench -p countersign-policy` prints the median over rounds, in nanoseconds of CPU per decision, of
//! calls that are allowed, allowed with a token, denied by a rule, and denied because no rule
//! allows them; and what compiling costs. The rules are of many callers, ports and paths, as those
//! of a large mesh are; one in fifty denies.

#![expect(clippy::unwrap_used, reason = "a benchmark ends where it cannot go on")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use countersign_identity::{SpiffeId, TrustDomain};
use countersign_policy::{Call, Policy, Request, Subject, Workload, WorkloadPolicy, document};

const ROUNDS: usize = 31;
const DECISIONS: u32 = 2_000;
/// Rules in one document and file.
const RULES_PER_FILE: usize = 500;

fn main() {
    let out = std::io::stdout();
    let mut out = out.lock();
    writeln!(
        out,
        "{:>8} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>12} {:>12}",
        "rules",
        "allow",
        "token",
        "condition",
        "disguised",
        "deny",
        "no rule",
        "read ms",
        "compile ms"
    )
    .unwrap();
    for rules in [10, 1_000, 10_000, 100_000] {
        let files = policy(rules);
        let start = Instant::now();
        let documents = document::parse(files).unwrap();
        let read = start.elapsed();
        let start = Instant::now();
        let domain = TrustDomain::parse("shop.example").unwrap();
        let policy = Policy::compile("r1", &domain, documents)
            .unwrap()
            .for_workload(&workload());
        let compile = start.elapsed();
        let costs = Calls::new(rules).costs(&policy);
        write!(out, "{rules:>8}").unwrap();
        for cost in costs {
            write!(out, " {cost:>10}").unwrap();
        }
        writeln!(out, " {:>12} {:>12}", read.as_millis(), compile.as_millis()).unwrap();
    }
    writeln!(
        out,
        "ns of CPU per decision, median of {ROUNDS} rounds of {DECISIONS}"
    )
    .unwrap();
}

fn workload() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        service_account: "orders".to_owned(),
        ..Workload::default()
    }
}

fn policy(rules: usize) -> Vec<(String, String)> {
    let issuer = "apiVersion: countersign.dev/v1
kind: TokenIssuer
metadata: {name: corp, namespace: shop}
spec: {issuer: https://login.example, audiences: [shop]}
";
    let mut files = vec![("issuer.yaml".to_owned(), issuer.to_owned())];
    for first in (0..rules).step_by(RULES_PER_FILE) {
        let mut text = format!(
            "apiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: p{first}, namespace: shop}}\nspec:\n  rules:\n"
        );
        for number in first..rules.min(first + RULES_PER_FILE) {
            rule(&mut text, number);
        }
        files.push((format!("{first}.yaml"), text));
    }
    files
}

/// Rule `number`: one of ten shapes. Callers come back every thousand rules, with other paths.
fn rule(text: &mut String, number: usize) {
    let (caller, area) = (number / 10 % 100, number / 10);
    let (action, rest) = match number % 10 {
        0 => (
            "allow",
            format!(
                "from: [{{workload: ns{caller}/sa{caller}}}], to: [{{ports: [8080], methods: [POST], paths: [/area{area}/orders]}}]"
            ),
        ),
        1 => (
            "allow",
            format!(
                "from: [{{workload: ns{caller}/sa{caller}}}], to: [{{ports: [8080], methods: [GET, HEAD], paths: ['/area{area}/orders/{{id}}/items/**']}}]"
            ),
        ),
        2 => (
            "allow",
            format!(
                "from: [{{workload: ns{caller}/sa{caller}}}], subject: {{issuer: corp, claims: {{groups: [buyer, seller]}}}}, to: [{{ports: [8080], methods: [PUT], paths: ['/area{area}/carts/*']}}]"
            ),
        ),
        3 => (
            "allow",
            format!(
                "from: [{{namespace: ns{caller}}}], to: [{{ports: [9090], grpc: [{{service: shop.area{area}.Read}}]}}]"
            ),
        ),
        4 => (
            "allow",
            format!(
                "from: [{{workload: ns{caller}/sa{caller}}}], subject: {{issuer: corp}}, to: [{{ports: [8080], methods: [PATCH], paths: ['/area{area}/tenants/{{tenant}}/**']}}], when: 'path.tenant == subject.claims.tenant'"
            ),
        ),
        5 => (
            "allow",
            format!("from: [{{workload: ns{caller}/batch{area}}}], to: [{{ports: [8080, 8081]}}]"),
        ),
        6 => (
            "allow",
            format!(
                "from: [{{spiffe: 'spiffe://other.example/area{area}/**'}}], to: [{{ports: [8443], hosts: [orders.shop], methods: [GET], paths: ['/area{area}/public/**']}}]"
            ),
        ),
        7 => (
            "allow",
            format!(
                "from: [{{namespace: ns{caller}, not: {{workload: ns{caller}/guest}}}}], to: [{{ports: [8080], methods: [GET], paths: [/area{area}/health]}}]"
            ),
        ),
        8 => (
            "allow",
            format!(
                "from: [{{workload: ns{caller}/sa{caller}}}], to: [{{ports: [8080], methods: [GET], paths: ['/area{area}/reports/*/pages/*']}}]"
            ),
        ),
        _ if number % 50 == 9 => (
            "deny",
            format!(
                "from: [{{namespace: ns{caller}}}], to: [{{paths: ['/area{area}/internal/**']}}]"
            ),
        ),
        _ => (
            "allow",
            format!(
                "from: [{{workload: 'ns{caller}/*'}}], to: [{{ports: [8082], methods: [GET]}}]"
            ),
        ),
    };
    writeln!(
        text,
        "  - {{name: rule {number}, action: {action}, {rest}}}"
    )
    .unwrap();
}

struct Calls {
    peer: SpiffeId,
    area: usize,
    subjects: Vec<Arc<Subject>>,
}

impl Calls {
    /// Calls that the last rules are about.
    fn new(rules: usize) -> Self {
        let area = (rules - 1) / 10;
        let caller = area % 100;
        let claims =
            serde_json::json!({"sub": "alice", "groups": ["staff", "buyer"], "tenant": "acme"});
        let subject = Subject {
            issuer: "shop/corp".to_owned(),
            claims: claims.as_object().unwrap().clone(),
            expires_at: SystemTime::now() + Duration::from_secs(3600),
        };
        Self {
            peer: format!("spiffe://shop.example/ns/ns{caller}/sa/sa{caller}")
                .parse()
                .unwrap(),
            area,
            subjects: vec![Arc::new(subject)],
        }
    }

    fn costs(&self, policy: &WorkloadPolicy) -> [u128; 6] {
        let area = self.area;
        let deny_area = area / 5 * 5;
        let deny_caller = deny_area % 100;
        let denied: SpiffeId =
            format!("spiffe://shop.example/ns/ns{deny_caller}/sa/sa{deny_caller}")
                .parse()
                .unwrap();
        let items = format!("/area{area}/orders/4711/items/1?full=1");
        let disguised = format!("/area{area}/orders/47%311/items/./1");
        [
            self.cost(policy, &self.peer, "GET", &items, "allowed"),
            self.cost(
                policy,
                &self.peer,
                "PUT",
                &format!("/area{area}/carts/7"),
                "allowed",
            ),
            self.cost(
                policy,
                &self.peer,
                "PATCH",
                &format!("/area{area}/tenants/acme/x"),
                "allowed",
            ),
            self.cost(policy, &self.peer, "GET", &disguised, "allowed"),
            self.cost(
                policy,
                &denied,
                "GET",
                &format!("/area{deny_area}/internal/x"),
                "denied-by-rule",
            ),
            self.cost(
                policy,
                &self.peer,
                "DELETE",
                &format!("/area{area}/orders"),
                "no-rule-matched",
            ),
        ]
    }

    /// Nanoseconds of one decision, which has to come out as expected.
    fn cost(
        &self,
        policy: &WorkloadPolicy,
        peer: &SpiffeId,
        method: &str,
        path: &str,
        expected: &str,
    ) -> u128 {
        let mut headers = http::HeaderMap::new();
        for (name, value) in [
            ("accept", "*/*"),
            ("user-agent", "bench"),
            ("x-tenant", "acme"),
        ] {
            headers.insert(name, http::HeaderValue::from_static(value));
        }
        let call = Call {
            peer: Some(peer),
            source_ip: Some([10, 0, 0, 7].into()),
            port: 8080,
            destination_ip: None,
            sni: None,
            request: Some(Request {
                method,
                host: "orders.shop:8080",
                path,
                headers: &headers,
            }),
            subjects: &self.subjects,
            intent: None,
            time: SystemTime::now(),
        };
        let decision = policy.decide(&call);
        assert_eq!(decision.reason.class(), expected, "{}", decision.reason);
        let mut rounds: Vec<u128> = (0..ROUNDS)
            .map(|_| {
                let start = cpu_time();
                for _ in 0..DECISIONS {
                    black_box(policy.decide(black_box(&call)));
                }
                (cpu_time() - start).as_nanos() / u128::from(DECISIONS)
            })
            .collect();
        rounds.sort_unstable();
        rounds.get(ROUNDS / 2).copied().unwrap_or_default()
    }
}

/// What this thread has used of a processor, so that other work on the machine does not count.
fn cpu_time() -> Duration {
    // The kernel brings the account up to date when it schedules.
    std::thread::yield_now();
    // proc(5): the first number is the time spent on the CPU, in nanoseconds.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let used = text.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(used)
}
