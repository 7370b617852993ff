//! A document as it was written: nodes with their places, their styles, and the comments beside them.

/// One value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Byte of the first character.
    pub(super) start: usize,
    /// Byte behind the last character.
    pub(super) end: usize,
    /// 0-based column; of a block list, that of its dashes.
    pub(super) column: usize,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    Collection(Collection),
}

/// A string, a number, a boolean or nothing.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) style: Style,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes: it may be a number, a boolean or nothing.
    Plain,
    /// A string in quotes.
    Quoted,
    /// A block of lines (`|`).
    Literal,
    /// Lines that are one paragraph (`>`), as they were broken.
    Folded(Vec<String>),
}

/// A list or a mapping.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    pub(super) kind: Kind,
    /// Written in brackets or braces.
    pub(super) flow: bool,
    pub(super) children: Vec<Child>,
    /// Comments behind the last child.
    pub(super) below: Vec<Comment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    Mapping,
}

/// An item of a list or an entry of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Child {
    /// An entry's.
    pub(super) key: Option<Key>,
    pub(super) value: Node,
    /// Comments on lines of their own before it.
    pub(super) above: Vec<Comment>,
    /// Comments on the line of the key, before the value.
    pub(super) head: Vec<String>,
    /// Comments behind the value, on its last line.
    pub(super) beside: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) start: usize,
    pub(super) scalar: Scalar,
}

/// A comment on a line of its own, from its `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comment {
    pub(super) text: String,
    /// Whether an empty line stands before it.
    pub(super) gap_before: bool,
    /// Whether an empty line stands behind it.
    pub(super) gap_behind: bool,
}

impl Child {
    /// Byte of the first character.
    pub(super) fn start(&self) -> usize {
        self.key.as_ref().map_or(self.value.start, |key| key.start)
    }

    /// The key's text; an item has none.
    pub(super) fn name(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.scalar.text.as_str())
    }

    /// Whether it can be written without breaking the line of what it is part of.
    pub(super) fn has_comment(&self) -> bool {
        !(self.above.is_empty() && self.head.is_empty() && self.beside.is_empty())
            || self.value.has_comment_within()
    }
}

impl Node {
    /// Whether a comment stands inside of it.
    pub(super) fn has_comment_within(&self) -> bool {
        match &self.content {
            Content::Scalar(_) => false,
            Content::Collection(collection) => {
                !collection.below.is_empty() || collection.children.iter().any(Child::has_comment)
            }
        }
    }

    pub(super) fn collection(&self) -> Option<&Collection> {
        match &self.content {
            Content::Collection(collection) => Some(collection),
            Content::Scalar(_) => None,
        }
    }

    pub(super) fn collection_mut(&mut self) -> Option<&mut Collection> {
        match &mut self.content {
            Content::Collection(collection) => Some(collection),
            Content::Scalar(_) => None,
        }
    }

    /// Whether it is written as lines below its key (`|`, `>`).
    pub(super) fn is_block_scalar(&self) -> bool {
        matches!(
            &self.content,
            Content::Scalar(Scalar {
                style: Style::Literal | Style::Folded(_),
                ..
            })
        )
    }
}

impl Collection {
    /// The value under a key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.children
            .iter()
            .find(|child| child.name() == Some(key))
            .map(|child| &child.value)
    }

    /// The text under a key.
    pub(super) fn get_text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.content {
            Content::Scalar(scalar) => Some(&scalar.text),
            Content::Collection(_) => None,
        }
    }
}

impl Comment {
    /// One that did not have a line of its own.
    pub(super) fn of(text: String) -> Self {
        Self {
            text,
            gap_before: false,
            gap_behind: false,
        }
    }
}
