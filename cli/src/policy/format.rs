//! `countersign policy format`: the canonical layout, comments kept.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_policy::{Diagnostic, format, testing};
use serde::Serialize;
use tempfile::NamedTempFile;

use super::sources::{self, SourceError};
use crate::output::{Answer, Format, Output, Tone, printable};

/// `countersign policy format`
#[derive(Debug, Args)]
pub(crate) struct FormatArguments {
    /// Policy and its tests: files, directories (read recursively), or `-` to read standard input and print the result
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Change nothing; name the files that would change, and fail if there are any
    #[arg(long)]
    pub(crate) check: bool,
}

/// Why files could not be laid out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(
        "standard input (`-`) stands alone: its layout is printed, and that of files is written to them"
    )]
    StdinAmongFiles,
    #[error("cannot write {}; it is as it was", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Lays out files; the answer is no if one has mistakes, or with `--check` another layout.
pub(crate) fn run(arguments: &FormatArguments, output: &Output) -> Result<Answer, FormatError> {
    let is_stdin = |path: &PathBuf| path.as_os_str() == "-";
    let stdin = arguments.paths.iter().any(is_stdin);
    if stdin && arguments.paths.len() > 1 {
        return Err(FormatError::StdinAmongFiles);
    }
    let sources = sources::read(&arguments.paths)?;
    let mut report = Report {
        files: sources.files.len().saturating_add(sources.tests.len()),
        changed: Vec::new(),
        mistakes: sources.mistakes.iter().map(Mistake::from).collect(),
    };
    let policy = sources.files.iter().map(|file| (file, false));
    let tests = sources.tests.iter().map(|file| (file, true));
    for ((file, text), of_tests) in policy.chain(tests) {
        let laid_out = match of_tests || (stdin && testing::is_tests(text)) {
            true => format::format_tests(file, text),
            false => format::format(file, text),
        };
        match laid_out {
            Ok(laid_out) if stdin && !arguments.check => {
                output.write(&laid_out)?;
                return Ok(Answer::Yes);
            }
            Ok(laid_out) if laid_out == *text => {}
            Ok(laid_out) => {
                if !arguments.check {
                    replace(Path::new(file), &laid_out).map_err(|source| FormatError::Write {
                        path: file.into(),
                        source,
                    })?;
                }
                report.changed.push(file.clone());
            }
            Err(mistakes) => report.mistakes.extend(mistakes.iter().map(Mistake::from)),
        }
    }
    match output.format {
        // Standard output is the text's, which there is not.
        Format::Text if stdin && !arguments.check => {
            let _ = io::stderr().write_all(report.text(arguments.check, output).as_bytes());
        }
        Format::Text => output.write(&report.text(arguments.check, output))?,
        Format::Json => output.write_json(&report)?,
    }
    let failed = !report.mistakes.is_empty() || (arguments.check && !report.changed.is_empty());
    Ok(if failed { Answer::No } else { Answer::Yes })
}

/// Puts a new text in the place of a file's: all of it or none, with the file's permissions. A symbolic link stays one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut new = NamedTempFile::new_in(directory)?;
    new.write_all(text.as_bytes())?;
    new.as_file()
        .set_permissions(fs::metadata(&path)?.permissions())?;
    new.as_file().sync_all()?;
    new.persist(&path)?;
    Ok(())
}

/// What came of it. As JSON it is for programs.
#[derive(Serialize)]
struct Report {
    files: usize,
    changed: Vec<String>,
    mistakes: Vec<Mistake>,
}

#[derive(Serialize)]
struct Mistake {
    file: String,
    line: usize,
    column: usize,
    message: String,
}

impl From<&Diagnostic> for Mistake {
    fn from(diagnostic: &Diagnostic) -> Self {
        let Diagnostic {
            file,
            line,
            column,
            message,
        } = diagnostic.clone();
        Self {
            file,
            line,
            column,
            message,
        }
    }
}

impl Report {
    fn text(&self, check: bool, output: &Output) -> String {
        let mut text = String::new();
        for Mistake {
            file,
            line,
            column,
            message,
        } in &self.mistakes
        {
            let place = if *line == 0 {
                String::new()
            } else {
                format!(":{line}:{column}")
            };
            let level = output.palette.paint(Tone::Bad, "error");
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}{place}: {level}: {}",
                printable(file),
                printable(message)
            );
        }
        let done = if check {
            "has another layout"
        } else {
            "laid out"
        };
        for file in &self.changed {
            let _ = writeln!(text, "{}: {done}", printable(file));
        }
        let ending = if self.files == 1 { "" } else { "s" };
        let changed = if check { "would change" } else { "changed" };
        let _ = writeln!(
            text,
            "{} file{ending}, {} {changed}",
            self.files,
            self.changed.len()
        );
        text
    }
}
