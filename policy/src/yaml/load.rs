//! From text to trees: the events of the YAML parser, put together without recursion and within limits.

use std::collections::{HashMap, hash_map};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::Diagnostic;
use super::node::{Content, Entry, Node, Position, quoted};

/// The longest text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 << 20;
/// How deep lists and mappings may be nested.
pub const MAX_DEPTH: usize = 64;

/// Reads all documents of a text. Documents with nothing in them (a trailing `---`) are left out.
///
/// Mistakes are added to `diagnostics`; if one was, the documents that come back may be incomplete.
pub fn read_documents(file: &str, text: &str, diagnostics: &mut Vec<Diagnostic>) -> Vec<Node> {
    let mut loader = Loader {
        file,
        diagnostics,
        open: Vec::new(),
        documents: Vec::new(),
    };
    if text.len() > MAX_TEXT_BYTES {
        let message = format!("the file has more than {MAX_TEXT_BYTES} bytes");
        loader.mistake(Position { line: 1, column: 1 }, message);
        return Vec::new();
    }
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, span)) => {
                // Too deep: what follows could only repeat it.
                if loader.take(event, span).is_err() {
                    break;
                }
            }
            Err(error) => {
                let message = format!("this is not YAML: {}", error.info());
                loader.mistake(position(error.marker()), message);
                break;
            }
        }
    }
    loader.documents
}

fn position(marker: &Marker) -> Position {
    Position {
        line: marker.line(),
        column: marker.col().saturating_add(1),
    }
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
    Read(String, Position),
    /// The key is wrong, which is reported; its value is to be dropped.
    Wrong,
}

struct TooDeep;

struct Loader<'a> {
    file: &'a str,
    diagnostics: &'a mut Vec<Diagnostic>,
    open: Vec<Open>,
    documents: Vec<Node>,
}

impl Loader<'_> {
    fn mistake(&mut self, position: Position, message: String) {
        self.diagnostics.push(Diagnostic {
            file: self.file.to_owned(),
            line: position.line,
            column: position.column,
            message,
        });
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), TooDeep> {
        let at = position(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                let content = scalar(&text, style);
                self.place(Node {
                    position: at,
                    content,
                });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
                self.descend(
                    at,
                    Open::List {
                        position: at,
                        items: Vec::new(),
                    },
                )?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(at, anchor, tag.is_some());
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
                    self.place(Node {
                        position,
                        content: Content::List(items),
                    });
                }
                Some(Open::Mapping {
                    position,
                    mut entries,
                    ..
                }) => {
                    self.refuse_duplicates(&mut entries);
                    self.place(Node {
                        position,
                        content: Content::Mapping(entries),
                    });
                }
                None => {}
            },
            Event::Alias(_) => {
                let message = "YAML aliases (`*name`) are not supported: write the value out";
                self.mistake(at, message.to_owned());
                self.place(Node {
                    position: at,
                    content: Content::Null,
                });
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn refuse_extras(&mut self, at: Position, anchor: usize, tagged: bool) {
        if anchor != 0 {
            let message = "YAML anchors (`&name`) are not supported: write the value out";
            self.mistake(at, message.to_owned());
        }
        if tagged {
            let message = "YAML tags (`!name`) are not supported: put strings in quotes";
            self.mistake(at, message.to_owned());
        }
    }

    /// YAML 1.2 §3.2.1.1: keys are unique. Of two, readers disagree on which counts.
    fn refuse_duplicates(&mut self, entries: &mut Vec<Entry>) {
        let mut first = HashMap::with_capacity(entries.len());
        let mut repeated = Vec::new();
        entries.retain(|entry| match first.entry(entry.key.clone()) {
            hash_map::Entry::Vacant(slot) => {
                slot.insert(entry.key_position.line);
                true
            }
            hash_map::Entry::Occupied(slot) => {
                let message = format!(
                    "the key {} is given twice, first on line {}",
                    quoted(&entry.key),
                    slot.get()
                );
                repeated.push((entry.key_position, message));
                false
            }
        });
        for (at, message) in repeated {
            self.mistake(at, message);
        }
    }

    fn descend(&mut self, at: Position, open: Open) -> Result<(), TooDeep> {
        if self.open.len() >= MAX_DEPTH {
            self.mistake(
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
                self.documents.push(node);
            }
            return;
        };
        match open {
            Open::List { items, .. } => items.push(node),
            Open::Mapping { entries, key, .. } => match std::mem::replace(key, Key::Awaited) {
                Key::Read(key, key_position) => {
                    entries.push(Entry {
                        key,
                        key_position,
                        value: node,
                    });
                }
                Key::Wrong => {}
                Key::Awaited => {
                    let at = node.position;
                    let (next, mistake) = match node.content {
                        Content::String(text) => (Key::Read(text, at), None),
                        other => {
                            let message = format!("expected a string as key, got {other}");
                            (Key::Wrong, Some(message))
                        }
                    };
                    *key = next;
                    if let Some(message) = mistake {
                        self.mistake(at, message);
                    }
                }
            },
        }
    }
}

/// The core schema of YAML 1.2 (§10.3.2), less octal and hexadecimal numbers, which stay strings.
fn scalar(text: &str, style: ScalarStyle) -> Content {
    if style != ScalarStyle::Plain {
        return Content::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Content::Null,
        "true" | "True" | "TRUE" => return Content::Bool(true),
        "false" | "False" | "FALSE" => return Content::Bool(false),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Content::String(text.to_owned());
    }
    if let Ok(integer) = text.parse() {
        return Content::Integer(integer);
    }
    let float_like = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(float) if float_like && float.is_finite() => Content::Float(float),
        _ => Content::String(text.to_owned()),
    }
}
