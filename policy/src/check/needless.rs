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
            for needless in &found {
                report.add(lint(needless.why), [diagnostic(needless)]);
            }
        }
        Err(too_large) => report.notes.push(Diagnostic {
            file: "policy".to_owned(),
            line: 0,
            column: 0,
            message: format!("not looked for rules that do nothing: {too_large}"),
        }),
    }
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
