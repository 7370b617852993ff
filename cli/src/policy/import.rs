//! `countersign policy import`: other meshes' policy, in the kinds of this one.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_policy::istio::{self, Imported, Options};
use countersign_policy::pattern::{Name, NameError};
use countersign_policy::{Diagnostic, Diagnostics};
use serde::Serialize;

use super::sources::{self, SourceError};
use crate::output::{Answer, Format, Output, printable};

/// `countersign policy import …`
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct ImportArguments {
    #[command(subcommand)]
    from: From,
}

/// Whose policy it is.
#[derive(Debug, Subcommand)]
enum From {
    /// Istio's AuthorizationPolicy, RequestAuthentication and PeerAuthentication
    Istio(IstioArguments),
}

#[derive(Debug, Args)]
struct IstioArguments {
    /// Istio's policy: files, directories (read recursively), or `-` for standard input; other documents are skipped
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    /// Istio's root namespace, whose policy is about the whole mesh
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system", value_parser = name)]
    root_namespace: Name,
}

fn name(text: &str) -> Result<Name, NameError> {
    text.parse()
}

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Writes own kinds to standard output and what there is to know about them to standard error; the answer is no if there
/// are mistakes, or no policy.
pub(crate) fn run(arguments: &ImportArguments, output: &Output) -> Result<Answer, ImportError> {
    let From::Istio(arguments) = &arguments.from;
    let sources = sources::read(&arguments.paths)?;
    let mut mistakes = sources.mistakes;
    let options = Options {
        root_namespace: arguments.root_namespace.clone(),
    };
    let imported = match istio::import(sources.files, options) {
        Ok(imported) if mistakes.is_empty() => Some(imported),
        Ok(_) => None,
        Err(more) => {
            mistakes.extend(more);
            None
        }
    };
    match (output.format, &imported) {
        (Format::Json, _) => output.write_json(&Report::new(imported.as_ref(), &mistakes))?,
        (Format::Text, Some(imported)) => output.write(&imported.yaml)?,
        (Format::Text, None) => {}
    }
    if output.format == Format::Text {
        // Standard output is the policy's.
        let told = match &imported {
            Some(imported) => notes(imported),
            None => format!("{}\n", Diagnostics::new(mistakes)),
        };
        let _ = io::stderr().write_all(told.as_bytes());
    }
    let found = imported.is_some_and(|imported| imported.documents > 0);
    Ok(if found { Answer::Yes } else { Answer::No })
}

fn notes(imported: &Imported) -> String {
    let mut text = String::new();
    let mut line = |told: &str| {
        let _ = writeln!(text, "{}", printable(told));
    };
    if imported.documents == 0 {
        line("there is no policy of Istio (security.istio.io) in these files");
        return text;
    }
    for note in &imported.notes {
        line(&format!("note: {note}"));
    }
    for difference in &imported.differences {
        line(&format!("note: {difference}"));
    }
    text
}

/// The answer for programs.
#[derive(Serialize)]
struct Report<'a> {
    documents: usize,
    /// The documents; null if there are mistakes.
    yaml: Option<&'a str>,
    notes: Vec<Told<'a>>,
    differences: &'a [String],
    mistakes: Vec<Told<'a>>,
}

#[derive(Serialize)]
struct Told<'a> {
    file: &'a str,
    line: usize,
    column: usize,
    message: &'a str,
}

impl<'a> Report<'a> {
    fn new(imported: Option<&'a Imported>, mistakes: &'a [Diagnostic]) -> Self {
        let told = |diagnostic: &'a Diagnostic| Told {
            file: &diagnostic.file,
            line: diagnostic.line,
            column: diagnostic.column,
            message: &diagnostic.message,
        };
        Self {
            documents: imported.map_or(0, |imported| imported.documents),
            yaml: imported.map(|imported| imported.yaml.as_str()),
            notes: imported.map_or_else(Vec::new, |imported| {
                imported.notes.iter().map(told).collect()
            }),
            differences: imported.map_or(&[], |imported| &imported.differences),
            mistakes: mistakes.iter().map(told).collect(),
        }
    }
}
