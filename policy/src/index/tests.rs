//! The index against a look at every rule.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use countersign_identity::{SpiffeId, TrustDomain};
use proptest::prelude::*;
use proptest::sample::select;

use crate::call::{Call, Request, Workload};
use crate::document::{Action, parse};
use crate::rule::{CompiledRule, Judged, Match};
use crate::workload_policy::WorkloadPolicy;
use crate::{Policy, Reason};

const CALLERS: [&str; 14] = [
    "",
    "from: [{workload: ns1/sa1}], ",
    "from: [{workload: 'ns1/*'}], ",
    "from: [{workload: '*/sa1'}], ",
    "from: [{namespace: ns2}], ",
    "from: [{namespace: ns2, not: {workload: ns2/sa1}}], ",
    "from: [{spiffe: 'spiffe://other.example/ns/ns1/**'}], ",
    "from: [{spiffe: 'spiffe://shop.example/ns/ns1/sa/sa1'}], ",
    "from: [{trustDomain: other.example, workload: ns1/sa1}], ",
    "from: [{trustDomain: '*', namespace: ns1}], ",
    "from: [{trustDomain: '*', workload: ns1/sa1}], ",
    "from: [{trustDomain: '*'}], ",
    "from: [{cidr: 10.0.0.0/8}, {workload: ns2/sa2}], ",
    "from: [{anonymous: true}, {not: {namespace: ns1}}], ",
];
const PEERS: [&str; 7] = [
    "spiffe://shop.example/ns/ns1/sa/sa1",
    "spiffe://shop.example/ns/ns2/sa/sa1",
    "spiffe://shop.example/ns/ns2/sa/sa2",
    "spiffe://other.example/ns/ns1/sa/sa1",
    "spiffe://other.example/ns/ns1",
    "spiffe://shop.example",
    "spiffe://shop.example/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r",
];
const PORTS: [&str; 4] = [
    "",
    "ports: [8080], ",
    "ports: [9090, 8080], ",
    "ports: [1], ",
];
const METHODS: [&str; 4] = [
    "",
    "methods: [GET], ",
    "methods: [GET, POST], ",
    "methods: [PUT], ",
];
const HOSTS: [&str; 5] = [
    "",
    "hosts: [a.shop], ",
    "hosts: ['*.shop', b.example], ",
    "hosts: ['*.a.shop'], ",
    "hosts: ['[::1]'], ",
];
const PATHS: [&str; 12] = [
    "",
    "paths: [/], ",
    "paths: [/a], ",
    "paths: [/a/b, '/a/*'], ",
    "paths: ['/a/**'], ",
    "paths: ['/{x}/b'], ",
    "paths: ['/**'], ",
    "paths: ['/%61/b'], ",
    "paths: ['/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18'], ",
    "paths: ['/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/**'], ",
    "grpc: [{service: a, method: b}], ",
    "grpc: [{service: shop.A}], ",
];
const EXCLUDED: [&str; 4] = [
    "",
    "",
    "not: {paths: [/a/b]}, ",
    "not: {methods: [GET], hosts: [a.shop]}, ",
];
const CALLED: [&str; 12] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/c/b?x=/a",
    "/a;v/b",
    "/shop.A/M",
    "/shop.A/",
    "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18",
    "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19",
    "*",
];

pub(crate) fn rule() -> impl Strategy<Value = String> {
    let action = select(vec!["allow", "allow", "allow", "deny", "audit"]);
    let to = (
        select(&PORTS[..]),
        select(&METHODS[..]),
        select(&HOSTS[..]),
        select(&PATHS[..]),
        select(&EXCLUDED[..]),
    );
    let another = (select(&PORTS[..]), select(&METHODS[..]), select(&PATHS[..]));
    let another = prop::option::weighted(0.2, another);
    (action, select(&CALLERS[..]), to, another).prop_map(
        |(action, from, (ports, methods, hosts, paths, not), another)| {
            let mut to = Vec::new();
            let first = format!("{ports}{methods}{hosts}{paths}{not}");
            let second = another.map(|(ports, methods, paths)| format!("{ports}{methods}{paths}"));
            for entry in [Some(first), second].into_iter().flatten() {
                if !entry.is_empty() {
                    to.push(format!("{{{}}}", entry.trim_end_matches(", ")));
                }
            }
            let to = match to.is_empty() {
                true => String::new(),
                false => format!("to: [{}], ", to.join(", ")),
            };
            format!("action: {action}, {from}{to}")
        },
    )
}

pub(crate) fn workload() -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        service_account: "orders".to_owned(),
        ..Workload::default()
    }
}

/// The rules in one document, one in ten of them in another that only observes; all callers are judged.
pub(crate) fn compile(rules: &[String]) -> WorkloadPolicy {
    let mut text = String::from(
        "apiVersion: countersign.dev/v1\nkind: MeshMode\nmetadata: {name: m, namespace: shop}\nspec: {mode: permissive}\n",
    );
    for (name, mode, observed) in [("p", "enforce", false), ("o", "observe", true)] {
        text += &format!(
            "---\napiVersion: countersign.dev/v1\nkind: AccessPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  mode: {mode}\n  default: deny\n  rules:\n  - {{name: none, action: deny, to: [{{ports: [2]}}]}}\n"
        );
        for (number, rule) in rules.iter().enumerate() {
            if (number % 10 == 9) == observed {
                text += &format!("  - {{name: r{number}, {}}}\n", rule.trim_end_matches(", "));
            }
        }
    }
    let documents = parse([("p.yaml".to_owned(), text)]).unwrap();
    let domain = TrustDomain::parse("shop.example").unwrap();
    Policy::compile("r1", &domain, documents)
        .unwrap()
        .for_workload(&workload())
}

#[derive(Clone, Debug)]
pub(crate) struct Called {
    peer: Option<SpiffeId>,
    port: u16,
    request: Option<(&'static str, &'static str, &'static str)>,
}

impl Called {
    pub(crate) fn as_call(&self) -> Call<'_> {
        Call {
            peer: self.peer.as_ref(),
            source_ip: Some([10, 0, 0, 7].into()),
            destination_ip: None,
            port: self.port,
            sni: None,
            request: self.request.map(|(method, host, path)| Request {
                method,
                host,
                path,
                headers: &(),
            }),
            subjects: &[],
            intent: None,
            time: UNIX_EPOCH + Duration::from_secs(1_795_428_000),
        }
    }
}

pub(crate) fn called() -> impl Strategy<Value = Called> {
    let peer = prop::option::weighted(0.9, select(&PEERS[..]));
    let request = (
        select(vec!["GET", "POST", "PUT", "HEAD"]),
        select(vec![
            "a.shop",
            "B.A.SHOP:80",
            "b.example.",
            "[::1]:80",
            "x.shop",
            "?",
            "shop",
        ]),
        select(&CALLED[..]),
    );
    let request = prop::option::weighted(0.9, request);
    (peer, select(vec![8080, 9090, 80]), request).prop_map(|(peer, port, request)| Called {
        peer: peer.map(|peer| peer.parse().unwrap()),
        port,
        request,
    })
}

/// What every rule says of the call: the first that denies, the first that allows, those that are only observed.
fn by_every_rule(policy: &WorkloadPolicy, call: &Call<'_>) -> [Vec<String>; 3] {
    let destination = workload();
    let judged = Judged::new(call, &destination);
    let readings = policy.readings(call).unwrap();
    let mut found = [const { Vec::new() }; 3];
    for rule in policy.rules() {
        let mut of_readings = readings
            .iter()
            .map(|path| rule.matches(&judged, path) == Match::Yes);
        let allows = rule.rule.action == Action::Allow;
        let matches = match allows {
            true => of_readings.all(|matches| matches),
            false => of_readings.any(|matches| matches),
        };
        if matches {
            let place = match rule.rule.action {
                _ if rule.observe => 2,
                Action::Audit => 2,
                Action::Deny => 0,
                Action::Allow => 1,
            };
            found[place].push(name(rule));
        }
    }
    found
}

fn name(rule: &Arc<CompiledRule>) -> String {
    rule.origin.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_index_finds_what_a_look_at_every_rule_finds(
        rules in prop::collection::vec(rule(), 1..300),
        calls in prop::collection::vec(called(), 30),
    ) {
        let policy = compile(&rules);
        for called in calls {
            let call = called.as_call();
            let [denying, allowing, observed] = by_every_rule(&policy, &call);
            let decision = policy.decide(&call);
            let decided = decision.rule.as_ref().map(ToString::to_string);
            prop_assert_eq!(decided.as_ref(), denying.first().or(allowing.first()));
            prop_assert_eq!(decision.is_allowed(), denying.is_empty() && !allowing.is_empty());
            let seen: Vec<String> = decision.observed.iter().map(|o| o.rule.to_string()).collect();
            prop_assert_eq!(seen, observed);
            if let Reason::NoRuleMatched(miss) = &decision.reason {
                let some_allows = policy.rules().iter().any(|rule| rule.rule.action == Action::Allow && !rule.observe);
                prop_assert_eq!(miss.closest().is_some(), some_allows);
            }
        }
    }
}
