//! Files of tests (`*.test.yaml`).

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::{format, format_tests};
use super::properties::{Value, Writer, cuts, is_laid_out, is_laid_out_or_refused};
use crate::call_json::CallJson;
use crate::files::{self, Kind};
use crate::testing::{self, Expectation};

#[track_caller]
fn is_laid_out_as(text: &str, expected: &str) {
    let laid_out = |text: &str| {
        format_tests("a.test.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
    };
    let found = laid_out(text);
    assert!(found == expected, "expected:\n{expected}\nfound:\n{found}");
    assert_eq!(laid_out(&found), found, "once and twice");
}

fn test_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap();
        if path.is_dir() {
            test_files(&path, found);
        } else if files::kind(name) == Some(Kind::Test) {
            found.push(path);
        }
    }
}

#[test]
fn the_tests_of_the_examples_are_laid_out_already() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut found = Vec::new();
    test_files(Path::new(directory), &mut found);
    assert!(found.len() > 2, "{found:?}");
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        is_laid_out_as(&text, &text);
    }
}

#[test]
fn tests_get_their_canonical_layout() {
    let text = r#"
# What the policy for orders decides.
kind: PolicyTest
apiVersion: "countersign.dev/v1"
spec:
    tests:
      - {expect: allow,  call: "an order", name: web takes orders}
      - call: an order  # the same
        name: another
        expect: deny
        with:
          request: {path: /a, method: GET}
          peer: shop/other

      # nobody else
      - name: written out
        expect: deny
        observed: ["a, b", c]
        reason: no-rule-matched
        call:
            request:
              headers: {z: a, b: [c,
                 d]}
              path: /orders
              method: POST
            destination: {port: 8080, workload: orders, namespace: shop}
      - {name: a, call: an order, without: [subject], expect: deny}
    calls:
      # as web does it
      an order:
        time: "2026-11-23T10:00:00Z"
        destination: {port: 8080, labels: {tier: a, app: orders}, workload: orders, namespace: shop}
        subjects: [{claims: {sub: a}, issuer: corp}, {issuer: other}]
        peer: shop/web
      a connection: {destination: {namespace: shop, workload: store, port: 7070}}
metadata: {name: orders}
"#;
    let expected = r#"# What the policy for orders decides.
apiVersion: countersign.dev/v1
kind: PolicyTest
metadata: {name: orders}
spec:
  calls:
    # as web does it
    an order:
      peer: shop/web
      destination: {namespace: shop, workload: orders, labels: {tier: a, app: orders}, port: 8080}
      subjects:
      - {issuer: corp, claims: {sub: a}}
      - {issuer: other}
      time: "2026-11-23T10:00:00Z"
    a connection:
      destination: {namespace: shop, workload: store, port: 7070}

  tests:
  - name: web takes orders
    call: an order
    expect: allow

  - name: another
    call: an order  # the same
    with: {peer: shop/other, request: {method: GET, path: "/a"}}
    expect: deny

  # nobody else
  - name: written out
    call:
      destination: {namespace: shop, workload: orders, port: 8080}
      request: {method: POST, path: "/orders", headers: {z: a, b: [c, d]}}
    expect: deny
    reason: no-rule-matched
    observed: ["a, b", c]

  - name: a
    call: an order
    without: [subject]
    expect: deny
"#;
    is_laid_out_as(text, expected);
}

#[test]
fn what_is_no_file_of_tests_is_refused() {
    let test = "apiVersion: countersign.dev/v1\nkind: PolicyTest\nmetadata: {name: a}\nspec: {tests: []}\n";
    let told = format_tests("a.test.yaml", test).unwrap_err().to_string();
    assert!(
        told.starts_with("a.test.yaml:4:15: expected at least one of the tests"),
        "{told}"
    );
    let told = format("a.yaml", test).unwrap_err().to_string();
    assert!(told.contains("a PolicyTest is no policy"), "{told}");
    let policy = test.replace("PolicyTest", "AccessPolicy");
    let told = format_tests("a.test.yaml", &policy)
        .unwrap_err()
        .to_string();
    assert!(told.contains("expected `PolicyTest`"), "{told}");
}

impl Writer {
    fn call(&mut self, whole: bool) -> Value {
        let string = |text: String| Value::String(text);
        let mut fields = Vec::new();
        if self.choose(2) == 0 {
            fields.push(("peer", string(format!("shop/w{}", self.unique()))));
        }
        if whole || self.choose(3) == 0 {
            let mut destination = vec![
                ("workload", string(format!("w{}", self.unique()))),
                ("namespace", string("shop".to_owned())),
                ("port", Value::Number(self.unique())),
            ];
            if self.choose(2) == 0 {
                let label = string(format!("l{}", self.unique()));
                destination.push((
                    "labels",
                    Value::Mapping(vec![("port", label.clone()), ("ip", label)]),
                ));
            }
            fields.push(("destination", Value::Mapping(destination)));
        }
        if self.choose(2) == 0 {
            fields.push((
                "request",
                Value::Mapping(vec![
                    ("path", string(format!("/a?b={}#c: d", self.unique()))),
                    ("method", string("POST".to_owned())),
                    ("host", string(format!("h{}", self.unique()))),
                ]),
            ));
        }
        if self.choose(2) == 0 {
            let tokens = (0..=self.choose(2)).map(|_| {
                let claims = Value::Mapping(vec![
                    ("sub", string(format!("it's {}", self.unique()))),
                    (
                        "issuer",
                        Value::List(vec![Value::Number(self.unique()), string("x".to_owned())]),
                    ),
                ]);
                Value::Mapping(vec![
                    ("claims", claims),
                    ("issuer", string("corp".to_owned())),
                ])
            });
            fields.push(("subjects", Value::List(tokens.collect())));
        }
        if fields.is_empty() {
            fields.push(("sni", string(format!("s{}", self.unique()))));
        }
        Value::Mapping(fields)
    }

    fn suite(&mut self, name: String) -> Value {
        let string = |text: &str| Value::String(text.to_owned());
        let calls = vec![("an order", self.call(true)), ("without", self.call(true))];
        let tests = (0..=self.choose(4)).map(|_| {
            let name = format!("test {}, it's: #{}", self.unique(), self.choose(9));
            let call = match self.choose(3) {
                0 => self.call(true),
                1 => string("an order"),
                _ => string("without"),
            };
            let mut fields = vec![
                ("expect", string("deny")),
                ("name", Value::String(name)),
                ("call", call),
            ];
            if self.choose(2) == 0 {
                fields.push(("with", self.call(false)));
            }
            if self.choose(2) == 0 {
                fields.push(("without", Value::List(vec![string("time"), string("sni")])));
            }
            if self.choose(2) == 0 {
                let observed =
                    (0..=self.choose(3)).map(|_| Value::String(format!("o{}", self.unique())));
                fields.push(("observed", Value::List(observed.collect())));
            }
            Value::Mapping(fields)
        });
        let tests = Value::List(tests.collect());
        let mut spec = vec![("tests", tests)];
        spec.push(("calls", Value::Mapping(calls)));
        Value::Mapping(vec![
            ("apiVersion", string("countersign.dev/v1")),
            ("kind", string("PolicyTest")),
            (
                "metadata",
                Value::Mapping(vec![("name", Value::String(name))]),
            ),
            ("spec", Value::Mapping(spec)),
        ])
    }
}

/// What a file says, wherever it is written.
type Said = Vec<(String, Vec<(String, CallJson<'static>, Expectation)>)>;

fn said(text: &str) -> Said {
    let suites = testing::read([("a.test.yaml".to_owned(), text.to_owned())]);
    let suites = suites.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    let suites = suites.into_iter().map(|suite| {
        let tests = suite.tests.into_iter();
        let tests = tests.map(|test| (test.name, test.call, test.expect));
        (suite.name, tests.collect())
    });
    suites.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn layout_changes_neither_tests_nor_comments(choices in prop::collection::vec(any::<u8>(), 20..200)) {
        let mut writer = Writer::new(choices);
        for number in 0..=writer.choose(3) {
            if number > 0 || writer.choose(2) == 0 {
                writer.out += "---\n";
            }
            writer.above(Some("apiVersion".to_owned()), 0);
            let suite = writer.suite(format!("s{number}"));
            writer.document(&suite);
        }
        is_laid_out(writer, |text| format_tests("a.test.yaml", text), said)?;
    }

    #[test]
    fn mutated_tests_are_laid_out_for_good_or_refused(
        choices in prop::collection::vec(any::<u8>(), 20..100),
        cuts in cuts(),
    ) {
        let mut writer = Writer::new(choices);
        let suite = writer.suite("s".to_owned());
        writer.document(&suite);
        is_laid_out_or_refused(&writer.out, cuts, |text| format_tests("a.test.yaml", text), said)?;
    }
}
