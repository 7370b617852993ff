//! `countersign policy test`: the tests beside the policy, decided by the engine that enforces.

mod junit;
mod render;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use countersign_policy::testing::{self, Outcome};
use countersign_policy::{Diagnostic, Diagnostics, Policy};

use super::args::TrustDomainArgument;
use super::sources::{self, SourceError};
use crate::output::{Answer, Format, Output, printable};

/// `countersign policy test`
#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Policy and its tests (*.test.yaml): files or directories (read recursively)
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) trust_domain: TrustDomainArgument,
    /// Show for every rule how many tests decided it
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Fail if there is a rule that no test decided
    #[arg(long)]
    pub(crate) require_coverage: bool,
    /// Write the results to a file, too, as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
}

/// Why policy could not be tested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(
        "there are no tests in {}: expected files that end in .test.yaml",
        sources::named(paths)
    )]
    NoTests { paths: Vec<PathBuf> },
    #[error("cannot write JUnit XML")]
    Junit(#[from] junit::JunitError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Runs the tests; the answer is no if one fails, or if policy or tests have mistakes.
pub(crate) fn run(arguments: &TestArguments, output: &Output) -> Result<Answer, TestError> {
    let trust_domain = &arguments.trust_domain.trust_domain;
    let mut files = sources::read(&arguments.paths)?;
    if files.tests.is_empty() && files.mistakes.is_empty() {
        return Err(TestError::NoTests {
            paths: arguments.paths.clone(),
        });
    }
    let suites = testing::read(std::mem::take(&mut files.tests));
    let policy = Policy::from_files("", trust_domain, files);
    let (policy, suites) = match (policy, suites) {
        (Ok(policy), Ok(suites)) => (policy, suites),
        (policy, suites) => {
            let mistakes = policy.err().into_iter().chain(suites.err()).flatten();
            return mistaken(&Diagnostics::new(mistakes.collect()), output);
        }
    };
    let outcome = testing::run(&policy, trust_domain, suites, SystemTime::now());
    if let Some(path) = &arguments.junit {
        let report = junit::report(&outcome)?;
        fs::write(path, report).map_err(|source| TestError::Write {
            path: path.clone(),
            source,
        })?;
    }
    match output.format {
        Format::Text => output.write(&render::text(&outcome, arguments, output.palette))?,
        Format::Json => output.write_json(&render::Json::of(&outcome))?,
    }
    Ok(if passed(&outcome, arguments) {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn passed(outcome: &Outcome, arguments: &TestArguments) -> bool {
    let covered = !arguments.require_coverage || outcome.coverage.untested().next().is_none();
    covered && outcome.tests().all(testing::TestOutcome::passed)
}

/// Nothing can be tested: the answer is no.
fn mistaken(mistakes: &[Diagnostic], output: &Output) -> Result<Answer, TestError> {
    match output.format {
        Format::Text => {
            let lines = mistakes
                .iter()
                .map(|mistake| format!("{}\n", printable(&mistake.to_string())));
            output.write(&lines.collect::<String>())?;
        }
        Format::Json => output.write_json(&render::JsonMistakes::of(mistakes))?,
    }
    Ok(Answer::No)
}
