//! Tests of a policy: calls, and what is expected to be decided about them.
//!
//! A test stands in a file `*.test.yaml` beside the policy:
//!
//! ```yaml
//! apiVersion: countersign.dev/v1
//! kind: PolicyTest
//! metadata: {name: orders}
//! spec:
//!   calls:
//!     web orders:
//!       peer: shop/web
//!       destination: {namespace: shop, workload: orders, port: 8080}
//!       request: {method: POST, path: /orders}
//!   tests:
//!   - {name: web takes orders, call: web orders, expect: allow, rule: web takes orders}
//!   - name: the intern does not
//!     call: web orders
//!     with: {peer: shop/intern}
//!     expect: deny
//! ```
//!
//! [`read`] reads such files, [`run`] decides their calls by the very engine that enforces.

mod call;
mod coverage;
mod read;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use countersign_identity::TrustDomain;

#[cfg(feature = "tools")]
pub(crate) use self::call::Fact;
pub use self::coverage::{Coverage, RuleCoverage};
pub use self::read::{KIND, is_tests, read};
use crate::call_json::{CallError, CallJson};
use crate::document::Origin;
use crate::{Decision, Diagnostic, Policy, Verdict, Workload, WorkloadPolicy};

/// The tests of one document.
#[derive(Clone, Debug, PartialEq)]
pub struct TestSuite {
    /// Its `metadata.name`.
    pub name: String,
    /// Where it starts.
    pub origin: Origin,
    /// At least one.
    pub tests: Vec<Test>,
}

/// One call, and what is expected to be decided about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    /// What people call it; unique in its suite.
    pub name: String,
    /// Where it starts.
    pub origin: Origin,
    /// The call.
    pub call: CallJson<'static>,
    /// What has to be decided.
    pub expect: Expectation,
}

/// What has to be decided. What is left out may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Allow or deny.
    pub verdict: Verdict,
    /// The name of the rule that decides.
    pub rule: Option<String>,
    /// The policy of the rule that decides, as `namespace/name`.
    pub policy: Option<String>,
    /// The class of the reason.
    pub reason: Option<String>,
    /// Names of rules that match and do not decide: audit rules, and those of policies in observe mode.
    pub observed: Vec<String>,
}

/// What came of all tests.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By file and place in it.
    pub suites: Vec<SuiteOutcome>,
    /// Which rules were tested.
    pub coverage: Coverage,
}

/// What came of one suite.
#[derive(Clone, Debug)]
pub struct SuiteOutcome {
    /// Its name.
    pub name: String,
    /// Where it starts.
    pub origin: Origin,
    /// In the order of the file.
    pub tests: Vec<TestOutcome>,
}

/// What came of one test.
#[derive(Clone, Debug)]
pub struct TestOutcome {
    /// Its name.
    pub name: String,
    /// Where it starts.
    pub origin: Origin,
    /// What was expected.
    pub expect: Expectation,
    /// What was decided, or why nothing could be.
    pub decision: Result<Decision, CallError>,
    /// What is not as expected, and one thing each; empty if the test passed.
    pub problems: Vec<String>,
}

impl TestOutcome {
    /// Whether all was as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// What is not as expected and why, on one line.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.passed() {
            return None;
        }
        let mut text = self.problems.join("; ");
        if let Ok(decision) = &self.decision {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {}", decision.reason);
        }
        Some(text)
    }
}

impl Outcome {
    /// All tests.
    pub fn tests(&self) -> impl Iterator<Item = &TestOutcome> {
        self.suites.iter().flat_map(|suite| &suite.tests)
    }

    /// The tests that failed, as mistakes of their files; none if all passed.
    #[must_use]
    pub fn failures(&self) -> Vec<Diagnostic> {
        let failure = |test: &TestOutcome| {
            let failure = test.failure()?;
            let message = format!("the test {:?} failed: {failure}", test.name);
            Some(test.origin.diagnostic(message))
        };
        self.tests().filter_map(failure).collect()
    }
}

/// Decides the calls of all tests. A call without a time is of `now`.
#[must_use]
pub fn run(
    policy: &Policy,
    trust_domain: &TrustDomain,
    suites: Vec<TestSuite>,
    now: SystemTime,
) -> Outcome {
    let mut runner = Runner {
        policy,
        trust_domain,
        now,
        by_workload: HashMap::new(),
        coverage: Coverage::of(policy),
    };
    let suites = suites
        .into_iter()
        .map(|suite| SuiteOutcome {
            name: suite.name,
            origin: suite.origin,
            tests: suite
                .tests
                .into_iter()
                .map(|test| runner.test(test))
                .collect(),
        })
        .collect();
    Outcome {
        suites,
        coverage: runner.coverage,
    }
}

struct Runner<'a> {
    policy: &'a Policy,
    trust_domain: &'a TrustDomain,
    now: SystemTime,
    by_workload: HashMap<Workload, WorkloadPolicy>,
    coverage: Coverage,
}

impl Runner<'_> {
    fn test(&mut self, test: Test) -> TestOutcome {
        let decision = self.decide(test.call);
        let problems = match &decision {
            Ok(decision) => {
                self.coverage.count(decision);
                test.expect.differences(decision)
            }
            Err(error) => vec![format!("the call cannot be judged: {error}")],
        };
        TestOutcome {
            name: test.name,
            origin: test.origin,
            expect: test.expect,
            decision,
            problems,
        }
    }

    fn decide(&mut self, call: CallJson<'_>) -> Result<Decision, CallError> {
        let workload = call.destination.to_workload();
        let policy = self
            .by_workload
            .entry(workload)
            .or_insert_with_key(|workload| self.policy.for_workload(workload));
        let call = call.resolve(self.trust_domain, policy.token_issuers(), self.now)?;
        Ok(policy.decide(&call.as_call()))
    }
}

impl Expectation {
    /// What is not as expected.
    fn differences(&self, decision: &Decision) -> Vec<String> {
        let mut problems = Vec::new();
        let mut compare = |what: &str, expected: Option<&str>, got: Option<&str>| {
            if let Some(expected) = expected
                && got != Some(expected)
            {
                let got = match got {
                    Some(got) => format!("{got:?}"),
                    None => "none".to_owned(),
                };
                problems.push(format!("expected {what} {expected:?}, got {got}"));
            }
        };
        let rule = decision.rule.as_deref();
        compare(
            "the rule",
            self.rule.as_deref(),
            rule.map(|rule| rule.rule.as_str()),
        );
        compare(
            "the policy",
            self.policy.as_deref(),
            rule.map(|rule| rule.policy.as_str()),
        );
        compare(
            "the reason",
            self.reason.as_deref(),
            Some(decision.reason.class()),
        );
        for name in &self.observed {
            if !decision
                .observed
                .iter()
                .any(|observed| observed.rule.rule == *name)
            {
                problems.push(format!(
                    "expected the rule {name:?} to be observed, it was not"
                ));
            }
        }
        if decision.verdict != self.verdict {
            let (expected, got) = (self.verdict.as_str(), decision.verdict.as_str());
            problems.insert(0, format!("expected {expected}, got {got}"));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
