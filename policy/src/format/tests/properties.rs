//! Documents are written in many ways, and laid out in one.

use std::fmt;

use proptest::prelude::*;

use super::super::format;
use crate::document::parse;

/// What a document says, before it is written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Mapping(Vec<(&'static str, Value)>),
    List(Vec<Value>),
    String(String),
    Number(u32),
}

impl Value {
    /// The text by which a test finds it again, if there is only one like it.
    fn mark(&self) -> Option<String> {
        match self {
            Self::String(text) => {
                let line = text.split(" &&").next().unwrap();
                line.contains(|c: char| c.is_ascii_digit())
                    .then(|| line.to_owned())
            }
            Self::Number(number) => Some(number.to_string()),
            Self::Mapping(_) | Self::List(_) => None,
        }
    }
}

/// Writes documents in whatever way the choices say.
pub(super) struct Writer {
    choices: Vec<u8>,
    used: usize,
    pub(super) out: String,
    /// Comments, each with how it stands to the text that has its mark.
    pub(super) comments: Vec<String>,
    unique: u32,
}

impl Writer {
    pub(super) fn new(choices: Vec<u8>) -> Self {
        Self {
            choices,
            used: 0,
            out: String::new(),
            comments: Vec::new(),
            unique: 1000,
        }
    }

    pub(super) fn choose(&mut self, of: usize) -> usize {
        self.used += 1;
        usize::from(self.choices[self.used % self.choices.len()]).wrapping_mul(self.used | 1) / 3
            % of
    }

    pub(super) fn unique(&mut self) -> u32 {
        self.unique += 1;
        self.unique
    }

    fn comment(&mut self, relation: &str, mark: &str) -> String {
        let number = self.comments.len();
        let text = format!("# {number} {relation} <{mark}>");
        self.comments.push(text.clone());
        text
    }

    fn policy(&mut self, name: String) -> Value {
        let string = |text: &str| Value::String(text.to_owned());
        let mut spec = vec![("mode", string("observe"))];
        if self.choose(2) == 0 {
            spec.push((
                "target",
                Value::Mapping(vec![(
                    "workloads",
                    Value::List(vec![Value::String(format!("w{}", self.unique()))]),
                )]),
            ));
        }
        let rules = (0..=self.choose(3)).map(|_| self.rule()).collect();
        spec.push(("rules", Value::List(rules)));
        Value::Mapping(vec![
            ("apiVersion", string("countersign.dev/v1")),
            ("kind", string("AccessPolicy")),
            (
                "metadata",
                Value::Mapping(vec![
                    ("name", Value::String(name)),
                    ("namespace", string("shop")),
                ]),
            ),
            ("spec", Value::Mapping(spec)),
        ])
    }

    fn rule(&mut self) -> Value {
        let name = format!("rule {}, it's: #{}", self.unique(), self.choose(9));
        let mut fields = vec![
            ("name", Value::String(name)),
            ("action", Value::String("deny".to_owned())),
        ];
        if self.choose(2) == 0 {
            let sources = (0..=self.choose(3)).map(|_| {
                let mut source = vec![(
                    "workload",
                    Value::String(format!("shop/w{}", self.unique())),
                )];
                if self.choose(2) == 0 {
                    source.push(("namespace", Value::String(format!("n{}", self.unique()))));
                }
                Value::Mapping(source)
            });
            fields.push(("from", Value::List(sources.collect())));
        }
        if self.choose(2) == 0 {
            let values = (0..=self.choose(2))
                .map(|_| Value::String(format!("{}", self.unique())))
                .collect();
            let claims = Value::Mapping(vec![
                ("workload", Value::List(values)),
                ("not", Value::Number(self.unique())),
            ]);
            fields.push((
                "subject",
                Value::Mapping(vec![
                    ("claims", claims),
                    ("audience", Value::String(format!("a: {}", self.unique()))),
                ]),
            ));
        }
        if self.choose(2) == 0 {
            let operations = (0..=self.choose(2)).map(|_| {
                let ports = (0..=self.choose(3))
                    .map(|_| Value::Number(self.unique()))
                    .collect();
                let paths = (0..=self.choose(4))
                    .map(|_| Value::String(format!("/a/{{id}}/{}", self.unique())))
                    .collect();
                Value::Mapping(vec![
                    ("paths", Value::List(paths)),
                    ("ports", Value::List(ports)),
                ])
            });
            fields.push(("to", Value::List(operations.collect())));
        }
        if self.choose(2) == 0 {
            fields.push((
                "when",
                Value::String(format!(
                    "destination.port > {} && request.method == 'A'",
                    self.unique()
                )),
            ));
        }
        Value::Mapping(fields)
    }

    fn string(&mut self, text: &str, in_flow: bool) -> String {
        let plain = !in_flow
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && !text.contains(": ")
            && !text.contains(" #");
        match self.choose(3) {
            0 if plain => text.to_owned(),
            1 => format!("'{}'", text.replace('\'', "''")),
            _ => format!("\"{text}\""),
        }
    }

    fn gap(&mut self) {
        if self.choose(5) == 0 {
            self.out.push('\n');
        }
    }

    pub(super) fn above(&mut self, mark: Option<String>, indent: usize) {
        if let Some(mark) = mark.filter(|_| self.choose(4) == 0) {
            self.gap();
            let text = self.comment("above", &mark);
            self.out += &format!("{}{text}\n", " ".repeat(indent));
            self.gap();
        }
    }

    /// Ends the line.
    fn beside(&mut self, mark: Option<String>) {
        if let Some(mark) = mark.filter(|_| self.choose(4) == 0) {
            let text = self.comment("beside", &mark);
            self.out += &format!(" {text}");
        }
        self.out.push('\n');
        self.gap();
    }

    /// The value behind `key:` or `-`, and the end of its line.
    fn value(&mut self, value: &Value, parent: usize, indent: usize, is_item: bool) {
        let flow = self.choose(3) == 0;
        match value {
            Value::String(text) if text.contains("&&") && !is_item && self.choose(2) == 0 => {
                let parts = text.replace(" && ", &format!("\n{}&& ", " ".repeat(indent + 1)));
                self.out += &format!(" >-\n{}{parts}\n", " ".repeat(indent + 1));
            }
            Value::String(text) => {
                let text = self.string(text, false);
                self.out += &format!(" {text}");
                self.beside(value.mark());
            }
            Value::Number(number) => {
                self.out += &format!(" {number}");
                self.beside(value.mark());
            }
            _ if flow => {
                self.out.push(' ');
                self.flow(value, parent + 1);
                self.out.push('\n');
            }
            Value::Mapping(entries) if is_item => self.mapping(entries, indent, true),
            Value::Mapping(entries) => {
                self.out.push('\n');
                self.mapping(entries, indent, false);
            }
            Value::List(items) => {
                self.out.push('\n');
                let indent = if is_item || self.choose(2) == 0 {
                    indent
                } else {
                    parent
                };
                for item in items {
                    let mark = match item {
                        Value::Mapping(fields)
                            if fields
                                .iter()
                                .any(|(name, _)| ["action", "expect"].contains(name)) =>
                        {
                            fields
                                .iter()
                                .find(|(name, _)| *name == "name")
                                .and_then(|(_, name)| name.mark())
                        }
                        other => other.mark(),
                    };
                    self.above(mark, indent);
                    self.out += &format!("{}-", " ".repeat(indent));
                    let inner = indent + 2 + self.choose(3);
                    self.value(item, indent, inner, true);
                }
            }
        }
    }

    pub(super) fn document(&mut self, document: &Value) {
        if let Value::Mapping(fields) = document {
            self.mapping(fields, 0, false);
        }
    }

    fn mapping(&mut self, entries: &[(&'static str, Value)], indent: usize, after_dash: bool) {
        let mut entries = entries.to_vec();
        let turn = self.choose(entries.len());
        entries.rotate_left(turn);
        let mut first = after_dash;
        for (key, value) in entries {
            if first {
                // `indent` was counted from the dash.
                let line = self.out.rsplit('\n').next().unwrap().len();
                self.out += &" ".repeat(indent - line);
            } else {
                self.above(value.mark(), indent);
                self.out += &" ".repeat(indent);
            }
            first = false;
            self.out += &format!("{key}:");
            let inner = indent + 1 + self.choose(4);
            self.value(&value, indent, inner, false);
        }
    }

    /// In brackets, on one line or on many.
    fn flow(&mut self, value: &Value, indent: usize) {
        let lines = self.choose(2) == 0;
        let (open, close, children): (_, _, Vec<(Option<&str>, &Value)>) = match value {
            Value::Mapping(entries) => (
                '{',
                '}',
                entries
                    .iter()
                    .map(|(key, value)| (Some(*key), value))
                    .collect(),
            ),
            Value::List(items) => ('[', ']', items.iter().map(|item| (None, item)).collect()),
            Value::String(text) => {
                let text = self.string(text, true);
                self.out += &text;
                return;
            }
            Value::Number(number) => {
                self.out += &number.to_string();
                return;
            }
        };
        self.out.push(open);
        for (key, child) in children {
            if lines {
                self.out.push('\n');
                self.above(child.mark(), indent);
                self.out += &" ".repeat(indent);
            }
            if let Some(key) = key {
                self.out += &format!("{key}: ");
            }
            self.flow(child, indent + 1);
            self.out.push(',');
            if let Some(mark) = child.mark().filter(|_| lines && self.choose(3) == 0) {
                let text = self.comment("beside", &mark);
                self.out += &format!(" {text}");
            }
        }
        if lines {
            self.out.push('\n');
            self.out += &" ".repeat(indent);
        }
        self.out.push(close);
    }
}

/// A document without the places where it was written.
fn without_places(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.remove("origin");
            fields.values_mut().for_each(without_places);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_places),
        _ => {}
    }
}

fn said(text: &str) -> Vec<serde_json::Value> {
    let documents =
        parse([("p.yaml".to_owned(), text.to_owned())]).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let mut said: Vec<_> = documents
        .iter()
        .map(|d| serde_json::to_value(d).unwrap())
        .collect();
    said.iter_mut().for_each(without_places);
    said
}

/// Whether a comment still stands as it did to the text with its mark.
fn stands_right(comment: &str, text: &str) -> bool {
    let mark = comment.split_once('<').unwrap().1.trim_end_matches('>');
    let lines: Vec<&str> = text.lines().collect();
    let Some(line) = lines.iter().position(|line| line.ends_with(comment)) else {
        return false;
    };
    let before = lines[line].strip_suffix(comment).unwrap();
    if comment.contains(" beside ") {
        return before.contains(mark);
    }
    let other = |line: &&&str| {
        !line.trim().is_empty() && !line.trim().starts_with('#') && !line.ends_with(">-")
    };
    let next = lines[line + 1..].iter().find(other);
    before.trim().is_empty() && next.is_some_and(|next| next.contains(mark))
}

const OTHERS: &str = "---\n# other's\napiVersion:   apps/v1\nkind:  \"Deployment\" # as it is\nspec: { a: [1,2] }\n\n";

/// A function that lays a text out.
type Layout<E> = fn(&str) -> Result<String, E>;

/// The laws of a layout of `writer`'s text: it says the same, is what it becomes, and its comments are all there, where they
/// belong. Gives the layout.
pub(super) fn is_laid_out<E, S>(
    writer: Writer,
    layout: Layout<E>,
    said: fn(&str) -> S,
) -> Result<String, TestCaseError>
where
    E: fmt::Display + fmt::Debug + PartialEq,
    S: fmt::Debug + PartialEq,
{
    let Writer {
        out: text,
        comments,
        ..
    } = writer;
    let laid_out = match layout(&text) {
        Ok(laid_out) => laid_out,
        Err(mistakes) => return Err(TestCaseError::fail(format!("{mistakes}\n{text}"))),
    };
    says_the_same(&text, &laid_out, layout, said)?;
    for comment in &comments {
        let once = laid_out.matches(comment.as_str()).count() == 1;
        prop_assert!(
            once && stands_right(comment, &laid_out),
            "{comment}\n{text}\n=====\n{laid_out}"
        );
    }
    prop_assert!(
        laid_out.lines().all(|line| line.trim_end() == line),
        "{laid_out}"
    );
    Ok(laid_out)
}

fn says_the_same<E, S>(
    text: &str,
    laid_out: &str,
    layout: Layout<E>,
    said: fn(&str) -> S,
) -> Result<(), TestCaseError>
where
    E: fmt::Debug + PartialEq,
    S: fmt::Debug + PartialEq,
{
    prop_assert_eq!(said(text), said(laid_out), "{}\n=====\n{}", text, laid_out);
    let again = layout(laid_out);
    prop_assert_eq!(again.as_deref(), Ok(laid_out), "{}", text);
    Ok(())
}

/// What is cut out of a text, and what is put there.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    at: prop::sample::Index,
    length: usize,
    insert: String,
}

pub(super) fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let cut = (
        any::<prop::sample::Index>(),
        0_usize..6,
        "[-\\[\\]{}:,&*!|>'\"#\n a1/*%]{0,4}",
    );
    let cut = cut.prop_map(|(at, length, insert)| Cut { at, length, insert });
    prop::collection::vec(cut, 1..4)
}

/// The law of a text that somebody has damaged: laid out so that it says the same, or refused for what it says.
pub(super) fn is_laid_out_or_refused<E, S>(
    text: &str,
    cuts: Vec<Cut>,
    layout: Layout<E>,
    said: fn(&str) -> S,
) -> Result<(), TestCaseError>
where
    E: fmt::Display + fmt::Debug + PartialEq,
    S: fmt::Debug + PartialEq,
{
    let mut text: Vec<char> = text.chars().collect();
    for Cut { at, length, insert } in cuts {
        let at = at.index(text.len());
        let end = (at + length).min(text.len());
        text.splice(at..end, insert.chars());
    }
    let text: String = text.into_iter().collect();
    match layout(&text) {
        Ok(laid_out) => says_the_same(&text, &laid_out, layout, said),
        Err(mistakes) => {
            let ours = mistakes.to_string().contains("of the formatter");
            prop_assert!(!ours, "{mistakes}\n{text}");
            Ok(())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn layout_changes_neither_meaning_nor_comments(choices in prop::collection::vec(any::<u8>(), 20..200)) {
        let mut writer = Writer::new(choices);
        let mut others = 0;
        for number in 0..=writer.choose(3) {
            if number > 0 && writer.choose(3) == 0 {
                writer.out += OTHERS;
                others += 1;
            }
            if number > 0 || writer.choose(2) == 0 {
                writer.out += "---\n";
            }
            writer.above(Some("apiVersion".to_owned()), 0);
            let policy = writer.policy(format!("p{number}"));
            writer.document(&policy);
        }
        let laid_out = is_laid_out(writer, |text| format("p.yaml", text), said)?;
        prop_assert_eq!(laid_out.matches(OTHERS).count(), others);
    }

    #[test]
    fn mutated_text_is_laid_out_for_good_or_refused(
        choices in prop::collection::vec(any::<u8>(), 20..100),
        cuts in cuts(),
    ) {
        let mut writer = Writer::new(choices);
        let policy = writer.policy("p".to_owned());
        writer.document(&policy);
        is_laid_out_or_refused(&writer.out, cuts, |text| format("p.yaml", text), said)?;
    }
}
