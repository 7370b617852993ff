//! `countersign policy suggest`: the least rules that allow what decision logs show.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_policy::document::{self, Document};
use countersign_policy::suggest::{Evidence, Options, Suggestion};
use countersign_policy::{Diagnostic, Diagnostics};
use serde::Serialize;

use super::args::TrustDomainArgument;
use super::sources::{self, SourceError};
use crate::output::{Answer, Format, Output, printable};

/// What is read of a log at once.
const BUFFER: usize = 64 << 10;

/// `countersign policy suggest`
#[derive(Debug, Args)]
pub(crate) struct SuggestArguments {
    /// Decision logs of sidecars, one JSON object per line: files, or `-` for standard input
    #[arg(value_name = "LOG", required = true)]
    pub(crate) logs: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) trust_domain: TrustDomainArgument,
    /// Policy that is in force: rules name its token issuers; can be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) policy: Vec<PathBuf>,
    /// Allow calls that were denied, too
    #[arg(long)]
    pub(crate) include_denied: bool,
    /// Ask for the hosts that were called, too
    #[arg(long)]
    pub(crate) hosts: bool,
    /// How many different numbers, UUIDs and the like in one place of a path make it a parameter
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) distinct_values: u32,
    /// Write a file for each called workload, NAMESPACE/WORKLOAD.yaml in this directory, instead of printing
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
}

/// Why nothing could be suggested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuggestError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("standard input (`-`) can be read once, and was named twice")]
    StdinTwice,
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the policy has mistakes:\n{0}")]
    Policy(Diagnostics),
    #[error("what was suggested is not policy, which is a mistake of this command:\n{0}")]
    Suggested(Diagnostics),
    #[error("{} is there already, and is not overwritten: choose another directory, or move it away", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Suggests policy; the answer is no if the logs have bad lines, or calls that no rule can allow, or none at all.
pub(crate) fn run(arguments: &SuggestArguments, output: &Output) -> Result<Answer, SuggestError> {
    let known = known(&arguments.policy)?;
    let evidence = evidence(arguments)?;
    let suggestion = evidence
        .suggest(&arguments.trust_domain.trust_domain, &known)
        .map_err(SuggestError::Suggested)?;
    let written = match &arguments.output_dir {
        Some(directory) => write(&suggestion, directory)?,
        None => Vec::new(),
    };
    match output.format {
        Format::Json => output.write_json(&Json::of(&evidence, &suggestion, &written))?,
        Format::Text => {
            match arguments.output_dir {
                Some(_) => {
                    let lines: String = written.iter().map(|path| format!("{path}\n")).collect();
                    output.write(&printable_lines(&lines))?;
                }
                None => output.write(&suggestion.text())?,
            }
            // Standard output is the policy's.
            let _ = io::stderr()
                .lock()
                .write_all(remarks(&evidence, &suggestion).as_bytes());
        }
    }
    let whole = evidence.bad_lines() == 0 && suggestion.uncovered.is_empty();
    Ok(if whole && !suggestion.policies.is_empty() {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn evidence(arguments: &SuggestArguments) -> Result<Evidence, SuggestError> {
    let is_stdin = |path: &&PathBuf| path.as_os_str() == "-";
    if arguments.logs.iter().filter(is_stdin).count() > 1 {
        return Err(SuggestError::StdinTwice);
    }
    let mut evidence = Evidence::new(Options {
        include_denied: arguments.include_denied,
        hosts: arguments.hosts,
        distinct_values: usize::try_from(arguments.distinct_values).unwrap_or(usize::MAX),
    });
    for path in &arguments.logs {
        let failed = |source| SuggestError::Read {
            path: path.clone(),
            source,
        };
        let name = path.display().to_string();
        if is_stdin(&path) {
            evidence.read("stdin", io::stdin().lock()).map_err(failed)?;
        } else {
            let file = File::open(path).map_err(failed)?;
            evidence
                .read(&name, BufReader::with_capacity(BUFFER, file))
                .map_err(failed)?;
        }
    }
    Ok(evidence)
}

fn known(paths: &[PathBuf]) -> Result<Vec<Document>, SuggestError> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let files = sources::read(paths)?;
    if !files.mistakes.is_empty() {
        return Err(SuggestError::Policy(Diagnostics::new(files.mistakes)));
    }
    document::parse(files.files).map_err(SuggestError::Policy)
}

/// Writes every document, or none if one's place is taken; tells where.
fn write(suggestion: &Suggestion, directory: &Path) -> Result<Vec<String>, SuggestError> {
    let places: Vec<PathBuf> = suggestion
        .policies
        .iter()
        .map(|policy| {
            directory
                .join(&policy.namespace)
                .join(format!("{}.yaml", policy.name))
        })
        .collect();
    if let Some(path) = places.iter().find(|path| path.exists()) {
        return Err(SuggestError::Exists { path: path.clone() });
    }
    for (policy, path) in suggestion.policies.iter().zip(&places) {
        let failed = |source| SuggestError::Write {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = File::create_new(path).map_err(failed)?;
        file.write_all(policy.text.as_bytes()).map_err(failed)?;
    }
    Ok(places
        .iter()
        .map(|path| path.display().to_string())
        .collect())
}

/// What there is to say beside the policy.
fn remarks(evidence: &Evidence, suggestion: &Suggestion) -> String {
    let mut text = String::new();
    for bad in evidence.bad() {
        text.push_str(&format!("{bad}\n"));
    }
    // Writing to a String cannot fail.
    let untold = evidence
        .bad_lines()
        .saturating_sub(evidence.bad().len() as u64);
    if untold > 0 {
        let _ = writeln!(text, "and {untold} more bad lines");
    }
    for call in &suggestion.uncovered {
        let _ = writeln!(text, "not covered: {call}");
    }
    if evidence.left_out() > 0 {
        let _ = writeln!(
            text,
            "denied and left out: {} (--include-denied allows them)",
            evidence.left_out()
        );
    }
    if suggestion.policies.is_empty() {
        let other = evidence.other_lines();
        let _ = writeln!(
            text,
            "there is no call to make a rule of, in {other} lines that are no decisions"
        );
    }
    printable_lines(&text)
}

/// Lines from elsewhere, which cannot steer the terminal.
fn printable_lines(text: &str) -> String {
    text.lines()
        .map(|line| format!("{}\n", printable(line)))
        .collect()
}

/// The suggestion for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    policies: Vec<JsonPolicy<'a>>,
    written: &'a [String],
    different_calls: usize,
    denied_left_out: u64,
    uncovered: &'a [String],
    other_lines: u64,
    bad_lines: u64,
    bad: Vec<JsonBad<'a>>,
}

#[derive(Serialize)]
struct JsonPolicy<'a> {
    namespace: &'a str,
    name: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct JsonBad<'a> {
    file: &'a str,
    line: usize,
    message: &'a str,
}

impl<'a> Json<'a> {
    fn of(evidence: &'a Evidence, suggestion: &'a Suggestion, written: &'a [String]) -> Self {
        let policies = suggestion.policies.iter().map(|policy| JsonPolicy {
            namespace: &policy.namespace,
            name: &policy.name,
            text: &policy.text,
        });
        let bad = evidence.bad().iter().map(
            |Diagnostic {
                 file,
                 line,
                 message,
                 ..
             }| JsonBad {
                file,
                line: *line,
                message,
            },
        );
        Self {
            policies: policies.collect(),
            written,
            different_calls: evidence.different_calls(),
            denied_left_out: evidence.left_out(),
            uncovered: &suggestion.uncovered,
            other_lines: evidence.other_lines(),
            bad_lines: evidence.bad_lines(),
            bad: bad.collect(),
        }
    }
}
