//! The results as JUnit XML, for whatever shows those of other tests.

use countersign_policy::testing::{Outcome, TestOutcome};
use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

/// Why there is no XML.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct JunitError(#[from] SerializeError);

/// A suite for every document with tests, named by its file.
pub(super) fn report(outcome: &Outcome) -> Result<String, JunitError> {
    let mut report = Report::new("countersign policy test");
    for suite in &outcome.suites {
        let mut junit = TestSuite::new(format!("{} ({})", suite.name, suite.origin.file));
        junit.add_test_cases(suite.tests.iter().map(|test| case(&suite.name, test)));
        report.add_test_suite(junit);
    }
    Ok(report.to_string()?)
}

fn case(suite: &str, test: &TestOutcome) -> TestCase {
    let status = match test.failure() {
        None => TestCaseStatus::success(),
        Some(failure) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_message(test.problems.join("; "))
                .set_type("unexpected-decision")
                .set_description(format!("{}: {failure}", test.origin));
            status
        }
    };
    let mut case = TestCase::new(test.name.as_str(), status);
    case.set_classname(suite);
    case.extra
        .insert("file".into(), test.origin.file.as_str().into());
    case.extra
        .insert("line".into(), test.origin.line.to_string().into());
    case
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use countersign_identity::TrustDomain;
    use countersign_policy::{Policy, testing};

    use super::*;

    #[test]
    fn a_failure_is_told_and_what_is_special_in_xml_is_escaped() {
        let tests = "apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: {name: t}
spec:
  tests:
  - {name: 'a <b> & \"c\"', call: {destination: {namespace: shop, workload: orders, port: 1}, peer: shop/web}, expect: allow}
  - {name: passes, call: {destination: {namespace: shop, workload: orders, port: 1}, peer: shop/web}, expect: deny}
";
        let suites = testing::read([("t.test.yaml".to_owned(), tests.to_owned())]).unwrap();
        let domain = TrustDomain::parse("td").unwrap();
        let policy = Policy::compile("", &domain, Vec::new()).unwrap();
        let xml = report(&testing::run(&policy, &domain, suites, UNIX_EPOCH)).unwrap();
        assert!(
            xml.contains(r#"tests="2" skipped="0" failures="1""#),
            "{xml}"
        );
        assert!(
            xml.contains(r#"name="a &lt;b&gt; &amp; &quot;c&quot;""#),
            "{xml}"
        );
        assert!(
            xml.contains(r#"message="expected allow, got deny""#),
            "{xml}"
        );
        assert!(xml.contains("no policy is about shop/orders"), "{xml}");
        assert!(xml.contains(r#"file="t.test.yaml""#), "{xml}");
    }
}
