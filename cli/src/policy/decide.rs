//! `countersign policy decide`: a stream of calls in, a stream of decisions out.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use countersign_identity::TrustDomain;
use countersign_policy::call_json::{CallError, CallJson, Destination};
use countersign_policy::{Decision, Policy, Workload, WorkloadPolicy};
use serde::Serialize;

use super::args::TrustDomainArgument;
use super::load::{self, LoadError};
use crate::output::Answer;

/// The longest line that is read.
const LINE_LIMIT: u64 = 1 << 20;
/// For so many called workloads the policy is kept at hand; an input with more of them costs time, not memory.
const KEPT_WORKLOADS: usize = 4096;
/// How much is read and written at once.
const BUFFER: usize = 64 << 10;

/// `countersign policy decide`
#[derive(Debug, Args)]
pub(crate) struct DecideArguments {
    /// Policy: a file or a directory (read recursively)
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The calls: one JSON object a line, in a file or (`-`) on standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) calls: PathBuf,
    #[command(flatten)]
    pub(crate) trust_domain: TrustDomainArgument,
}

/// Why calls could not be decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecideError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("standard input cannot be both the policy and the calls")]
    StdinTwice,
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot print the decisions")]
    Print(#[source] io::Error),
    #[error(
        "{bad} of {lines} lines are no call that can be judged; in the place of their decisions stands why"
    )]
    BadLines { bad: u64, lines: u64 },
}

/// Writes a decision for every call. That calls are denied is no failure.
pub(crate) fn run(arguments: &DecideArguments) -> Result<Answer, DecideError> {
    let stdin = Path::new("-");
    if arguments.calls == stdin && arguments.path == stdin {
        return Err(DecideError::StdinTwice);
    }
    let trust_domain = &arguments.trust_domain.trust_domain;
    let policy = load::policy(std::slice::from_ref(&arguments.path), trust_domain)?;
    let judge = Judge {
        policy: &policy,
        trust_domain,
        kept: HashMap::new(),
        last: None,
    };
    let unreadable = |source| DecideError::Read {
        path: arguments.calls.clone(),
        source,
    };
    let output = io::stdout().lock();
    if arguments.calls == stdin {
        let input = BufReader::with_capacity(BUFFER, io::stdin().lock());
        decide(input, output, judge, unreadable)?;
    } else {
        let file = File::open(&arguments.calls).map_err(unreadable)?;
        let input = BufReader::with_capacity(BUFFER, file);
        decide(input, output, judge, unreadable)?;
    }
    Ok(Answer::Yes)
}

/// What is written for a line that cannot be judged.
#[derive(Serialize)]
struct BadLine {
    error: String,
    line: u64,
}

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("this is no call: {0}")]
    NoText(#[from] std::str::Utf8Error),
    #[error("this is no call: {0}")]
    NoCall(#[from] serde_json::Error),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the line has more than {LINE_LIMIT} bytes")]
    TooLong,
}

/// Decides line by line. What was decided is written out before more input is waited for.
fn decide<R: io::Read>(
    mut input: BufReader<R>,
    output: impl Write,
    mut judge: Judge<'_>,
    unreadable: impl Fn(io::Error) -> DecideError,
) -> Result<(), DecideError> {
    let mut output = io::BufWriter::with_capacity(BUFFER, output);
    let mut line = Vec::new();
    let (mut number, mut lines, mut bad) = (0_u64, 0_u64, 0_u64);
    loop {
        if !input.buffer().contains(&b'\n') {
            output.flush().map_err(DecideError::Print)?;
        }
        line.clear();
        let read = read_line(&mut input, &mut line).map_err(&unreadable)?;
        let text = match read {
            Line::End => break,
            Line::Whole => Ok(line.trim_ascii()),
            Line::TooLong => Err(LineError::TooLong),
        };
        number += 1;
        if matches!(text, Ok([])) {
            continue;
        }
        lines += 1;
        let written = match text.and_then(|text| judge.decide(text)) {
            Ok(decision) => serde_json::to_writer(&mut output, &decision),
            Err(error) => {
                bad += 1;
                let error = error.to_string();
                serde_json::to_writer(
                    &mut output,
                    &BadLine {
                        error,
                        line: number,
                    },
                )
            }
        };
        written
            .map_err(io::Error::from)
            .and_then(|()| output.write_all(b"\n"))
            .map_err(DecideError::Print)?;
    }
    output.flush().map_err(DecideError::Print)?;
    if bad > 0 {
        return Err(DecideError::BadLines { bad, lines });
    }
    Ok(())
}

enum Line {
    End,
    Whole,
    TooLong,
}

/// Reads a line, of which no more is kept than a line may have.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    let read = input.by_ref().take(LINE_LIMIT).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(Line::End);
    }
    if line.ends_with(b"\n") || (read as u64) < LINE_LIMIT {
        return Ok(Line::Whole);
    }
    while !line.ends_with(b"\n") {
        line.clear();
        if input.by_ref().take(LINE_LIMIT).read_until(b'\n', line)? == 0 {
            break;
        }
    }
    Ok(Line::TooLong)
}

/// The policy, by called workload.
struct Judge<'a> {
    policy: &'a Policy,
    trust_domain: &'a TrustDomain,
    kept: HashMap<Workload, Arc<WorkloadPolicy>>,
    /// What was asked last: the next call is likely to the same workload.
    last: Option<Arc<WorkloadPolicy>>,
}

impl Judge<'_> {
    fn decide(&mut self, line: &[u8]) -> Result<Decision, LineError> {
        let text = std::str::from_utf8(line)?;
        let call: CallJson<'_> = serde_json::from_str(text)?;
        let policy = self.policy_for(&call.destination);
        let now = SystemTime::now();
        let call = call.resolve(self.trust_domain, policy.token_issuers(), now)?;
        Ok(policy.decide(&call.as_call()))
    }

    fn policy_for(&mut self, destination: &Destination<'_>) -> Arc<WorkloadPolicy> {
        if let Some(last) = &self.last
            && destination.is(last.workload())
        {
            return Arc::clone(last);
        }
        let workload = destination.to_workload();
        if self.kept.len() >= KEPT_WORKLOADS && !self.kept.contains_key(&workload) {
            self.kept.clear();
        }
        let policy = self
            .kept
            .entry(workload)
            .or_insert_with_key(|workload| Arc::new(self.policy.for_workload(workload)));
        self.last = Some(Arc::clone(policy));
        Arc::clone(policy)
    }
}
