//! `countersign policy check`: mistakes in policy, and what is hardly meant.

mod sarif;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use countersign_policy::check::{self, Finding, Level, Report};
use countersign_policy::{Diagnostic, Diagnostics, directory};
use serde::Serialize;

use super::args::TrustDomainArgument;
use super::sources::{self, SourceError};
use crate::output::{
    Answer, Format, FormatChoice, Output, Palette, Tone, UnsupportedFormat, printable,
};

/// `countersign policy check`
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// Policy: files, directories (read recursively), or `-` for standard input
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) trust_domain: TrustDomainArgument,
    /// Compare what the policy says of workloads with those that there are: the control plane's directory file, or the
    /// mesh file of `countersign up`
    #[arg(long, value_name = "FILE")]
    pub(crate) directory: Option<PathBuf>,
    /// Write the findings to a file, too, as SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    pub(crate) sarif: Option<PathBuf>,
    /// Let warnings fail, too
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Why policy could not be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(
        "there is no policy in {}: expected files that end in .yaml or .yml",
        sources::named(paths)
    )]
    Empty { paths: Vec<PathBuf> },
    #[error("the directory has mistakes:\n{0}")]
    Directory(Diagnostics),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Format(#[from] UnsupportedFormat),
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Prints what is found; the answer is no if there is a mistake.
pub(crate) fn run(arguments: &CheckArguments, format: FormatChoice) -> Result<Answer, CheckError> {
    let output = match format {
        FormatChoice::Sarif => Output::to_stdout(Format::Json),
        other => Output::to_stdout(other.plain()?),
    };
    let files = sources::read(&arguments.paths)?;
    if files.files.is_empty() && files.mistakes.is_empty() {
        return Err(CheckError::Empty {
            paths: arguments.paths.clone(),
        });
    }
    let directory = match &arguments.directory {
        Some(path) => Some(directory::read_file(path).map_err(CheckError::Directory)?),
        None => None,
    };
    let trust_domain = &arguments.trust_domain.trust_domain;
    let report = check::check(files, trust_domain, directory.as_ref());
    if let Some(path) = &arguments.sarif {
        let mut text =
            serde_json::to_string_pretty(&sarif::log(&report)).map_err(io::Error::from)?;
        text.push('\n');
        fs::write(path, text).map_err(|source| CheckError::Write {
            path: path.clone(),
            source,
        })?;
    }
    match output.format {
        _ if format == FormatChoice::Sarif => output.write_json(&sarif::log(&report))?,
        Format::Text => output.write(&text(&report, output.palette))?,
        Format::Json => output.write_json(&Json::of(&report))?,
    }
    let failed =
        report.count(Level::Error) > 0 || (arguments.strict && report.count(Level::Warning) > 0);
    Ok(if failed { Answer::No } else { Answer::Yes })
}

fn text(report: &Report, palette: Palette) -> String {
    let mut text = String::new();
    for Finding { diagnostic, lint } in &report.findings {
        let tone = match lint.level() {
            Level::Error => Tone::Bad,
            Level::Warning => Tone::Warning,
        };
        let level = palette.paint(tone, lint.level().as_str());
        let id = format!("[{}]", lint.id());
        let id = palette.paint(Tone::Faint, &id);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {level}: {} {id}",
            place(diagnostic),
            printable(&diagnostic.message)
        );
    }
    for note in &report.notes {
        let line = printable(&note.to_string()).into_owned();
        let _ = writeln!(text, "{}", palette.paint(Tone::Faint, &line));
    }
    let (errors, warnings) = (report.count(Level::Error), report.count(Level::Warning));
    let _ = writeln!(
        text,
        "{}, {}, {}",
        counted(report.files, "file"),
        counted(errors, "error"),
        counted(warnings, "warning")
    );
    text
}

fn place(diagnostic: &Diagnostic) -> String {
    let Diagnostic {
        file, line, column, ..
    } = diagnostic;
    let file = printable(file);
    if *line == 0 {
        file.into_owned()
    } else {
        format!("{file}:{line}:{column}")
    }
}

fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// The report for programs.
#[derive(Serialize)]
struct Json<'a> {
    errors: usize,
    warnings: usize,
    files: usize,
    findings: Vec<JsonFinding<'a>>,
    notes: Vec<JsonNote<'a>>,
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    level: &'static str,
    id: &'static str,
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
}

#[derive(Serialize)]
struct JsonNote<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
}

impl<'a> Json<'a> {
    fn of(report: &'a Report) -> Self {
        let findings = report.findings.iter().map(|finding| JsonFinding {
            level: finding.lint.level().as_str(),
            id: finding.lint.id(),
            file: &finding.diagnostic.file,
            line: finding.diagnostic.line,
            column: finding.diagnostic.column,
            message: &finding.diagnostic.message,
        });
        let notes = report.notes.iter().map(|note| JsonNote {
            file: &note.file,
            line: note.line,
            column: note.column,
            message: &note.message,
        });
        Self {
            errors: report.count(Level::Error),
            warnings: report.count(Level::Warning),
            files: report.files,
            findings: findings.collect(),
            notes: notes.collect(),
        }
    }
}
