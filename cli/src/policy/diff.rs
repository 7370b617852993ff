//! `countersign policy diff`: which calls become allowed, and which denied.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use clap::Args;
use countersign_policy::Diagnostics;
use countersign_policy::analysis::{
    Change, Difference, DocumentChange, Edit, Example, Judgement, PathsChange, Phrase, Region,
    TooLarge, diff, told,
};
use serde::Serialize;

use super::args::TrustDomainArgument;
use super::directory;
use super::revision::{self, RevisionError};
use crate::output::{Answer, Format, Output, Palette, Tone, printable};

/// How the analysis calls what is no request.
const OPAQUE: &str = "connections that are not HTTP";

/// `countersign policy diff`
#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    /// The policy before: a directory, a file, or a git revision (main~1, v1:policies/)
    pub(crate) old: String,
    /// The policy after
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) trust_domain: TrustDomainArgument,
    /// Compare only calls to the workloads of this directory file
    #[arg(long, value_name = "FILE")]
    pub(crate) directory: Option<PathBuf>,
    /// Exit with 1 if a call may become allowed
    #[arg(long)]
    pub(crate) fail_on_widening: bool,
}

/// Why policies could not be compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiffError {
    #[error(transparent)]
    Revision(#[from] RevisionError),
    #[error("the directory has mistakes:\n{0}")]
    Directory(Diagnostics),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

/// Prints what changes; the answer is no if access widens and that is to fail.
pub(crate) fn run(arguments: &DiffArguments, output: &Output) -> Result<Answer, DiffError> {
    let trust_domain = &arguments.trust_domain.trust_domain;
    // The first policy has none before it.
    let old = revision::earlier_policy(&arguments.old, trust_domain)?;
    let new = revision::policy(&arguments.new, trust_domain)?;
    let workloads = match &arguments.directory {
        Some(path) => Some(directory::workloads(path).map_err(DiffError::Directory)?),
        None => None,
    };
    let difference = diff(&old, &new, workloads.as_deref())?;
    let mut notes = notes(&difference);
    if old.is_empty() {
        notes.insert(
            0,
            format!(
                "there is no policy in {}: all that {} allows becomes allowed",
                arguments.old, arguments.new
            ),
        );
    }
    match output.format {
        Format::Text => output.write(&text(&difference, &notes, output.palette))?,
        Format::Json => output.write_json(&Json::of(&difference, notes))?,
    }
    Ok(match arguments.fail_on_widening && difference.widens() {
        true => Answer::No,
        false => Answer::Yes,
    })
}

/// What every answer rests on, where it does.
fn notes(difference: &Difference) -> Vec<String> {
    let mut notes = Vec::new();
    if difference.has_conditions() {
        notes.push(
            "CEL conditions are not looked into: equal ones turn out alike, different ones in any way. A region that says `when` holds as far as they do.".to_owned(),
        );
    }
    if difference.has_paths() {
        notes.push(
            "of a path that can be read in several ways (with `;`) every reading is compared for itself".to_owned(),
        );
    }
    for to in &difference.cut_short {
        notes.push(format!(
            "there are too many different changes of calls to {to} to tell them all"
        ));
    }
    notes
}

fn text(difference: &Difference, notes: &[String], palette: Palette) -> String {
    let mut text = String::new();
    for (changes, heading, tone) in [
        (&difference.allowed, "becomes allowed", Tone::Warning),
        (&difference.denied, "becomes denied", Tone::Strong),
    ] {
        if !changes.is_empty() {
            line(&mut text, 0, &palette.paint(tone, heading));
            for change in changes {
                tell(&mut text, change, palette);
            }
        }
    }
    if !difference.documents.is_empty() {
        let heading = "documents that say who is believed, or decide other things than calls";
        line(&mut text, 0, &palette.paint(Tone::Strong, heading));
        for document in &difference.documents {
            line(&mut text, 2, &tell_document(document));
            for effect in &document.effects {
                line(&mut text, 6, &printable(effect));
            }
        }
    }
    if !difference.paths.is_empty() {
        let heading = "requests whose path can be read in several ways (`ambiguousPaths`)";
        line(&mut text, 0, &palette.paint(Tone::Strong, heading));
        for PathsChange { to, accepted } in &difference.paths {
            let to = match to.as_slice() {
                [] => "any workload".to_owned(),
                some => told(some),
            };
            let what = match accepted {
                true => "are judged now, and allowed where every reading is, which may let in more",
                false => "are refused now",
            };
            line(&mut text, 2, &printable(&format!("to {to}: {what}")));
        }
    }
    for note in notes {
        let note = format!("note: {}", printable(note));
        line(&mut text, 0, &palette.paint(Tone::Faint, &note));
    }
    line(&mut text, 0, &summary(difference));
    text
}

fn summary(difference: &Difference) -> String {
    if difference.is_empty() {
        return "no call is decided in another way".to_owned();
    }
    let regions = |count: usize, what: &str| match count {
        0 => format!("nothing becomes {what}"),
        1 => format!("1 region becomes {what}"),
        more => format!("{more} regions become {what}"),
    };
    format!(
        "{}, {}",
        regions(difference.allowed.len(), "allowed"),
        regions(difference.denied.len(), "denied")
    )
}

fn line(text: &mut String, indent: usize, content: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{:indent$}{content}", "");
}

fn tell(text: &mut String, change: &Change, palette: Palette) {
    let Change { region, example } = change;
    let calls = printable(&calls(region)).into_owned();
    line(text, 2, &palette.paint(Tone::Strong, &calls));
    for detail in details(region) {
        line(text, 6, &printable(&detail));
    }
    let Example {
        call,
        confirmed,
        depends_on_conditions,
        before,
        after,
    } = example;
    line(text, 6, &format!("now:     {}", reason(after)));
    line(text, 6, &format!("before:  {}", reason(before)));
    let call = serde_json::to_string(call).unwrap_or_default();
    let standing = match (confirmed, depends_on_conditions) {
        (true, _) => "",
        (false, true) => " (if the condition turns out so; the engine does not confirm it)",
        (false, false) => " (the engine decides otherwise: please report this)",
    };
    let example = format!("example: {}{standing}", printable(&call));
    line(text, 6, &palette.paint(Tone::Faint, &example));
}

/// A decision's reason without the call, which stands beside it.
fn reason(judgement: &Judgement) -> String {
    let Judgement {
        decision,
        rule,
        reason,
    } = judgement;
    match rule {
        Some(rule) => printable(&format!("{decision}, by {rule}")).into_owned(),
        None => printable(&format!("{decision}: {reason}")).into_owned(),
    }
}

/// Who, to whom, and what, on one line.
fn calls(region: &Region) -> String {
    let any = |phrases: &[Phrase], any: &str| match phrases {
        [] => any.to_owned(),
        some => told(some),
    };
    let mut text = format!(
        "{} → {}",
        any(&region.from, "anyone"),
        any(&region.to, "any workload")
    );
    if !region.ports.is_empty() {
        let _ = write!(text, ":{}", told(&region.ports));
    }
    if !region.methods.is_empty() {
        let _ = write!(text, "  {}", methods(&region.methods));
    }
    if !region.paths.is_empty() {
        let _ = write!(text, "  {}", told(&region.paths));
    }
    text
}

/// Methods, of which what is no HTTP has none.
fn methods(methods: &[Phrase]) -> String {
    match methods {
        [Phrase { is, except }] if is.is_empty() && except.iter().any(|word| word == OPAQUE) => {
            let except: Vec<&str> = except.iter().map(String::as_str).collect();
            let methods: Vec<&str> = except.into_iter().filter(|word| *word != OPAQUE).collect();
            match methods.as_slice() {
                [] => "HTTP".to_owned(),
                some => format!("HTTP but {}", some.join(", ")),
            }
        }
        some => told(some),
    }
}

fn details(region: &Region) -> Vec<String> {
    let dimensions = [
        ("host", &region.hosts),
        ("server name", &region.sni),
        ("from", &region.addresses),
        ("forwarded for", &region.forwarded_for),
    ];
    let told_all = dimensions
        .into_iter()
        .filter(|(_, phrases)| !phrases.is_empty())
        .map(|(name, phrases)| format!("{name} {}", told(phrases)));
    let conditions = region
        .conditions
        .iter()
        .map(|condition| match condition.kind {
            "when" => format!("when {}", condition.text),
            _ => condition.text.clone(),
        });
    told_all.chain(conditions).collect()
}

fn tell_document(document: &DocumentChange) -> String {
    let DocumentChange {
        kind,
        name,
        edit,
        file,
        line,
        may_widen,
        effects: _,
    } = document;
    let edit = match edit {
        Edit::Added => "added",
        Edit::Removed => "removed",
        Edit::Changed => "changed",
    };
    let widens = match may_widen {
        true => ", which may let in more",
        false => "",
    };
    printable(&format!("{kind} {name} {edit} ({file}:{line}){widens}")).into_owned()
}

/// The difference for programs.
#[derive(Serialize)]
struct Json<'a> {
    widens: bool,
    allowed: &'a [Change],
    denied: &'a [Change],
    documents: &'a [DocumentChange],
    paths: &'a [PathsChange],
    complete: bool,
    notes: Vec<String>,
}

impl<'a> Json<'a> {
    fn of(difference: &'a Difference, notes: Vec<String>) -> Self {
        Self {
            widens: difference.widens(),
            allowed: &difference.allowed,
            denied: &difference.denied,
            documents: &difference.documents,
            paths: &difference.paths,
            complete: difference.cut_short.is_empty(),
            notes,
        }
    }
}
