//! Runs the tests that stand beside a policy, before it comes into force.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use countersign_identity::TrustDomain;
use countersign_policy::testing::{self, TestSuite};
use countersign_policy::{Diagnostics, Policy, Workload};

/// How many tests a revision may have: enough for a large mesh, and done in well under a second.
const TEST_LIMIT: usize = 10_000;
/// How long they may take all together. A policy that has to wait for its tests is not in force meanwhile.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Runs all tests, of which there may be none. A call without a time is of `now`.
///
/// # Errors
/// What is not as expected, or why not all tests were run.
pub(super) fn run(
    policy: &Policy,
    trust_domain: &TrustDomain,
    suites: Vec<TestSuite>,
    now: SystemTime,
) -> Result<(), Diagnostics> {
    let mut failures = Vec::new();
    // One called workload after the other, since the policy of each is made for its tests, and there may be many.
    let started = Instant::now();
    for suite in by_workload(suites)? {
        let first = suite.origin.clone();
        failures.extend(testing::run(policy, trust_domain, vec![suite], now).failures());
        if started.elapsed() > TIME_LIMIT {
            failures.push(first.diagnostic(format!(
                "expected all tests together to take at most {} s; with those of the workload that is called here they took \
                 longer",
                TIME_LIMIT.as_secs()
            )));
            break;
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Diagnostics::new(failures))
    }
}

/// Sorts the tests by the workload that they call.
fn by_workload(suites: Vec<TestSuite>) -> Result<Vec<TestSuite>, Diagnostics> {
    let mut by_workload: HashMap<Workload, TestSuite> = HashMap::new();
    let mut count = 0_usize;
    for TestSuite { name, tests, .. } in suites {
        for test in tests {
            count += 1;
            if count > TEST_LIMIT {
                let message =
                    format!("expected at most {TEST_LIMIT} tests together, this is one more");
                return Err(Diagnostics::new(vec![test.origin.diagnostic(message)]));
            }
            let suite = by_workload
                .entry(test.call.destination.to_workload())
                .or_insert_with(|| TestSuite {
                    name: name.clone(),
                    origin: test.origin.clone(),
                    tests: Vec::new(),
                });
            suite.tests.push(test);
        }
    }
    Ok(by_workload.into_values().collect())
}

#[cfg(test)]
mod tests {
    use countersign_policy::document;

    use super::*;

    const POLICY: &str = "\
apiVersion: countersign.dev/v1
kind: AccessPolicy
metadata: {name: orders, namespace: shop}
spec: {rules: [{name: web, action: allow, from: [{workload: shop/web}]}]}
";

    /// Runs as many tests as there are items, each a caller and a called workload.
    fn run_all<'a>(calls: impl Iterator<Item = (&'a str, String)>) -> Result<(), Diagnostics> {
        let mut text = "apiVersion: countersign.dev/v1\nkind: PolicyTest\nmetadata: {name: t}\nspec:\n  tests:\n".to_owned();
        for (count, (peer, workload)) in calls.enumerate() {
            let test = format!(
                "  - {{name: t{count}, call: {{peer: {peer}, destination: {{namespace: shop, workload: {workload}, port: 1}}}}, expect: allow}}\n"
            );
            text.push_str(&test);
        }
        let trust_domain = TrustDomain::parse("shop.example").unwrap();
        let documents = document::parse([("p.yaml".to_owned(), POLICY.to_owned())]).unwrap();
        let policy = Policy::compile("r", &trust_domain, documents).unwrap();
        let suites = testing::read([("t.test.yaml".to_owned(), text)]).unwrap();
        run(&policy, &trust_domain, suites, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn failures_are_told_in_the_order_of_the_file_whatever_they_call() {
        let calls = (0..9).map(|number| {
            let peer = if number % 3 == 0 {
                "shop/web"
            } else {
                "shop/intern"
            };
            (peer, format!("w{}", number % 2))
        });
        let failures = run_all(calls).unwrap_err();
        let lines: Vec<_> = failures.iter().map(|failure| failure.line).collect();
        assert_eq!(lines, [7, 8, 10, 11, 13, 14]);
    }

    #[test]
    fn there_may_be_many_tests_but_not_any_number() {
        let calls = |count| (0..count).map(|_| ("shop/web", "orders".to_owned()));
        run_all(calls(TEST_LIMIT)).unwrap();
        let refused = run_all(calls(TEST_LIMIT + 1)).unwrap_err().to_string();
        assert_eq!(
            refused,
            "t.test.yaml:10006:5: expected at most 10000 tests together, this is one more"
        );
    }
}
