//! The ways in which an application may read the path of a request.
//!
//! Most paths can be read in one way. A path with `..`, `//`, `\`, `%2f` or `;` cannot: one
//! application takes `/public/..%2fadmin` for a file of that name, another for `/admin`. Which one stands
//! behind the sidecar is not known here, so a rule is asked about every reading: an allow rule has to
//! match all of them, a deny rule any.
//!
//! Escapes are decoded once (RFC 3986 §2.4). What cannot be read at all (an escape of a control
//! character, a `%` without digits, a `#`, no leading `/`) has no reading: then fields about the path
//! are unknown, and no allow rule that asks for one matches.

use std::borrow::Cow;

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
    pub(crate) fn of(sent: &'a str) -> Self {
        let path = sent.split_once('?').map_or(sent, |(path, _)| path);
        match normal(path) {
            Normal::Plain => Self::One(Some(path)),
            Normal::Unreadable => Self::One(None),
            Normal::Unusual => several(path).map_or(Self::One(None), Self::Several),
        }
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

enum Normal {
    /// There is one reading, and it is how the path was sent.
    Plain,
    Unusual,
    Unreadable,
}

fn normal(path: &str) -> Normal {
    if !path.starts_with('/') {
        return Normal::Unreadable;
    }
    let mut unusual = false;
    let mut before = 0;
    for byte in path.bytes() {
        match byte {
            0..=0x1f | 0x7f | b'#' => return Normal::Unreadable,
            b'%' | b'\\' | b';' => unusual = true,
            b'/' | b'.' if before == b'/' => unusual = true,
            _ => {}
        }
        before = byte;
    }
    match unusual {
        false => Normal::Plain,
        true if path.len() > MAX_UNUSUAL_BYTES => Normal::Unreadable,
        true => Normal::Unusual,
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
