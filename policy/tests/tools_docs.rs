//! The examples of `docs/policy-tools.md` are what they say.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use countersign_policy::call_json::CallJson;
use countersign_policy::{Policy, document, testing};
use support::{domain, now};

const TOOLS: &str = include_str!("../../docs/policy-tools.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    let blocks = TOOLS.split(start.as_str()).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap_or_default())
        .collect()
}

#[test]
fn the_tests_pass_and_the_call_is_decided_as_written() {
    let [policy, tests] = blocks("yaml").try_into().unwrap();
    let [call, decision] = blocks("json").try_into().unwrap();
    let documents = document::parse([("policy.yaml".to_owned(), policy.to_owned())]).unwrap();
    let policy = Policy::compile("", &domain(), documents).unwrap();

    let suites = testing::read([("t.test.yaml".to_owned(), tests.to_owned())]).unwrap();
    let outcome = testing::run(&policy, &domain(), suites, now());
    assert_eq!(outcome.failures(), []);
    assert_eq!(outcome.tests().count(), 3);

    let call: CallJson<'_> = serde_json::from_str(call).unwrap();
    let policy = policy.for_workload(&call.destination.to_workload());
    let call = call
        .resolve(&domain(), policy.token_issuers(), now())
        .unwrap();
    let decided = serde_json::to_string(&policy.decide(&call.as_call())).unwrap();
    assert_eq!(decided, decision.trim());
}
