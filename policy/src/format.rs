//! The canonical layout of files of policy and of its tests, with every comment where it was.
//!
//! ```text
//! text ── source::read ──▶ documents, comments ── attach ──▶ trees with their comments ── arrange, print ──▶ text
//! ```
//!
//! A file is read twice more than it would have to be: before, so that what has mistakes is left alone, and after, so
//! that no text is ever handed out that says something else than the one that came.

mod arrange;
mod attach;
mod order;
mod print;
mod scalar;
mod source;
mod tree;

use crate::document::{API_VERSION, parse};
use crate::testing;
use crate::yaml::{Diagnostic, Diagnostics, Node, Report, read_documents};
use source::{Chunk, Source};

/// Lays out the documents of this language in a file; `file` is the name that mistakes are reported under.
///
/// Documents of other API groups stay as they are, byte for byte. The result of a text that is laid out already is that
/// text.
///
/// # Errors
/// Every mistake of the documents, and what has no canonical layout: directives (`%YAML`).
pub fn format(file: &str, text: &str) -> Result<String, Diagnostics> {
    parse([(file.to_owned(), text.to_owned())])?;
    lay_out_text(file, text)
}

/// [`format`], for a file of tests (`*.test.yaml`).
///
/// # Errors
/// Every mistake of the tests, and what has no canonical layout: directives (`%YAML`).
pub fn format_tests(file: &str, text: &str) -> Result<String, Diagnostics> {
    testing::read([(file.to_owned(), text.to_owned())])?;
    lay_out_text(file, text)
}

/// Lays out a text without mistakes.
fn lay_out_text(file: &str, text: &str) -> Result<String, Diagnostics> {
    let source = source::read(file, text)?;
    let laid_out = lay_out(&source);
    confirm(file, &source, &laid_out)?;
    Ok(laid_out)
}

fn lay_out(source: &Source<'_>) -> String {
    let is_document = |chunk: &Chunk| chunk.is_ours() && chunk.root.is_some();
    if !source.chunks.iter().any(is_document) {
        return source.text.to_owned();
    }
    let mut out = String::with_capacity(source.text.len());
    for chunk in &source.chunks {
        let text = chunk.text(source.text);
        // Another's document may begin without `---`, behind a `...` that is not kept.
        let separated = !chunk.is_ours() && text.starts_with("---");
        if chunk.is_empty() && chunk.is_ours() {
            continue;
        }
        if !out.is_empty() && !separated {
            out.push_str("---\n");
        }
        if chunk.is_ours() {
            print::document(chunk, &mut out);
        } else {
            out.push_str(text);
        }
    }
    out
}

/// The last line of defence: the text that is handed out has the documents and the comments of the one that came.
fn confirm(file: &str, source: &Source<'_>, laid_out: &str) -> Result<(), Diagnostics> {
    let changed = |what: &str| {
        let message = format!(
            "{what} would not survive a change of layout, so the file is left as it is; this is a mistake of the formatter"
        );
        Err(Diagnostics::new(vec![Diagnostic {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
        }]))
    };
    let report = Report::new(file);
    let documents = |text: &str| read_documents(text, &report).collect::<Vec<Node>>();
    let (before, after) = (documents(source.text), documents(laid_out));
    let same = before.len() == after.len()
        && before
            .iter()
            .zip(&after)
            .all(|(before, after)| before.says_the_same_as(after));
    if !same || !report.into_diagnostics().is_empty() {
        return changed("what the documents say");
    }
    let Ok(again) = source::read(file, laid_out) else {
        return changed("the structure of the documents");
    };
    if source.comment_texts() != again.comment_texts() {
        return changed("a comment");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
