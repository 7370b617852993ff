//! Reads tests from YAML.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize as _;
use serde_json::{Map, Value as Json};

use super::call::{self, Fact};
use super::{Expectation, Test, TestSuite};
use crate::call_json::CallJson;
use crate::document::{API_VERSION, Origin};
use crate::yaml::{Fields, Report, Value, closest, read_documents};
use crate::{Diagnostics, Reason, Verdict};

/// The kind of a document with tests.
pub const KIND: &str = "PolicyTest";

/// Reads the tests of some files: pairs of a path, for messages, and a text. All mistakes of all files are reported at
/// once.
///
/// # Errors
/// Every mistake, by file and line.
pub fn read(
    files: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<TestSuite>, Diagnostics> {
    let mut suites = Vec::new();
    let mut mistakes = Vec::new();
    for (file, text) in files {
        let report = Report::new(&file);
        suites.extend(read_documents(&text, &report).filter_map(|node| suite(report.value(&node))));
        mistakes.extend(report.into_diagnostics());
    }
    if mistakes.is_empty() {
        Ok(suites)
    } else {
        Err(Diagnostics::new(mistakes))
    }
}

/// Whether a text whose file has no name is of tests: its first document says so.
#[must_use]
pub fn is_tests(text: &str) -> bool {
    let report = Report::new("");
    let first = read_documents(text, &report).next();
    first.is_some_and(|node| report.value(&node).peek("kind") == Some(KIND))
}

fn suite(value: Value<'_>) -> Option<TestSuite> {
    let place = origin(value);
    value.mapping(|fields| {
        let version = fields.required("apiVersion", |v| v.choice(&[(API_VERSION, ())]));
        let kind = fields.required("kind", |v| v.choice(&[(KIND, ())]));
        let name = fields.required("metadata", |value| {
            value.mapping(|fields| fields.required("name", Value::string))
        });
        let tests = fields.required("spec", |value| {
            value.mapping(|fields| {
                let calls = fields.default("calls", Calls::default(), calls);
                // Tests that name a call which could not be read are not at fault.
                let known = calls.as_ref();
                let tests = fields.required("tests", |value| tests(value, known));
                calls.as_ref()?;
                tests
            })
        });
        version?;
        kind?;
        Some(TestSuite {
            name: name?,
            origin: place,
            tests: tests?,
        })
    })
}

/// Calls by their names.
type Calls = BTreeMap<String, Map<String, Json>>;

fn calls(value: Value<'_>) -> Option<Calls> {
    let calls = value.entries("calls", |_, value| call::read(value))?;
    Some(calls.into_iter().collect())
}

fn tests(value: Value<'_>, calls: Option<&Calls>) -> Option<Vec<Test>> {
    let mut lines = HashMap::new();
    value.non_empty_list("tests", |value| {
        let test = test(value, calls)?;
        match lines.insert(test.name.clone(), test.origin.line) {
            None => Some(test),
            Some(line) => value.mistake(format!(
                "the test {:?} has the name of the one on line {line}: names are unique in a document",
                test.name
            )),
        }
    })
}

fn test(value: Value<'_>, calls: Option<&Calls>) -> Option<Test> {
    value.mapping(|fields| {
        let name = fields.required("name", Value::string);
        let base = fields.required("call", |value| base(value, calls));
        let with = fields.default("with", Map::new(), call::read_part);
        let facts = Fact::ALL.map(|fact| (fact.as_str(), fact));
        let without = fields.default("without", Vec::new(), |value| {
            value.non_empty_list("facts", |v| v.choice(&facts))
        });
        let expect = expectation(fields);
        let call = call::combined(base?, with?, &without?);
        let call = match CallJson::deserialize(Json::Object(call)) {
            Ok(call) => call,
            Err(problem) => return value.mistake(format!("this is no call: {problem}")),
        };
        Some(Test {
            name: name?,
            origin: origin(value),
            call,
            expect: expect?,
        })
    })
}

/// A call, or the name of one of `calls`.
fn base(value: Value<'_>, calls: Option<&Calls>) -> Option<Map<String, Json>> {
    if value.is_mapping() {
        return call::read(value);
    }
    let name = value.text()?;
    // What could not be read has been reported.
    let calls = calls?;
    if let Some(call) = calls.get(name) {
        return Some(call.clone());
    }
    let help = match closest(name, calls.keys().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "expected a call or the name of one of `calls`".to_owned(),
    };
    value.mistake(format!("there is no call {name:?}, {help}"))
}

fn expectation(fields: &mut Fields<'_>) -> Option<Expectation> {
    let verdicts = [Verdict::Allow, Verdict::Deny].map(|verdict| (verdict.as_str(), verdict));
    let verdict = fields.required("expect", |v| v.choice(&verdicts));
    let rule = fields.optional("rule", Value::string);
    let policy = fields.optional("policy", |value| match value.text()? {
        name if name.split('/').count() == 2 => Some(name.to_owned()),
        _ => value.expected("a policy as namespace/name"),
    });
    let classes = Reason::CLASSES.map(|class| (class, class.to_owned()));
    let reason = fields.optional("reason", |v| v.choice(&classes));
    let observed = fields.default("observed", Vec::new(), Value::strings);
    Some(Expectation {
        verdict: verdict?,
        rule: rule?,
        policy: policy?,
        reason: reason?,
        observed: observed?,
    })
}

fn origin(value: Value<'_>) -> Origin {
    let position = value.position();
    Origin {
        file: value.file_name(),
        line: position.line,
        column: position.column,
    }
}
