//! From text to trees: the events of the YAML parser, put together without recursion and within limits.

use std::collections::{HashMap, HashSet, hash_map};
use std::rc::Rc;

use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, Span, StrInput};

use super::node::{Content, Entry, Node, Position, quoted};
use super::value::Report;

/// The longest text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 << 20;
/// How deep lists and mappings may be nested.
pub const MAX_DEPTH: usize = 64;

/// Reads the documents of a text, one after the other. Documents with nothing in them (a trailing `---`) are left out.
///
/// Mistakes go to the report. One that ends a document (text that is not YAML) does not end the file: reading goes on
/// with the next document.
#[must_use]
pub fn read_documents<'t>(text: &'t str, report: &'t Report) -> Documents<'t> {
    let too_long = text.len() > MAX_TEXT_BYTES;
    if too_long {
        let message = format!("the file has more than {MAX_TEXT_BYTES} bytes");
        report.mistake(Position { line: 1, column: 1 }, message);
    }
    Documents {
        parser: (!too_long).then(|| parser(text)),
        text,
        first_line: 1,
        document_line: 1,
        report,
        strings: Strings::default(),
        open: Vec::new(),
        root: None,
    }
}

/// Strict, and without comments, which another crate may have asked for.
fn parser(text: &str) -> Parser<'_, StrInput<'_>> {
    let mut options = Options::default();
    options.strict_indentation = true;
    options.emit_unresolved_aliases = true;
    options.emit_anchor_events = true;
    options.set_emit_comments(false);
    // The parser is ahead of what it shows, by fewer levels than this; what is too deep is told here.
    options.flow_nesting_limit = options.simple_key_max_lookahead.saturating_mul(2);
    options.block_nesting_limit = options.flow_nesting_limit;
    Parser::new_from_str_with_options(text, options)
}

/// The documents of a text; see [`read_documents`].
pub struct Documents<'t> {
    /// `None` when all is read.
    parser: Option<Parser<'t, StrInput<'t>>>,
    /// What the parser was given: from the start of some document on.
    text: &'t str,
    /// The line of the file at which `text` starts.
    first_line: usize,
    /// The line of the file at which the document at hand starts.
    document_line: usize,
    report: &'t Report,
    strings: Strings,
    open: Vec<Open>,
    /// The document at hand, when it is complete.
    root: Option<Node>,
}

/// A list or mapping whose end was not yet seen.
enum Open {
    List {
        position: Position,
        items: Vec<Node>,
    },
    Mapping {
        position: Position,
        entries: Vec<Entry>,
        key: Key,
    },
}

/// What a mapping knows of its next entry.
enum Key {
    Awaited,
    Read(Rc<str>, Position),
    /// The key is wrong, which is reported; its value is to be dropped.
    Wrong,
}

struct TooDeep;

impl Iterator for Documents<'_> {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        loop {
            if self.report.is_full() {
                self.parser = None;
            }
            match self.parser.as_mut()?.next_event() {
                None | Some(Ok((Event::StreamEnd, _))) => self.parser = None,
                Some(Ok((Event::DocumentEnd, _))) => {}
                Some(Ok((event, span))) => {
                    if self.accept(event, span).is_ok() {
                        continue;
                    }
                    self.resume();
                }
                Some(Err(error)) => {
                    let message = format!("this is not YAML: {}", error.info());
                    let at = self.locate(error.marker());
                    self.report.mistake(at, message);
                    self.resume();
                }
            }
            if let Some(root) = self.root.take() {
                return Some(root);
            }
        }
    }
}

impl Documents<'_> {
    /// Starts anew at the document after the one at hand. A line that starts with `---` is the start of a document
    /// wherever it stands: no scalar may have one (YAML 1.2 §9.1.2, `c-forbidden`).
    fn resume(&mut self) {
        self.open.clear();
        let passed = self.document_line.saturating_sub(self.first_line);
        let next = next_document(self.text, passed);
        self.parser = next.map(|(start, lines)| {
            self.text = self.text.get(start..).unwrap_or_default();
            self.first_line = self.first_line.saturating_add(lines);
            self.document_line = self.first_line;
            parser(self.text)
        });
    }

    fn locate(&self, marker: &Marker) -> Position {
        Position {
            line: marker
                .line()
                .saturating_add(self.first_line)
                .saturating_sub(1),
            column: marker.col().saturating_add(1),
        }
    }

    fn accept(&mut self, event: Event<'_>, span: Span) -> Result<(), TooDeep> {
        let at = self.locate(&span.start);
        match event {
            Event::Scalar(text, style, _, tag) => {
                self.refuse_tag(at, tag.is_some());
                let content = scalar(&text, style).unwrap_or_else(|| self.strings.content(&text));
                self.place(Node::new(at, content));
            }
            Event::SequenceStart(_, _, tag) => {
                self.refuse_tag(at, tag.is_some());
                self.descend(
                    at,
                    Open::List {
                        position: at,
                        items: Vec::new(),
                    },
                )?;
            }
            Event::MappingStart(_, _, tag) => {
                self.refuse_tag(at, tag.is_some());
                let entries = Vec::new();
                self.descend(
                    at,
                    Open::Mapping {
                        position: at,
                        entries,
                        key: Key::Awaited,
                    },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { position, items }) => {
                    self.place(Node::new(position, Content::List(items.into())));
                }
                Some(Open::Mapping {
                    position,
                    mut entries,
                    ..
                }) => {
                    self.refuse_duplicates(&mut entries);
                    self.place(Node::new(position, Content::Mapping(entries.into())));
                }
                None => {}
            },
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let message = "YAML aliases (`*name`) are not supported: write the value out";
                self.report.mistake(at, message);
                self.place(Node::new(at, Content::Null));
            }
            Event::DocumentStart(..) => self.document_line = at.line.max(self.document_line),
            Event::Anchor(..) => {
                let message = "YAML anchors (`&name`) are not supported: write the value out";
                self.report.mistake(at, message);
            }
            // Comments, and where the stream and documents begin and end.
            _ => {}
        }
        Ok(())
    }

    fn refuse_tag(&self, at: Position, tagged: bool) {
        if tagged {
            let message = "YAML tags (`!name`) are not supported: put strings in quotes";
            self.report.mistake(at, message);
        }
    }

    /// YAML 1.2 §3.2.1.1: keys are unique. Of two, readers disagree on which counts.
    fn refuse_duplicates(&self, entries: &mut Vec<Entry>) {
        if are_few_and_unique(entries) {
            return;
        }
        let mut first = HashMap::with_capacity(entries.len());
        entries.retain(|entry| match first.entry(Rc::clone(&entry.key)) {
            hash_map::Entry::Vacant(slot) => {
                slot.insert(entry.key_position().line);
                true
            }
            hash_map::Entry::Occupied(slot) => {
                let message = format!(
                    "the key {} is given twice, first on line {}",
                    quoted(&entry.key),
                    slot.get()
                );
                self.report.mistake(entry.key_position(), message);
                false
            }
        });
    }

    fn descend(&mut self, at: Position, open: Open) -> Result<(), TooDeep> {
        if self.open.len() >= MAX_DEPTH {
            self.report.mistake(
                at,
                format!("lists and mappings are nested deeper than {MAX_DEPTH} levels"),
            );
            return Err(TooDeep);
        }
        self.open.push(open);
        Ok(())
    }

    /// Puts a complete node where it belongs: it is an item, a key, a value, or a whole document.
    fn place(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            if !matches!(node.content, Content::Null) {
                self.root = Some(node);
            }
            return;
        };
        match open {
            Open::List { items, .. } => items.push(node),
            Open::Mapping { entries, key, .. } => match std::mem::replace(key, Key::Awaited) {
                Key::Read(key, at) => entries.push(Entry::new(key, at, node)),
                Key::Wrong => {}
                Key::Awaited => {
                    let at = node.position();
                    *key = match node.content {
                        Content::String(text) => Key::Read(text, at),
                        // Ports are keys in places; Kubernetes takes the number for its text, too.
                        Content::Integer(number) => Key::Read(number.get().to_string().into(), at),
                        other => {
                            let message = format!("expected a string as key, got {other}");
                            self.report.mistake(at, message);
                            Key::Wrong
                        }
                    };
                }
            },
        }
    }
}

/// Whether it costs less to compare all keys than to hash them, and they differ.
fn are_few_and_unique(entries: &[Entry]) -> bool {
    entries.len() <= 16
        && entries.iter().enumerate().all(|(at, entry)| {
            let mut before = entries.iter().take(at);
            before.all(|other| other.key != entry.key)
        })
}

/// Where the first document starts after `passed` lines and one more: the byte, and how many lines are before it.
fn next_document(text: &str, passed: usize) -> Option<(usize, usize)> {
    let mut rest = text;
    let mut lines = 0_usize;
    loop {
        // YAML 1.2 §5.4: a line ends with LF, CR LF or CR.
        let end = rest.find(['\n', '\r'])?;
        let (_, after) = rest.split_at_checked(end)?;
        rest = after
            .strip_prefix("\r\n")
            .or_else(|| after.strip_prefix(['\n', '\r']))?;
        lines = lines.saturating_add(1);
        let starts = rest
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']));
        if starts && lines > passed {
            return Some((text.len().saturating_sub(rest.len()), lines));
        }
    }
}

/// The strings of a text, each kept once: keys and words come again and again.
#[derive(Default)]
struct Strings {
    known: HashSet<Rc<str>, foldhash::fast::RandomState>,
}

/// Longer ones hardly come twice.
const SHARED_BYTES: usize = 40;

impl Strings {
    fn content(&mut self, text: &str) -> Content {
        Content::String(self.share(text))
    }

    fn share(&mut self, text: &str) -> Rc<str> {
        if text.len() > SHARED_BYTES {
            return text.into();
        }
        if let Some(known) = self.known.get(text) {
            return Rc::clone(known);
        }
        let new: Rc<str> = text.into();
        self.known.insert(Rc::clone(&new));
        new
    }
}

/// The core schema of YAML 1.2 (§10.3.2), less octal and hexadecimal numbers, which stay strings. `None` is a string.
fn scalar(text: &str, style: ScalarStyle) -> Option<Content> {
    if style != ScalarStyle::Plain {
        return None;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Content::Null),
        "true" | "True" | "TRUE" => return Some(Content::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Content::Bool(false)),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return None;
    }
    if let Ok(integer) = text.parse::<i128>() {
        return Some(Content::Integer(integer.into()));
    }
    let float_like = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(float) if float_like && float.is_finite() => Some(Content::Float(float)),
        _ => None,
    }
}

/// Whether a text without quotes is a string.
#[cfg(feature = "tools")]
pub(crate) fn is_string(plain: &str) -> bool {
    scalar(plain, ScalarStyle::Plain).is_none()
}
