//! Reading a tree of nodes into types, noting every mistake.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::node::{Content, Entry, Node, Position, quoted};
use super::suggest::did_you_mean;
use super::{Diagnostic, Diagnostics, units};
use crate::text::Text;

/// How many mistakes of one file are collected: more than anybody reads. A hostile file could have one every other byte.
const MOST_COLLECTED: usize = 10_000;

/// Collects the mistakes of one file.
#[derive(Debug)]
pub struct Report {
    file: Text,
    found: RefCell<Vec<Diagnostic>>,
}

impl Report {
    /// A report of no mistake yet. `file` is the name that mistakes are reported under.
    #[must_use]
    pub fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            found: RefCell::new(Vec::new()),
        }
    }

    /// The name that mistakes are reported under.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A node to be read, whose mistakes go to this report.
    #[must_use]
    pub fn value<'a>(&'a self, node: &'a Node) -> Value<'a> {
        Value { node, report: self }
    }

    /// Notes a mistake. Of a file with more than 10,000 the rest is not told.
    pub fn mistake(&self, at: Position, message: impl Into<String>) {
        let mut found = self.found.borrow_mut();
        let message = match found.len() {
            ..MOST_COLLECTED => message.into(),
            MOST_COLLECTED => {
                format!("the file has more than {MOST_COLLECTED} mistakes: the rest is not told")
            }
            _ => return,
        };
        found.push(Diagnostic {
            file: self.file.as_str().to_owned(),
            line: at.line,
            column: at.column,
            message,
        });
    }

    /// Whether no more mistakes are told: then there is no use in reading on.
    pub(super) fn is_full(&self) -> bool {
        self.found.borrow().len() > MOST_COLLECTED
    }

    /// Whether there is no mistake so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The mistakes so far.
    #[must_use]
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    pub(super) fn finish<T>(self, built: Option<T>) -> Result<T, Diagnostics> {
        let found = self.found.into_inner();
        match built {
            Some(built) if found.is_empty() => Ok(built),
            _ if !found.is_empty() => Err(Diagnostics::new(found)),
            // The reader broke its promise to say why; better vague than silent.
            _ => Err(Diagnostics::new(vec![Diagnostic {
                file: self.file.into(),
                line: 0,
                column: 0,
                message: "the file could not be read".to_owned(),
            }])),
        }
    }
}

/// A node that is being read. Every method that returns `None` has reported why.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    node: &'a Node,
    report: &'a Report,
}

impl<'a> Value<'a> {
    /// Where the value starts.
    #[must_use]
    pub fn position(&self) -> Position {
        self.node.position()
    }

    /// The name of the file, as mistakes are reported under.
    #[must_use]
    pub fn file(&self) -> &'a str {
        self.report.file()
    }

    /// [`file`](Self::file), to be kept.
    #[must_use]
    pub fn file_name(&self) -> Text {
        self.report.file.clone()
    }

    /// Notes a mistake at this value.
    pub fn note(&self, message: impl Into<String>) {
        self.report.mistake(self.node.position(), message);
    }

    /// Notes a mistake at this value, and returns `None`, so that a reader can end with it.
    pub fn mistake<T>(&self, message: impl Into<String>) -> Option<T> {
        self.note(message);
        None
    }

    /// Notes `expected …, got …`. Returns `None`.
    pub fn expected<T>(&self, what: &str) -> Option<T> {
        self.mistake(format!("expected {what}, got {}", self.node.content))
    }

    /// A string that is not empty. A plain number or boolean is none: it has to be quoted.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match &self.node.content {
            Content::String(text) if text.is_empty() => {
                self.mistake("expected a string, got an empty one")
            }
            Content::String(text) => Some(text),
            Content::Bool(_) | Content::Integer(_) | Content::Float(_) => self.mistake(format!(
                "expected a string, got {}: put it in quotes",
                self.node.content
            )),
            _ => self.expected("a string"),
        }
    }

    /// [`text`](Self::text), owned.
    #[must_use]
    pub fn string(self) -> Option<String> {
        self.text().map(str::to_owned)
    }

    /// A string that may be empty.
    #[must_use]
    pub fn string_or_empty(self) -> Option<String> {
        match &self.node.content {
            Content::String(text) if text.is_empty() => Some(String::new()),
            _ => self.string(),
        }
    }

    /// A string that is the text form of a `T`; `what` says what is expected, with an example.
    #[must_use]
    pub fn parsed<T: FromStr<Err: Display>>(self, what: &str) -> Option<T> {
        let Content::String(text) = &self.node.content else {
            return self.expected(what);
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => self.mistake(format!("expected {what}, got {}: {error}", quoted(text))),
        }
    }

    /// `true` or `false`.
    #[must_use]
    pub fn bool(self) -> Option<bool> {
        match self.node.content {
            Content::Bool(value) => Some(value),
            _ => self.expected("true or false"),
        }
    }

    /// A whole number in a range.
    #[must_use]
    pub fn integer<T>(self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        if let Content::Integer(number) = self.node.content
            && let Ok(number) = T::try_from(number.get())
            && range.contains(&number)
        {
            return Some(number);
        }
        self.expected(&format!(
            "a whole number from {} to {}",
            range.start(),
            range.end()
        ))
    }

    /// A TCP port that can be connected to: 1 to 65535.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        match self.node.content {
            Content::Integer(number) if let 1..=65535 = number.get() => {
                u16::try_from(number.get()).ok()
            }
            _ => self.expected("a port from 1 to 65535"),
        }
    }

    /// A duration: a whole number with `ms`, `s`, `m` or `h`.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match &self.node.content {
            Content::String(text) if let Some(value) = units::duration(text) => Some(value),
            _ => self.expected(units::DURATION),
        }
    }

    /// A number of bytes: a whole number, plain or with `KiB`, `MiB` or `GiB`.
    #[must_use]
    pub fn size(self) -> Option<u64> {
        match &self.node.content {
            Content::String(text) if let Some(value) = units::size(text) => Some(value),
            Content::Integer(number) if let Ok(value) = u64::try_from(number.get()) => Some(value),
            _ => self.expected(units::SIZE),
        }
    }

    /// One of several words.
    #[must_use]
    pub fn choice<T: Clone>(self, choices: &[(&str, T)]) -> Option<T> {
        let names = choices.iter().map(|(name, _)| *name);
        let Content::String(text) = &self.node.content else {
            return self.expected(&names.collect::<Vec<_>>().join(" or "));
        };
        match choices.iter().find(|(name, _)| **name == **text) {
            Some((_, value)) => Some(value.clone()),
            None => self.mistake(format!(
                "unknown word {}, {}",
                quoted(text),
                did_you_mean(text, names)
            )),
        }
    }

    /// A list; `of` names its items in the plural. `None` if any item is wrong, after all were read.
    #[must_use]
    pub fn list<T>(self, of: &str, mut read: impl FnMut(Self) -> Option<T>) -> Option<Vec<T>> {
        let Content::List(items) = &self.node.content else {
            return self.expected(&format!("a list of {of}"));
        };
        all_of(items, |item| read(self.report.value(item)))
    }

    /// A list of at least one item: where an empty one would say something that nobody means.
    #[must_use]
    pub fn non_empty_list<T>(
        self,
        of: &str,
        read: impl FnMut(Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        match &self.node.content {
            Content::List(items) if items.is_empty() => self.mistake(format!(
                "expected at least one of the {of}, got an empty list: leave the field out or fill it"
            )),
            _ => self.list(of, read),
        }
    }

    /// A list of strings, none of them empty.
    #[must_use]
    pub fn strings(self) -> Option<Vec<String>> {
        self.list("strings", Self::string)
    }

    /// A mapping with fields that are known. What `read` did not ask for is reported as unknown:
    /// so first ask for every field, and only then give up (`?`) on those that are wrong.
    #[must_use]
    pub fn mapping<T>(self, read: impl FnOnce(&mut Fields<'a>) -> Option<T>) -> Option<T> {
        let Content::Mapping(entries) = &self.node.content else {
            return self.expected("a mapping");
        };
        let mut fields = Fields {
            value: self,
            entries,
            known: Vec::new(),
        };
        let result = read(&mut fields);
        let all_known = fields.report_unknown();
        result.filter(|_| all_known)
    }

    /// A mapping with keys of the user's choice, in the order of the text; `of` names its values in
    /// the plural. `None` if any value is wrong, after all were read.
    #[must_use]
    pub fn entries<T>(
        self,
        of: &str,
        mut read: impl FnMut(&'a str, Self) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        let Content::Mapping(entries) = &self.node.content else {
            return self.expected(&format!("a mapping of names to {of}"));
        };
        all_of(entries, |entry| {
            let value = read(&entry.key, self.report.value(&entry.value))?;
            Some((entry.key.as_ref().to_owned(), value))
        })
    }

    /// The value as JSON, whatever it is.
    #[must_use]
    pub fn json(self) -> Option<serde_json::Value> {
        json(self.node).or_else(|| self.expected("something that JSON can express"))
    }

    /// Whether the value is a list: for fields that take one value or several.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.node.content, Content::List(_))
    }

    /// Whether the value is a string.
    #[must_use]
    pub fn is_string(&self) -> bool {
        matches!(self.node.content, Content::String(_))
    }

    /// Whether the value is a mapping.
    #[must_use]
    pub fn is_mapping(&self) -> bool {
        matches!(self.node.content, Content::Mapping(_))
    }

    /// Shows the items of the list under `key`, if there is one, without any report.
    pub fn list_in(&self, key: &str, mut visit: impl FnMut(Self)) {
        if let Content::Mapping(entries) = &self.node.content
            && let Some(entry) = find(entries, key)
            && let Content::List(items) = &entry.value.content
        {
            items.iter().for_each(|item| visit(self.report.value(item)));
        }
    }

    /// The string under `key`, without any report: to find out what a document is before it is read.
    #[must_use]
    pub fn peek(&self, key: &str) -> Option<&'a str> {
        let Content::Mapping(entries) = &self.node.content else {
            return None;
        };
        match &find(entries, key)?.value.content {
            Content::String(text) => Some(text),
            _ => None,
        }
    }
}

/// What `read` makes of the items, in no more space than it needs. `None` if any is wrong, after all were read.
fn all_of<'a, I, T>(items: &'a [I], mut read: impl FnMut(&'a I) -> Option<T>) -> Option<Vec<T>> {
    // Little is promised to a list that may turn out to be no good.
    let mut all = Some(Vec::with_capacity(items.len().min(16)));
    for item in items {
        match (read(item), &mut all) {
            (Some(value), Some(all)) => all.push(value),
            (Some(_), None) => {}
            (None, _) => all = None,
        }
    }
    if let Some(all) = &mut all {
        all.shrink_to_fit();
    }
    all
}

fn find<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| *entry.key == *key)
}

/// Depth is bounded by [`MAX_DEPTH`](super::MAX_DEPTH).
fn json(node: &Node) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    Some(match &node.content {
        Content::Null => Json::Null,
        Content::Bool(value) => Json::Bool(*value),
        Content::Integer(number) => match i64::try_from(number.get()) {
            Ok(number) => number.into(),
            Err(_) => u64::try_from(number.get()).ok()?.into(),
        },
        Content::Float(number) => Json::Number(serde_json::Number::from_f64(*number)?),
        Content::String(text) => Json::String(text.as_ref().to_owned()),
        Content::List(items) => Json::Array(items.iter().map(json).collect::<Option<_>>()?),
        Content::Mapping(entries) => Json::Object(
            entries
                .iter()
                .map(|entry| Some((entry.key.as_ref().to_owned(), json(&entry.value)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// The fields of a mapping that is being read.
#[derive(Debug)]
pub struct Fields<'a> {
    value: Value<'a>,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Where the mapping starts.
    #[must_use]
    pub fn position(&self) -> Position {
        self.value.position()
    }

    /// The mapping itself, for mistakes that are not one field's.
    #[must_use]
    pub fn value(&self) -> Value<'a> {
        self.value
    }

    /// Whether the field is given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        find(self.entries, name).is_some()
    }

    /// A field that must be given.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.optional(name, read)? {
            Some(value) => Some(value),
            None => self.value.mistake(format!("missing field `{name}`")),
        }
    }

    /// A field that may be left out: then the result is `Some(None)`. `None` means that it is given,
    /// and wrong.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.known.push(name);
        let Some(entry) = find(self.entries, name) else {
            return Some(None);
        };
        if matches!(entry.value.content, Content::Null) {
            self.value.report.mistake(
                entry.key_position(),
                format!("the field `{name}` has no value: give it one or leave it out"),
            );
            return None;
        }
        read(self.value.report.value(&entry.value)).map(Some)
    }

    /// A field that may be left out, with the value that it has then.
    pub fn default<T>(
        &mut self,
        name: &'static str,
        default: T,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<T> {
        Some(self.optional(name, read)?.unwrap_or(default))
    }

    /// A field of a format in which a field without a value is one that is left out.
    pub fn nullable<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match find(self.entries, name) {
            Some(entry) if matches!(entry.value.content, Content::Null) => {
                self.known.push(name);
                Some(None)
            }
            _ => self.optional(name, read),
        }
    }

    /// Fields that may be given and say nothing to the reader, whatever is in them.
    pub fn ignored(&mut self, names: &[&'static str]) {
        let entries = self.entries;
        let given = |name: &&&'static str| find(entries, name).is_some();
        self.known.extend(names.iter().filter(given));
    }

    /// A field whose name is known and whose use is a mistake, such as one of a later version.
    /// Returns `None` if it is given.
    pub fn refused(&mut self, name: &'static str, why: &str) -> Option<()> {
        match find(self.entries, name) {
            None => Some(()),
            Some(entry) => {
                // Known, but nothing to suggest to who misspells another field.
                self.known.push(name);
                self.value
                    .report
                    .mistake(entry.key_position(), format!("the field `{name}` {why}"));
                None
            }
        }
    }

    fn report_unknown(&self) -> bool {
        let is_known = |entry: &&Entry| self.known.contains(&&*entry.key);
        let mut unknown = self
            .entries
            .iter()
            .filter(|entry| !is_known(entry))
            .peekable();
        if unknown.peek().is_none() {
            return true;
        }
        let free: Vec<&str> = self
            .known
            .iter()
            .copied()
            .filter(|name| !self.has(name))
            .collect();
        for entry in unknown {
            let help = did_you_mean(&entry.key, free.iter().copied());
            let name = quoted(&entry.key);
            let name = name.trim_matches('"');
            self.value.report.mistake(
                entry.key_position(),
                format!("unknown field `{name}`, {help}"),
            );
        }
        false
    }
}
