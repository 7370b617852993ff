//! Paths of requests.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A path, segment by segment: literal, `{name}` or `*` for one segment, and at the end `**` for any
/// number of them, none included.
///
/// `{name}` and `*` accept any one segment that is not empty. A `/` at the end counts: `/orders` and
/// `/orders/` are two paths; `/orders/**` accepts both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathPattern {
    /// As it is written.
    text: Box<str>,
    /// All segments, percent-decoded, if any is written with an escape.
    decoded: Option<Box<[Box<str>]>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PathSegment<'p> {
    /// Percent-decoded.
    Literal(&'p str),
    One,
    Named(&'p str),
}

/// The longest pattern, in bytes: what is longer matches no path that a server takes.
pub(crate) const MAX_PATTERN_BYTES: usize = 8 << 10;

/// Why a text is not a [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPatternError {
    /// Paths are absolute.
    #[error("a path starts with `/`")]
    Slash,
    /// `**` elsewhere than at the end.
    #[error("`**` may only be the last segment")]
    Rest,
    /// `*`, `{` or `}` inside of a segment.
    #[error("in {0:?}: `*` and `{{name}}` stand for a whole segment")]
    Partial(String),
    /// The name of a captured segment is a CEL identifier.
    #[error("in {0:?}: a name has letters, digits and `_`, and does not start with a digit")]
    CaptureName(String),
    /// Two segments have one name.
    #[error("the name {{{0}}} is given to two segments")]
    CaptureTwice(String),
    /// `//`, `/./`, `/../`: requests are matched without them.
    #[error("a path has no empty segments and no `.` or `..`")]
    NotNormal,
    /// Query and fragment are not part of the path.
    #[error("a path has no {0:?}; a query is not matched")]
    Query(char),
    /// What applications read in different ways.
    #[error(
        "{0:?} cannot be matched literally, because applications differ in how they read it; use `*` or `**`"
    )]
    Ambiguous(String),
    /// Longer than a path that a server takes.
    #[error("it has {0} bytes, at most {MAX_PATTERN_BYTES} are allowed")]
    TooLong(usize),
    /// `%` without two hexadecimal digits.
    #[error("in {0:?}: a `%` is followed by two hexadecimal digits; a `%` itself is %25")]
    Percent(String),
}

impl PathPattern {
    /// Whether a path is accepted: normal, decoded, without a query (see
    /// `crate::readings`).
    pub(crate) fn matches(&self, path: &str) -> bool {
        !self.begins_unlike(path) && self.walk(path, &mut |_, _| ())
    }

    /// Whether a path differs from what is literal at the start of this: most do that are compared in vain.
    fn begins_unlike(&self, path: &str) -> bool {
        let wanted = self.text.bytes();
        self.decoded.is_none()
            && wanted
                .take_while(|byte| !matches!(byte, b'*' | b'{'))
                .zip(path.bytes())
                .any(|(wanted, given)| wanted != given)
    }

    /// [`matches`](Self::matches); tells the segments that have a name.
    pub(crate) fn captures<'p, 's>(&'p self, path: &'s str) -> Option<Vec<(&'p str, &'s str)>> {
        let mut found = Vec::new();
        self.walk(path, &mut |name, segment| found.push((name, segment)))
            .then_some(found)
    }

    fn walk<'p, 's>(&'p self, path: &'s str, captured: &mut impl FnMut(&'p str, &'s str)) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut given = path.split('/');
        for wanted in self.segments() {
            let Some(segment) = given.next() else {
                return false;
            };
            match wanted {
                PathSegment::Literal(literal) if literal == segment => {}
                PathSegment::One if !segment.is_empty() => {}
                PathSegment::Named(name) if !segment.is_empty() => captured(name, segment),
                _ => return false,
            }
        }
        self.has_rest() || given.next().is_none()
    }

    /// The segments, without a final `**`.
    pub(crate) fn segments(&self) -> impl Iterator<Item = PathSegment<'_>> {
        let (segments, _) = parts(&self.text);
        let decoded = self.decoded.as_deref().unwrap_or_default();
        segments.enumerate().map(|(at, segment)| {
            if segment == "*" {
                return PathSegment::One;
            }
            match capture_name(segment) {
                Some(name) => PathSegment::Named(name),
                None => PathSegment::Literal(decoded.get(at).map_or(segment, |decoded| decoded)),
            }
        })
    }

    /// Whether `**` stands at the end.
    pub(crate) fn has_rest(&self) -> bool {
        parts(&self.text).1
    }

    /// The names of the captured segments.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments().filter_map(|segment| match segment {
            PathSegment::Named(name) => Some(name),
            _ => None,
        })
    }
}

impl FromStr for PathPattern {
    type Err = PathPatternError;

    fn from_str(text: &str) -> Result<Self, PathPatternError> {
        let path = text.strip_prefix('/').ok_or(PathPatternError::Slash)?;
        if let Some(found) = path.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(PathPatternError::Query(found));
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PathPatternError::TooLong(text.len()));
        }
        let (segments, rest) = parts(text);
        let mut segments = segments.peekable();
        let mut names = Vec::new();
        let mut decoded: Vec<Cow<'_, str>> = Vec::new();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            decoded.push(parse_segment(segment, last && !rest)?);
            if let Some(name) = capture_name(segment) {
                if names.contains(&name) {
                    return Err(PathPatternError::CaptureTwice(name.to_owned()));
                }
                names.push(name);
            }
        }
        let is_escaped = |segment: &Cow<'_, str>| matches!(segment, Cow::Owned(_));
        Ok(Self {
            text: text.into(),
            decoded: decoded
                .iter()
                .any(is_escaped)
                .then(|| decoded.iter().map(|segment| (&**segment).into()).collect()),
        })
    }
}

/// The segments of a pattern, and whether `**` stands at the end.
fn parts(text: &str) -> (impl Iterator<Item = &str>, bool) {
    let path = text.strip_prefix('/').unwrap_or(text);
    let (path, rest) = match path.strip_suffix("/**") {
        Some(path) => (Some(path), true),
        None if path == "**" => (None, true),
        None => (Some(path), false),
    };
    (path.into_iter().flat_map(|path| path.split('/')), rest)
}

/// What stands between the braces of `{name}`.
fn capture_name(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// Checks a segment, and decodes it where it is written with an escape.
fn parse_segment(segment: &str, may_be_empty: bool) -> Result<Cow<'_, str>, PathPatternError> {
    match segment {
        "" if may_be_empty => return Ok(segment.into()),
        "" | "." | ".." => return Err(PathPatternError::NotNormal),
        "*" => return Ok(segment.into()),
        "**" => return Err(PathPatternError::Rest),
        _ => {}
    }
    if let Some(name) = capture_name(segment) {
        let mut characters = name.chars();
        let start = characters
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !start || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(PathPatternError::CaptureName(segment.to_owned()));
        }
        return Ok(segment.into());
    }
    if segment.contains(['*', '{', '}']) {
        return Err(PathPatternError::Partial(segment.to_owned()));
    }
    let percent = || PathPatternError::Percent(segment.to_owned());
    let decoded = decode_segment(segment).ok_or_else(percent)?;
    if decoded.contains(['\\', ';']) || decoded.contains("%2F") || segment.contains("%25") {
        return Err(PathPatternError::Ambiguous(segment.to_owned()));
    }
    if decoded == "." || decoded == ".." {
        return Err(PathPatternError::NotNormal);
    }
    Ok(if decoded == segment {
        segment.into()
    } else {
        decoded.into()
    })
}

/// Percent-decodes one segment (RFC 3986 §2.1). An encoded slash stays `%2F`, and bytes that are not
/// UTF-8 stay encoded, so that segments stay apart and are text. `None` where nobody can say what is
/// meant: a `%` without two digits, a control character.
pub(crate) fn decode_segment(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let high = hex_digit(rest.next()?)?;
            let low = hex_digit(rest.next()?)?;
            high << 4 | low
        } else {
            byte
        };
        match byte {
            0..=0x1f | 0x7f => return None,
            b'/' => bytes.extend_from_slice(b"%2F"),
            _ => bytes.push(byte),
        }
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(text)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &str) -> bool {
        pattern.parse::<PathPattern>().unwrap().matches(path)
    }

    #[test]
    fn segments_match_one_by_one() {
        for (pattern, path, expected) in [
            ("/orders", "/orders", true),
            ("/orders", "/orders/", false),
            ("/orders/", "/orders/", true),
            ("/orders", "/Orders", false),
            ("/orders/{id}", "/orders/1", true),
            ("/orders/{id}", "/orders/", false),
            ("/orders/{id}", "/orders/1/2", false),
            ("/orders/*/items", "/orders/1/items", true),
            ("/orders/**", "/orders", true),
            ("/orders/**", "/orders/", true),
            ("/orders/**", "/orders/1/2/3", true),
            ("/orders/**", "/ordersx", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/a%20b", "/a b", true),
            ("/**", "x", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn named_segments_are_told() {
        let pattern: PathPattern = "/orders/{id}/items/{item}/**".parse().unwrap();
        assert_eq!(
            pattern.captures("/orders/7/items/x/y"),
            Some(vec![("id", "7"), ("item", "x")])
        );
        assert_eq!(pattern.captures("/orders/7"), None);
        assert_eq!(pattern.names().collect::<Vec<_>>(), ["id", "item"]);
    }

    #[test]
    fn mistakes_are_told_apart() {
        use PathPatternError as E;
        let s = str::to_owned;
        for (pattern, expected) in [
            ("", E::Slash),
            ("orders", E::Slash),
            ("/a/**/b", E::Rest),
            ("/a*", E::Partial(s("a*"))),
            ("/a{b}", E::Partial(s("a{b}"))),
            ("/{}", E::CaptureName(s("{}"))),
            ("/{1}", E::CaptureName(s("{1}"))),
            ("/{a}/{a}", E::CaptureTwice(s("a"))),
            ("/a//b", E::NotNormal),
            ("//**", E::NotNormal),
            ("/a/../b", E::NotNormal),
            ("/%2e%2E", E::NotNormal),
            ("/a?b", E::Query('?')),
            ("/a%2fb", E::Ambiguous(s("a%2fb"))),
            ("/a\\b", E::Ambiguous(s("a\\b"))),
            ("/a;b", E::Ambiguous(s("a;b"))),
            ("/a%", E::Percent(s("a%"))),
            ("/a%00", E::Percent(s("a%00"))),
        ] {
            assert_eq!(pattern.parse::<PathPattern>(), Err(expected), "{pattern}");
        }
    }

    /// The definition, read naively: try every way of laying the pattern over the path.
    fn reference(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            (["**"], _) => true,
            ([], []) => true,
            ([wanted, pattern @ ..], [given, path @ ..]) => {
                let one = *wanted == "*" || wanted.starts_with('{');
                (wanted == given || one && !given.is_empty()) && reference(pattern, path)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(
            pattern in prop::collection::vec(prop::sample::select(vec!["a", "b", "*", "{x}"]), 0..5),
            rest in any::<bool>(),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "c", ""]), 0..6),
        ) {
            let mut pattern = pattern;
            if rest || pattern.is_empty() {
                pattern.push("**");
            }
            let named = pattern.iter().filter(|s| **s == "{x}").count();
            prop_assume!(named <= 1);
            let compiled: PathPattern = format!("/{}", pattern.join("/")).parse().unwrap();
            let text = format!("/{}", path.join("/"));
            let given: Vec<&str> = text[1..].split('/').collect();
            prop_assert_eq!(compiled.matches(&text), reference(&pattern, &given));
        }

        #[test]
        fn any_text_is_a_pattern_or_refused(text in "/?[-a/%{}*?#;.0-9A-F\\\\é]{0,40}") {
            if let Ok(pattern) = text.parse::<PathPattern>() {
                prop_assert_eq!(pattern.to_string(), text);
            }
        }

        #[test]
        fn decoding_keeps_segments_apart(segment in "\\PC{0,30}") {
            if let Some(decoded) = decode_segment(&segment.replace('/', "%2F")) {
                prop_assert!(!decoded.contains('/'));
            }
        }
    }
}
