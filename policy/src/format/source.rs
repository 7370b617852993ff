//! From text to trees and comments. Policy is read with the same parser, which here tells comments, too.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, options};

use super::API_VERSION;
use super::attach;
use super::tree::{Child, Collection, Comment, Content, Key, Kind, Node, Scalar, Style};
use crate::yaml::{Diagnostic, Diagnostics};

/// A file: its documents and what stands around them.
pub(super) struct Source<'t> {
    pub(super) text: &'t str,
    /// They cover the text: each reaches to the next.
    pub(super) chunks: Vec<Chunk>,
    /// Every comment of the chunks that are this language's, in the order of the text.
    comments: Vec<String>,
}

/// The part of a file that is one document, from its `---` on.
pub(super) struct Chunk {
    range: Range<usize>,
    /// Comments before the document.
    pub(super) above: Vec<Comment>,
    pub(super) root: Option<Node>,
    ours: bool,
}

/// A comment, and where it stands.
pub(super) struct Remark {
    pub(super) start: usize,
    pub(super) column: usize,
    /// Nothing but white space stands before it on its line.
    pub(super) own_line: bool,
    pub(super) comment: Comment,
}

impl Chunk {
    pub(super) fn text<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.range.clone()).unwrap_or_default()
    }

    /// Whether it may be laid out: a document of this language, or comments.
    pub(super) fn is_ours(&self) -> bool {
        self.ours
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none() && self.above.is_empty()
    }
}

impl Source<'_> {
    /// The texts of all comments beside documents of this language, sorted.
    pub(super) fn comment_texts(&self) -> Vec<&str> {
        let mut texts: Vec<&str> = self.comments.iter().map(String::as_str).collect();
        texts.sort_unstable();
        texts
    }
}

/// Reads a text that [`parse`](crate::document::parse) accepts.
pub(super) fn read<'t>(file: &str, text: &'t str) -> Result<Source<'t>, Diagnostics> {
    let mut reader = Reader {
        text,
        open: Vec::new(),
        parts: vec![Part::starting_at(0)],
        remarks: Vec::new(),
        ended_at: None,
    };
    // Files of mere comments are fine, and nesting was bounded when the text was read before.
    let options = options! { max_buffered_comment_events: usize::MAX, disallow_directives: true };
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((event, span)) => reader.take(event, &span),
            Err(error) => return Err(diagnostics(file, &error)),
        }
    }
    Ok(reader.finish())
}

fn diagnostics(file: &str, error: &ScanError) -> Diagnostics {
    let marker = error.marker();
    Diagnostics::new(vec![Diagnostic {
        file: file.to_owned(),
        line: marker.line(),
        column: marker.col().saturating_add(1),
        message: format!("this cannot be laid out: {}", error.info()),
    }])
}

/// A chunk that is being read.
struct Part {
    start: usize,
    root: Option<Node>,
}

impl Part {
    fn starting_at(start: usize) -> Self {
        Self { start, root: None }
    }
}

/// A collection whose end was not yet seen.
struct Open {
    start: usize,
    column: usize,
    key: Option<Key>,
    collection: Collection,
}

struct Reader<'t> {
    text: &'t str,
    open: Vec<Open>,
    parts: Vec<Part>,
    remarks: Vec<Remark>,
    /// Behind the line of the last `...`.
    ended_at: Option<usize>,
}

impl<'t> Reader<'t> {
    fn take(&mut self, event: Event<'_>, span: &Span) {
        let Range { start, end } = span.byte_range().unwrap_or_default();
        match event {
            Event::Comment(..) => self.remark(start, span),
            Event::DocumentStart(true, _) => self.parts.push(Part::starting_at(start)),
            Event::DocumentStart(false, _) => {
                self.parts
                    .extend(self.ended_at.take().map(Part::starting_at));
            }
            Event::DocumentEnd if self.slice(start..end) == "..." => {
                self.ended_at = Some(self.behind_line(end));
            }
            Event::Scalar(text, style, ..) => self.scalar(&text, style, span),
            Event::SequenceStart(style, ..) => self.descend(Kind::List, style, span),
            Event::MappingStart(style, ..) => self.descend(Kind::Mapping, style, span),
            Event::SequenceEnd | Event::MappingEnd => self.ascend(end),
            // Aliases and tags are mistakes, which were found before.
            _ => {}
        }
    }

    fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or_default()
    }

    /// The byte behind the line break that follows.
    fn behind_line(&self, from: usize) -> usize {
        let rest = self.slice(from..self.text.len());
        rest.find('\n').map_or(self.text.len(), |at| {
            from.saturating_add(at).saturating_add(1)
        })
    }

    fn remark(&mut self, start: usize, span: &Span) {
        let text = span.slice(self.text).unwrap_or_default().trim_end();
        let (before, behind) = (
            self.slice(0..start),
            self.slice(self.behind_line(start)..self.text.len()),
        );
        let line = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let is_empty = |line: Option<&str>| line.is_some_and(|line| line.trim().is_empty());
        let above = before.get(..line).unwrap_or_default();
        self.remarks.push(Remark {
            start,
            column: span.start.col(),
            own_line: before
                .get(line..)
                .is_some_and(|rest| rest.trim().is_empty()),
            comment: Comment {
                text: text.to_owned(),
                gap_before: is_empty(above.lines().next_back()),
                gap_behind: is_empty(behind.lines().next()),
            },
        });
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: &Span) {
        let Range { start, end } = span.byte_range().unwrap_or_default();
        let raw = self.slice(start..end);
        let column = span.start.col();
        let (text, style) = match style {
            // The parser says `~` of a value that is not there.
            ScalarStyle::Plain if raw.is_empty() => ("null".to_owned(), Style::Plain),
            ScalarStyle::Plain => (text.to_owned(), Style::Plain),
            ScalarStyle::Literal => (text.to_owned(), Style::Literal),
            ScalarStyle::Folded => (text.to_owned(), folded(text, raw)),
            _ => (text.to_owned(), Style::Quoted),
        };
        self.place(Node {
            start,
            end: start.saturating_add(raw.trim_end().len()),
            column,
            content: Content::Scalar(Scalar { text, style }),
        });
    }

    fn descend(&mut self, kind: Kind, style: StructureStyle, span: &Span) {
        let Range { mut start, .. } = span.byte_range().unwrap_or_default();
        let mut column = span.start.col();
        let flow = style == StructureStyle::Flow;
        if kind == Kind::List && !flow && !self.slice(start..self.text.len()).starts_with('-') {
            // Behind a dash with a comment the parser tells the end of the line.
            let line = self.slice(0..start).rsplit('\n').next().unwrap_or_default();
            let code = line.split_once(" #").map_or(line, |(code, _)| code);
            if let Some((before, behind)) = code.rsplit_once('-') {
                column = before.chars().count();
                let comment = line.len().saturating_sub(code.len());
                start = start
                    .saturating_sub(comment)
                    .saturating_sub(behind.len())
                    .saturating_sub(1);
            }
        }
        self.open.push(Open {
            start,
            column,
            key: None,
            collection: Collection {
                kind,
                flow,
                children: Vec::new(),
                below: Vec::new(),
            },
        });
    }

    fn ascend(&mut self, end: usize) {
        let Some(open) = self.open.pop() else { return };
        // A block collection ends with its last child, not with the white space and comments behind it.
        let last = open.collection.children.last().map(|child| child.value.end);
        let end = if open.collection.flow {
            end
        } else {
            last.unwrap_or(end)
        };
        self.place(Node {
            start: open.start,
            end,
            column: open.column,
            content: Content::Collection(open.collection),
        });
    }

    /// Puts a complete node where it belongs: it is an item, a key, a value, or a document.
    fn place(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            let nothing = node.start == node.end;
            if let Some(part) = self.parts.last_mut().filter(|_| !nothing) {
                part.root = Some(node);
            }
            return;
        };
        let is_key = open.collection.kind == Kind::Mapping && open.key.is_none();
        match node.content {
            Content::Scalar(scalar) if is_key => {
                open.key = Some(Key {
                    start: node.start,
                    scalar,
                });
            }
            content => open.collection.children.push(Child {
                key: open.key.take(),
                value: Node { content, ..node },
                above: Vec::new(),
                head: Vec::new(),
                beside: Vec::new(),
            }),
        }
    }

    fn finish(self) -> Source<'t> {
        let mut remarks = self.remarks;
        remarks.sort_by_key(|remark| remark.start);
        let mut remarks = remarks.into_iter().peekable();
        let mut comments = Vec::new();
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut parts = self.parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            let end = parts.peek().map_or(self.text.len(), |next| next.start);
            let of_chunk: Vec<Remark> =
                std::iter::from_fn(|| remarks.next_if(|remark| remark.start < end)).collect();
            let ours = part.root.as_ref().is_none_or(is_ours);
            let mut chunk = Chunk {
                range: part.start..end,
                above: Vec::new(),
                root: part.root,
                ours,
            };
            if ours {
                comments.extend(of_chunk.iter().map(|remark| remark.comment.text.clone()));
                attach::attach(&mut chunk, of_chunk, self.text);
            }
            chunks.push(chunk);
        }
        give_preamble_away(&mut chunks);
        Source {
            text: self.text,
            chunks,
            comments,
        }
    }
}

/// Comments before the first `---` are the first document's: with it they are laid out, or left alone.
fn give_preamble_away(chunks: &mut [Chunk]) {
    let [first, second, ..] = chunks else { return };
    if first.root.is_some() {
        return;
    }
    if !second.ours {
        first.ours = false;
        return;
    }
    let mut above = std::mem::take(&mut first.above);
    if let Some(last) = above.last_mut()
        && !second.above.is_empty()
    {
        last.gap_behind = true;
    }
    above.append(&mut second.above);
    second.above = above;
}

fn is_ours(root: &Node) -> bool {
    root.collection()
        .and_then(|root| root.get_text("apiVersion"))
        == Some(API_VERSION)
}

/// Keeps the lines of a folded scalar if they are one paragraph; of others only the value is kept.
fn folded(text: &str, raw: &str) -> Style {
    let lines: Vec<String> = raw
        .trim_end()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    let value = text.strip_suffix('\n').unwrap_or(text);
    if lines.join(" ") == value {
        Style::Folded(lines)
    } else {
        Style::Quoted
    }
}
