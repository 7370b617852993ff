//! Rules that do nothing, by analysis of all rules together.

use super::{Lint, Report};
use crate::analysis::{self, Needless, Why};
use crate::directory::Directory;
use crate::{Diagnostic, Policy, RuleOrigin, Workload};

pub(super) fn check(policy: &Policy, directory: Option<&Directory>, report: &mut Report) {
    let workloads: Option<Vec<Workload>> = directory.map(|directory| {
        let known = directory.workloads.iter();
        known.map(|known| known.workload.clone()).collect()
    });
    match analysis::needless(policy, workloads.as_deref()) {
        Ok(found) => {
            for needless in &found.needless {
                report.add(lint(needless.why), [diagnostic(needless)]);
            }
            report.notes.extend(left_out(&found.undecided));
        }
        Err(too_large) => report.notes.push(Diagnostic {
            file: "policy".to_owned(),
            line: 0,
            column: 0,
            message: format!("not looked for rules that do nothing: {too_large}"),
        }),
    }
}

/// What could not be looked into, told at the first of the rules.
fn left_out(undecided: &[RuleOrigin]) -> Option<Diagnostic> {
    let (first, others) = undecided.split_first()?;
    let rules = match others.len() {
        0 => format!("the rule {:?}", first.rule),
        more => format!("the rule {:?} and {more} others", first.rule),
    };
    Some(Diagnostic {
        file: first.file.to_string(),
        line: first.line,
        column: 0,
        message: format!(
            "not looked into whether {rules} do something: too many rules are about the same calls"
        ),
    })
}

fn lint(why: Why) -> Lint {
    match why {
        Why::NeverMatches | Why::NoIdentity => Lint::NeverMatches,
        Why::Denied => Lint::UnreachableRule,
        Why::Covered => Lint::ShadowedRule,
    }
}

fn diagnostic(needless: &Needless) -> Diagnostic {
    let RuleOrigin { file, line, .. } = &needless.rule;
    Diagnostic {
        file: file.to_string(),
        line: *line,
        column: needless.column,
        message: needless.to_string(),
    }
}
