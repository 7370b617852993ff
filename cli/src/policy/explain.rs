//! `countersign policy explain`: every rule about the called workload, and why it did or did not match.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use countersign_policy::call_json::{CallError, CallJson};
use countersign_policy::{Alternative, Explanation, FieldAnswer, Part, RuleExplanation, Verdict};

use super::args::TrustDomainArgument;
use super::load::{self, LoadError};
use crate::output::{Answer, Format, Output, Palette, Tone, printable};

/// The longest call that is read, in bytes.
const CALL_LIMIT: u64 = 1 << 20;

/// `countersign policy explain`
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// Policy: a file or a directory (read recursively)
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// The call: a JSON object in a file or (`-`) on standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) call: PathBuf,
    #[command(flatten)]
    pub(crate) trust_domain: TrustDomainArgument,
}

/// Why a call could not be explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("standard input cannot be both the policy and the call")]
    StdinTwice,
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: this is no call", path.display())]
    NoCall {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}", path.display())]
    Call { path: PathBuf, source: CallError },
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Prints why a call is decided as it is; the answer is no if it is denied.
pub(crate) fn run(arguments: &ExplainArguments, output: &Output) -> Result<Answer, ExplainError> {
    let path = &arguments.call;
    if path == Path::new("-") && *path == arguments.path {
        return Err(ExplainError::StdinTwice);
    }
    let trust_domain = &arguments.trust_domain.trust_domain;
    let policy = load::policy(std::slice::from_ref(&arguments.path), trust_domain)?;
    let text = read(path).map_err(|source| ExplainError::Read {
        path: path.clone(),
        source,
    })?;
    let call: CallJson<'_> =
        serde_json::from_slice(&text).map_err(|source| ExplainError::NoCall {
            path: path.clone(),
            source,
        })?;
    let policy = policy.for_workload(&call.destination.to_workload());
    let call = call
        .resolve(trust_domain, policy.token_issuers(), SystemTime::now())
        .map_err(|source| ExplainError::Call {
            path: path.clone(),
            source,
        })?;
    let explanation = policy.explain(&call.as_call());
    match output.format {
        Format::Text => output.write(&text_of(&explanation, output.palette))?,
        Format::Json => output.write_json(&explanation)?,
    }
    Ok(match explanation.decision.verdict {
        Verdict::Allow => Answer::Yes,
        Verdict::Deny => Answer::No,
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(CALL_LIMIT + 1)
            .read_to_end(&mut text)?;
    } else {
        File::open(path)?
            .take(CALL_LIMIT + 1)
            .read_to_end(&mut text)?;
    }
    if text.len() as u64 > CALL_LIMIT {
        return Err(io::Error::other(format!(
            "expected a call of at most {CALL_LIMIT} bytes"
        )));
    }
    Ok(text)
}

/// The decision, and then rule by rule.
fn text_of(explanation: &Explanation, palette: Palette) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_explanation(&mut text, explanation, palette);
    text
}

fn write_explanation(
    text: &mut String,
    explanation: &Explanation,
    palette: Palette,
) -> std::fmt::Result {
    let decision = &explanation.decision;
    let (tone, verdict) = match decision.verdict {
        Verdict::Allow => (Tone::Good, "ALLOW"),
        Verdict::Deny => (Tone::Bad, "DENY"),
    };
    let reason = decision.reason.to_string();
    writeln!(
        text,
        "{}  {}",
        palette.paint(tone, verdict),
        printable(&reason)
    )?;
    let mut policy = None;
    for rule in &explanation.rules {
        if policy != Some(&rule.origin.policy) {
            policy = Some(&rule.origin.policy);
            let heading = format!("policy {}", rule.origin.policy);
            writeln!(text, "\n{}", palette.paint(Tone::Strong, &heading))?;
        }
        write_rule(text, rule, palette)?;
    }
    Ok(())
}

fn write_rule(text: &mut String, rule: &RuleExplanation, palette: Palette) -> std::fmt::Result {
    let RuleExplanation {
        origin,
        action,
        decides,
        matches,
        error,
        path: _,
        parts,
    } = rule;
    let only = if *decides { "" } else { ", decides nothing" };
    let place = format!("{}:{}", origin.file, origin.line);
    writeln!(
        text,
        "{} {} {} ({}{only})  {}",
        mark(Some(*matches), palette),
        action.as_str(),
        palette.paint(Tone::Strong, &format!("\"{}\"", printable(&origin.rule))),
        if *matches {
            "matches"
        } else {
            "does not match"
        },
        palette.paint(Tone::Faint, &printable(&place)),
    )?;
    for part in parts {
        write_part(text, part, palette)?;
    }
    if parts.is_empty() {
        writeln!(text, "    it asks for nothing: every call matches")?;
    }
    if error.is_some() && *matches {
        writeln!(
            text,
            "    a condition that cannot be evaluated counts as true in a rule that does not allow"
        )?;
    }
    Ok(())
}

fn write_part(text: &mut String, part: &Part, palette: Palette) -> std::fmt::Result {
    let several = part.alternatives.len() > 1;
    if several {
        let one_of = format!("one of {}:", part.alternatives.len());
        writeln!(
            text,
            "  {} {:<8} {}",
            mark(part.matches, palette),
            part.part,
            palette.paint(Tone::Faint, &one_of)
        )?;
    }
    for Alternative { matches, fields } in &part.alternatives {
        let mut first = true;
        for field in fields {
            let lead = match (several, first) {
                (true, true) => format!("    {} - ", mark(Some(*matches), palette)),
                (true, false) => "        ".to_owned(),
                (false, true) => format!("  {} {:<8} ", mark(part.matches, palette), part.part),
                (false, false) => " ".repeat(13),
            };
            first = false;
            write_field(text, &lead, field, part.matches.is_some(), palette)?;
        }
    }
    Ok(())
}

fn write_field(
    text: &mut String,
    lead: &str,
    field: &FieldAnswer,
    asked: bool,
    palette: Palette,
) -> std::fmt::Result {
    let FieldAnswer {
        field,
        matches,
        found,
        wanted,
    } = field;
    writeln!(
        text,
        "{lead}{} {field}: {}, wanted {}",
        mark(asked.then_some(*matches), palette),
        printable(found),
        printable(wanted)
    )
}

fn mark(matches: Option<bool>, palette: Palette) -> String {
    let (tone, mark) = match matches {
        Some(true) => (Tone::Good, "✓"),
        Some(false) => (Tone::Bad, "✗"),
        None => (Tone::Faint, "·"),
    };
    palette.paint(tone, mark).into_owned()
}
