//! Texts by what they are, start or end with.

use std::fmt;

/// A text exactly, `abc*`, `*abc`, or `*`: any text that is not empty. A star elsewhere stands for
/// itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TextPattern {
    /// This text.
    Exact(String),
    /// What starts with it.
    Prefix(String),
    /// What ends with it.
    Suffix(String),
    /// Any that is not empty.
    Present,
}

impl TextPattern {
    /// Reads a pattern; every text is one.
    pub(crate) fn new(text: &str) -> Self {
        if text == "*" {
            Self::Present
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix.to_owned())
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix.to_owned())
        } else {
            Self::Exact(text.to_owned())
        }
    }

    /// Whether `text` is accepted by the pattern that is written as `pattern`.
    pub(crate) fn accepts(pattern: &str, text: &str) -> bool {
        if pattern == "*" {
            !text.is_empty()
        } else if let Some(suffix) = pattern.strip_prefix('*') {
            text.ends_with(suffix)
        } else if let Some(prefix) = pattern.strip_suffix('*') {
            text.starts_with(prefix)
        } else {
            pattern == text
        }
    }

    /// The text, if there is only one that is accepted.
    pub(crate) fn exact(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Prefix(_) | Self::Suffix(_) | Self::Present => None,
        }
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Present => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_at_the_start_or_at_the_end() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc*", "abc", true),
            ("abc*", "abcd", true),
            ("abc*", "ab", false),
            ("*abc", "abc", true),
            ("*abc", "xabc", true),
            ("*abc", "abcx", false),
            ("*", "x", true),
            ("*", "", false),
            ("a*c", "a*c", true),
            ("a*c", "abc", false),
            ("*abc*", "xabc*", true),
            ("*abc*", "xabcx", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                TextPattern::accepts(pattern, text),
                expected,
                "{pattern} {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_pattern_is_written_as_it_was_read(text in "[a*]{0,4}") {
            prop_assert_eq!(TextPattern::new(&text).to_string(), text);
        }
    }
}
