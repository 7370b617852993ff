//! The results as text and as JSON.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use countersign_policy::testing::{Expectation, Outcome, RuleCoverage, TestOutcome};
use countersign_policy::{Decision, Diagnostic};
use serde::Serialize;

use super::TestArguments;
use crate::output::{Palette, Tone, printable};

/// The results by file, what failed and why, and what was not tested.
pub(super) fn text(outcome: &Outcome, arguments: &TestArguments, palette: Palette) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_outcome(&mut text, outcome, arguments, palette);
    text
}

fn write_outcome(
    text: &mut String,
    outcome: &Outcome,
    arguments: &TestArguments,
    palette: Palette,
) -> std::fmt::Result {
    for suite in &outcome.suites {
        let heading = format!("{} ({})", suite.name, suite.origin.file);
        writeln!(
            text,
            "{}",
            palette.paint(Tone::Strong, &printable(&heading))
        )?;
        write_results(text, &suite.tests, palette)?;
        writeln!(text)?;
    }
    let untested: Vec<_> = outcome.coverage.untested().collect();
    if arguments.coverage {
        let heading = palette.paint(Tone::Strong, "rules, and how many tests decided them");
        writeln!(text, "{heading}")?;
        let rules: Vec<_> = outcome.coverage.rules.iter().collect();
        write_rules(text, &rules, palette)?;
        writeln!(text)?;
    } else if arguments.require_coverage && !untested.is_empty() {
        let heading = palette.paint(Tone::Strong, "rules that no test decided");
        writeln!(text, "{heading}")?;
        write_rules(text, &untested, palette)?;
        writeln!(text)?;
    }
    let (all, failed) = counts(outcome);
    let tone = if failed == 0 { Tone::Good } else { Tone::Bad };
    let passed = format!("{} of {all} tests passed", all - failed);
    let rules = outcome.coverage.rules.len();
    let tested = rules - untested.len();
    writeln!(
        text,
        "{}; {tested} of {rules} rules tested",
        palette.paint(tone, &passed)
    )
}

fn counts(outcome: &Outcome) -> (usize, usize) {
    let failed = outcome.tests().filter(|test| !test.passed()).count();
    (outcome.tests().count(), failed)
}

fn table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn write_results(text: &mut String, tests: &[TestOutcome], palette: Palette) -> std::fmt::Result {
    let mut table = table();
    for test in tests {
        let (verdict, by) = match &test.decision {
            Ok(decision) => (decision.verdict.as_str(), decided_by(decision)),
            Err(_) => ("-", String::new()),
        };
        table.add_row([printable(&test.name).as_ref(), verdict, &by]);
    }
    for (test, line) in tests.iter().zip(table.lines()) {
        let mark = mark(test.passed(), palette);
        writeln!(text, "  {mark} {}", line.trim())?;
        if let Some(failure) = test.failure() {
            let failure = format!("{}: {failure}", test.origin);
            let failure = printable(&failure);
            writeln!(text, "      {}", palette.paint(Tone::Bad, &failure))?;
        }
    }
    Ok(())
}

/// The rule that decided, or the class of the reason.
fn decided_by(decision: &Decision) -> String {
    match &decision.rule {
        Some(rule) => printable(&format!("\"{}\" ({})", rule.rule, rule.policy)).into_owned(),
        None => decision.reason.class().to_owned(),
    }
}

fn write_rules(text: &mut String, rules: &[&RuleCoverage], palette: Palette) -> std::fmt::Result {
    let mut table = table();
    for RuleCoverage {
        rule,
        action,
        tests,
    } in rules
    {
        table.add_row([
            printable(&format!("\"{}\"", rule.rule)).as_ref(),
            &rule.policy,
            action.as_str(),
            &tests.to_string(),
            printable(&format!("{}:{}", rule.file, rule.line)).as_ref(),
        ]);
    }
    for (rule, line) in rules.iter().zip(table.lines()) {
        writeln!(text, "  {} {}", mark(rule.tests > 0, palette), line.trim())?;
    }
    Ok(())
}

fn mark(good: bool, palette: Palette) -> String {
    let (tone, mark) = if good {
        (Tone::Good, "✓")
    } else {
        (Tone::Bad, "✗")
    };
    palette.paint(tone, mark).into_owned()
}

/// The results for programs.
#[derive(Serialize)]
pub(super) struct Json<'a> {
    tests: usize,
    failed: usize,
    results: Vec<JsonResult<'a>>,
    coverage: JsonCoverage<'a>,
}

#[derive(Serialize)]
struct JsonResult<'a> {
    suite: &'a str,
    name: &'a str,
    file: &'a str,
    line: usize,
    column: usize,
    passed: bool,
    expected: JsonExpectation<'a>,
    /// What was decided.
    got: Option<&'a Decision>,
    /// What is not as expected, and why.
    failure: Option<String>,
}

#[derive(Serialize)]
struct JsonExpectation<'a> {
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    observed: &'a [String],
}

impl<'a> JsonExpectation<'a> {
    fn of(expect: &'a Expectation) -> Self {
        Self {
            decision: expect.verdict.as_str(),
            rule: expect.rule.as_deref(),
            policy: expect.policy.as_deref(),
            reason: expect.reason.as_deref(),
            observed: &expect.observed,
        }
    }
}

#[derive(Serialize)]
struct JsonCoverage<'a> {
    rules: usize,
    tested: usize,
    by_rule: Vec<JsonRule<'a>>,
}

#[derive(Serialize)]
struct JsonRule<'a> {
    policy: &'a str,
    rule: &'a str,
    action: &'static str,
    file: &'a str,
    line: usize,
    tests: usize,
}

impl<'a> Json<'a> {
    pub(super) fn of(outcome: &'a Outcome) -> Self {
        let (tests, failed) = counts(outcome);
        let results = outcome.suites.iter().flat_map(|suite| {
            suite.tests.iter().map(|test| JsonResult {
                suite: &suite.name,
                name: &test.name,
                file: &test.origin.file,
                line: test.origin.line,
                column: test.origin.column,
                passed: test.passed(),
                expected: JsonExpectation::of(&test.expect),
                got: test.decision.as_ref().ok(),
                failure: test.failure(),
            })
        });
        let rules = &outcome.coverage.rules;
        let by_rule = rules.iter().map(|covered| JsonRule {
            policy: &covered.rule.policy,
            rule: &covered.rule.rule,
            action: covered.action.as_str(),
            file: &covered.rule.file,
            line: covered.rule.line,
            tests: covered.tests,
        });
        Self {
            tests,
            failed,
            results: results.collect(),
            coverage: JsonCoverage {
                rules: rules.len(),
                tested: rules.len() - outcome.coverage.untested().count(),
                by_rule: by_rule.collect(),
            },
        }
    }
}

/// Mistakes that keep the tests from being run, for programs.
#[derive(Serialize)]
pub(super) struct JsonMistakes<'a> {
    mistakes: Vec<JsonMistake<'a>>,
}

#[derive(Serialize)]
struct JsonMistake<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
}

impl<'a> JsonMistakes<'a> {
    pub(super) fn of(mistakes: &'a [Diagnostic]) -> Self {
        let mistake = |mistake: &'a Diagnostic| JsonMistake {
            file: &mistake.file,
            line: mistake.line,
            column: mistake.column,
            message: &mistake.message,
        };
        Self {
            mistakes: mistakes.iter().map(mistake).collect(),
        }
    }
}
