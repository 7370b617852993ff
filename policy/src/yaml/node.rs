//! The tree of one YAML document, with the position of every node.

use std::fmt;

/// Where something stands in a text; both 1-based, the column counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// 1-based line.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
}

/// One node of a document. It is read through a [`Value`](super::Value).
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) position: Position,
    pub(super) content: Content,
}

impl Node {
    /// Where the node starts.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_position: Position,
    pub(super) value: Node,
}

/// The longest piece of a text that a message quotes.
const QUOTED_CHARACTERS: usize = 60;

/// What came instead of what was expected: `the number 8080`, `"abc"`, `a list`.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the boolean {value}"),
            Self::Integer(value) => write!(f, "the number {value}"),
            Self::Float(value) => write!(f, "the number {value}"),
            Self::String(text) => f.write_str(&quoted(text)),
            Self::List(_) => f.write_str("a list"),
            Self::Mapping(_) => f.write_str("a mapping"),
        }
    }
}

/// `text` in quotes, escaped and shortened for a message of one line.
pub(super) fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    let short: String = characters.by_ref().take(QUOTED_CHARACTERS).collect();
    let more = if characters.next().is_some() {
        "…"
    } else {
        ""
    };
    format!("{short:?}{more}")
}
