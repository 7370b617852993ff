//! The tree of one YAML document, with the position of every node.
//!
//! A tree lives only until its document is read, but a file may be one large document: so the nodes are small, and
//! strings that come again share their text.

use std::fmt;
use std::rc::Rc;

/// Where something stands in a text; both 1-based, the column counted in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// 1-based line.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
}

/// A [`Position`] in half of the space. No text has more lines or columns than fit: see
/// [`MAX_TEXT_BYTES`](super::MAX_TEXT_BYTES).
#[derive(Clone, Copy, Debug)]
struct Place {
    line: u32,
    column: u32,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        let short = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            line: short(position.line),
            column: short(position.column),
        }
    }
}

impl From<Place> for Position {
    fn from(place: Place) -> Self {
        let long = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            line: long(place.line),
            column: long(place.column),
        }
    }
}

/// One node of a document. It is read through a [`Value`](super::Value).
#[derive(Clone, Debug)]
pub struct Node {
    place: Place,
    pub(super) content: Content,
}

impl Node {
    pub(super) fn new(position: Position, content: Content) -> Self {
        Self {
            place: position.into(),
            content,
        }
    }

    /// Where the node starts.
    #[must_use]
    pub fn position(&self) -> Position {
        self.place.into()
    }

    /// Whether both have the same content, wherever they stand. The order of a mapping's keys does not count.
    #[cfg(feature = "tools")]
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        self.content.says_the_same_as(&other.content)
    }
}

#[cfg(feature = "tools")]
impl Content {
    /// Depth is bounded by [`MAX_DEPTH`](super::MAX_DEPTH); keys are unique.
    fn says_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a.get() == b.get(),
            (Self::Float(a), Self::Float(b)) => a.total_cmp(b).is_eq(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.says_the_same_as(b))
            }
            (Self::Mapping(a), Self::Mapping(b)) => {
                let b: std::collections::HashMap<&str, &Node> =
                    b.iter().map(|entry| (&*entry.key, &entry.value)).collect();
                a.len() == b.len()
                    && a.iter().all(|entry| {
                        b.get(&*entry.key)
                            .is_some_and(|b| entry.value.says_the_same_as(b))
                    })
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Integer(Integer),
    Float(f64),
    String(Rc<str>),
    List(Box<[Node]>),
    Mapping(Box<[Entry]>),
}

/// A whole number, of a size that lets a refusal tell it. In bytes, since an `i128` would widen every node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integer([u8; 16]);

impl From<i128> for Integer {
    fn from(number: i128) -> Self {
        Self(number.to_ne_bytes())
    }
}

impl Integer {
    pub(super) fn get(self) -> i128 {
        i128::from_ne_bytes(self.0)
    }
}

/// A key of a mapping, and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Rc<str>,
    key_place: Place,
    pub(super) value: Node,
}

impl Entry {
    pub(super) fn new(key: Rc<str>, key_position: Position, value: Node) -> Self {
        Self {
            key,
            key_place: key_position.into(),
            value,
        }
    }

    pub(super) fn key_position(&self) -> Position {
        self.key_place.into()
    }
}

/// The longest piece of a text that a message quotes.
const QUOTED_CHARACTERS: usize = 60;

/// What came instead of what was expected: `the number 8080`, `"abc"`, `a list`.
impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the boolean {value}"),
            Self::Integer(value) => write!(f, "the number {}", value.get()),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A large file is nearly all nodes while it is read.
    #[test]
    fn nodes_are_small() {
        assert!(size_of::<Node>() <= 32, "{}", size_of::<Node>());
        assert!(size_of::<Entry>() <= 56, "{}", size_of::<Entry>());
    }
}
