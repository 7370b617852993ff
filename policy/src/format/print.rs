//! From trees to text.
//!
//! Documents, rules, tests and their named calls are blocks; what fits on a line is written on one, but for alternatives:
//! a list of several mappings has a line for each. Comments keep what they stand in from being written on one line.

use super::arrange::arranged;
use super::scalar::{self, Place};
use super::source::Chunk;
use super::tree::{Child, Collection, Comment, Content, Kind, Node};

/// The longest line that is made of more than one value.
const WIDTH: usize = 120;
const STEP: usize = 2;

/// Prints a document and the comments before it.
pub(super) fn document(chunk: &Chunk, out: &mut String) {
    let mut printer = Printer {
        out,
        dashes: 0,
        gap: false,
        at_start: true,
    };
    printer.comments(&chunk.above, 0);
    if let Some(root) = &chunk.root {
        let root = arranged(root);
        if let Some(collection) = root.collection() {
            printer.collection(collection, Role::Document, 0, false);
        }
    }
}

/// What a collection is in its document, as far as its layout depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Document,
    Spec,
    /// Rules of a policy, or tests.
    Rules,
    Rule,
    /// Calls by their names.
    Calls,
    Call,
    Other,
}

impl Role {
    fn of_child(self, child: &Child) -> Self {
        match (self, child.name()) {
            (Self::Document, Some("spec")) => Self::Spec,
            (Self::Spec, Some("rules" | "tests")) => Self::Rules,
            (Self::Rules, None) => Self::Rule,
            (Self::Spec, Some("calls")) => Self::Calls,
            (Self::Calls, Some(_)) => Self::Call,
            _ => Self::Other,
        }
    }
}

struct Printer<'o> {
    out: &'o mut String,
    /// Dashes that the next line begins with.
    dashes: usize,
    /// Whether an empty line is due before the next one.
    gap: bool,
    at_start: bool,
}

impl Printer<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        let gap = std::mem::take(&mut self.gap);
        if gap && !std::mem::take(&mut self.at_start) {
            self.out.push('\n');
        }
        self.at_start = false;
        if !text.is_empty() {
            let dashes = std::mem::take(&mut self.dashes);
            let spaces = indent.saturating_sub(dashes.saturating_mul(STEP));
            self.out.extend(std::iter::repeat_n(" ", spaces));
            self.out.extend(std::iter::repeat_n("- ", dashes));
            self.out.push_str(text);
        }
        self.out.push('\n');
    }

    fn comments(&mut self, comments: &[Comment], indent: usize) {
        for comment in comments {
            self.gap |= comment.gap_before;
            self.line(indent, &comment.text);
            self.gap = comment.gap_behind;
        }
    }

    /// A block. `followed`: the next line behind it is no deeper than its own.
    fn collection(&mut self, collection: &Collection, role: Role, indent: usize, followed: bool) {
        let count = collection.children.len();
        for (child, number) in collection.children.iter().zip(1..) {
            let apart =
                role == Role::Rules || (role == Role::Spec && child.name() == Some("tests"));
            self.gap |= apart && number > 1;
            self.comments(&child.above, indent);
            match &child.key {
                Some(key) => {
                    let key = scalar::inline(&key.scalar, Place::Block);
                    self.entry(&key, child, role.of_child(child), indent, number < count);
                }
                None => self.item(child, role.of_child(child), indent),
            }
        }
        // At the depth of its items a comment would lead what follows.
        let deeper = collection.kind == Kind::List && followed;
        let below = if deeper {
            indent.saturating_add(STEP)
        } else {
            indent
        };
        self.comments(&collection.below, below);
    }

    fn entry(&mut self, key: &str, child: &Child, role: Role, indent: usize, followed: bool) {
        let note = note(child);
        if let Some(text) = on_the_line(
            &child.value,
            role,
            indent,
            key.chars().count().saturating_add(2),
        ) {
            return self.line(indent, &format!("{key}: {text}{note}"));
        }
        let deeper = indent.saturating_add(STEP);
        match &child.value.content {
            Content::Scalar(scalar) => {
                if let Some((header, lines)) = scalar::block(scalar) {
                    self.line(indent, &format!("{key}: {header}{note}"));
                    for line in lines {
                        self.line(deeper, &line);
                    }
                }
            }
            Content::Collection(inner) => {
                self.line(indent, &format!("{key}:{note}"));
                // A list's dashes stand below the key itself.
                let indent = if inner.kind == Kind::List {
                    indent
                } else {
                    deeper
                };
                self.collection(inner, role, indent, followed);
            }
        }
    }

    fn item(&mut self, child: &Child, role: Role, indent: usize) {
        if let Some(text) = on_the_line(&child.value, role, indent, STEP) {
            return self.line(indent, &format!("- {text}{}", note(child)));
        }
        if let Some(note) = child.head.first() {
            self.line(indent, note);
        }
        if let Some(inner) = child.value.collection() {
            self.dashes = self.dashes.saturating_add(1);
            self.collection(inner, role, indent.saturating_add(STEP), false);
        }
    }
}

/// The comment at the end of the line. Two spaces keep it apart, as linters of YAML ask for.
fn note(child: &Child) -> String {
    child
        .head
        .first()
        .map(|text| format!("  {text}"))
        .unwrap_or_default()
}

/// The value behind `before` characters of the line, if it stands there and not in lines of its own.
fn on_the_line(value: &Node, role: Role, indent: usize, before: usize) -> Option<String> {
    match &value.content {
        Content::Scalar(scalar) if scalar::block(scalar).is_some() && before > STEP => None,
        Content::Scalar(scalar) => Some(scalar::inline(scalar, Place::Block)),
        Content::Collection(collection) => {
            let empty = collection.children.is_empty();
            if !empty && (role != Role::Other || has_alternatives(collection)) {
                return None;
            }
            let text = flow(value)?;
            let width = indent
                .saturating_add(before)
                .saturating_add(text.chars().count());
            (empty || width <= WIDTH).then_some(text)
        }
    }
}

fn has_alternatives(collection: &Collection) -> bool {
    let is_mapping = |child: &Child| {
        child
            .value
            .collection()
            .is_some_and(|inner| inner.kind == Kind::Mapping)
    };
    collection.kind == Kind::List
        && collection.children.len() > 1
        && collection.children.iter().any(is_mapping)
}

/// The value in brackets, if no comment and no block of lines is in it.
fn flow(value: &Node) -> Option<String> {
    if value.has_comment_within() || value.is_block_scalar() {
        return None;
    }
    let collection = match &value.content {
        Content::Scalar(scalar) => return Some(scalar::inline(scalar, Place::Flow)),
        Content::Collection(collection) => collection,
    };
    let children: Option<Vec<String>> = collection
        .children
        .iter()
        .map(|child| {
            let value = flow(&child.value)?;
            Some(match &child.key {
                Some(key) => format!("{}: {value}", scalar::inline(&key.scalar, Place::Flow)),
                None => value,
            })
        })
        .collect();
    let children = children?.join(", ");
    Some(match collection.kind {
        Kind::List => format!("[{children}]"),
        Kind::Mapping => format!("{{{children}}}"),
    })
}
