//! The ways in which an application may read the path of a request.
//!
//! Most paths have a normal form that is read in one way (see [`normal_path`]). One with `;` does not: to one application
//! `/admin;v=1` is a name, to another it is `/admin`. Where policy accepts them, encoded slashes and backslashes are further
//! such cases. Which application stands behind the sidecar is not known here, so a rule is asked about every
//! reading: an allow rule has to match all of them, a deny rule any.
//!
//! Escapes are decoded once (RFC 3986 §2.4). A path that would cost too much to read in every way has no reading: then fields
//! about the path are unknown, and no allow rule that asks for one matches. The same is true of `*`.

use std::borrow::Cow;

use crate::document::AmbiguousPaths;
use crate::normal_path::{AmbiguousPath, normal_path};
use crate::pattern::decode_segment;

/// A longer path that is not plain has no reading: its readings together would cost too much.
const MAX_UNUSUAL_BYTES: usize = 8 << 10;

/// The readings of one path; at least one. A reading that is `None` is unknown.
pub(crate) enum Readings<'a> {
    One(Option<&'a str>),
    Several(Vec<String>),
}

impl<'a> Readings<'a> {
    /// Of a path as it was sent, with or without a query.
    ///
    /// # Errors
    /// Why the path has no normal form.
    pub(crate) fn of(sent: &'a str, ambiguous: AmbiguousPaths) -> Result<Self, AmbiguousPath> {
        let normal = normal_path(sent, ambiguous)?;
        let path = |text: &str| text.find('?').unwrap_or(text.len());
        let path = match normal {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(..path(text)).unwrap_or_default()),
            Cow::Owned(mut text) => {
                text.truncate(path(&text));
                Cow::Owned(text)
            }
        };
        if !path.starts_with('/') {
            return Ok(Self::One(None));
        }
        if !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';')) {
            return Ok(match path {
                Cow::Borrowed(path) => Self::One(Some(path)),
                Cow::Owned(path) => Self::Several(vec![path]),
            });
        }
        if path.len() > MAX_UNUSUAL_BYTES {
            return Ok(Self::One(None));
        }
        Ok(several(&path).map_or(Self::One(None), Self::Several))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Option<&str>> {
        let (one, several) = match self {
            Self::One(one) => (Some(*one), [].as_slice()),
            Self::Several(several) => (None, several.as_slice()),
        };
        one.into_iter()
            .chain(several.iter().map(|reading| Some(reading.as_str())))
    }
}

/// One way to read a path.
#[derive(Clone, Copy)]
struct Habit {
    /// `%2f` separates segments.
    encoded_slash: bool,
    /// `\` and `%5c` separate segments.
    backslash: bool,
    /// What follows a `;` is not part of a segment.
    parameters: bool,
    /// Empty segments are dropped.
    merge: bool,
    /// `.` and `..` are followed (RFC 3986 §5.2.4).
    dots: bool,
    /// A path that ends in `.` or `..` ends in `/`, as RFC 3986 §5.2.4 has it.
    slash_after_dots: bool,
}

fn several(path: &str) -> Option<Vec<String>> {
    let lower = path.to_ascii_lowercase();
    let choice = |present: bool| {
        if present {
            &[false, true][..]
        } else {
            &[false][..]
        }
    };
    let escapes = lower.contains('%');
    let mut readings: Vec<String> = Vec::with_capacity(2);
    for &encoded_slash in choice(lower.contains("%2f")) {
        for &backslash in choice(lower.contains('\\') || lower.contains("%5c")) {
            for &parameters in choice(lower.contains(';') || lower.contains("%3b")) {
                // The others show only after these: whether there is anything to merge or follow.
                for &merge in choice(true) {
                    for &dots in choice(lower.contains('.') || escapes) {
                        for &slash_after_dots in choice(dots) {
                            let habit = Habit {
                                encoded_slash,
                                backslash,
                                parameters,
                                merge,
                                dots,
                                slash_after_dots,
                            };
                            let reading = read(path, habit)?;
                            if !readings.contains(&reading) {
                                readings.push(reading);
                            }
                        }
                    }
                }
            }
        }
    }
    Some(readings)
}

fn read(path: &str, habit: Habit) -> Option<String> {
    let separated = separate(path.strip_prefix('/')?, habit);
    let mut segments: Vec<String> = Vec::new();
    let mut given = separated.split('/').peekable();
    while let Some(segment) = given.next() {
        let last = given.peek().is_none();
        let decoded = decode_segment(segment)?;
        let name = match decoded.split_once(';') {
            Some((name, _)) if habit.parameters => name,
            _ => decoded.as_str(),
        };
        match name {
            "" if habit.merge && !last => {}
            "." | ".." if habit.dots => {
                if name == ".." {
                    segments.pop();
                }
                if last && habit.slash_after_dots {
                    segments.push(String::new());
                }
            }
            _ => segments.push(name.to_owned()),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

/// The path with `/` for everything that separates segments.
fn separate(path: &str, habit: Habit) -> Cow<'_, str> {
    let mut path = Cow::Borrowed(path);
    if habit.encoded_slash {
        path = path.replace("%2f", "/").replace("%2F", "/").into();
    }
    if habit.backslash {
        path = path
            .replace("%5c", "/")
            .replace("%5C", "/")
            .replace('\\', "/")
            .into();
    }
    path
}

#[cfg(test)]
mod tests;
